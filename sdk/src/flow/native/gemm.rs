//! Matrix products with weights that were packed into panels.

use std::ops::Range;
use std::sync::Arc;

use half::f16;
use pulp::{Simd, WithSimd};

use super::simd::{Aligned, InstructionSet, Pages, prefetch, widen};
use crate::flow::Precision;

/// Weights [depth, columns] in panels of a few vectors' width: `depth` rows of `vectors * lanes` columns each, the
/// last panel filled up with zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct Panels {
    pub(super) depth: usize,
    pub(super) list: Vec<Panel>,
    lanes: usize,
    /// Number of values.
    len: usize,
    values: Aligned,
    /// How values are stored elsewhere, and in the place of how many.
    precision: Precision,
    stored: usize,
    /// Where the values are, if they are not its own, and at which position.
    elsewhere: Option<(Arc<Pages>, usize)>,
}

/// One panel of [`Panels`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Panel {
    /// Its first column.
    pub(super) first: usize,
    /// Its columns, without what was filled up.
    pub(super) columns: usize,
    /// Its vectors.
    pub(super) vectors: usize,
    at: usize,
    /// Where it begins if values are stored in f16, two in the place of one.
    narrow_at: usize,
}

impl Panels {
    /// Panels of at most `most` vectors for `depth` rows of `columns` columns, without values: [`Self::found_at`] says where
    /// those are, stored in `precision`.
    pub(super) fn hollow(
        set: InstructionSet,
        [depth, columns]: [usize; 2],
        most: usize,
        precision: Precision,
    ) -> Self {
        let mut panels = Self { precision, ..Self::default() };
        panels.divide(set, [depth, columns], most);
        panels
    }

    /// Changes the sizes; the values are left undefined but for the columns that fill up the last panel.
    pub(super) fn shape(&mut self, set: InstructionSet, depth: usize, columns: usize) {
        self.divide(set, [depth, columns], set.panel_vectors());
        self.values.reserve(self.len);
    }

    fn divide(&mut self, set: InstructionSet, [depth, columns]: [usize; 2], most: usize) {
        let lanes = set.lanes();
        let whole = columns.div_ceil(lanes);
        self.depth = depth;
        self.lanes = lanes;
        self.list.clear();
        let (mut at, mut narrow_at) = (0, 0);
        for first in (0..whole).step_by(most) {
            let vectors = most.min(whole - first);
            let columns = (columns - first * lanes).min(vectors * lanes);
            self.list.push(Panel { first: first * lanes, columns, vectors, at, narrow_at });
            at += depth * vectors * lanes;
            narrow_at += (depth * vectors).div_ceil(2) * lanes;
        }
        // Whole lines, so that what is packed behind them is aligned as well.
        self.len = at.next_multiple_of(LINE);
        self.stored = match self.precision {
            Precision::F32 => self.len,
            Precision::F16 => narrow_at.next_multiple_of(LINE),
        };
    }

    /// Number of values of `depth` rows of `columns` columns.
    pub(super) fn size(set: InstructionSet, depth: usize, columns: usize) -> usize {
        (depth * columns.next_multiple_of(set.lanes())).next_multiple_of(LINE)
    }

    /// Number of values whose place they take as they are stored.
    pub(super) fn stored(&self) -> usize {
        self.stored
    }

    /// Sets row `k` of every panel from a full row of weights.
    pub(super) fn set_row(&mut self, k: usize, row: &[f32]) {
        put_row(&self.list, self.lanes, self.values.values_mut(), k, row);
    }

    /// The same in `values`, of which there are [`Self::len`], instead of the panels' own.
    pub(super) fn put_row(&self, values: &mut [f32], k: usize, row: &[f32]) {
        put_row(&self.list, self.lanes, values, k, row);
    }

