//! Which algorithm carries out a layer.

use super::{Algorithm, Axis, Tile};
use crate::flow::plan::Convolution;

/// The algorithm with the least modelled time for one image. Nothing is measured, so that the choice, and with it the
/// rounding, is the same at every start.
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

/// The part of the modelled time per image that depends on how many `images` go through `call` side by side.
pub(in crate::flow::native) fn shared_time(call: &Convolution, images: usize) -> usize {
    let (input, output) = (&call.input, &call.output);
    let kernels = match choose(call) {
        Algorithm::Direct => 0,
        Algorithm::Winograd(tile) => tile.positions() * KERNEL * input.channels * output.channels,
    };
    let written = output.height * output.width * output.channels;
    let read = input.height * input.width * input.channels;
    let values = read + written + call.residual.map_or(0, |_| written);
    let far = images > 1 && images * size_of::<f32>() * values > NEAR_BYTES;
    kernels / images + if far { values * FAR } else { 0 }
}

/// Bytes of a call's images that stay in a near cache until the next one reads them.
const NEAR_BYTES: usize = 512 << 10;

// In multiplications, of which cores do 30 to 60 in a nanosecond; the order of magnitude is what matters.
/// Transforming one value of a kernel.
const KERNEL: usize = 5;
/// Transforming one value of an image.
const TRANSFORM: usize = 9;
/// Reading or writing a value that is in no near cache.
const FAR: usize = 10;
