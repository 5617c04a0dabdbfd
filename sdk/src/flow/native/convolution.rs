//! Convolutions with everything fused into them: Winograd tiles for 3x3 kernels, packed rows for all others.
//!
//! The work of one call is cut into *units*: rows of tiles, or rows of the output. A block of units is mapped and padded
//! into a strip, turned into rows of a matrix, multiplied, and written with bias, residual and moments while it is still
//! in the cache. Results do not depend on how units are grouped into blocks, nor on the thread that runs a block.

use pulp::{Simd, WithSimd};

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::gemm::{Panels, Rows, multiply};
use super::moments::{self, Partial};
use super::simd::{Aligned, InstructionSet};
use super::strip::{self, Map, Window};
use super::winograd::{Tile, input_four, input_two, output_four, output_two};
use crate::flow::plan::{Convolution, Image};

/// Bytes of intermediate results that a block may fill: a part of the second-level cache.
const BLOCK_BYTES: usize = 1 << 20;
/// Rows of a matrix that make a product efficient.
const BLOCK_ROWS: usize = 72;
/// Distance between parts of an intermediate result, so that they do not meet in the same cache set.
const STAGGER: usize = 16;

/// How a layer is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// Rows of taps times the weights.
    Direct,
    /// Minimal filtering.
    Winograd(Tile),
}

/// A convolution with its weights packed for one instruction set.
pub(super) struct Layer {
    pub(super) call: Convolution,
    pub(super) algorithm: Algorithm,
    /// One per position of a tile, or one per pixel of an interleaved square.
    panels: Vec<Panels>,
    /// Filled up to whole vectors.
    bias: Vec<f32>,
    lanes: usize,
}

/// Intermediate results of one thread.
#[derive(Default)]
pub(super) struct Scratch {
    strip: Aligned,
    rows: Aligned,
    products: Aligned,
}

/// What a call reads and writes, for a group of images that lie one after the other in their slots.
pub(super) struct Operands<'a> {
    pub(super) images: usize,
    pub(super) input: &'a [f32],
    pub(super) residual: Option<&'a [f32]>,
    /// Scale and shift of the prologue, `[images, 2, channels]`.
    pub(super) map: Option<&'a [f32]>,
    pub(super) output: &'a mut [f32],
    /// Room for the moments of every unit, `[images, units, 2, channels]`; empty if nobody wants them.
    pub(super) partials: &'a mut [f32],
}

impl Layer {
    pub(super) fn new(
        set: InstructionSet,
        call: &Convolution,
        weights: &[f32],
        bias: Option<&[f32]>,
    ) -> Self {
        Self::with(set, call, weights, bias, choose(set, call))
    }

    pub(super) fn with(
        set: InstructionSet,
        call: &Convolution,
        weights: &[f32],
        bias: Option<&[f32]>,
        algorithm: Algorithm,
    ) -> Self {
        let channels = call.output.channels;
        let lanes = set.lanes();
        let panels = match algorithm {
            Algorithm::Direct => {
                let depth = call.kernel[0] * call.kernel[1] * call.input.channels;
                let groups = call.interleave * call.interleave;
                let group = |g: usize| {
                    let mut panels = Panels::new(set, depth, channels);
                    for (k, row) in weights.chunks_exact(groups * channels).enumerate() {
                        panels.set_row(lanes, k, &row[g * channels..][..channels]);
                    }
                    panels
                };
                (0..groups).map(group).collect()
            }
            Algorithm::Winograd(tile) => {
                winograd_panels(set, tile, call.input.channels, channels, weights)
            }
        };
        let mut full = vec![0.0; channels.next_multiple_of(lanes)];
        if let Some(bias) = bias {
            full[..channels].copy_from_slice(bias);
        }
        Self { call: call.clone(), algorithm, panels, bias: full, lanes }
    }

    /// Bytes of the packed weights.
    pub(super) fn bytes(&self) -> usize {
        4 * self.panels.iter().map(Panels::len).sum::<usize>()
    }

