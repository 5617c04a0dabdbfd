//! Self-attention of one image: scores, softmax and weighted values, all heads.

use std::sync::{Mutex, PoisonError};

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::gemm::{Multiply, Panels, Rows, Sets};
use super::simd::{Aligned, InstructionSet, power_of_two};
use crate::flow::plan::{Attention, Tokens};

/// Queries that are carried from scores to results at a time: their scores stay in the cache.
const BLOCK: usize = 24;

/// Intermediate results of one image.
#[derive(Default)]
pub(super) struct Scratch {
    keys: Panels,
    values: Panels,
    row: Vec<f32>,
    threads: Vec<Mutex<Block>>,
}

/// Intermediate results of one block of queries.
#[derive(Default)]
struct Block {
    queries: Aligned,
    scores: Aligned,
    products: Aligned,
    inverses: [f32; BLOCK],
}

impl Scratch {
    /// For so many threads.
    pub(super) fn new(threads: usize) -> Self {
        let threads = (0..threads.max(1)).map(|_| Mutex::default()).collect();
        Self { threads, ..Self::default() }
    }
}

#[cfg(test)]
impl Scratch {
    /// Number of values.
    pub(super) fn len(&self) -> usize {
        let block = |block: &Mutex<Block>| {
            let Block { queries, scores, products, .. } =
                &*block.lock().unwrap_or_else(PoisonError::into_inner);
            [queries, scores, products].map(|a| a.values().len()).iter().sum::<usize>()
        };
        let blocks: usize = self.threads.iter().map(block).sum();
        self.keys.len() + self.values.len() + self.row.capacity() + blocks
    }
}

/// Number of values of the intermediate results of `call` on one thread.
pub(super) fn scratch(set: InstructionSet, call: &Attention) -> usize {
    let lanes = set.lanes();
    let (rows, columns) = (BLOCK.min(call.query.tokens), call.key.tokens);
    let (depth, channels) = (call.query.channels, call.value.channels);
    let packed = Panels::size(set, depth, columns) + Panels::size(set, columns, channels);
    let queries = if call.query.channel == 1 { 0 } else { depth };
    let row = queries + columns.next_multiple_of(lanes) + channels.next_multiple_of(lanes);
    packed + channels.max(columns) + rows * row
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
    /// Carries out the call; `split` over the threads of the pool that this runs on.
    pub(super) fn run(mut self, set: InstructionSet, split: bool) {
        (0..self.call.query.heads).for_each(|head| self.head(set, head, split));
    }

    fn head(&mut self, set: InstructionSet, head: usize, split: bool) {
        let Self { call, query, key, value, output, scratch } = self;
        let Attention { query: q, key: k, value: v, output: o, .. } = call;
        let Scratch { keys, values, row, threads } = &mut **scratch;

        // Keys as weights [depth, columns], values as weights [columns, channels].
        row.resize(k.tokens.max(v.channels), 0.0);
        keys.shape(set, q.channels, k.tokens);
        for channel in 0..q.channels {
            let from = &key[at(k, head, 0, channel)..];
            keys.set_row(channel, every(k.token, from, &mut row[..k.tokens]));
        }
        values.shape(set, k.tokens, v.channels);
        for j in 0..k.tokens {
            let from = &value[at(v, head, j, 0)..];
            values.set_row(j, every(v.channel, from, &mut row[..v.channels]));
        }

        let (keys, values) = (&*keys, &*values);
        let block = |(first, output): (usize, &mut [f32])| {
            let count = BLOCK.min(q.tokens - first);
            // One thread takes the same scratch always, so that nobody comes to hold that of all threads.
            let thread = if split { rayon::current_thread_index().unwrap_or(0) } else { 0 };
            let thread = thread % threads.len();
            let mut scratch = threads[thread].lock().unwrap_or_else(PoisonError::into_inner);
            let queries = Queries { call, query, head, first, count };
            queries.run(set, keys, values, &mut scratch, output);
        };
        // Blocks of tokens that lie apart can be written side by side.
        let apart = o.token > (o.heads - 1) * o.head + (o.channels - 1) * o.channel;
        if apart && split {
            let pieces = output[o.offset..].par_chunks_mut(BLOCK * o.token).enumerate();
            let blocks = pieces.take(q.tokens.div_ceil(BLOCK));
            blocks.for_each(|(i, piece)| block((i * BLOCK, piece)));
        } else {
            let firsts = (0..q.tokens).step_by(BLOCK);
            firsts.for_each(|first| block((first, &mut output[o.offset + first * o.token..])));
        }
    }
}

/// Some queries of one head.
struct Queries<'a> {
    call: &'a Attention,
    query: &'a [f32],
    head: usize,
    first: usize,
    count: usize,
}

