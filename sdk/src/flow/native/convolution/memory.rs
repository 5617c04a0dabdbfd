//! How much memory a layer takes, known before its weights are read.

use super::{Algorithm, Layer, STAGGER};
#[cfg(test)]
use super::{Scratch, lock};
use crate::flow::Precision;
use crate::flow::native::simd::InstructionSet;
use crate::flow::plan::Convolution;
#[cfg(test)]
use std::sync::Mutex;

/// Numbers of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::flow::native) struct Sizes {
    /// Packed weights, or in the place of how many they are stored.
    pub(in crate::flow::native) weights: usize,
    /// Moments of all units, per image.
    pub(in crate::flow::native) partials: usize,
    /// Strip, rows, products and room for weights of one thread.
    pub(in crate::flow::native) scratch: [usize; 4],
}

/// Sizes of the layer that would carry out `call` for up to `images` images side by side.
pub(in crate::flow::native) fn sizes(
    set: InstructionSet,
    call: &Convolution,
    images: usize,
    precision: Precision,
) -> Sizes {
    let layer = Layer::new(set, call, precision);
    Sizes { weights: layer.stored(), partials: layer.partials(), scratch: layer.scratch(images) }
}

impl Layer {
    fn scratch(&self, images: usize) -> [usize; 4] {
        let (call, lanes) = (&self.call, self.lanes);
        let depth = self.depth();
        let widest = self.panels[0].list.iter().map(|p| p.vectors * lanes).max().unwrap_or(0);
        let all = images * self.units();
        let (units, across) = (self.units_per_block(all).min(all), self.unit_rows());
        let segment = units.min(self.units());
        match self.algorithm {
            Algorithm::Winograd(tile) => {
                let lines = self.lines(tile);
                let planes = |width: usize| tile.positions() * (units * across * width + STAGGER);
                [lines, planes(depth), planes(widest), self.room()]
            }
            Algorithm::Direct => {
                let ([kh, kw], [sh, sw]) = (call.kernel, call.stride);
                let strip = ((segment - 1) * sh + kh) * ((across - 1) * sw + kw) * depth;
                let pixels = segment * across;
                let packed = pixels * kh * kw * call.input.channels + lanes;
                [strip, packed, pixels * widest, self.room()]
            }
        }
    }
}

/// Number of values of what one thread holds.
#[cfg(test)]
pub(in crate::flow::native) fn len(scratch: &Mutex<Scratch>) -> usize {
    let Scratch { strip, rows, products, room, .. } = &*lock(scratch);
    [strip, rows, products, room].map(|a| a.values().len()).iter().sum()
}