    /// Units of one image.
    pub(super) fn units(&self) -> usize {
        match self.algorithm {
            Algorithm::Direct => self.call.grid()[0],
            Algorithm::Winograd(tile) => self.call.output.height.div_ceil(tile.outputs()),
        }
    }

    /// Rows of the output that a unit writes.
    fn rows_per_unit(&self) -> usize {
        match self.algorithm {
            Algorithm::Direct => self.call.interleave,
            Algorithm::Winograd(tile) => tile.outputs(),
        }
    }

    /// Matrix rows of one unit.
    fn unit_rows(&self) -> usize {
        match self.algorithm {
            Algorithm::Direct => self.call.grid()[1],
            Algorithm::Winograd(tile) => self.call.output.width.div_ceil(tile.outputs()),
        }
    }

    fn units_per_block(&self) -> usize {
        let row = match self.algorithm {
            Algorithm::Direct => self.panels[0].depth,
            Algorithm::Winograd(tile) => tile.positions() * (self.panels[0].depth + 4 * self.lanes),
        };
        let rows = match self.algorithm {
            Algorithm::Direct => BLOCK_ROWS,
            Algorithm::Winograd(_) => (BLOCK_BYTES / (4 * row)).max(6),
        };
        (rows / self.unit_rows()).max(1)
    }

    /// Values of `partials` per image.
    pub(super) fn partials(&self) -> usize {
        if self.call.moments.is_some() { self.units() * 2 * self.call.output.channels } else { 0 }
    }

    /// How the moments of the units merge.
    pub(super) fn partial(&self) -> Partial {
        let Image { height, width, channels, .. } = self.call.output;
        Partial { channels, width, height, rows: self.rows_per_unit() }
    }

    /// Carries out the call; over the threads of `pool` if one is given and there is one image.
    pub(super) fn run(
        &self,
        set: InstructionSet,
        operands: Operands<'_>,
        scratch: &[Mutex<Scratch>],
        pool: Option<&rayon::ThreadPool>,
    ) {
        let Operands { images, input, residual, map, output, partials } = operands;
        let shared = Shared { layer: self, set, images, input, residual, map, scratch };
        let all = images * self.units();
        let part =
            Part { units: 0..all, stride: output.len() / images, output, origin: 0, partials };
        match pool {
            Some(pool) if images == 1 => {
                let block = self.units_per_block().min(all.div_ceil(pool.current_num_threads()));
                pool.install(|| shared.split(part, block));
            }
            _ => shared.blocks(part, self.units_per_block()),
        }
    }
}

/// What all blocks of a call read.
struct Shared<'a> {
    layer: &'a Layer,
    set: InstructionSet,
    images: usize,
    input: &'a [f32],
    residual: Option<&'a [f32]>,
    map: Option<&'a [f32]>,
    scratch: &'a [Mutex<Scratch>],
}