impl Queries<'_> {
    /// Writes the results; the first query's are at the beginning of `output`.
    fn run(
        &self,
        set: InstructionSet,
        keys: &Panels,
        values: &Panels,
        scratch: &mut Block,
        output: &mut [f32],
    ) {
        let Self { call, query, head, first, count } = *self;
        let Attention { query: q, key: k, value: v, output: o, scale } = call;
        let (lanes, depth, columns) = (set.lanes(), q.channels, k.tokens);
        let Block { queries, scores, products, inverses } = scratch;

        let rows = if q.channel == 1 || depth == 1 {
            Rows { values: &query[at(q, head, first, 0)..], stride: q.token }
        } else {
            queries.reserve(count * depth);
            for (i, row) in queries.values_mut().chunks_exact_mut(depth).take(count).enumerate() {
                every(q.channel, &query[at(q, head, first + i, 0)..], row);
            }
            Rows { values: queries.values(), stride: depth }
        };
        let width = columns.next_multiple_of(lanes);
        scores.reserve(count * width);
        multiply(set, (rows, count), keys, scores.values_mut(), width);
        let all = &mut scores.values_mut()[..count * width];
        set.run(Weights { scores: all, columns, scale: *scale, inverses });

        let rows = Rows { values: scores.values(), stride: width };
        let width = v.channels.next_multiple_of(lanes);
        products.reserve(count * width);
        multiply(set, (rows, count), values, products.values_mut(), width);
        let products = products.values().chunks_exact(width).take(count);
        let output = &mut output[head * o.head..];
        set.run(Write { products, inverses: &*inverses, output, tokens: o });
    }
}

/// Products of queries, each times its factor, as the first tokens of a head.
struct Write<'a, P> {
    products: P,
    inverses: &'a [f32],
    output: &'a mut [f32],
    tokens: &'a Tokens,
}

impl<'a, P: Iterator<Item = &'a [f32]>> WithSimd for Write<'_, P> {
    type Output = ();

    /// Written without vectors: that the compiler may use them is enough.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { products, inverses, output, tokens } = self;
        for (i, (products, inverse)) in products.zip(inverses).enumerate() {
            let to = &mut output[i * tokens.token..];
            if tokens.channel == 1 {
                for (to, product) in to[..tokens.channels].iter_mut().zip(products) {
                    *to = product * inverse;
                }
            } else {
                let to = to.iter_mut().step_by(tokens.channel.max(1)).take(tokens.channels);
                for (to, product) in to.zip(products) {
                    *to = product * inverse;
                }
            }
        }
    }
}

/// As many values of `from` as there is room for, one every `step`: where they are if they lie side by side, else there.
fn every<'a>(step: usize, from: &'a [f32], room: &'a mut [f32]) -> &'a [f32] {
    if step == 1 {
        return &from[..room.len()];
    }
    for (i, to) in room.iter_mut().enumerate() {
        *to = from[i * step];
    }
    room
}

fn at(tokens: &Tokens, head: usize, token: usize, channel: usize) -> usize {
    tokens.offset + head * tokens.head + token * tokens.token + channel * tokens.channel
}

/// Rows times all panels: rows of results, `stride` values apart.
fn multiply(
    set: InstructionSet,
    (rows, count): (Rows<'_>, usize),
    panels: &Panels,
    results: &mut [f32],
    stride: usize,
) {
    for (i, panel) in panels.list.iter().enumerate() {
        let results = &mut results[panel.first..];
        let sets = Sets::one(rows, &count);
        let weights = panels.weights(set, i, &mut []);
        set.run(Multiply { sets, products: 0..1, weights, results, planes: 0, stride });
    }
}

/// [`weights`] of the first `columns` values of every row of whole vectors.
struct Weights<'a> {
    scores: &'a mut [f32],
    columns: usize,
    scale: f32,
    inverses: &'a mut [f32],
}

impl WithSimd for Weights<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.columns.next_multiple_of(S::F32_LANES);
        for (row, inverse) in self.scores.chunks_exact_mut(width).zip(self.inverses) {
            *inverse = weights(simd, row, self.columns, self.scale);
        }
    }
}

/// A score that leaves no weight.
const NEGLIGIBLE: f32 = -1e30;

/// Turns the first `n` values of a row of whole vectors into the weights of their softmax after `scale`, but for a
/// common factor, which is returned; the rest becomes next to nothing.
#[inline(always)]
fn weights<S: Simd>(simd: S, row: &mut [f32], n: usize, scale: f32) -> f32 {
    // Weights are powers of two, whose exponents are the scores over ln 2.
    let factor = simd.splat_f32s(scale * std::f32::consts::LOG2_E);
    row[n..].fill(0.0);
    for v in S::as_mut_simd_f32s(row).0 {
        *v = simd.mul_f32s(*v, factor);
    }
    row[n..].fill(NEGLIGIBLE);
    let vectors = S::as_mut_simd_f32s(row).0;
    let mut most = simd.splat_f32s(f32::NEG_INFINITY);
    for &v in vectors.iter() {
        most = simd.max_f32s(most, v);
    }
    let most = simd.splat_f32s(simd.reduce_max_f32s(most));
    // The largest weight is 1, beside which those of the rest vanish.
    let [mut sum, mut all] = [simd.splat_f32s(0.0); 2];
    for v in vectors.iter_mut() {
        let below = simd.sub_f32s(*v, most);
        all = simd.add_f32s(all, below);
        *v = power_of_two(simd, below);
        sum = simd.add_f32s(sum, *v);
    }
    // A score that is not finite must stay visible.
    if !simd.reduce_sum_f32s(all).is_finite() {
        return f32::NAN;
    }
    1.0 / simd.reduce_sum_f32s(sum)
}

