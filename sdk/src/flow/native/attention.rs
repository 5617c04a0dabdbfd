//! Self-attention of one image: scores, softmax and weighted values, all heads.

use pulp::{Simd, WithSimd};

use super::gemm::{Multiply, Panel, Panels, Rows};
use super::simd::{Aligned, InstructionSet, exp};
use crate::flow::plan::{Attention, Tokens};

/// Intermediate results of one thread.
#[derive(Default)]
pub(super) struct Scratch {
    keys: Panels,
    values: Panels,
    row: Vec<f32>,
    queries: Aligned,
    scores: Aligned,
    products: Aligned,
}

#[cfg(test)]
impl Scratch {
    /// Number of values.
    pub(super) fn len(&self) -> usize {
        let aligned = [&self.queries, &self.scores, &self.products].map(|a| a.values().len());
        self.keys.len() + self.values.len() + self.row.capacity() + aligned.iter().sum::<usize>()
    }
}

/// Number of values of the intermediate results of `call`.
pub(super) fn scratch(set: InstructionSet, call: &Attention) -> usize {
    let (lanes, panel) = (set.lanes(), set.lanes() * set.panel_vectors());
    let (rows, columns) = (call.query.tokens, call.key.tokens);
    let (depth, channels) = (call.query.channels, call.value.channels);
    let packed = |depth, columns| Panels::hollow(set, depth, columns).len();
    let scores = rows * columns.next_multiple_of(lanes);
    let queries = if call.query.channel == 1 { 0 } else { rows * depth };
    let row = columns.max(channels);
    packed(depth, columns) + packed(columns, channels) + row + queries + scores + rows * panel
}

/// One image's buffers.
pub(super) struct Heads<'a> {
    pub(super) call: &'a Attention,
    pub(super) query: &'a [f32],
    pub(super) key: &'a [f32],
    pub(super) value: &'a [f32],
    pub(super) output: &'a mut [f32],
    pub(super) scratch: &'a mut Scratch,
}

impl Heads<'_> {
    pub(super) fn run(mut self, set: InstructionSet) {
        (0..self.call.query.heads).for_each(|head| self.head(set, head));
    }

    fn head(&mut self, set: InstructionSet, head: usize) {
        let Self { call, query, key, value, output, scratch } = self;
        let Attention { query: q, key: k, value: v, output: o, scale } = call;
        let lanes = set.lanes();
        let (rows, columns, depth) = (q.tokens, k.tokens, q.channels);

        // Keys as weights [depth, columns], values as weights [columns, channels].
        scratch.keys.shape(set, depth, columns);
        scratch.row.resize(columns.max(v.channels), 0.0);
        for c in 0..depth {
            for (j, to) in scratch.row[..columns].iter_mut().enumerate() {
                *to = key[at(k, head, j, c)];
            }
            scratch.keys.set_row(lanes, c, &scratch.row[..columns]);
        }
        scratch.values.shape(set, columns, v.channels);
        for j in 0..columns {
            for (c, to) in scratch.row[..v.channels].iter_mut().enumerate() {
                *to = value[at(v, head, j, c)];
            }
            scratch.values.set_row(lanes, j, &scratch.row[..v.channels]);
        }

        let queries = if q.channel == 1 || depth == 1 {
            Rows { values: &query[at(q, head, 0, 0)..], stride: q.token, count: rows }
        } else {
            scratch.queries.reserve(rows * depth);
            let all = scratch.queries.values_mut();
            for i in 0..rows {
                for c in 0..depth {
                    all[i * depth + c] = query[at(q, head, i, c)];
                }
            }
            Rows { values: scratch.queries.values(), stride: depth, count: rows }
        };
        let width = columns.next_multiple_of(lanes);
        scratch.scores.reserve(rows * width);
        let scores = &mut scratch.scores.values_mut()[..rows * width];
        multiply(set, queries, &scratch.keys, &mut scratch.products, |i, panel, sums| {
            scores[i * width + panel.first..][..sums.len()].copy_from_slice(sums);
        });
        set.run(Rescale { scores, columns, scale: *scale });
        let weights = Rows { values: scores, stride: width, count: rows };
        multiply(set, weights, &scratch.values, &mut scratch.products, |i, panel, sums| {
            for (c, &sum) in sums[..panel.columns].iter().enumerate() {
                output[at(o, head, i, panel.first + c)] = sum;
            }
        });
    }
}

fn at(tokens: &Tokens, head: usize, token: usize, channel: usize) -> usize {
    tokens.offset + head * tokens.head + token * tokens.token + channel * tokens.channel
}

/// Rows times all panels; `store` gets each row's part of each panel.
fn multiply(
    set: InstructionSet,
    rows: Rows<'_>,
    panels: &Panels,
    products: &mut Aligned,
    mut store: impl FnMut(usize, &Panel, &[f32]),
) {
    for (i, panel) in panels.list.iter().enumerate() {
        let width = panel.vectors * set.lanes();
        products.reserve(rows.count * width);
        let results = products.values_mut();
        let panels = std::slice::from_ref(panels);
        set.run(Multiply { rows, apart: 0, panels, panel: i, results, planes: 0 });
        for (row, sums) in results.chunks_exact(width).take(rows.count).enumerate() {
            store(row, panel, sums);
        }
    }
}

/// Softmax of `scale` times the first `columns` values of every row of whole vectors.
struct Rescale<'a> {
    scores: &'a mut [f32],
    columns: usize,
    scale: f32,
}

impl WithSimd for Rescale<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.columns.next_multiple_of(S::F32_LANES);
        for row in self.scores.chunks_exact_mut(width) {
            softmax(simd, row, self.columns, self.scale);
        }
    }
}

/// Size of a score that leaves no weight.
const NEGLIGIBLE: f32 = 1e30;

/// Softmax of `scale` times the first `n` values of a row of whole vectors; the rest becomes 0.
#[inline(always)]
pub(super) fn softmax<S: Simd>(simd: S, row: &mut [f32], n: usize, scale: f32) {
    row[n..].fill(NEGLIGIBLE.copysign(-scale));
    let factor = simd.splat_f32s(scale);
    let vectors = S::as_mut_simd_f32s(row).0;
    let mut most = simd.splat_f32s(f32::NEG_INFINITY);
    for v in vectors.iter_mut() {
        *v = simd.mul_f32s(*v, factor);
        most = simd.max_f32s(most, *v);
    }
    let most = simd.splat_f32s(simd.reduce_max_f32s(most));
    for v in vectors.iter_mut() {
        let below = simd.sub_f32s(*v, most);
        // The difference of a number to itself is 0 unless it is not finite: that must stay visible.
        *v = simd.add_f32s(exp(simd, below), simd.sub_f32s(below, below));
    }
    row[n..].fill(0.0);
    let vectors = S::as_mut_simd_f32s(row).0;
    let mut sum = simd.splat_f32s(0.0);
    vectors.iter().for_each(|&v| sum = simd.add_f32s(sum, v));
    let inverse = simd.splat_f32s(1.0 / simd.reduce_sum_f32s(sum));
    vectors.iter_mut().for_each(|v| *v = simd.mul_f32s(*v, inverse));
}
