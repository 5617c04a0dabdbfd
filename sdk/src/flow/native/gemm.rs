//! Matrix products with weights that were packed into panels.

use pulp::Simd;

use super::simd::{Aligned, InstructionSet};

/// Weights [depth, columns] in panels of a few vectors' width: `depth` rows of `vectors * lanes` columns each, the
/// last panel filled up with zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct Panels {
    pub(super) depth: usize,
    pub(super) list: Vec<Panel>,
    values: Aligned,
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
        self.values.reserve(at);
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

    /// Sets weights from `[depth, columns]`.
    pub(super) fn pack(set: InstructionSet, depth: usize, columns: usize, weights: &[f32]) -> Self {
        let mut panels = Self::new(set, depth, columns);
        for (k, row) in weights.chunks_exact(columns).enumerate() {
            panels.set_row(set.lanes(), k, row);
        }
        panels
    }

    fn panel(&self, panel: &Panel, lanes: usize) -> &[f32] {
        &self.values.values()[panel.at..][..self.depth * panel.vectors * lanes]
    }

    /// Number of stored values.
    pub(super) fn len(&self) -> usize {
        self.values.values().len()
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

/// Products of all rows with one panel; `store(row, vectors)` gets each row's result.
#[inline(always)]
pub(super) fn multiply<S: Simd>(
    simd: S,
    rows: Rows<'_>,
    panels: &Panels,
    panel: &Panel,
    mut store: impl FnMut(usize, &[S::f32s]),
) {
    let weights = S::as_simd_f32s(panels.panel(panel, S::F32_LANES)).0;
    match panel.vectors {
        1 => blocks::<S, 1>(simd, rows, panels.depth, weights, 12, &mut store),
        2 if S::REGISTER_COUNT > 16 => {
            blocks::<S, 2>(simd, rows, panels.depth, weights, 12, &mut store);
        }
        2 => blocks::<S, 2>(simd, rows, panels.depth, weights, 6, &mut store),
        3 => blocks::<S, 3>(simd, rows, panels.depth, weights, 8, &mut store),
        _ => blocks::<S, 4>(simd, rows, panels.depth, weights, 6, &mut store),
    }
}

/// Rows in blocks of at most `most`, evenly.
#[inline(always)]
fn blocks<S: Simd, const N: usize>(
    simd: S,
    rows: Rows<'_>,
    depth: usize,
    weights: &[S::f32s],
    most: usize,
    store: &mut impl FnMut(usize, &[S::f32s]),
) {
    let weights = weights.as_chunks::<N>().0;
    let mut first = 0;
    while first < rows.count {
        let left = rows.count - first;
        let count = left.div_ceil(left.div_ceil(most));
        match count {
            1 => tile::<S, 1, N>(simd, rows, first, depth, weights, store),
            2 => tile::<S, 2, N>(simd, rows, first, depth, weights, store),
            3 => tile::<S, 3, N>(simd, rows, first, depth, weights, store),
            4 => tile::<S, 4, N>(simd, rows, first, depth, weights, store),
            5 => tile::<S, 5, N>(simd, rows, first, depth, weights, store),
            6 => tile::<S, 6, N>(simd, rows, first, depth, weights, store),
            7 => tile::<S, 7, N>(simd, rows, first, depth, weights, store),
            8 => tile::<S, 8, N>(simd, rows, first, depth, weights, store),
            9 => tile::<S, 9, N>(simd, rows, first, depth, weights, store),
            10 => tile::<S, 10, N>(simd, rows, first, depth, weights, store),
            11 => tile::<S, 11, N>(simd, rows, first, depth, weights, store),
            _ => tile::<S, 12, N>(simd, rows, first, depth, weights, store),
        }
        first += count;
    }
}

/// `M` rows times one panel of `N` vectors, in registers.
#[inline(always)]
fn tile<S: Simd, const M: usize, const N: usize>(
    simd: S,
    rows: Rows<'_>,
    first: usize,
    depth: usize,
    weights: &[[S::f32s; N]],
    store: &mut impl FnMut(usize, &[S::f32s]),
) {
    let rows: [&[f32]; M] = std::array::from_fn(|i| rows.row(first + i, depth));
    let weights = &weights[..depth];
    let mut sums = [[simd.splat_f32s(0.0); N]; M];
    for k in 0..depth {
        for (sums, row) in sums.iter_mut().zip(rows) {
            let value = simd.splat_f32s(row[k]);
            for (sum, &weight) in sums.iter_mut().zip(&weights[k]) {
                *sum = simd.mul_add_e_f32s(value, weight, *sum);
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        store(first + i, sums);
    }
}

#[cfg(test)]
mod tests {
    use pulp::WithSimd;

    use super::*;

    struct Product<'a> {
        rows: Rows<'a>,
        panels: &'a Panels,
        columns: usize,
        output: &'a mut [f32],
    }

    impl WithSimd for Product<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for panel in &self.panels.list {
                multiply(simd, self.rows, self.panels, panel, |row, vectors: &[S::f32s]| {
                    let values: &[f32] = bytemuck::cast_slice(vectors);
                    let to = &mut self.output[row * self.columns + panel.first..][..panel.columns];
                    to.copy_from_slice(&values[..panel.columns]);
                });
            }
        }
    }

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
                    set.run(Product { rows: left, panels: &panels, columns, output: &mut c });
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
