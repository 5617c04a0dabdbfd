//! 3x3 convolutions by the minimal filtering algorithms F(m x n, 3x3), for m and n of 2, 3, 4 and 6.
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), §4: a tile of m x n outputs is
//! `Aᵀ [(G g Gᵀ) ∘ (Bᵀ d B)] A` of (m+2) x (n+2) inputs d and a 3x3 kernel g. By Toom and Cook's construction `G`
//! evaluates the kernel, as a polynomial, at m + 2 points a: its rows are `1, a, a²`; the rows of `Bᵀ` are the
//! coefficients of `Π (x - b)` over all other finite points b, and the columns of `Aᵀ` are `1, a, a², ..`, divided by
//! the same product at a. All scaling is in `A`, and all tiles take their points from the front of one list: so the
//! weights of a large tile are those of a smaller one as well, and an image's last row and column of tiles can be
//! smaller.
//!
//! Kernels are transformed whenever they are used: a transformed kernel is up to seven times as large as the kernel, and
//! reading it from memory, or from a cache that others use as well, takes as long as making it anew.

use pulp::Simd;

/// The points of the largest tile; a tile of m outputs takes the first m + 2.
const POINTS: [f32; 8] = [0.0, f32::INFINITY, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5];

/// Rows or columns of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tile {
    /// 16 products for 2x2 outputs.
    Two,
    /// 25 products for 3x3 outputs; only at the end of an axis.
    Three,
    /// 36 products for 4x4 outputs, and about three bits less exact than a tile of two.
    Four,
    /// 64 products for 6x6 outputs, and about three bits less exact than a tile of four.
    Six,
}

/// Inputs of the largest tile.
pub(super) const INPUTS: usize = 8;
/// Outputs of the largest tile.
pub(super) const OUTPUTS: usize = 6;

impl Tile {
    /// Number of outputs.
    pub(super) fn outputs(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Three => 3,
            Self::Four => 4,
            Self::Six => 6,
        }
    }

    /// Number of inputs, which is that of points.
    pub(super) fn inputs(self) -> usize {
        self.outputs() + 2
    }

    /// Products of a square tile per pair of channels.
    pub(super) fn positions(self) -> usize {
        self.inputs() * self.inputs()
    }
}

/// The tiles along one axis of the output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    /// Tiles of size `tile`.
    pub(super) whole: usize,
    pub(super) tile: Tile,
    /// A smaller one behind them.
    pub(super) last: Option<Tile>,
}

impl Axis {
    /// Tiles for `outputs` outputs.
    pub(super) fn new(outputs: usize, tile: Tile) -> Self {
        let (whole, rest) = (outputs / tile.outputs(), outputs % tile.outputs());
        let smaller = [Tile::Two, Tile::Three, Tile::Four].into_iter();
        match smaller.filter(|t| t.outputs() < tile.outputs()).find(|t| t.outputs() >= rest) {
            _ if rest == 0 => Self { whole, tile, last: None },
            Some(last) => Self { whole, tile, last: Some(last) },
            None => Self { whole: whole + 1, tile, last: None },
        }
    }

    /// Number of tiles.
    pub(super) fn tiles(&self) -> usize {
        self.whole + usize::from(self.last.is_some())
    }

    /// Tile `i`.
    pub(super) fn tile(&self, i: usize) -> Tile {
        self.last.filter(|_| i >= self.whole).unwrap_or(self.tile)
    }

    /// How many of the tiles have a point.
    pub(super) fn with_point(&self, point: usize) -> usize {
        self.whole + usize::from(self.last.is_some_and(|last| point < last.inputs()))
    }

    /// Points of all tiles.
    pub(super) fn points(&self) -> usize {
        (0..self.tile.inputs()).map(|point| self.with_point(point)).sum()
    }

    /// Inputs of all tiles.
    pub(super) fn inputs(&self) -> usize {
        self.whole * self.tile.outputs() + self.last.map_or(0, Tile::outputs) + 2
    }
}