    /// Sets tap `t` of channel `k` of every panel, which are `[channels, vectors, taps, lanes]`, as [`Self::put_row`] does.
    pub(super) fn put_taps(&self, values: &mut [f32], [k, t]: [usize; 2], row: &[f32]) {
        for panel in &self.list {
            let row = &row[panel.first..][..panel.columns];
            let first = panel.at / self.lanes + k * panel.vectors * TAPS + t;
            for (v, row) in row.chunks(self.lanes).enumerate() {
                let to = &mut values[(first + v * TAPS) * self.lanes..][..self.lanes];
                let (used, spare) = to.split_at_mut(row.len());
                used.copy_from_slice(row);
                spare.fill(0.0);
            }
        }
    }

    /// Weights `[depth, columns]`, packed.
    #[cfg(test)]
    fn pack(set: InstructionSet, depth: usize, columns: usize, weights: &[f32]) -> Self {
        let mut panels = Self::default();
        panels.shape(set, depth, columns);
        for (k, row) in weights.chunks_exact(columns).enumerate() {
            panels.set_row(k, row);
        }
        panels
    }

    /// Whether values are stored in f16 by now.
    fn is_narrow(&self) -> bool {
        self.elsewhere.is_some() && self.precision == Precision::F16
    }

    /// The weights of panel `i`, for which there is room in `widened` if they are not stored in f32.
    pub(super) fn weights<'a>(
        &'a self,
        set: InstructionSet,
        i: usize,
        widened: &'a mut [f32],
    ) -> Weights<'a> {
        let panel = &self.list[i];
        let mut values = self.panel(panel);
        if self.is_narrow() {
            let to = &mut widened[..2 * values.len()];
            set.run(Widen { stored: values, to: &mut *to });
            values = to;
        }
        let next = self.list.get(i + 1).map_or(&[][..], |next| self.panel(next));
        Weights { values, apart: 0, depth: self.depth, vectors: panel.vectors, next }
    }

    /// The values of a panel as they are stored.
    fn panel(&self, panel: &Panel) -> &[f32] {
        let (vectors, lanes) = (self.depth * panel.vectors, self.lanes);
        match &self.elsewhere {
            None => &self.values.values()[panel.at..][..vectors * lanes],
            Some((pages, at)) if self.precision == Precision::F32 => {
                &pages.values()[at + panel.at..][..vectors * lanes]
            }
            Some((pages, at)) => {
                &pages.values()[at + panel.narrow_at..][..vectors.div_ceil(2) * lanes]
            }
        }
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How values are stored.
    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    /// Stores `values` in f16, two in the place of one of `to`.
    ///
    /// # Errors
    /// The first value that f16 cannot hold.
    pub(super) fn narrow(&self, values: &[f32], to: &mut [f32]) -> Result<(), f32> {
        let lanes = self.lanes;
        if let Some(&large) = values.iter().find(|v| !f16::from_f32(**v).is_finite()) {
            return Err(large);
        }
        for panel in &self.list {
            let values = &values[panel.at..][..self.depth * panel.vectors * lanes];
            let words = bytemuck::cast_slice_mut::<f32, u32>(&mut to[panel.narrow_at..]);
            for (pair, words) in values.chunks(2 * lanes).zip(words.chunks_mut(lanes)) {
                let (low, high) = pair.split_at(lanes);
                for (i, word) in words.iter_mut().enumerate() {
                    *word = narrow(low[i]) | narrow(high.get(i).map_or(0.0, |v| *v)) << 16;
                }
            }
        }
        Ok(())
    }

    /// Takes the values from `pages` at `at` from now on; the position after them.
    pub(super) fn found_at(&mut self, pages: &Arc<Pages>, at: usize) -> usize {
        self.elsewhere = Some((Arc::clone(pages), at));
        at + self.stored
    }

    /// Room that [`Multiply`] needs for the widest panel if values are stored in f16.
    pub(super) fn widened(&self) -> usize {
        let most = self.list.iter().map(|p| p.vectors).max().unwrap_or(0);
        match self.precision {
            Precision::F32 => 0,
            Precision::F16 => (self.depth * most).next_multiple_of(2) * self.lanes,
        }
    }
}

/// Sets row `k` of every panel of `list`.
#[inline(always)]
fn put_row(list: &[Panel], lanes: usize, values: &mut [f32], k: usize, row: &[f32]) {
    for panel in list {
        let width = panel.vectors * lanes;
        let to = &mut values[panel.at + k * width..][..width];
        let (used, spare) = to.split_at_mut(panel.columns);
        used.copy_from_slice(&row[panel.first..panel.first + panel.columns]);
        spare.fill(0.0);
    }
}

