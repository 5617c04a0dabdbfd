//! Matrix products with weights that were packed into panels.

use std::sync::Arc;

use pulp::{Simd, WithSimd};

use super::simd::{Aligned, InstructionSet, Pages, prefetch};

/// Weights [depth, columns] in panels of a few vectors' width: `depth` rows of `vectors * lanes` columns each, the
/// last panel filled up with zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct Panels {
    pub(super) depth: usize,
    pub(super) list: Vec<Panel>,
    /// Number of values.
    len: usize,
    values: Aligned,
    /// Where the values were moved to, and at which position.
    moved: Option<(Arc<Pages>, usize)>,
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
}

impl Panels {
    /// Room for `depth` rows of `columns` columns.
    pub(super) fn new(set: InstructionSet, depth: usize, columns: usize) -> Self {
        let mut panels = Self::default();
        panels.shape(set, depth, columns);
        panels
    }

    /// Changes the sizes; the values are left undefined but for the columns that fill up the last panel.
    pub(super) fn shape(&mut self, set: InstructionSet, depth: usize, columns: usize) {
        self.divide(set, depth, columns);
        self.values.reserve(self.len);
    }

    /// Panels without values, for their sizes.
    pub(super) fn hollow(set: InstructionSet, depth: usize, columns: usize) -> Self {
        let mut panels = Self::default();
        panels.divide(set, depth, columns);
        panels
    }

    fn divide(&mut self, set: InstructionSet, depth: usize, columns: usize) {
        let (lanes, most) = (set.lanes(), set.panel_vectors());
        let whole = columns.div_ceil(lanes);
        self.depth = depth;
        self.list.clear();
        let mut at = 0;
        for first in (0..whole).step_by(most) {
            let vectors = most.min(whole - first);
            let columns = (columns - first * lanes).min(vectors * lanes);
            self.list.push(Panel { first: first * lanes, columns, vectors, at });
            at += depth * vectors * lanes;
        }
        // Whole lines, so that what is packed behind them is aligned as well.
        self.len = at.next_multiple_of(LINE);
    }

    /// Sets row `k` of every panel from a full row of weights.
    pub(super) fn set_row(&mut self, lanes: usize, k: usize, row: &[f32]) {
        for panel in &self.list {
            let width = panel.vectors * lanes;
            let to = &mut self.values.values_mut()[panel.at + k * width..][..width];
            let (used, spare) = to.split_at_mut(panel.columns);
            used.copy_from_slice(&row[panel.first..panel.first + panel.columns]);
            spare.fill(0.0);
        }
    }

    /// Weights `[depth, columns]`, packed.
    #[cfg(test)]
    fn pack(set: InstructionSet, depth: usize, columns: usize, weights: &[f32]) -> Self {
        let mut panels = Self::new(set, depth, columns);
        for (k, row) in weights.chunks_exact(columns).enumerate() {
            panels.set_row(set.lanes(), k, row);
        }
        panels
    }

    fn panel(&self, panel: &Panel, lanes: usize) -> &[f32] {
        let (values, at) = match &self.moved {
            Some((pages, at)) => (pages.values(), at + panel.at),
            None => (self.values.values(), panel.at),
        };
        &values[at..][..self.depth * panel.vectors * lanes]
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Copies the values to the front of `to` and returns the rest.
    pub(super) fn copy_to<'a>(&self, to: &'a mut [f32]) -> &'a mut [f32] {
        let (own, rest) = to.split_at_mut(self.len());
        own.copy_from_slice(&self.values.values()[..self.len]);
        rest
    }

    /// Takes the values from `pages` at `at` from now on; the position after them.
    pub(super) fn move_to(&mut self, pages: &Arc<Pages>, at: usize) -> usize {
        let end = at + self.len();
        self.values = Aligned::default();
        self.moved = Some((Arc::clone(pages), at));
        end
    }
}

/// Rows of a left matrix: `depth` values each, at `start + i * stride`.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
    pub(super) count: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    fn row(&self, i: usize, depth: usize) -> &'a [f32] {
        &self.values[i * self.stride..][..depth]
    }
}

