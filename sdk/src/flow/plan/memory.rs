//! Which buffers can share memory: those that are never needed at the same time.

use super::Plan;
use super::view::{Source, View};

/// Buffers packed into slots by their lifetimes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Slot of every buffer. The input and the two results have slots of their own.
    pub slot: Vec<usize>,
    /// Values of every slot, per image.
    pub sizes: Vec<usize>,
}

impl Memory {
    /// Packs the buffers of `plan`: in order of first use, each into the free slot that fits best.
    pub fn new(plan: &Plan) -> Self {
        let lifetimes = lifetimes(plan);
        let mut slot = vec![usize::MAX; plan.buffers.len()];
        let mut sizes: Vec<usize> = Vec::new();
        let mut busy_until: Vec<usize> = Vec::new();
        let mut order: Vec<usize> = (0..plan.buffers.len()).collect();
        order.sort_by_key(|&b| (lifetimes[b].0, b));
        for buffer in order {
            let (first, last) = lifetimes[buffer];
            let need = plan.buffers[buffer];
            // The least waste if one is large enough, else the largest, which then grows.
            let free = (0..sizes.len()).filter(|&s| busy_until[s] < first);
            let best = free.min_by_key(|&s| (sizes[s] < need, sizes[s].abs_diff(need)));
            let chosen = best.unwrap_or_else(|| {
                sizes.push(0);
                busy_until.push(0);
                sizes.len() - 1
            });
            sizes[chosen] = sizes[chosen].max(need);
            busy_until[chosen] = last;
            slot[buffer] = chosen;
        }
        Self { slot, sizes }
    }

    /// Values of all slots, per image.
    pub fn values(&self) -> usize {
        self.sizes.iter().sum()
    }
}

/// First and last call that touches each buffer; call 0 is number 1. The input and the results live throughout.
fn lifetimes(plan: &Plan) -> Vec<(usize, usize)> {
    let end = plan.calls.len() + 1;
    let mut lifetimes = vec![(usize::MAX, 0); plan.buffers.len()];
    let mut touch = |buffer: usize, at: usize| {
        let (first, last) = &mut lifetimes[buffer];
        *first = (*first).min(at);
        *last = (*last).max(at);
    };
    touch(plan.input, 0);
    touch(plan.input, end);
    for view in [&plan.velocity, &plan.divergence] {
        if let View { source: Source::Buffer(buffer), .. } = view {
            touch(*buffer, 0);
            touch(*buffer, end);
        }
    }
    for (i, call) in plan.calls.iter().enumerate() {
        call.clone().each_buffer(&mut |buffer| touch(*buffer, i + 1));
    }
    lifetimes
}