impl Shared<'_> {
    /// The buffer of image `i`.
    fn input(&self, i: usize) -> &[f32] {
        let n = self.input.len() / self.images;
        &self.input[i * n..][..n]
    }

    fn residual(&self, i: usize) -> Option<&[f32]> {
        let n = self.residual?.len() / self.images;
        self.residual?.get(i * n..(i + 1) * n)
    }

    fn map(&self, i: usize) -> Option<Map<'_>> {
        let channels = self.layer.call.input.channels;
        let both = self.map?.get(i * 2 * channels..(i + 1) * 2 * channels)?;
        let (scale, shift) = both.split_at(channels);
        let activation =
            self.layer.call.prologue.as_ref().map(|p| p.activation).unwrap_or_default();
        Some(Map { scale, shift, activation })
    }

    /// All units, block after block.
    fn blocks(&self, part: Part<'_>, block: usize) {
        for first in part.units.clone().step_by(block) {
            let units = first..(first + block).min(part.units.end);
            self.block(Part {
                units,
                output: &mut *part.output,
                partials: &mut *part.partials,
                stride: part.stride,
                origin: part.origin,
            });
        }
    }

    /// All units, side by side; every thread gets the rows of the output that it writes.
    fn split(&self, part: Part<'_>, block: usize) {
        let Part { units, output, partials, stride, origin } = part;
        if units.len() <= block {
            return self.block(Part { units, output, partials, stride, origin });
        }
        let blocks = units.len().div_ceil(block);
        let middle = units.start + blocks / 2 * block;
        let size = self.layer.partials() / self.layer.units();
        let first_row = middle * self.layer.rows_per_unit();
        let border = self.layer.call.output.offset + first_row * self.layer.call.output.row;
        let (above, below) = output.split_at_mut(border - origin);
        let (before, after) = partials.split_at_mut((middle - units.start) * size);
        let upper =
            Part { units: units.start..middle, output: above, partials: before, stride, origin };
        let lower = Part {
            units: middle..units.end,
            output: below,
            partials: after,
            stride,
            origin: border,
        };
        rayon::join(|| self.split(upper, block), || self.split(lower, block));
    }

    fn block(&self, part: Part<'_>) {
        let thread = rayon::current_thread_index().unwrap_or(0) % self.scratch.len();
        let mut scratch = lock(&self.scratch[thread]);
        self.set.run(Block { shared: self, part, scratch: &mut scratch });
    }
}

fn lock(scratch: &Mutex<Scratch>) -> MutexGuard<'_, Scratch> {
    // What a panicking thread left behind is overwritten before it is read.
    scratch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Some units of the group, and the piece of the output that they write.
struct Part<'a> {
    units: Range<usize>,
    output: &'a mut [f32],
    /// Moments of these units.
    partials: &'a mut [f32],
    /// Distance between images in the slot of the output.
    stride: usize,
    /// Position in that slot at which `output` begins.
    origin: usize,
}

impl Part<'_> {
    /// Where row `y` of the output of `image` begins.
    #[inline(always)]
    fn row(&self, output: &Image, image: usize, y: usize) -> usize {
        image * self.stride + output.offset + y * output.row - self.origin
    }
}

struct Block<'a> {
    shared: &'a Shared<'a>,
    part: Part<'a>,
    scratch: &'a mut Scratch,
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (shared, part) = (self.shared, &mut self.part);
        match shared.layer.algorithm {
            Algorithm::Direct => direct(simd, shared, part, self.scratch),
            Algorithm::Winograd(Tile::Two) => {
                tiles::<S, 4, 2>(simd, shared, part, self.scratch, input_two, output_two);
            }
            Algorithm::Winograd(Tile::Four) => {
                tiles::<S, 6, 4>(simd, shared, part, self.scratch, input_four, output_four);
            }
        }
        if shared.layer.call.moments.is_some() {
            measure(simd, shared.layer, part);
        }
    }
}

/// Moments of what was just written, unit by unit.
#[inline(always)]
fn measure<S: Simd>(simd: S, layer: &Layer, part: &mut Part<'_>) {
    let output = &layer.call.output;
    let (units, rows) = (layer.units(), layer.rows_per_unit());
    let range = part.units.clone();
    for (i, unit) in range.enumerate() {
        let first = unit % units * rows;
        let count = (first + rows).min(output.height) - first;
        let start = part.row(output, unit / units, first);
        let to = &mut part.partials[i * 2 * output.channels..][..2 * output.channels];
        moments::measure(simd, &part.output[start..], output, count, to);
    }
}

/// Consecutive units of one image.
#[derive(Clone, Copy)]
struct Segment {
    image: usize,
    first: usize,
    count: usize,
}

#[inline(always)]
fn segments(units: Range<usize>, per_image: usize) -> impl Iterator<Item = Segment> {
    let mut next = units.start;
    std::iter::from_fn(move || {
        (next < units.end).then(|| {
            let (image, first) = (next / per_image, next % per_image);
            let count = (per_image - first).min(units.end - next);
            next += count;
            Segment { image, first, count }
        })
    })
}