/// Products of rows with one panel of every one of `panels`: the rows of product i begin `apart * i` values after the
/// first ones, its results `planes * i` values after the first results. Results are `[rows, panel's vectors]` each.
pub(super) struct Multiply<'a> {
    pub(super) rows: Rows<'a>,
    pub(super) apart: usize,
    pub(super) panels: &'a [Panels],
    pub(super) panel: usize,
    pub(super) results: &'a mut [f32],
    pub(super) planes: usize,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, apart, panels, panel, results, planes } = self;
        for (i, current) in panels.iter().enumerate() {
            let next = panels.get(i + 1).map_or(&[][..], |p| p.panel(&p.list[panel], S::F32_LANES));
            let panels = current;
            let panel = &panels.list[panel];
            let weights = S::as_simd_f32s(panels.panel(panel, S::F32_LANES)).0;
            let rows = Rows { values: &rows.values[i * apart..], ..rows };
            let width = panel.vectors * S::F32_LANES;
            let results = &mut results[i * planes..][..rows.count * width];
            let results = S::as_mut_simd_f32s(results).0;
            let depth = panels.depth;
            match panel.vectors {
                1 => one(simd, rows, depth, weights.as_chunks().0, results.as_chunks_mut().0, next),
                2 if S::REGISTER_COUNT > 16 => {
                    two(simd, rows, depth, weights.as_chunks().0, results.as_chunks_mut().0, next);
                }
                2 => two_few(
                    simd,
                    rows,
                    depth,
                    weights.as_chunks().0,
                    results.as_chunks_mut().0,
                    next,
                ),
                3 => {
                    three(simd, rows, depth, weights.as_chunks().0, results.as_chunks_mut().0, next)
                }
                _ => {
                    four(simd, rows, depth, weights.as_chunks().0, results.as_chunks_mut().0, next)
                }
            }
        }
    }
}

/// A function that takes rows in blocks of at most `$most`, evenly, `$vectors` vectors of columns each.
macro_rules! blocks {
    ($name:ident, $vectors:literal, $most:literal: $($count:literal)*) => {
        #[inline(always)]
        fn $name<S: Simd>(
            simd: S,
            rows: Rows<'_>,
            depth: usize,
            weights: &[[S::f32s; $vectors]],
            results: &mut [[S::f32s; $vectors]],
            next: &[f32],
        ) {
            let mut first = 0;
            while first < rows.count {
                let left = rows.count - first;
                let count = left.div_ceil(left.div_ceil($most));
                let results = &mut results[first..first + count];
                // The first rows fetch what comes after these weights.
                let next = if first == 0 { next } else { &[] };
                match count {
                    $($count => tile::<S, $count, $vectors>(simd, rows, first, depth, weights, results, next),)*
                    _ => tile::<S, $most, $vectors>(simd, rows, first, depth, weights, results, next),
                }
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

/// Values of a cache line.
const LINE: usize = 16;

/// `M` rows times one panel of `N` vectors, in registers.
#[inline(always)]
fn tile<S: Simd, const M: usize, const N: usize>(
    simd: S,
    rows: Rows<'_>,
    first: usize,
    depth: usize,
    weights: &[[S::f32s; N]],
    results: &mut [[S::f32s; N]],
    next: &[f32],
) {
    let rows: [&[f32]; M] = std::array::from_fn(|i| rows.row(first + i, depth));
    let weights = &weights[..depth];
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
    results.copy_from_slice(&sums);
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
                    let left = Rows { values: &a, stride: depth, count: rows };
                    for (i, panel) in panels.list.iter().enumerate() {
                        let width = panel.vectors * set.lanes();
                        let mut results = Aligned::zeros(rows * width);
                        let results = results.values_mut();
                        let (panels, planes) = (std::slice::from_ref(&panels), 0);
                        set.run(Multiply {
                            rows: left,
                            apart: 0,
                            panels,
                            panel: i,
                            results,
                            planes,
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
