//! Products of transformed inputs with kernels that are transformed on the way.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::STAGGER;
use super::filter::with_filter;
use crate::flow::native::gemm::{Multiply, Panels, Sets, TAPS, Weights};
use crate::flow::native::simd::InstructionSet;
use crate::flow::native::winograd::{Filter, Four, Six, Three, Tile, Two, evaluate_both};

/// Columns of a panel of kernels: few, so that what a panel is transformed to stays in the cache until it is used.
pub(super) const COLUMNS: usize = 16;

/// Products of the inputs at some positions of a tile with one panel of kernels, `[depth, vectors, taps, lanes]`, one
/// position after the other, with results as those of [`Multiply`]. Two rows of positions are transformed right before they
/// are used.
pub(super) struct Kernels<'a> {
    pub(super) sets: Sets<'a>,
    pub(super) panels: &'a Panels,
    pub(super) panel: usize,
    pub(super) tile: Tile,
    pub(super) positions: Range<usize>,
    pub(super) results: &'a mut [f32],
    pub(super) planes: usize,
    pub(super) stride: usize,
    /// Room of [`room`] values.
    pub(super) room: &'a mut [f32],
}

/// Values of two rows of transformed kernels, and of the widest panel if it is not stored in f32.
pub(super) fn room(panels: &Panels, tile: Tile, lanes: usize) -> usize {
    let most = panels.list.iter().map(|p| p.vectors).max().unwrap_or(0);
    panels.widened() + 2 * tile.inputs() * (panels.depth / TAPS * most * lanes + STAGGER)
}

impl Kernels<'_> {
    pub(super) fn multiply(self, set: InstructionSet) {
        let Self { sets, panels, panel, tile, positions, results, planes, stride, room } = self;
        let (widened, rows) = room.split_at_mut(panels.widened());
        let Weights { values: kernels, depth, vectors, mut next, .. } =
            panels.weights(set, panel, widened);
        let depth = depth / TAPS;
        let size = depth * vectors * set.lanes();
        let apart = size + STAGGER;
        let both = 2 * tile.inputs();
        let mut first = positions.start;
        while first < positions.end {
            let (pair, within) = (first / both, first % both);
            let count = (both - within).min(positions.end - first);
            set.run(Transform { tile, pair, kernels, rows: &mut *rows, apart });
            let before = first - positions.start;
            let values = &rows[within * apart..];
            set.run(Multiply {
                sets,
                products: before..before + count,
                weights: Weights { values, apart, depth, vectors, next },
                results: &mut results[before * planes..],
                planes,
                stride,
            });
            next = next.get(count * size..).unwrap_or(&[]);
            first += count;
        }
    }
}

/// Transforms kernels to a pair of rows of their positions, one after the other `apart` values apart.
struct Transform<'a> {
    tile: Tile,
    pair: usize,
    kernels: &'a [f32],
    rows: &'a mut [f32],
    apart: usize,
}

impl WithSimd for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tile, pair, kernels, rows, apart } = self;
        let (kernels, rows) = (S::as_simd_f32s(kernels).0, S::as_mut_simd_f32s(rows).0);
        let apart = apart / S::F32_LANES;
        with_filter!(tile, transform(simd, pair, kernels.as_chunks().0, rows, apart));
    }
}

/// [`Transform`] by the filter of a tile; `apart` counts vectors.
#[inline(always)]
fn transform<S: Simd, F: Filter<I, O>, const I: usize, const O: usize>(
    simd: S,
    pair: usize,
    kernels: &[[S::f32s; TAPS]],
    rows: &mut [S::f32s],
    apart: usize,
) {
    let (upper, lower) = rows[..2 * I * apart].split_at_mut(I * apart);
    let mut rows = [upper, lower].map(|row| positions::<_, I>(row, apart, kernels.len()));
    for (k, g) in kernels.iter().enumerate() {
        let both = if pair == 0 {
            [[g[0], g[1], g[2]], [g[6], g[7], g[8]]]
        } else {
            let [a, d] = evaluate_both(simd, pair, [g[0], g[3], g[6]]);
            let [b, e] = evaluate_both(simd, pair, [g[1], g[4], g[7]]);
            let [c, f] = evaluate_both(simd, pair, [g[2], g[5], g[8]]);
            [[a, b, c], [d, e, f]]
        };
        for (row, g) in rows.iter_mut().zip(both) {
            for (to, value) in row.iter_mut().zip(F::kernel(simd, g)) {
                to[k] = value;
            }
        }
    }
}

/// The first `n` values of every position.
fn positions<T, const I: usize>(row: &mut [T], apart: usize, n: usize) -> [&mut [T]; I] {
    let mut all = row.chunks_exact_mut(apart);
    std::array::from_fn(|_| &mut all.next().unwrap_or_default()[..n])
}