/// The transformations of one axis of a tile with I inputs and O outputs. Functions of a trait, not closures: only what
/// is always inlined is compiled for the instruction set at hand.
pub(super) trait Filter<const I: usize, const O: usize> {
    /// `G g` of one row of a kernel.
    fn kernel<S: Simd>(s: S, g: [S::f32s; 3]) -> [S::f32s; I];

    /// `Bᵀ d` of one column.
    fn input<S: Simd>(s: S, d: [S::f32s; I]) -> [S::f32s; I];

    /// `Aᵀ m` of one column.
    fn output<S: Simd>(s: S, m: [S::f32s; I]) -> [S::f32s; O];
}

/// F(2, 3).
pub(super) struct Two;

/// F(3, 3).
pub(super) struct Three;

/// F(4, 3).
pub(super) struct Four;

/// F(6, 3).
pub(super) struct Six;

/// The values of the polynomial with coefficients `g` at the two finite points of a pair, which are opposite: elements of
/// `G g`.
#[inline(always)]
pub(super) fn evaluate_both<S: Simd>(s: S, pair: usize, g: [S::f32s; 3]) -> [S::f32s; 2] {
    let a = POINTS[2 * pair];
    both(s, fma(s, g[2], a * a, g[0]), times(s, g[1], a))
}

/// `x * c + y`.
#[inline(always)]
fn fma<S: Simd>(s: S, x: S::f32s, c: f32, y: S::f32s) -> S::f32s {
    s.mul_add_e_f32s(x, s.splat_f32s(c), y)
}

#[inline(always)]
fn times<S: Simd>(s: S, x: S::f32s, c: f32) -> S::f32s {
    s.mul_f32s(x, s.splat_f32s(c))
}

/// Sum and difference.
#[inline(always)]
fn both<S: Simd>(s: S, x: S::f32s, y: S::f32s) -> [S::f32s; 2] {
    [s.add_f32s(x, y), s.sub_f32s(x, y)]
}

impl Filter<4, 2> for Two {
    #[inline(always)]
    fn kernel<S: Simd>(s: S, g: [S::f32s; 3]) -> [S::f32s; 4] {
        let [one, minus_one] = evaluate_both(s, 1, g);
        [g[0], g[2], one, minus_one]
    }

    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::f32s; 4]) -> [S::f32s; 4] {
        let [a, b] = both(s, d[2], d[1]);
        [s.sub_f32s(d[2], d[0]), s.sub_f32s(d[3], d[1]), a, b]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, m: [S::f32s; 4]) -> [S::f32s; 2] {
        let [p, q] = both(s, m[2], m[3]);
        [fma(s, p, 0.5, s.neg_f32s(m[0])), fma(s, q, 0.5, m[1])]
    }
}

impl Filter<5, 3> for Three {
    #[inline(always)]
    fn kernel<S: Simd>(s: S, g: [S::f32s; 3]) -> [S::f32s; 5] {
        let [one, minus_one] = evaluate_both(s, 1, g);
        let [two, _] = evaluate_both(s, 2, g);
        [g[0], g[2], one, minus_one, two]
    }

    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::f32s; 5]) -> [S::f32s; 5] {
        let two = s.sub_f32s(d[3], d[1]);
        let [a, b] = both(s, fma(s, d[2], -2.0, d[3]), fma(s, d[1], -2.0, d[2]));
        [
            fma(s, s.sub_f32s(d[0], d[2]), 2.0, two),
            fma(s, two, -2.0, s.sub_f32s(d[4], d[2])),
            a,
            b,
            two,
        ]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, m: [S::f32s; 5]) -> [S::f32s; 3] {
        let (one, other) = (times(s, m[2], -0.5), times(s, m[3], 1.0 / 6.0));
        let [q, p] = both(s, one, other);
        [
            fma(s, m[0], 0.5, fma(s, m[4], 1.0 / 6.0, p)),
            fma(s, m[4], 1.0 / 3.0, q),
            s.add_f32s(m[1], fma(s, m[4], 2.0 / 3.0, p)),
        ]
    }
}

