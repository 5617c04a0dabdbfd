//! Memory of a network on the CPU, known before its weights are packed.

use super::attention;
use super::convolution::memory::sizes;
use super::simd::InstructionSet;
use crate::flow::plan::{Call, Memory, Plan};
use crate::flow::{MemoryPlan, Precision};

/// For evaluations of up to `images` images side by side on one thread, with weights in `precision`.
pub(super) fn plan(
    set: InstructionSet,
    plan: &Plan,
    memory: &Memory,
    images: usize,
    precision: Precision,
) -> MemoryPlan {
    let slots: usize = memory.sizes.iter().map(|n| (images * n).next_multiple_of(16)).sum();
    let moments: usize = plan.moments.iter().map(|(channels, _)| 2 * images * channels).sum();
    let (mut weights, mut partials, mut map, mut queries, mut formula) = (0, 0, 0, 0, 0);
    let mut scratch = [0; 4];
    for call in &plan.calls {
        match call {
            Call::Convolution(c) => {
                let sizes = sizes(set, c, images, precision);
                weights += sizes.weights;
                partials = partials.max(images * sizes.partials);
                scratch.iter_mut().zip(sizes.scratch).for_each(|(most, n)| *most = n.max(*most));
                let channels = c.prologue.as_ref().map_or(0, |_| c.input.channels);
                map = map.max(2 * images * channels);
            }
            Call::Apply(a) => map = map.max(2 * images * a.input.channels),
            Call::Attention(a) => queries = queries.max(attention::scratch(set, a)),
            Call::Pointwise(p) => formula = formula.max(64 * p.formula.len()),
            Call::Moments(_) | Call::MatMul(_) | Call::Softmax(_) | Call::Reduce(_) => {}
        }
    }
    let session =
        slots + moments + partials + map + queries + formula + scratch.iter().sum::<usize>();
    MemoryPlan { weights: 4 * weights, session: 4 * session }
}
