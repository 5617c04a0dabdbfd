//! Which algorithm carries out a layer.

use super::{Algorithm, Axis, Tile};
use crate::flow::plan::Convolution;

/// The algorithm with the least modelled time for one image. Nothing is measured, so that results are the same on every
/// processor of one instruction set.
pub(super) fn choose(call: &Convolution) -> Algorithm {
    if !filtered(call) {
        return Algorithm::Direct;
    }
    let (inputs, outputs) = (call.input.channels, call.output.channels);
    let time = |tile: &Tile| {
        let [down, across] = [call.output.height, call.output.width].map(|n| Axis::new(n, *tile));
        let values = down.points() * across.points();
        let transforms = values * (inputs + outputs) * TRANSFORM;
        (values + tile.positions() * KERNEL) * inputs * outputs + transforms
    };
    let best = [Tile::Two, Tile::Four, Tile::Six].into_iter().min_by_key(time);
    best.map_or(Algorithm::Direct, Algorithm::Winograd)
}

/// Whether minimal filtering can carry out `call`, and pays.
fn filtered(call: &Convolution) -> bool {
    call.kernel == [3, 3]
        && call.stride == [1, 1]
        && call.interleave == 1
        && call.input.channels >= 16
}

// In multiplications, of which cores do 30 to 60 in a nanosecond; the order of magnitude is what matters.
/// Transforming one value of a kernel.
const KERNEL: usize = 5;
/// Transforming one value of an image.
const TRANSFORM: usize = 9;
