//! Means and squared deviations of channels, measured where an image is written and merged in a fixed order.

use pulp::Simd;

use super::simd::load;
use crate::flow::plan::{Affine, Image, Normalisation, Prologue, Source};

/// Mean and sum of squared deviations of every channel over the first `rows` rows of `values`; both in two passes, so
/// that a large mean costs no digits. `to` is [2, channels].
#[inline(always)]
pub(super) fn measure<S: Simd>(
    simd: S,
    values: &[f32],
    image: &Image,
    rows: usize,
    to: &mut [f32],
) {
    let lanes = S::F32_LANES;
    let (means, squares) = to.split_at_mut(image.channels);
    let inverse = simd.splat_f32s(1.0 / (rows * image.width) as f32);
    for c in (0..image.channels).step_by(lanes) {
        let used = lanes.min(image.channels - c);
        let mut sums = [simd.splat_f32s(0.0); 2];
        for row in 0..rows {
            for x in 0..image.width {
                let v = load(simd, &values[row * image.row + x * image.pixel + c..], used);
                sums[x % 2] = simd.add_f32s(sums[x % 2], v);
            }
        }
        let mean = simd.mul_f32s(simd.add_f32s(sums[0], sums[1]), inverse);
        let mut deviations = [simd.splat_f32s(0.0); 2];
        for row in 0..rows {
            for x in 0..image.width {
                let v = load(simd, &values[row * image.row + x * image.pixel + c..], used);
                let d = simd.sub_f32s(v, mean);
                deviations[x % 2] = simd.mul_add_e_f32s(d, d, deviations[x % 2]);
            }
        }
        let deviation = simd.add_f32s(deviations[0], deviations[1]);
        simd.partial_store_f32s(&mut means[c..][..used], mean);
        simd.partial_store_f32s(&mut squares[c..][..used], deviation);
    }
}

/// Mean and sum of squared deviations in one pass, by deviations from the first value: as that is one of the n values,
/// its distance to the mean is below the square root of n standard deviations, and few digits cancel.
pub(super) struct Sums<S: Simd> {
    first: Option<S::f32s>,
    sum: S::f32s,
    square: S::f32s,
}

impl<S: Simd> Sums<S> {
    #[inline(always)]
    pub(super) fn new(simd: S) -> Self {
        Self { first: None, sum: simd.splat_f32s(0.0), square: simd.splat_f32s(0.0) }
    }

    #[inline(always)]
    pub(super) fn add(&mut self, simd: S, v: S::f32s) {
        let first = *self.first.get_or_insert(v);
        let d = simd.sub_f32s(v, first);
        self.sum = simd.add_f32s(self.sum, d);
        self.square = simd.mul_add_e_f32s(d, d, self.square);
    }

    /// Stores the means and the sums of squared deviations of the `count` values.
    #[inline(always)]
    pub(super) fn store(self, simd: S, count: usize, [means, squares]: [&mut [f32]; 2]) {
        let Some(first) = self.first else { return };
        let mean = simd.mul_f32s(self.sum, simd.splat_f32s(1.0 / count as f32));
        let square = simd.mul_add_e_f32s(simd.neg_f32s(mean), self.sum, self.square);
        // Rounding may leave less than nothing; not-a-number stays.
        let zero = simd.splat_f32s(0.0);
        let square = simd.select_f32s(simd.less_than_f32s(square, zero), zero, square);
        simd.partial_store_f32s(means, simd.add_f32s(first, mean));
        simd.partial_store_f32s(squares, square);
    }
}

/// How an image was measured: in pieces of `rows` rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partial {
    pub(super) channels: usize,
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) rows: usize,
}

/// Channels that are merged side by side.
const MERGED: usize = 64;

/// Merges the pieces `[pieces, 2, channels]` of one image into `[2, channels]`: Chan, Golub and LeVeque (1979),
/// equation 2.1.
pub(super) fn merge(partial: &Partial, pieces: &[f32], to: &mut [f32]) {
    let channels = partial.channels;
    let (means, squares) = to.split_at_mut(channels);
    for first in (0..channels).step_by(MERGED) {
        let n = MERGED.min(channels - first);
        let (mut mean, mut square) = ([0f64; MERGED], [0f64; MERGED]);
        let (mut count, mut left) = (0.0, partial.height);
        for piece in pieces.chunks_exact(2 * channels) {
            let rows = partial.rows.min(left);
            left -= rows;
            let more = (rows * partial.width) as f64;
            let share = more / (count + more);
            let weight = count * share;
            count += more;
            let (m, s) = (&piece[first..][..n], &piece[channels + first..][..n]);
            for i in 0..n {
                let delta = f64::from(m[i]) - mean[i];
                square[i] += f64::from(s[i]) + delta * delta * weight;
                mean[i] += delta * share;
            }
        }
        for i in 0..n {
            means[first + i] = mean[i] as f32;
            squares[first + i] = square[i] as f32;
        }
    }
}

/// Where a prologue finds its numbers, for one image.
pub(super) struct Numbers<'a> {
    /// Moments by number, `[2, channels]` each.
    pub(super) moments: &'a [Vec<f32>],
    /// Pixels behind each of those.
    pub(super) pixels: &'a [(usize, usize)],
    /// Which of the images of the group.
    pub(super) image: usize,
    pub(super) constants: &'a [std::sync::Arc<[f32]>],
    pub(super) tables: &'a [(Vec<usize>, std::sync::Arc<[f32]>)],
}