/// The bits of the nearest number in f16; subnormal ones become 0, since some processors are slow to read them.
fn narrow(v: f32) -> u32 {
    let v = f16::from_f32(v);
    if v.is_normal() { v.to_bits().into() } else { 0 }
}

/// Rows of a left matrix: `depth` values each, at `i * stride`.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
}

/// Rows of many products, in sets that lie `apart` values apart: of product i, set k has `counts[k * products + i]`
/// rows, which begin `planes * i` values after the set's first.
#[derive(Clone, Copy)]
pub(super) struct Sets<'a> {
    pub(super) rows: Rows<'a>,
    pub(super) planes: usize,
    pub(super) apart: usize,
    pub(super) counts: &'a [usize],
    pub(super) products: usize,
}

impl<'a> Sets<'a> {
    /// `count` rows of a single product.
    pub(super) fn one(rows: Rows<'a>, count: &'a usize) -> Self {
        let counts = std::slice::from_ref(count);
        Self { rows, planes: 0, apart: 0, counts, products: 1 }
    }
}

impl<'a> Rows<'a> {
    #[inline(always)]
    fn row(&self, i: usize, depth: usize) -> &'a [f32] {
        &self.values[i * self.stride..][..depth]
    }
}

/// One panel of weights, or one for each of several products; and what is read after them, to be fetched meanwhile.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    pub(super) values: &'a [f32],
    /// Distance between the panels.
    pub(super) apart: usize,
    pub(super) depth: usize,
    pub(super) vectors: usize,
    pub(super) next: &'a [f32],
}

/// Some of the products of `sets`, one after the other: the results of all sets together begin `planes` values after
/// those of the product before, one row every `stride` values.
pub(super) struct Multiply<'a> {
    pub(super) sets: Sets<'a>,
    pub(super) products: Range<usize>,
    pub(super) weights: Weights<'a>,
    pub(super) results: &'a mut [f32],
    pub(super) planes: usize,
    pub(super) stride: usize,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sets, products, weights, results, planes, stride } = self;
        let Weights { values, apart, depth, vectors, next } = weights;
        let size = depth * vectors * S::F32_LANES;
        for (n, i) in products.enumerate() {
            let mut next = next.get(n * size..).unwrap_or(&[]);
            let mut first = n * planes;
            for (k, counts) in sets.counts.chunks(sets.products).enumerate() {
                let (count, rows) = (counts[i], sets.rows);
                let product = Product {
                    rows: Rows { values: &rows.values[k * sets.apart + i * sets.planes..], ..rows },
                    count,
                    depth,
                    weights: S::as_simd_f32s(&values[n * apart..][..size]).0,
                    results: S::as_mut_simd_f32s(&mut results[first..]).0,
                    stride: stride / S::F32_LANES,
                    next: std::mem::take(&mut next),
                };
                match vectors {
                    1 => one(simd, product),
                    2 if S::REGISTER_COUNT > 16 => two(simd, product),
                    2 => two_few(simd, product),
                    3 => three(simd, product),
                    _ => four(simd, product),
                }
                first += count * stride;
            }
        }
    }
}

/// [`widen`] on its own.
struct Widen<'a> {
    stored: &'a [f32],
    to: &'a mut [f32],
}

impl WithSimd for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        widen(simd, self.stored, self.to);
    }
}

/// One product with one panel; the weights that come `next` are fetched meanwhile.
struct Product<'a, S: Simd> {
    rows: Rows<'a>,
    count: usize,
    depth: usize,
    weights: &'a [S::f32s],
    results: &'a mut [S::f32s],
    /// Vectors from one row of results to the next.
    stride: usize,
    next: &'a [f32],
}