/// `(sum + bias + residual) * scale` of one vector of output channels from `channel` on.
#[inline(always)]
fn finish<S: Simd>(
    simd: S,
    sum: S::f32s,
    bias: S::f32s,
    residual: Option<&[f32]>,
    scale: S::f32s,
    to: &mut [f32],
) {
    let lanes = S::F32_LANES;
    let mut v = simd.add_f32s(sum, bias);
    if to.len() >= lanes {
        if let Some(residual) = residual {
            v = simd.add_f32s(v, S::as_simd_f32s(&residual[..lanes]).0[0]);
        }
        S::as_mut_simd_f32s(&mut to[..lanes]).0[0] = simd.mul_f32s(v, scale);
    } else {
        if let Some(residual) = residual {
            v = simd.add_f32s(v, simd.partial_load_f32s(&residual[..to.len()]));
        }
        simd.partial_store_f32s(to, simd.mul_f32s(v, scale));
    }
}

/// A block by minimal filtering, with tiles of I x I inputs and O x O outputs.
#[inline(always)]
fn tiles<S: Simd, const I: usize, const O: usize>(
    simd: S,
    shared: &Shared<'_>,
    part: &mut Part<'_>,
    scratch: &mut Scratch,
    input: impl Fn(S, [S::f32s; I]) -> [S::f32s; I],
    output: impl Fn(S, [S::f32s; I]) -> [S::f32s; O],
) {
    let lanes = S::F32_LANES;
    let layer = shared.layer;
    let call = &layer.call;
    let depth = call.input.channels.next_multiple_of(lanes);
    let (units, across) = (layer.units(), layer.unit_rows());
    let tiles = part.units.len() * across;
    let position = tiles * depth + STAGGER;
    let width = across * O + 2;
    scratch.rows.reserve(I * I * position);
    let transformed = scratch.rows.values_mut();

    // Inputs: strip → tiles → [I * I, tiles, depth].
    let mut at = 0;
    for Segment { image, first, count } in segments(part.units.clone(), units) {
        let height = count * O + 2;
        scratch.strip.reserve(height * width * depth);
        let strip = &mut scratch.strip.values_mut()[..height * width * depth];
        let top = (first * O) as isize - call.padding[0] as isize;
        let window = Window { top, left: -(call.padding[1] as isize), height, width };
        let values = shared.input(image);
        strip::fill(simd, &call.input, call.upsample, values, shared.map(image), window, strip);
        for row in 0..count {
            for column in 0..across {
                let corner = (row * O * width + column * O) * depth;
                for c in (0..depth).step_by(lanes) {
                    let mut d = [[simd.splat_f32s(0.0); I]; I];
                    for (i, d) in d.iter_mut().enumerate() {
                        let line = &strip[corner + i * width * depth + c..];
                        for (j, d) in d.iter_mut().enumerate() {
                            *d = S::as_simd_f32s(&line[j * depth..][..lanes]).0[0];
                        }
                        *d = input(simd, *d);
                    }
                    for j in 0..I {
                        let v = input(simd, std::array::from_fn(|i| d[i][j]));
                        for (i, v) in v.into_iter().enumerate() {
                            let to = (i * I + j) * position + at * depth + c;
                            S::as_mut_simd_f32s(&mut transformed[to..][..lanes]).0[0] = v;
                        }
                    }
                }
                at += 1;
            }
        }
    }

    // Products and outputs, one panel of output channels after the other.
    let scale = simd.splat_f32s(call.scale);
    for panel in &layer.panels[0].list {
        let row = panel.vectors * lanes;
        let plane = tiles * row + STAGGER;
        scratch.products.reserve(I * I * plane);
        let products = scratch.products.values_mut();
        for (p, panels) in layer.panels.iter().enumerate() {
            let values = &transformed[p * position..][..tiles * depth];
            let to = &mut products[p * plane..][..tiles * row];
            let rows = Rows { values, stride: depth, count: tiles };
            multiply(simd, rows, panels, panel, |tile, sums: &[S::f32s]| {
                let vectors = S::as_mut_simd_f32s(&mut to[tile * row..][..row]).0;
                vectors.copy_from_slice(sums);
            });
        }
        let mut at = 0;
        for Segment { image, first, count } in segments(part.units.clone(), units) {
            let residual = shared.residual(image);
            for unit in first..first + count {
                for column in 0..across {
                    for v in 0..panel.vectors {
                        let c = panel.first + v * lanes;
                        let from = at * row + v * lanes;
                        let mut m = [[simd.splat_f32s(0.0); O]; I];
                        for (i, m) in m.iter_mut().enumerate() {
                            *m = output(
                                simd,
                                std::array::from_fn(|j| {
                                    let p = (i * I + j) * plane + from;
                                    S::as_simd_f32s(&products[p..][..lanes]).0[0]
                                }),
                            );
                        }
                        let bias = S::as_simd_f32s(&layer.bias[c..][..lanes]).0[0];
                        let used = lanes.min(call.output.channels - c);
                        for j in 0..O.min(call.output.width - column * O) {
                            let v = output(simd, std::array::from_fn(|i| m[i][j]));
                            let x = column * O + j;
                            for (i, &v) in v.iter().take(call.output.height - unit * O).enumerate()
                            {
                                let y = unit * O + i;
                                let to =
                                    part.row(&call.output, image, y) + x * call.output.pixel + c;
                                let residual = residual.zip(call.residual).map(|(values, r)| {
                                    &values[r.offset + y * r.row + x * r.pixel + c..]
                                });
                                finish(
                                    simd,
                                    v,
                                    bias,
                                    residual,
                                    scale,
                                    &mut part.output[to..][..used],
                                );
                            }
                        }
                    }
                    at += 1;
                }
            }
        }
    }
}

