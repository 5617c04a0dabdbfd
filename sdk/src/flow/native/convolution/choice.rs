//! Which algorithm carries out a layer.

use super::{Algorithm, Axis, Tile};
use crate::flow::Precision;
use crate::flow::plan::Convolution;

/// The algorithm with the least modelled time for one image, in a network whose weights for tiles of four would be
/// `weights` values; the largest tiles are for weights in f32, since rounded ones would cost them too many digits.
/// Nothing is measured, so that results are the same on every processor of one instruction set.
pub(super) fn choose(call: &Convolution, weights: usize, precision: Precision) -> Algorithm {
    if !filtered(call) {
        return Algorithm::Direct;
    }
    let (inputs, outputs) = (call.input.channels, call.output.channels);
    let weight = if weights <= CACHED { CACHED_WEIGHT } else { DISTANT_WEIGHT };
    let time = |tile: Tile| {
        let [down, across] = [call.output.height, call.output.width].map(|n| Axis::new(n, tile));
        let values = down.points() * across.points();
        let transforms = values * (inputs + outputs) * TRANSFORM;
        values * inputs * outputs + tile.positions() * inputs * outputs * weight + transforms
    };
    let tiles: &[Tile] = match precision {
        Precision::F32 => &[Tile::Two, Tile::Four, Tile::Six],
        Precision::F16 => &[Tile::Two, Tile::Four],
    };
    let best = tiles.iter().copied().min_by_key(|tile| time(*tile));
    best.map_or(Algorithm::Direct, Algorithm::Winograd)
}

/// Whether minimal filtering can carry out `call`, and pays.
fn filtered(call: &Convolution) -> bool {
    call.kernel == [3, 3]
        && call.stride == [1, 1]
        && call.interleave == 1
        && call.input.channels >= 16
}

/// Values of the weights of `call` for tiles of four, if it can have them.
pub(in crate::flow::native) fn largest_weights(call: &Convolution) -> usize {
    let each = call.input.channels * call.output.channels;
    if filtered(call) { Tile::Four.positions() * each } else { 0 }
}

// In multiplications, of which cores do 30 to 60 in a nanosecond; the order of magnitude is what matters.
/// Reading one weight from the third-level cache, or from memory, as far as it is not hidden.
const CACHED_WEIGHT: usize = 5;
const DISTANT_WEIGHT: usize = 20;
/// Transforming one value.
const TRANSFORM: usize = 9;
/// Weights that a third-level cache keeps from one evaluation to the next: 24 MiB.
const CACHED: usize = 6 << 20;
