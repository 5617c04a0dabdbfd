//! Which algorithm carries out a layer.

use super::{Algorithm, Axis, Tile};
use crate::flow::Precision;
use crate::flow::plan::Convolution;

/// The algorithm with the least modelled time for one image, in a network whose weights would be `weights` values if every
/// layer had tiles of four. Nothing is measured, so that results are the same on every processor of one instruction set.
pub(super) fn choose(call: &Convolution, weights: usize, precision: Precision) -> Algorithm {
    if !filtered(call) {
        return Algorithm::Direct;
    }
    let (inputs, outputs) = (call.input.channels, call.output.channels);
    let time = |tile: &Tile| {
        let [down, across] = [call.output.height, call.output.width].map(|n| Axis::new(n, *tile));
        let values = down.points() * across.points();
        let transforms = values * (inputs + outputs) * TRANSFORM;
        (values + tile.positions() * WEIGHT) * inputs * outputs + transforms
    };
    let ahead = weights <= CACHED && precision == Precision::F32;
    let best = [Tile::Two, Tile::Four, Tile::Six].into_iter().min_by_key(time);
    best.map_or(Algorithm::Direct, |tile| Algorithm::Winograd { tile, ahead })
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
/// Transforming one weight, or reading it from the third-level cache as far as that is not hidden.
const WEIGHT: usize = 5;
/// Transforming one value of an image.
const TRANSFORM: usize = 9;
/// Weights that a third-level cache keeps from one evaluation to the next: 24 MiB.
const CACHED: usize = 6 << 20;