/// A function that takes rows in blocks of at most `$most`, evenly, `$vectors` vectors of columns each.
macro_rules! blocks {
    ($name:ident, $vectors:literal, $most:literal: $($count:literal)*) => {
        #[inline(always)]
        fn $name<S: Simd>(simd: S, mut product: Product<'_, S>) {
            let mut first = 0;
            while first < product.count {
                let left = product.count - first;
                let count = left.div_ceil(left.div_ceil($most));
                match count {
                    $($count => tile::<S, $count, $vectors>(simd, &mut product, first),)*
                    _ => tile::<S, $most, $vectors>(simd, &mut product, first),
                }
                // All rows of the product share the work of fetching.
                let fetched = product.depth * $vectors * S::F32_LANES;
                product.next = product.next.get(fetched..).unwrap_or(&[]);
                first += count;
            }
        }
    };
}

// As many sums as there are registers, less those for the weights and the rows' values.
blocks!(one, 1, 8: 1 2 3 4 5 6 7);
blocks!(two, 2, 12: 1 2 3 4 5 6 7 8 9 10 11);
blocks!(two_few, 2, 6: 1 2 3 4 5);
blocks!(three, 3, 8: 1 2 3 4 5 6 7);
blocks!(four, 4, 6: 1 2 3 4 5);

/// Values of a 3x3 kernel.
pub(super) const TAPS: usize = 9;
/// Values of a cache line.
const LINE: usize = 16;

/// `M` rows from `first` on times one panel of `N` vectors, in registers.
#[inline(always)]
fn tile<S: Simd, const M: usize, const N: usize>(
    simd: S,
    product: &mut Product<'_, S>,
    first: usize,
) {
    let Product { rows, depth, weights, ref mut results, stride, next, .. } = *product;
    let rows: [&[f32]; M] = std::array::from_fn(|i| rows.row(first + i, depth));
    let weights = &weights.as_chunks::<N>().0[..depth];
    let mut sums = [[simd.splat_f32s(0.0); N]; M];
    let width = N * S::F32_LANES;
    for k in 0..depth {
        if let Some(ahead) = next.get(k * width..(k + 1) * width) {
            for line in ahead.chunks(LINE) {
                prefetch(line);
            }
        }
        for (sums, row) in sums.iter_mut().zip(rows) {
            let value = simd.splat_f32s(row[k]);
            for (sum, &weight) in sums.iter_mut().zip(&weights[k]) {
                *sum = simd.mul_add_e_f32s(value, weight, *sum);
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        results[(first + i) * stride..][..N].copy_from_slice(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_any_size_are_those_of_the_definition() {
        for set in InstructionSet::all() {
            for rows in [1, 2, 5, 7, 12, 13, 25] {
                for (depth, columns) in [(1, 1), (3, 17), (17, 64), (5, 70), (16, 33), (2, 48)] {
                    let a: Vec<f32> =
                        (0..rows * depth).map(|i| (i * 7 % 11) as f32 - 5.0).collect();
                    let b: Vec<f32> =
                        (0..depth * columns).map(|i| (i * 5 % 13) as f32 - 6.0).collect();
                    let panels = Panels::pack(set, depth, columns, &b);
                    let mut c = vec![f32::NAN; rows * columns];
                    let left = Rows { values: &a, stride: depth };
                    for (i, panel) in panels.list.iter().enumerate() {
                        let width = panel.vectors * set.lanes();
                        let mut results = Aligned::zeros(rows * width);
                        let results = results.values_mut();
                        set.run(Multiply {
                            sets: Sets::one(left, &rows),
                            products: 0..1,
                            weights: panels.weights(set, i, &mut []),
                            results,
                            planes: 0,
                            stride: width,
                        });
                        for (row, from) in results.chunks_exact(width).take(rows).enumerate() {
                            let to = &mut c[row * columns + panel.first..][..panel.columns];
                            to.copy_from_slice(&from[..panel.columns]);
                        }
                    }
                    for i in 0..rows {
                        for j in 0..columns {
                            let need: f32 =
                                (0..depth).map(|k| a[i * depth + k] * b[k * columns + j]).sum();
                            assert_eq!(
                                c[i * columns + j],
                                need,
                                "{set} {rows}x{depth}x{columns} at {i}, {j}"
                            );
                        }
                    }
                }
            }
        }
    }
}
