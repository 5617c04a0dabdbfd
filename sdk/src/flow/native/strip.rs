//! A few rows of an image as a convolution wants them: mapped, enlarged, with zeros around, whole vectors per pixel.

use pulp::{Simd, WithSimd};

use super::simd::{load, silu};
use crate::flow::plan::{Activation, Image};

/// `activation(scale * x + shift)` per channel.
#[derive(Clone, Copy)]
pub(super) struct Map<'a> {
    pub(super) scale: &'a [f32],
    pub(super) shift: &'a [f32],
    pub(super) activation: Activation,
}

/// Which part of the enlarged image is wanted; it may reach beyond its borders.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub(super) top: isize,
    pub(super) left: isize,
    pub(super) height: usize,
    pub(super) width: usize,
}

/// An image on its way into a convolution.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) image: &'a Image,
    /// The buffer of the image.
    pub(super) values: &'a [f32],
    pub(super) upsample: usize,
    pub(super) map: Option<Map<'a>>,
}

impl<'a> Source<'a> {
    /// The channels from `c` on, one vector of them.
    #[inline(always)]
    pub(super) fn channels<S: Simd>(self, simd: S, c: usize) -> Channels<'a, S> {
        let used = S::F32_LANES.min(self.image.channels - c);
        let map = self.map.map(|map| {
            let scale = load(simd, &map.scale[c..], used);
            let shift = load(simd, &map.shift[c..], used);
            (scale, shift, map.activation == Activation::Silu)
        });
        Channels { source: self, c, used, map }
    }
}

/// One vector of channels of a [`Source`].
pub(super) struct Channels<'a, S: Simd> {
    source: Source<'a>,
    c: usize,
    used: usize,
    map: Option<(S::f32s, S::f32s, bool)>,
}

impl<S: Simd> Channels<'_, S> {
    /// Row `y` of the enlarged image from column `left` on, zeros where there is none; every `step`-th of `to`.
    #[inline(always)]
    pub(super) fn row(&self, simd: S, y: isize, left: isize, step: usize, to: &mut [S::f32s]) {
        let Source { image, values, upsample, .. } = self.source;
        let columns = to.len().div_ceil(step);
        let zero = simd.splat_f32s(0.0);
        let inside = usize::try_from(y).ok().filter(|&y| y < image.height * upsample);
        let first = usize::try_from(-left).unwrap_or(0).min(columns);
        let end = usize::try_from((image.width * upsample) as isize - left).unwrap_or(0);
        let end = end.min(columns).max(first);
        let Some(y) = inside.filter(|_| first < end) else {
            for column in 0..columns {
                to[column * step] = zero;
            }
            return;
        };
        for column in (0..first).chain(end..columns) {
            to[column * step] = zero;
        }
        let line = &values[image.offset + y / upsample * image.row + self.c..];
        if upsample == 1 {
            for column in first..end {
                let x = (left + column as isize) as usize;
                to[column * step] =
                    self.mapped(simd, load(simd, &line[x * image.pixel..], self.used));
            }
            return;
        }
        // Pixel by pixel of the image; each stands in `upsample` columns, of which the first and the last may be cut.
        let mut x = (left + first as isize) as usize / upsample;
        let mut column = first;
        while column < end {
            let v = self.mapped(simd, load(simd, &line[x * image.pixel..], self.used));
            x += 1;
            let next = ((x * upsample) as isize - left) as usize;
            while column < next.min(end) {
                to[column * step] = v;
                column += 1;
            }
        }
    }

    #[inline(always)]
    fn mapped(&self, simd: S, v: S::f32s) -> S::f32s {
        match self.map {
            None => v,
            Some((scale, shift, false)) => simd.mul_add_e_f32s(v, scale, shift),
            Some((scale, shift, true)) => silu(simd, simd.mul_add_e_f32s(v, scale, shift)),
        }
    }
}

/// Fills `strip` [height, width, channels rounded up to whole vectors].
pub(super) struct Fill<'a> {
    pub(super) source: Source<'a>,
    pub(super) window: Window,
    pub(super) strip: &'a mut [f32],
}

impl WithSimd for Fill<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { source, window, strip } = self;
        let vectors = source.image.channels.div_ceil(S::F32_LANES);
        let strip = S::as_mut_simd_f32s(strip).0;
        let rows = strip.chunks_exact_mut(window.width * vectors).take(window.height);
        for (row, y) in rows.zip(window.top..) {
            for v in 0..vectors {
                let channels = source.channels(simd, v * S::F32_LANES);
                channels.row(simd, y, window.left, vectors, &mut row[v..]);
            }
        }
    }
}

/// Maps the pixels of one row from one place to another; places are values and the distance between pixels.
#[inline(always)]
pub(super) fn map_row<S: Simd>(
    simd: S,
    map: Map<'_>,
    width: usize,
    (values, from): (&[f32], usize),
    (output, to): (&mut [f32], usize),
) {
    let (lanes, channels) = (S::F32_LANES, map.scale.len());
    let active = map.activation == Activation::Silu;
    for c in (0..channels).step_by(lanes) {
        let used = lanes.min(channels - c);
        let scale = simd.partial_load_f32s(&map.scale[c..][..used]);
        let shift = simd.partial_load_f32s(&map.shift[c..][..used]);
        for x in 0..width {
            let v = simd.partial_load_f32s(&values[x * from + c..][..used]);
            let v = simd.mul_add_e_f32s(v, scale, shift);
            let v = if active { silu(simd, v) } else { v };
            simd.partial_store_f32s(&mut output[x * to + c..][..used], v);
        }
    }
}