/// A block as a product of packed rows with the weights.
#[inline(always)]
fn direct<S: Simd>(simd: S, shared: &Shared<'_>, part: &mut Part<'_>, scratch: &mut Scratch) {
    let lanes = S::F32_LANES;
    let layer = shared.layer;
    let call = &layer.call;
    let [kh, kw] = call.kernel;
    let [sh, sw] = call.stride;
    let across = layer.unit_rows();
    let single = call.kernel == [1, 1] && call.stride == [1, 1] && call.padding == [0, 0];
    for Segment { image, first, count } in segments(part.units.clone(), layer.units()) {
        let values = shared.input(image);
        let map = shared.map(image);
        let plain = single && map.is_none() && call.upsample == 1;
        let dense = call.input.row == call.input.pixel * call.input.width;
        if plain && (dense || count == 1) {
            let start = call.input.offset + first * call.input.row;
            let rows =
                Rows { values: &values[start..], stride: call.input.pixel, count: count * across };
            product(simd, shared, part, rows, image, first);
            continue;
        }
        let depth = call.input.channels.next_multiple_of(lanes);
        let (height, width) = ((count - 1) * sh + kh, (across - 1) * sw + kw);
        scratch.strip.reserve(height * width * depth);
        let strip = &mut scratch.strip.values_mut()[..height * width * depth];
        let top = (first * sh) as isize - call.padding[0] as isize;
        let window = Window { top, left: -(call.padding[1] as isize), height, width };
        strip::fill(simd, &call.input, call.upsample, values, map, window, strip);
        if single {
            let rows = Rows { values: strip, stride: depth, count: count * across };
            product(simd, shared, part, rows, image, first);
            continue;
        }
        // Every output pixel's taps side by side.
        let channels = call.input.channels;
        let taps = kh * kw * channels;
        scratch.rows.reserve(count * across * taps);
        let packed = scratch.rows.values_mut();
        for (i, row) in packed.chunks_exact_mut(taps).take(count * across).enumerate() {
            let (y, x) = (i / across * sh, i % across * sw);
            for (ky, line) in row.chunks_exact_mut(kw * channels).enumerate() {
                let from = &strip[((y + ky) * width + x) * depth..];
                for (kx, tap) in line.chunks_exact_mut(channels).enumerate() {
                    tap.copy_from_slice(&from[kx * depth..][..channels]);
                }
            }
        }
        let rows = Rows { values: packed, stride: taps, count: count * across };
        product(simd, shared, part, rows, image, first);
    }
}

