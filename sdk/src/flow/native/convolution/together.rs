//! Minimal filtering of one image on all threads of a pool.
//!
//! Units are transformed side by side, then products are shared out by positions, so that every thread transforms only
//! its part of the kernels, and then outputs by units again. Every value is the sum that one thread would form.

use std::ops::Range;

use super::block::Block;
use super::filter::Outputs;
use super::kernels::Kernels;
use super::{BLOCK_BYTES, Part, STAGGER, Scratch, Shared, lock};
use crate::flow::native::gemm::{Rows, Sets};
use crate::flow::native::winograd::Tile;

/// Cost of a position's weights beside that of a row of inputs.
const WEIGHTS: usize = 4;

/// Some units at a time, of which every thread has its share.
struct Round<'a> {
    shared: &'a Shared<'a>,
    block: Block,
    /// Units of one share.
    share: usize,
    /// Values of a share: room for lines, and transformed inputs `[positions, tiles, depth]`, positions `apart` values
    /// apart.
    size: usize,
    lines: usize,
    apart: usize,
    /// Values of a tile's products, which are `[positions, tiles, channels]`, positions `planes` values apart.
    stride: usize,
    planes: usize,
}

impl Shared<'_> {
    /// Carries out a call for one image.
    pub(super) fn together(&self, tile: Tile, part: Part<'_>, threads: usize) {
        let layer = self.layer;
        let axes = layer.axes(tile);
        let across = axes[1].tiles();
        let (depth, stride) =
            (layer.depth(), layer.call.output.channels.next_multiple_of(layer.lanes));
        let unit = 4 * tile.positions() * across * (depth + stride);
        let most = (threads * BLOCK_BYTES / unit).max(threads);
        let all = part.units.len();
        let each = all.div_ceil(all.div_ceil(most));
        // What is written side by side is taken out: the threads lock the rest for themselves.
        let mut scratch = Scratch::default();
        scratch.exchange(&mut lock(&self.scratch[0]));
        let mut left = Some(part);
        while let Some(part) = left {
            let end = (part.units.start + each).min(part.units.end);
            let now = if end < part.units.end {
                let (now, later) = self.divide(part, end);
                left = Some(later);
                now
            } else {
                left = None;
                part
            };
            let share = now.units.len().div_ceil(threads);
            let (lines, apart) = (layer.lines(tile), share * across * depth + STAGGER);
            let round = Round {
                shared: self,
                block: Block { axes, units: now.units.clone() },
                share,
                size: (lines + tile.positions() * apart).next_multiple_of(STAGGER),
                lines,
                apart,
                stride,
                planes: now.units.len() * across * stride + STAGGER,
            };
            round.run(now, &mut scratch);
        }
        scratch.exchange(&mut lock(&self.scratch[0]));
    }
}

impl Scratch {
    /// Exchanges all that a round writes.
    fn exchange(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.rows, &mut other.rows);
        std::mem::swap(&mut self.products, &mut other.products);
        std::mem::swap(&mut self.counts, &mut other.counts);
    }
}

impl Round<'_> {
    fn run(&self, part: Part<'_>, scratch: &mut Scratch) {
        let Scratch { rows, products, counts, .. } = scratch;
        let shares = self.block.units.len().div_ceil(self.share);
        let positions = self.block.tile().positions();
        rows.reserve(shares * self.size);
        products.reserve(positions * self.planes);
        let rows = &mut rows.values_mut()[..shares * self.size];
        let products = &mut products.values_mut()[..positions * self.planes];

        self.transform(rows, 0);
        counts.clear();
        (0..shares).for_each(|i| self.block_of(i).count(counts));
        self.multiply(rows, counts, 0..positions, products, shares);
        self.write(part, rows, products);
    }

    /// The units of share `i`.
    fn block_of(&self, i: usize) -> Block {
        let Block { axes, ref units } = self.block;
        let start = units.start + i * self.share;
        Block { axes, units: start..(start + self.share).min(units.end) }
    }

    /// Transformed inputs of the shares from `first` on.
    fn transform(&self, rows: &mut [f32], first: usize) {
        let shares = rows.len() / self.size;
        if shares == 1 {
            let (lines, transformed) = rows.split_at_mut(self.lines);
            self.shared.transform(&self.block_of(first), lines, transformed, self.apart);
            return;
        }
        let (left, right) = rows.split_at_mut(shares / 2 * self.size);
        rayon::join(|| self.transform(left, first), || self.transform(right, first + shares / 2));
    }

    /// Products of some positions, shared out among `threads`.
    fn multiply(
        &self,
        rows: &[f32],
        counts: &[usize],
        positions: Range<usize>,
        products: &mut [f32],
        threads: usize,
    ) {
        let all = self.block.tile().positions();
        if threads > 1 && positions.len() > 1 {
            let cost = |i: usize| WEIGHTS + counts.iter().skip(i).step_by(all).sum::<usize>();
            let goal = positions.clone().map(cost).sum::<usize>() * (threads / 2) / threads;
            let mut middle = positions.start + 1;
            let mut sum = cost(positions.start);
            while middle + 1 < positions.end && sum < goal {
                sum += cost(middle);
                middle += 1;
            }
            let (left, right) = products.split_at_mut((middle - positions.start) * self.planes);
            let (start, end) = (positions.start, positions.end);
            rayon::join(
                || self.multiply(rows, counts, start..middle, left, threads / 2),
                || self.multiply(rows, counts, middle..end, right, threads - threads / 2),
            );
            return;
        }
        let layer = self.shared.layer;
        let values = &rows[self.lines + positions.start * self.apart..];
        let sets = Sets {
            rows: Rows { values, stride: layer.depth() },
            planes: self.apart,
            apart: self.size,
            counts: &counts[positions.start..],
            products: all,
        };
        let thread = rayon::current_thread_index().unwrap_or(0) % self.shared.scratch.len();
        let room = &mut lock(&self.shared.scratch[thread]).room;
        room.reserve(layer.room());
        for (i, panel) in layer.panels[0].list.iter().enumerate() {
            let kernels = Kernels {
                sets,
                panels: &layer.panels[0],
                panel: i,
                tile: self.block.tile(),
                positions: positions.clone(),
                results: &mut products[panel.first..],
                planes: self.planes,
                stride: self.stride,
                room: room.values_mut(),
            };
            kernels.multiply(self.shared.set);
        }
    }

    /// Outputs of the shares whose transformed inputs were in `rows`, of which the room for lines is used again.
    fn write(&self, mut part: Part<'_>, rows: &mut [f32], products: &[f32]) {
        let shares = rows.len() / self.size;
        if shares > 1 {
            let middle = part.units.start + shares / 2 * self.share;
            let (upper, lower) = self.shared.divide(part, middle);
            let (left, right) = rows.split_at_mut(shares / 2 * self.size);
            rayon::join(
                || self.write(upper, left, products),
                || self.write(lower, right, products),
            );
            return;
        }
        for (i, panel) in self.shared.layer.panels[0].list.iter().enumerate() {
            self.shared.set.run(Outputs {
                block: &self.block,
                shared: self.shared,
                part: &mut part,
                products: &products[panel.first..],
                stride: self.stride,
                planes: self.planes,
                panel: i,
                half: &mut rows[..self.lines],
            });
        }
    }
}