impl Filter<6, 4> for Four {
    #[inline(always)]
    fn kernel<S: Simd>(s: S, g: [S::f32s; 3]) -> [S::f32s; 6] {
        let [one, minus_one] = evaluate_both(s, 1, g);
        let [two, minus_two] = evaluate_both(s, 2, g);
        [g[0], g[2], one, minus_one, two, minus_two]
    }

    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::f32s; 6]) -> [S::f32s; 6] {
        let f = s.sub_f32s(d[4], d[2]);
        let h = times(s, s.sub_f32s(d[3], d[1]), 2.0);
        let [one, minus_one] = both(s, fma(s, d[2], -4.0, d[4]), fma(s, d[1], -4.0, d[3]));
        let [two, minus_two] = both(s, f, h);
        [
            fma(s, d[0], 4.0, fma(s, d[2], -5.0, d[4])),
            fma(s, d[1], 4.0, fma(s, d[3], -5.0, d[5])),
            one,
            minus_one,
            two,
            minus_two,
        ]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, m: [S::f32s; 6]) -> [S::f32s; 4] {
        let [p, q] = both(s, m[2], m[3]);
        let [u, v] = both(s, m[4], m[5]);
        let (p, q) = (times(s, p, -1.0 / 6.0), times(s, q, -1.0 / 6.0));
        [
            fma(s, m[0], 0.25, fma(s, u, 1.0 / 24.0, p)),
            fma(s, v, 1.0 / 12.0, q),
            fma(s, u, 1.0 / 6.0, p),
            s.add_f32s(m[1], fma(s, v, 1.0 / 3.0, q)),
        ]
    }
}

