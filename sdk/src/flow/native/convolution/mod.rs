//! Convolutions with everything fused into them: Winograd tiles for 3x3 kernels, packed rows for all others.
//!
//! The work of one call is cut into *units*: rows of tiles, or rows of the output. A block of units is mapped and padded
//! into a strip, turned into rows of a matrix, multiplied, and written with bias, residual and moments while it is still
//! in the cache. Results do not depend on how units are grouped into blocks, nor on the thread that runs a block.

mod block;
mod choice;
mod direct;
mod filter;
mod kernels;
pub(super) mod memory;
mod tasks;
mod together;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::block::Block;
use self::choice::choose;
pub(super) use self::choice::shared_time;
use self::filter::{HALF, Outputs, Tiles};
use self::kernels::Kernels;
use self::tasks::Measure;
use super::gemm::{Panels, Rows, Sets};
use super::moments::Partial;
use super::simd::{Aligned, InstructionSet, Pages};
use super::strip::{Map, Source};
use super::winograd::{Axis, Tile};
use crate::flow::Precision;
use crate::flow::plan::{Convolution, Image};

/// Bytes of intermediate results that a block may fill; kernels are transformed for every block.
const BLOCK_BYTES: usize = 2 << 20;
/// Rows of a matrix that make a product efficient.
const BLOCK_ROWS: usize = 72;
/// Tiles of one image for whose sake a thread transforms all kernels.
const TILES_PER_THREAD: usize = 9;
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
    /// One per pixel of an interleaved square.
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
    /// Weights as a product takes them, if they are not stored so.
    room: Aligned,
    counts: Vec<usize>,
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
    /// A layer whose weights will be stored in `precision`, by [`Self::pack`].
    pub(super) fn new(set: InstructionSet, call: &Convolution, precision: Precision) -> Self {
        Self::with(set, call, choose(call), precision)
    }

    pub(super) fn with(
        set: InstructionSet,
        call: &Convolution,
        algorithm: Algorithm,
        precision: Precision,
    ) -> Self {
        let depth = call.kernel[0] * call.kernel[1] * call.input.channels;
        let most = match algorithm {
            Algorithm::Direct => set.panel_vectors(),
            Algorithm::Winograd(_) => (kernels::COLUMNS / set.lanes()).min(set.panel_vectors()),
        };
        let panels = Panels::hollow(set, [depth, call.output.channels], most, precision);
        let panels = vec![panels; call.interleave.pow(2)];
        Self { call: call.clone(), algorithm, panels, bias: vec![], lanes: set.lanes() }
    }

    /// The bias of every output channel; without one, zeros.
    pub(super) fn set_bias(&mut self, bias: Option<&[f32]>) {
        let channels = self.call.output.channels;
        self.bias = vec![0.0; channels.next_multiple_of(self.lanes)];
        if let Some(bias) = bias {
            self.bias[..channels].copy_from_slice(bias);
        }
    }

    /// Number of values in whose place the packed weights are stored.
    pub(super) fn stored(&self) -> usize {
        self.panels.iter().map(Panels::stored).sum()
    }

    /// Packs the weights into the front of `to` and returns the rest; [`Self::found_at`] has to follow. Weights that are
    /// not stored as they are come by way of `staging`.
    ///
    /// # Errors
    /// The first weight that f16 cannot hold.
    pub(super) fn pack<'a>(
        &self,
        weights: &[f32],
        to: &'a mut [f32],
        staging: &mut Aligned,
    ) -> Result<&'a mut [f32], f32> {
        let (own, rest) = to.split_at_mut(self.stored());
        let Some(first) = self.panels.first() else { return Ok(rest) };
        match first.precision() {
            Precision::F32 => self.fill(weights, own),
            Precision::F16 => {
                staging.reserve(self.panels.len() * first.len());
                self.fill(weights, staging.values_mut());
                let packed = staging.values().chunks_exact(first.len());
                let stored = own.chunks_exact_mut(first.stored());
                for ((panels, values), to) in self.panels.iter().zip(packed).zip(stored) {
                    panels.narrow(values, to)?;
                }
            }
        }
        Ok(rest)
    }

    /// Sets the values of all panels, one after the other in `to`.
    fn fill(&self, weights: &[f32], to: &mut [f32]) {
        let (inputs, outputs) = (self.call.input.channels, self.call.output.channels);
        let each = self.panels.first().map_or(0, Panels::len);
        for (k, row) in weights.chunks_exact(self.panels.len() * outputs).enumerate() {
            let all = self.panels.iter().zip(to.chunks_exact_mut(each));
            for ((panels, to), row) in all.zip(row.chunks_exact(outputs)) {
                match self.algorithm {
                    Algorithm::Direct => panels.put_row(to, k, row),
                    Algorithm::Winograd(_) => panels.put_taps(to, [k % inputs, k / inputs], row),
                }
            }
        }
    }

    /// Takes the weights from `pages` at `at` from now on; the position after them.
    pub(super) fn found_at(&mut self, pages: &Arc<Pages>, at: usize) -> usize {
        self.panels.iter_mut().fold(at, |at, panels| panels.found_at(pages, at))
    }

    /// Room for weights as a product takes them, if they are not stored so.
    fn room(&self) -> usize {
        match (self.algorithm, self.panels.first()) {
            (_, None) => 0,
            (Algorithm::Direct, Some(panels)) => panels.widened(),
            (Algorithm::Winograd(tile), Some(panels)) => kernels::room(panels, tile, self.lanes),
        }
    }

    /// Units of one image.
    pub(super) fn units(&self) -> usize {
        match self.algorithm {
            Algorithm::Direct => self.call.grid()[0],
            Algorithm::Winograd(tile) => self.axes(tile)[0].tiles(),
        }
    }

    /// Tiles from top to bottom and from left to right.
    fn axes(&self, tile: Tile) -> [Axis; 2] {
        let Image { height, width, .. } = self.call.output;
        [height, width].map(|outputs| Axis::new(outputs, tile))
    }

    /// Values of a pixel of the input, filled up to whole vectors.
    fn depth(&self) -> usize {
        self.call.input.channels.next_multiple_of(self.lanes)
    }

    /// Values of the rows of a unit before and after the first transformation, or of a tile on its way out.
    fn lines(&self, tile: Tile) -> usize {
        (2 * tile.inputs() * self.axes(tile)[1].inputs()).max(HALF) * self.lanes
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
            Algorithm::Winograd(tile) => self.axes(tile)[1].tiles(),
        }
    }

    /// How many of `units` units make a block.
    fn units_per_block(&self, units: usize) -> usize {
        let row = match self.algorithm {
            Algorithm::Direct => self.panels[0].depth,
            Algorithm::Winograd(tile) => {
                tile.positions() * (self.call.input.channels + 4 * self.lanes)
            }
        };
        let rows = match self.algorithm {
            Algorithm::Direct => BLOCK_ROWS,
            Algorithm::Winograd(_) => (BLOCK_BYTES / (4 * row)).max(6),
        };
        let most = (rows / self.unit_rows()).max(1);
        // Evenly.
        units.div_ceil(units.div_ceil(most))
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

    /// Whether `threads` share out one image's products by position instead of rows of tiles: where some would wait for
    /// long, or tiles are so few that it would not pay to transform all kernels in every thread.
    fn by_position(&self, tile: Tile, threads: usize) -> bool {
        let [down, across] = self.axes(tile).map(|axis| axis.tiles());
        let longest = down.div_ceil(threads) * threads;
        8 * longest > 9 * down || down * across < TILES_PER_THREAD * threads
    }

    /// Carries out the call; over the threads of `pool` if one is given, on one of which this runs, and there is one
    /// image.
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
        let threads = pool.map_or(1, rayon::ThreadPool::current_num_threads);
        match self.algorithm {
            _ if threads == 1 || images > 1 => shared.blocks(part, self.units_per_block(all)),
            Algorithm::Winograd(tile) if self.by_position(tile, threads) => {
                shared.together(tile, part, threads);
            }
            _ => shared.split(part, self.units_per_block(all.div_ceil(threads))),
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
        let size = self.layer.partials() / self.layer.units();
        for first in part.units.clone().step_by(block) {
            let units = first..(first + block).min(part.units.end);
            let partials = &mut part.partials[first * size..units.end * size];
            let (output, stride, origin) = (&mut *part.output, part.stride, part.origin);
            self.block(Part { units, output, partials, stride, origin });
        }
    }

    /// All units, side by side; every thread gets the rows of the output that it writes.
    fn split(&self, part: Part<'_>, block: usize) {
        let Part { units, output, partials, stride, origin } = part;
        if units.len() <= block {
            return self.block(Part { units, output, partials, stride, origin });
        }
        let middle = units.start + units.len().div_ceil(block) / 2 * block;
        let part = Part { units, output, partials, stride, origin };
        let (upper, lower) = self.divide(part, middle);
        rayon::join(|| self.split(upper, block), || self.split(lower, block));
    }

    /// What comes before unit `middle`, and the rest.
    fn divide<'a>(&self, part: Part<'a>, middle: usize) -> (Part<'a>, Part<'a>) {
        let Part { units, output, partials, stride, origin } = part;
        let layer = self.layer;
        let first_row = middle * layer.rows_per_unit();
        let border = layer.call.output.offset + first_row * layer.call.output.row;
        let (output, below) = output.split_at_mut(border - origin);
        let size = layer.partials() / layer.units();
        let (partials, after) = partials.split_at_mut((middle - units.start) * size);
        let lower = Part {
            units: middle..units.end,
            output: below,
            partials: after,
            stride,
            origin: border,
        };
        (Part { units: units.start..middle, output, partials, stride, origin }, lower)
    }

    fn block(&self, mut part: Part<'_>) {
        let thread = rayon::current_thread_index().unwrap_or(0) % self.scratch.len();
        let mut scratch = lock(&self.scratch[thread]);
        match self.layer.algorithm {
            Algorithm::Direct => {
                self.direct(&mut part, &mut scratch);
                if self.layer.call.moments.is_some() && self.layer.call.interleave > 1 {
                    self.set.run(Measure { layer: self.layer, part });
                }
            }
            Algorithm::Winograd(tile) => self.winograd(tile, &mut part, &mut scratch),
        }
    }

    /// A block by minimal filtering: transformed inputs → products → outputs.
    fn winograd(&self, tile: Tile, part: &mut Part<'_>, scratch: &mut Scratch) {
        let Self { layer, set, .. } = self;
        let Scratch { strip, rows, products, room, counts } = scratch;
        let block = Block { axes: layer.axes(tile), units: part.units.clone() };
        let most = block.units.len() * block.axes[1].tiles();
        let depth = layer.depth();
        let apart = most * depth + STAGGER;
        rows.reserve(tile.positions() * apart);
        strip.reserve(layer.lines(tile));
        room.reserve(layer.room());
        self.transform(&block, strip.values_mut(), rows.values_mut(), apart);
        counts.clear();
        block.count(counts);
        let sets = Sets {
            rows: Rows { values: rows.values(), stride: depth },
            planes: apart,
            apart: 0,
            counts,
            products: tile.positions(),
        };
        for (i, panel) in layer.panels[0].list.iter().enumerate() {
            let stride = panel.vectors * layer.lanes;
            let planes = most * stride + STAGGER;
            products.reserve(tile.positions() * planes);
            let positions = 0..tile.positions();
            let (panels, results) = (&layer.panels[0], products.values_mut());
            let room = room.values_mut();
            let kernels =
                Kernels { sets, panels, panel: i, tile, positions, results, planes, stride, room };
            kernels.multiply(*set);
            set.run(Outputs {
                block: &block,
                shared: self,
                part: &mut *part,
                products: products.values(),
                stride,
                planes,
                panel: i,
                half: strip.values_mut(),
            });
        }
    }

    /// Transformed inputs of all tiles of a block.
    fn transform(&self, block: &Block, lines: &mut [f32], transformed: &mut [f32], apart: usize) {
        for segment in segments(block.units.clone(), self.layer.units()) {
            self.set.run(Tiles {
                block,
                source: self.source(segment.image),
                padding: self.layer.call.padding,
                segment,
                lines,
                transformed,
                apart,
            });
        }
    }

    fn source(&self, image: usize) -> Source<'_> {
        let call = &self.layer.call;
        let (values, map) = (self.input(image), self.map(image));
        Source { image: &call.input, values, upsample: call.upsample, map }
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