/// Softmax of `scale` times the first `n` values of a row of whole vectors; the rest becomes 0.
#[inline(always)]
pub(super) fn softmax<S: Simd>(simd: S, row: &mut [f32], n: usize, scale: f32) {
    let inverse = simd.splat_f32s(weights(simd, row, n, scale));
    row[n..].fill(0.0);
    let vectors = S::as_mut_simd_f32s(row).0;
    vectors.iter_mut().for_each(|v| *v = simd.mul_f32s(*v, inverse));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    /// Queries, keys and values side by side; planes of tokens if `planar`.
    fn call(heads: usize, tokens: usize, channels: usize, planar: bool) -> Attention {
        let at = |which: usize, parts: usize| {
            let size = heads * channels;
            let first = which * if planar { size * tokens } else { size };
            let (head, token, channel) =
                if planar { (channels * tokens, 1, tokens) } else { (channels, parts * size, 1) };
            Tokens { buffer: 0, offset: first, heads, head, tokens, token, channels, channel }
        };
        Attention {
            query: at(0, 3),
            key: at(1, 3),
            value: at(2, 3),
            output: at(0, 1),
            scale: (channels as f32).sqrt().recip() * 3.0,
        }
    }

    fn run(call: &Attention, input: &[f32], set: InstructionSet, threads: usize) -> Vec<f32> {
        let Tokens { heads, tokens, channels, .. } = call.query;
        let mut output = vec![f32::NAN; heads * tokens * channels];
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (query, key, value) = (input, input, input);
        let scratch = &mut Scratch::new(threads);
        let output_of = &mut output;
        pool.install(|| {
            Heads { call, query, key, value, output: output_of, scratch }.run(set, threads > 1);
        });
        output
    }

    fn expected(call: &Attention, input: &[f32]) -> Vec<f64> {
        let Tokens { heads, tokens, channels, .. } = call.query;
        let x = |t: &Tokens, h, i, c| f64::from(input[at(t, h, i, c)]);
        let mut output = vec![f64::NAN; heads * tokens * channels];
        for (h, i) in (0..heads).flat_map(|h| (0..tokens).map(move |i| (h, i))) {
            let score = |j: usize| {
                let products =
                    (0..channels).map(|c| x(&call.query, h, i, c) * x(&call.key, h, j, c));
                f64::from(call.scale) * products.sum::<f64>()
            };
            let weights: Vec<f64> = (0..tokens).map(|j| score(j).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for c in 0..channels {
                let terms = weights.iter().enumerate().map(|(j, w)| w * x(&call.value, h, j, c));
                output[at(&call.output, h, i, c)] = terms.sum::<f64>() / sum;
            }
        }
        output
    }

    /// The largest difference; infinite where anything is not a number.
    fn far(got: &[f32], need: &[f64]) -> f64 {
        let each = got.iter().zip(need).map(|(&g, n)| (f64::from(g) - n).abs());
        each.fold(0.0, |most, d| {
            if d <= most {
                most
            } else if d.is_nan() {
                f64::INFINITY
            } else {
                d
            }
        })
    }

    #[test]
    fn attention_is_that_of_the_definition_on_any_number_of_threads() {
        let sizes = [(1, 1, 1), (1, 24, 16), (2, 25, 17), (1, 49, 64), (3, 60, 5), (1, 130, 40)];
        for (heads, tokens, channels) in sizes {
            for planar in [false, true] {
                let call = call(heads, tokens, channels, planar);
                let input = values(3 * heads * tokens * channels, tokens);
                let need = expected(&call, &input);
                for set in InstructionSet::all() {
                    let got = run(&call, &input, set, 1);
                    let what = format!("{set} {heads}x{tokens}x{channels} {planar}");
                    assert!(far(&got, &need) < 1e-5, "{what}: {}", far(&got, &need));
                    let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&run(&call, &input, set, 3)), bits(&got), "{what}: threads");
                    for wrong in [got[0] + 1e-3, f32::NAN] {
                        let mut values = got.clone();
                        values[0] = wrong;
                        assert!(far(&values, &need) > 1e-4, "{what}: {wrong} goes unnoticed");
                    }
                }
            }
        }
    }

    #[test]
    fn not_a_number_reaches_the_output() {
        let call = call(1, 30, 8, false);
        for at in [call.query.offset, call.key.offset, call.value.offset] {
            let mut input = values(3 * 30 * 8, 1);
            input[at] = f32::NAN;
            for set in InstructionSet::all() {
                assert!(run(&call, &input, set, 1).iter().any(|v| v.is_nan()), "{set} {at}");
            }
        }
    }
}
