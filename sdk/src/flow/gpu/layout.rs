//! Where everything lies on the device: slots, constants, tables and moments, in values.

use super::matrices::Matrices;
use crate::flow::Precision;
use crate::flow::plan::{Call, Convolution, Memory, Plan, Source, Values, View};

/// Words in front of the tables of a leg: span, number of the step, whether it is the first.
pub(super) const LEG_HEAD: usize = 4;
/// Beyond this many partial results they are merged by a call of their own.
const MOST_PARTIALS: usize = 16;

/// Positions of all data of one plan.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) memory: Memory,
    pub(super) precision: Precision,
    /// Cooperative matrices that convolutions may use.
    matrices: Option<Matrices>,
    /// Whether the slot holds f16.
    pub(super) narrow: Vec<bool>,
    /// Position in the buffer of constants; `None` for weights of convolutions, which have buffers of their own.
    pub(super) constants: Vec<Option<usize>>,
    pub(super) constant_values: usize,
    /// Position of every table behind the start of a leg, and its length.
    pub(super) tables: Vec<(usize, usize)>,
    /// Values of a leg: head and tables.
    pub(super) leg: usize,
    pub(super) moments: Vec<MomentsAt>,
    /// Entries of all moments of one image.
    pub(super) moments_per_image: usize,
}

/// Partial results of one set of moments.
#[derive(Clone, Copy, Debug)]
pub(super) struct MomentsAt {
    pub(super) channels: usize,
    pub(super) pixels: usize,
    /// Pixels of a partial result.
    pub(super) per_partial: usize,
    /// Partial results beside each other of as many pixels: with interleaving, a channel lies in several columns.
    pub(super) copies: usize,
    /// First entry of the partial results.
    pub(super) partial: usize,
    /// First entry of the merged result, if there are too many partial ones.
    pub(super) merged: Option<usize>,
}

impl MomentsAt {
    pub(super) fn partials(&self) -> usize {
        (self.pixels / self.copies).div_ceil(self.per_partial) * self.copies
    }
}

/// Threads of the convolution make tiles of 16 times this many rows and columns. By shape alone: the order of a sum
/// shall not depend on the batch.
pub(super) fn tile(c: &Convolution) -> usize {
    let [height, width] = c.grid();
    if height * width >= 1024 && c.columns() >= 64 { 4 } else { 2 }
}

/// The matrices, if `c` is to be computed in them.
fn suited(c: &Convolution, matrices: Option<Matrices>) -> Option<Matrices> {
    matrices.filter(|matrices| matrices.suit(c))
}

impl Layout {
    /// The matrices in which `c` is computed; `None` for the plain kernel.
    pub(super) fn matrices(&self, c: &Convolution) -> Option<Matrices> {
        suited(c, self.matrices)
    }

    /// `tables` are the lengths of the plan's tables. Only in f16 `matrices` are used.
    pub(super) fn new(
        plan: &Plan,
        memory: Memory,
        tables: &[usize],
        precision: Precision,
        matrices: Option<Matrices>,
    ) -> Self {
        let matrices = matrices.filter(|_| precision == Precision::F16);
        let mut narrow = vec![precision == Precision::F16; memory.sizes.len()];
        let results = [&plan.velocity, &plan.divergence].map(|view: &View| view.source);
        for source in results.into_iter().chain([Source::Buffer(plan.input)]) {
            if let Source::Buffer(buffer) = source {
                narrow[memory.slot[buffer]] = false;
            }
        }
        let mut own = vec![false; plan.constants.len()];
        for call in &plan.calls {
            if let Call::Convolution(c) = call {
                own[c.weights] = true;
            }
        }
        let mut constant_values = 0;
        let place = |(constant, own): (&Values, &bool)| {
            let at = constant_values;
            constant_values += if *own { 0 } else { constant.len() };
            (!own).then_some(at)
        };
        let constants = plan.constants.iter().zip(&own).map(place).collect();
        let mut leg = LEG_HEAD;
        let table = |&length: &usize| {
            let at = leg;
            leg += length;
            (at, length)
        };
        let tables = tables.iter().map(table).collect();
        let (moments, moments_per_image) = moments(plan, matrices);
        Self {
            memory,
            precision,
            matrices,
            narrow,
            constants,
            constant_values,
            tables,
            leg,
            moments,
            moments_per_image,
        }
    }

    /// Values of one image in the slot of `buffer`.
    pub(super) fn stride(&self, buffer: usize) -> usize {
        self.memory.sizes[self.memory.slot[buffer]]
    }

    /// WGSL name of the type of the values of `buffer`.
    pub(super) fn element(&self, buffer: usize) -> &'static str {
        if self.narrow[self.memory.slot[buffer]] { "f16" } else { "f32" }
    }

    /// WGSL name of the weights' type.
    pub(super) fn weights(&self) -> &'static str {
        self.precision.name()
    }

    /// Bytes of one image in all slots, moments included.
    pub(super) fn bytes_per_image(&self) -> usize {
        let slot = |(size, narrow): (&usize, &bool)| size * if *narrow { 2 } else { 4 };
        let slots: usize = self.memory.sizes.iter().zip(&self.narrow).map(slot).sum();
        slots + self.moments_per_image * 8
    }
}

fn moments(plan: &Plan, matrices: Option<Matrices>) -> (Vec<MomentsAt>, usize) {
    // The stand-alone kernel takes 64 pixels at a time.
    let mut parts = vec![(64, 1); plan.moments.len()];
    for call in &plan.calls {
        if let Call::Convolution(c) = call
            && let Some(moments) = c.moments
        {
            let rows = match suited(c, matrices) {
                Some(matrices) => matrices.tile(),
                None => 16 * tile(c),
            };
            parts[moments] = (rows, c.interleave * c.interleave);
        }
    }
    let mut entries = 0;
    let place = |(&(channels, pixels), (per_partial, copies)): (&(usize, usize), _)| {
        let partial = entries;
        let mut at = MomentsAt { channels, pixels, per_partial, copies, partial, merged: None };
        entries += at.partials() * channels;
        if at.partials() > MOST_PARTIALS {
            at.merged = Some(entries);
            entries += channels;
        }
        at
    };
    let all = plan.moments.iter().zip(parts).map(place).collect();
    (all, entries)
}