impl Numbers<'_> {
    fn vector(&self, source: Source) -> &[f32] {
        match source {
            Source::Constant(i) => &self.constants[i],
            Source::Table(i) => &self.tables[i].1,
            Source::Buffer(_) => &[],
        }
    }
}

/// Scale and shift of every channel: `[2, channels]`.
pub(super) fn coefficients(prologue: &Prologue, numbers: &Numbers<'_>, to: &mut [f32]) {
    let channels = to.len() / 2;
    let (scale, shift) = to.split_at_mut(channels);
    match &prologue.normalisation {
        Some(normalisation) => normalise(normalisation, numbers, scale, shift),
        None => {
            scale.fill(1.0);
            shift.fill(0.0);
        }
    }
    for step in &prologue.affine {
        let (Affine::Multiply(source) | Affine::Add(source)) = *step;
        let vector = numbers.vector(source);
        let at = |c: usize| if vector.len() == 1 { vector[0] } else { vector[c] };
        for c in 0..channels {
            if let Affine::Multiply(_) = step {
                scale[c] *= at(c);
                shift[c] *= at(c);
            } else {
                shift[c] += at(c);
            }
        }
    }
}

fn normalise(n: &Normalisation, numbers: &Numbers<'_>, scale: &mut [f32], shift: &mut [f32]) {
    // Means and squared deviations of the channels, for the moment.
    let mut at = 0;
    let mut pixels = 0;
    for &(number, first, count) in &n.channels {
        let (channels, size) = numbers.pixels[number];
        let all = &numbers.moments[number][numbers.image * 2 * channels..][..2 * channels];
        scale[at..at + count].copy_from_slice(&all[first..][..count]);
        shift[at..at + count].copy_from_slice(&all[channels + first..][..count]);
        at += count;
        pixels = size;
    }
    let size = scale.len() / n.groups;
    for (scale, shift) in scale.chunks_exact_mut(size).zip(shift.chunks_exact_mut(size)) {
        // All channels have as many pixels.
        let mean = scale.iter().map(|&v| f64::from(v)).sum::<f64>() / size as f64;
        let between: f64 = scale.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum();
        let within: f64 = shift.iter().map(|&v| f64::from(v)).sum();
        let variance = (within / pixels as f64 + between) / size as f64;
        let inverse = 1.0 / (variance + f64::from(n.epsilon)).sqrt();
        scale.fill(inverse as f32);
        shift.fill((-mean * inverse) as f32);
    }
}

#[cfg(test)]
mod tests {
    use pulp::WithSimd;

    use super::*;
    use crate::flow::native::simd::InstructionSet;

    struct Summed<'a>(&'a [f32], [&'a mut [f32]; 2]);

    impl WithSimd for Summed<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let mut sums = Sums::new(simd);
            for &v in self.0 {
                sums.add(simd, simd.splat_f32s(v));
            }
            sums.store(simd, self.0.len(), self.1);
        }
    }

    fn sums(set: InstructionSet, values: &[f32]) -> (f32, f32) {
        let (mut mean, mut square) = ([f32::NAN], [f32::NAN]);
        set.run(Summed(values, [&mut mean, &mut square]));
        (mean[0], square[0])
    }

    #[test]
    fn one_pass_loses_no_digits_to_a_large_mean_nor_to_a_first_value_far_away() {
        for set in InstructionSet::all() {
            assert_eq!(sums(set, &[5.0]), (5.0, 0.0));
            assert_eq!(sums(set, &[1.0, 2.0, 3.0, 6.0]), (3.0, 14.0));
            let large: Vec<f32> = (0..128).map(|i| 1e5 + (i % 4) as f32).collect();
            assert_eq!(sums(set, &large), (100_001.5, 160.0));
            let outlier: Vec<f32> = (0..128).map(|i| if i == 0 { 1000.0 } else { 0.0 }).collect();
            let (mean, square) = sums(set, &outlier);
            assert!((mean - 7.8125).abs() < 1e-3, "{set}: {mean}");
            assert!((square / 992_187.5 - 1.0).abs() < 1e-5, "{set}: {square}");
            assert!(sums(set, &[1.0, f32::NAN]).1.is_nan());
        }
    }

    #[test]
    fn pieces_merge_to_the_moments_of_the_whole() {
        let (channels, width, height, rows) = (70, 3, 5, 2);
        let value = |y: usize, x: usize, c: usize| (100 * c + y * y * 7 + x * 3) as f64;
        let moments = |from: usize, to: usize, c: usize| {
            let all = || (from..to).flat_map(|y| (0..width).map(move |x| value(y, x, c)));
            let mean = all().sum::<f64>() / all().count() as f64;
            (mean, all().map(|v| (v - mean).powi(2)).sum::<f64>())
        };
        let mut pieces = vec![];
        for first in (0..height).step_by(rows) {
            let each = (0..channels).map(|c| moments(first, height.min(first + rows), c));
            let (means, squares): (Vec<f64>, Vec<f64>) = each.unzip();
            pieces.extend(means.into_iter().chain(squares).map(|v| v as f32));
        }
        let mut merged = vec![f32::NAN; 2 * channels];
        merge(&Partial { channels, width, height, rows }, &pieces, &mut merged);
        for c in 0..channels {
            let (mean, square) = moments(0, height, c);
            assert!((f64::from(merged[c]) - mean).abs() <= 1e-6 * mean.abs(), "channel {c}");
            let got = f64::from(merged[channels + c]);
            assert!((got / square - 1.0).abs() < 1e-5, "channel {c}: {got}, need {square}");
        }
    }
}