impl Filter<8, 6> for Six {
    #[inline(always)]
    fn kernel<S: Simd>(s: S, g: [S::f32s; 3]) -> [S::f32s; 8] {
        let [one, minus_one] = evaluate_both(s, 1, g);
        let [two, minus_two] = evaluate_both(s, 2, g);
        let [half, minus_half] = evaluate_both(s, 3, g);
        [g[0], g[2], one, minus_one, two, minus_two, half, minus_half]
    }

    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::f32s; 8]) -> [S::f32s; 8] {
        let [one, minus_one] = both(
            s,
            fma(s, d[4], -4.25, s.add_f32s(d[6], d[2])),
            fma(s, d[3], -4.25, s.add_f32s(d[5], d[1])),
        );
        let even = fma(s, d[2], 0.25, fma(s, d[4], -1.25, d[6]));
        let odd = fma(s, d[1], 0.25, fma(s, d[3], -1.25, d[5]));
        let [two, minus_two] = both(s, even, times(s, odd, 2.0));
        let even = fma(s, d[2], 4.0, fma(s, d[4], -5.0, d[6]));
        let odd = fma(s, d[1], 4.0, fma(s, d[3], -5.0, d[5]));
        let [half, minus_half] = both(s, even, times(s, odd, 0.5));
        [
            fma(s, s.sub_f32s(d[2], d[4]), 5.25, s.sub_f32s(d[6], d[0])),
            fma(s, s.sub_f32s(d[3], d[5]), 5.25, s.sub_f32s(d[7], d[1])),
            one,
            minus_one,
            two,
            minus_two,
            half,
            minus_half,
        ]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, m: [S::f32s; 8]) -> [S::f32s; 6] {
        let [p, q] = both(s, m[2], m[3]);
        let [u, v] = both(s, m[4], m[5]);
        let [w, x] = both(s, m[6], m[7]);
        let (p, q) = (times(s, p, -2.0 / 9.0), times(s, q, -2.0 / 9.0));
        [
            s.sub_f32s(fma(s, u, 1.0 / 90.0, fma(s, w, 32.0 / 45.0, p)), m[0]),
            fma(s, v, 2.0 / 90.0, fma(s, x, 16.0 / 45.0, q)),
            fma(s, u, 4.0 / 90.0, fma(s, w, 8.0 / 45.0, p)),
            fma(s, v, 8.0 / 90.0, fma(s, x, 4.0 / 45.0, q)),
            fma(s, u, 16.0 / 90.0, fma(s, w, 2.0 / 45.0, p)),
            s.add_f32s(m[1], fma(s, v, 32.0 / 90.0, fma(s, x, 1.0 / 45.0, q))),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::Scalar;

    /// `Bᵀ` and `Aᵀ` of a tile of O outputs, from the points.
    fn matrices(inputs: usize) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
        let outputs = inputs - 2;
        let points = POINTS.map(f64::from);
        let points = &points[..inputs];
        let without = |i: usize| {
            let others = points.iter().enumerate().filter(|&(j, a)| j != i && a.is_finite());
            others.map(|(_, &a)| a).collect::<Vec<f64>>()
        };
        let rows = |i: usize| {
            let mut row = vec![0.0; inputs];
            row[0] = 1.0;
            for a in without(i) {
                for k in (0..inputs).rev() {
                    row[k] = if k > 0 { row[k - 1] } else { 0.0 } - a * row[k];
                }
            }
            row
        };
        let column = |k: usize, i: usize| {
            let a = points[i];
            if a.is_finite() {
                let product: f64 = without(i).iter().map(|b| a - b).product();
                a.powi(k as i32) / product
            } else {
                f64::from(u8::from(k + 1 == outputs))
            }
        };
        (
            (0..inputs).map(rows).collect(),
            (0..outputs).map(|k| (0..inputs).map(|i| column(k, i)).collect()).collect(),
        )
    }

    fn compare<F: Filter<I, O>, const I: usize, const O: usize>() {
        let (b, a) = matrices(I);
        for unit in 0..I {
            let mut d = [0.0; I];
            d[unit] = 1.0;
            for (i, got) in F::input(Scalar, d).into_iter().enumerate() {
                assert!(
                    (f64::from(got) - b[i][unit]).abs() < 1e-6,
                    "input {I}: {i}, {unit}: {got}"
                );
            }
            for (k, got) in F::output(Scalar, d).into_iter().enumerate() {
                assert!(
                    (f64::from(got) - a[k][unit]).abs() < 1e-6,
                    "output {I}: {k}, {unit}: {got}"
                );
            }
        }
        for power in 0..3 {
            let g = std::array::from_fn(|i| f32::from(u8::from(i == power)));
            for (i, got) in F::kernel(Scalar, g).into_iter().enumerate() {
                let need = if POINTS[i].is_finite() { POINTS[i].powi(power as i32) } else { g[2] };
                assert_eq!(got, need, "kernel {I}: {i}, {power}");
                if i >= 2 {
                    assert_eq!(evaluate_both(Scalar, i / 2, g)[i % 2], need, "point {i}: {power}");
                }
            }
        }
    }

    #[test]
    fn the_transformations_are_those_of_their_points() {
        compare::<Two, 4, 2>();
        compare::<Three, 5, 3>();
        compare::<Four, 6, 4>();
        compare::<Six, 8, 6>();
    }

    #[test]
    fn an_axis_ends_with_the_smallest_tile_that_reaches_its_end() {
        let tiles = |outputs, tile| {
            let axis = Axis::new(outputs, tile);
            let all: Vec<usize> = (0..axis.tiles()).map(|i| axis.tile(i).outputs()).collect();
            assert!(axis.inputs() == all.iter().sum::<usize>() + 2);
            assert!(all.iter().sum::<usize>() >= outputs);
            all
        };
        assert_eq!(tiles(14, Tile::Six), [6, 6, 2]);
        assert_eq!(tiles(14, Tile::Four), [4, 4, 4, 2]);
        assert_eq!(tiles(7, Tile::Four), [4, 3]);
        assert_eq!(tiles(28, Tile::Six), [6, 6, 6, 6, 4]);
        assert_eq!(tiles(11, Tile::Six), [6, 6]);
        assert_eq!(tiles(1, Tile::Six), [2]);
        assert_eq!(tiles(5, Tile::Two), [2, 2, 2]);
        let axis = Axis::new(14, Tile::Six);
        assert_eq!([0, 3, 4, 7].map(|point| axis.with_point(point)), [3, 3, 2, 2]);
    }
}