/// Rows of the grid from row `first` on, times all weights.
#[inline(always)]
fn product<S: Simd>(
    simd: S,
    shared: &Shared<'_>,
    part: &mut Part<'_>,
    rows: Rows<'_>,
    image: usize,
    first: usize,
) {
    let lanes = S::F32_LANES;
    let layer = shared.layer;
    let call = &layer.call;
    let across = layer.unit_rows();
    let scale = simd.splat_f32s(call.scale);
    let residual = shared.residual(image).zip(call.residual);
    for (group, panels) in layer.panels.iter().enumerate() {
        let (below, right) = (group / call.interleave, group % call.interleave);
        for panel in &panels.list {
            multiply(simd, rows, panels, panel, |row, sums: &[S::f32s]| {
                let y = (first + row / across) * call.interleave + below;
                let x = row % across * call.interleave + right;
                let pixel = part.row(&call.output, image, y) + x * call.output.pixel;
                for (v, &sum) in sums.iter().enumerate() {
                    let c = panel.first + v * lanes;
                    let used = lanes.min(call.output.channels - c);
                    let bias = S::as_simd_f32s(&layer.bias[c..][..lanes]).0[0];
                    let residual = residual
                        .map(|(values, r)| &values[r.offset + y * r.row + x * r.pixel + c..]);
                    let to = &mut part.output[pixel + c..][..used];
                    finish(simd, sum, bias, residual, scale, to);
                }
            });
        }
    }
}

/// Weights of every position of a tile, transformed.
fn winograd_panels(
    set: InstructionSet,
    tile: Tile,
    inputs: usize,
    outputs: usize,
    weights: &[f32],
) -> Vec<Panels> {
    let positions = tile.positions();
    let mut panels = vec![Panels::new(set, inputs, outputs); positions];
    let mut row = vec![vec![0.0f32; outputs]; positions];
    for i in 0..inputs {
        for o in 0..outputs {
            let tap = |t: usize| f64::from(weights[(t * inputs + i) * outputs + o]);
            let transformed = tile.transform_kernel(std::array::from_fn(tap));
            for (row, v) in row.iter_mut().zip(transformed) {
                row[o] = v as f32;
            }
        }
        for (panels, row) in panels.iter_mut().zip(&row) {
            panels.set_row(set.lanes(), i, row);
        }
    }
    panels
}

/// The algorithm with the least modelled cost.
fn choose(set: InstructionSet, call: &Convolution) -> Algorithm {
    let plain = call.kernel == [3, 3] && call.stride == [1, 1] && call.interleave == 1;
    if !plain || call.input.channels < 16 || call.output.channels < 8 {
        return Algorithm::Direct;
    }
    let cost = |tile: Tile| {
        let tiles = call.output.height.div_ceil(tile.outputs())
            * call.output.width.div_ceil(tile.outputs());
        let (inputs, outputs) = (call.input.channels, call.output.channels);
        let products = (tiles * tile.positions() * inputs * outputs) as f64;
        // Weights that do not stay in the cache are read again for every block.
        let reads = (tile.positions() * inputs * outputs) as f64 * WEIGHT_COST;
        let transforms = (tiles * tile.positions() * (inputs + outputs)) as f64 * TRANSFORM_COST;
        products + reads * set.lanes() as f64 + transforms * set.lanes() as f64
    };
    let best = [Tile::Two, Tile::Four].into_iter().min_by(|a, b| cost(*a).total_cmp(&cost(*b)));
    best.map_or(Algorithm::Direct, Algorithm::Winograd)
}

/// Reading one weight costs as much as this many vector multiplications.
const WEIGHT_COST: f64 = 0.25;
/// Transforming one value costs as much as this many vector multiplications.
const TRANSFORM_COST: f64 = 0.3;
