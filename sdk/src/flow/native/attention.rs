//! Self-attention of one image: scores, softmax and weighted values, all heads.

use pulp::{Simd, WithSimd};

use super::gemm::{Panels, Rows, multiply};
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
}

/// One image's buffers.
pub(super) struct Heads<'a> {
    pub(super) call: &'a Attention,
    pub(super) set: InstructionSet,
    pub(super) query: &'a [f32],
    pub(super) key: &'a [f32],
    pub(super) value: &'a [f32],
    pub(super) output: &'a mut [f32],
    pub(super) scratch: &'a mut Scratch,
}

impl WithSimd for Heads<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        for head in 0..self.call.query.heads {
            one_head(simd, &mut self, head);
        }
    }
}

fn at(tokens: &Tokens, head: usize, token: usize, channel: usize) -> usize {
    tokens.offset + head * tokens.head + token * tokens.token + channel * tokens.channel
}

#[inline(always)]
fn one_head<S: Simd>(simd: S, heads: &mut Heads<'_>, head: usize) {
    let Heads { call, set, query, key, value, output, scratch } = heads;
    let Attention { query: q, key: k, value: v, output: o, scale } = call;
    let lanes = S::F32_LANES;
    let (rows, columns, depth) = (q.tokens, k.tokens, q.channels);

    // Keys as weights [depth, columns], values as weights [columns, channels].
    scratch.keys.shape(*set, depth, columns);
    scratch.row.resize(columns.max(v.channels), 0.0);
    for c in 0..depth {
        for (j, to) in scratch.row[..columns].iter_mut().enumerate() {
            *to = key[at(k, head, j, c)];
        }
        scratch.keys.set_row(lanes, c, &scratch.row[..columns]);
    }
    scratch.values.shape(*set, columns, v.channels);
    for j in 0..columns {
        for (c, to) in scratch.row[..v.channels].iter_mut().enumerate() {
            *to = value[at(v, head, j, c)];
        }
        scratch.values.set_row(lanes, j, &scratch.row[..v.channels]);
    }

    let width = columns.next_multiple_of(lanes);
    scratch.scores.reserve(rows * width);
    let scores = &mut scratch.scores.values_mut()[..rows * width];
    let packed;
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
        packed = scratch.queries.values();
        Rows { values: packed, stride: depth, count: rows }
    };
    for panel in &scratch.keys.list {
        multiply(simd, queries, &scratch.keys, panel, |i, sums: &[S::f32s]| {
            let to = &mut scores[i * width + panel.first..][..panel.vectors * lanes];
            S::as_mut_simd_f32s(to).0.copy_from_slice(sums);
        });
    }
    for row in scores.chunks_exact_mut(width) {
        softmax(simd, row, columns, *scale);
    }
    let weights = Rows { values: scores, stride: width, count: rows };
    for panel in &scratch.values.list {
        multiply(simd, weights, &scratch.values, panel, |i, sums: &[S::f32s]| {
            let sums: &[f32] = bytemuck::cast_slice(sums);
            for (c, &sum) in sums[..panel.columns].iter().enumerate() {
                output[at(o, head, i, panel.first + c)] = sum;
            }
        });
    }
}

/// A score that leaves no weight.
const NEGLIGIBLE: f32 = -1e30;

/// Softmax of `scale` times the first `n` values of a row of whole vectors; the rest becomes 0.
#[inline(always)]
pub(super) fn softmax<S: Simd>(simd: S, row: &mut [f32], n: usize, scale: f32) {
    row[n..].fill(NEGLIGIBLE);
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
