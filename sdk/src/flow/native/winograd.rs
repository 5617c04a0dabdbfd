//! 3x3 convolutions by the minimal filtering algorithms F(2x2, 3x3) and F(4x4, 3x3).
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), §4: a tile of m x m outputs is
//! `Aᵀ [(G g Gᵀ) ∘ (Bᵀ d B)] A` of (m+2) x (m+2) inputs d and a 3x3 kernel g.

use pulp::Simd;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tile {
    /// 2x2 outputs of 4x4 inputs: 16 products for 4 outputs.
    Two,
    /// 4x4 outputs of 6x6 inputs: 36 products for 16 outputs, and about three bits less exact.
    Four,
}

impl Tile {
    /// Rows and columns of outputs.
    pub(super) fn outputs(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// Rows and columns of inputs.
    pub(super) fn inputs(self) -> usize {
        self.outputs() + 2
    }

    /// Products per channel pair.
    pub(super) fn positions(self) -> usize {
        self.inputs() * self.inputs()
    }

    /// `G`, one row per input.
    fn kernel(self) -> &'static [[f64; 3]] {
        match self {
            Self::Two => &[[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]],
            Self::Four => &[
                [1.0 / 4.0, 0.0, 0.0],
                [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
                [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
                [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
                [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
                [0.0, 0.0, 1.0],
            ],
        }
    }
}

/// Kernels of many pairs of channels on their way through `G g Gᵀ`; in f64, so that the weights lose nothing.
#[derive(Default)]
pub(super) struct Kernels {
    columns: Vec<f64>,
    row: Vec<f32>,
}

impl Kernels {
    /// `visit` gets the position in the tile, row-major, and its weights; `tap(t)` are the kernels' values at `t`,
    /// row-major.
    pub(super) fn transform<'a>(
        &mut self,
        tile: Tile,
        tap: impl Fn(usize) -> &'a [f32],
        mut visit: impl FnMut(usize, &[f32]),
    ) {
        let n = tap(0).len();
        let sum = |g: &[f64; 3], [a, b, c]: [f64; 3]| g[0] * a + g[1] * b + g[2] * c;
        self.columns.clear();
        for g in tile.kernel() {
            for column in 0..3 {
                let (a, b, c) = (&tap(column)[..n], &tap(3 + column)[..n], &tap(6 + column)[..n]);
                let values = (0..n).map(|i| sum(g, [a[i].into(), b[i].into(), c[i].into()]));
                self.columns.extend(values);
            }
        }
        for (i, columns) in self.columns.chunks_exact(3 * n).enumerate() {
            let (a, rest) = columns.split_at(n);
            let (b, c) = rest.split_at(n);
            for (j, g) in tile.kernel().iter().enumerate() {
                self.row.clear();
                self.row.extend((0..n).map(|k| sum(g, [a[k], b[k], c[k]]) as f32));
                visit(i * tile.inputs() + j, &self.row);
            }
        }
    }
}

/// The transformations of tiles with I x I inputs and O x O outputs. Functions of a trait, not closures: only what is
/// always inlined is compiled for the instruction set at hand.
pub(super) trait Filter<const I: usize, const O: usize> {
    /// `Bᵀ d` of one column.
    fn input<S: Simd>(s: S, d: [S::f32s; I]) -> [S::f32s; I];

    /// `Aᵀ m` of one column.
    fn output<S: Simd>(s: S, m: [S::f32s; I]) -> [S::f32s; O];
}

/// F(2, 3).
pub(super) struct Two;

/// F(4, 3).
pub(super) struct Four;

impl Filter<4, 2> for Two {
    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::f32s; 4]) -> [S::f32s; 4] {
        [
            s.sub_f32s(d[0], d[2]),
            s.add_f32s(d[1], d[2]),
            s.sub_f32s(d[2], d[1]),
            s.sub_f32s(d[1], d[3]),
        ]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, m: [S::f32s; 4]) -> [S::f32s; 2] {
        [s.add_f32s(s.add_f32s(m[0], m[1]), m[2]), s.sub_f32s(s.sub_f32s(m[1], m[2]), m[3])]
    }
}

impl Filter<6, 4> for Four {
    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::f32s; 6]) -> [S::f32s; 6] {
        let (two, four, five) = (s.splat_f32s(2.0), s.splat_f32s(4.0), s.splat_f32s(-5.0));
        let minus_four = s.splat_f32s(-4.0);
        let e = s.mul_add_e_f32s(d[2], minus_four, d[4]);
        let o = s.mul_add_e_f32s(d[1], minus_four, d[3]);
        let f = s.sub_f32s(d[4], d[2]);
        let h = s.mul_f32s(two, s.sub_f32s(d[3], d[1]));
        [
            s.mul_add_e_f32s(d[0], four, s.mul_add_e_f32s(d[2], five, d[4])),
            s.add_f32s(e, o),
            s.sub_f32s(e, o),
            s.add_f32s(f, h),
            s.sub_f32s(f, h),
            s.mul_add_e_f32s(d[1], four, s.mul_add_e_f32s(d[3], five, d[5])),
        ]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, m: [S::f32s; 6]) -> [S::f32s; 4] {
        let (p, q) = (s.add_f32s(m[1], m[2]), s.sub_f32s(m[1], m[2]));
        let (u, v) = (s.add_f32s(m[3], m[4]), s.sub_f32s(m[3], m[4]));
        let (two, four, eight) = (s.splat_f32s(2.0), s.splat_f32s(4.0), s.splat_f32s(8.0));
        [
            s.add_f32s(s.add_f32s(m[0], p), u),
            s.mul_add_e_f32s(v, two, q),
            s.mul_add_e_f32s(u, four, p),
            s.add_f32s(s.mul_add_e_f32s(v, eight, q), m[5]),
        ]
    }
}
