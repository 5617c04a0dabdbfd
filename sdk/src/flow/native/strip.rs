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

/// Fills `strip` [height, width, channels rounded up to whole vectors] from `values`, the buffer of one image.
pub(super) struct Fill<'a> {
    pub(super) image: &'a Image,
    pub(super) upsample: usize,
    pub(super) values: &'a [f32],
    pub(super) map: Option<Map<'a>>,
    pub(super) window: Window,
    pub(super) strip: &'a mut [f32],
}

impl WithSimd for Fill<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        fill(simd, self);
    }
}

#[inline(always)]
fn fill<S: Simd>(simd: S, task: Fill<'_>) {
    let Fill { image, upsample, values, map, window, strip } = task;
    let lanes = S::F32_LANES;
    let depth = image.channels.next_multiple_of(lanes);
    let (height, width) = (image.height * upsample, image.width * upsample);
    let inside = |at: isize, size: usize| usize::try_from(at).ok().filter(|&i| i < size);
    // Columns of the window that lie in the image.
    let first = usize::try_from(-window.left).unwrap_or(0).min(window.width);
    let end =
        usize::try_from(width as isize - window.left).unwrap_or(0).min(window.width).max(first);
    for (r, row) in strip.chunks_exact_mut(window.width * depth).take(window.height).enumerate() {
        let Some(y) = inside(window.top + r as isize, height) else {
            row.fill(0.0);
            continue;
        };
        row[..first * depth].fill(0.0);
        row[end * depth..].fill(0.0);
        let source = &values[image.offset + y / upsample * image.row..];
        let pixel =
            |column: usize| (window.left + column as isize) as usize / upsample * image.pixel;
        if map.is_none() && depth == image.channels {
            if upsample == 1 && image.pixel == depth {
                let from = pixel(first.min(window.width.saturating_sub(1)));
                let n = (end - first) * depth;
                if n > 0 {
                    row[first * depth..][..n].copy_from_slice(&source[from..][..n]);
                }
            } else {
                for column in first..end {
                    row[column * depth..][..depth]
                        .copy_from_slice(&source[pixel(column)..][..depth]);
                }
            }
            continue;
        }
        for c in (0..depth).step_by(lanes) {
            let used = lanes.min(image.channels - c);
            match map {
                None => {
                    for column in first..end {
                        let v = load(simd, &source[pixel(column) + c..], used);
                        S::as_mut_simd_f32s(&mut row[column * depth + c..][..lanes]).0[0] = v;
                    }
                }
                Some(map) => {
                    let (scale, shift) =
                        (load(simd, &map.scale[c..], used), load(simd, &map.shift[c..], used));
                    let active = map.activation == Activation::Silu;
                    for column in first..end {
                        let v = load(simd, &source[pixel(column) + c..], used);
                        let v = simd.mul_add_e_f32s(v, scale, shift);
                        let v = if active { silu(simd, v) } else { v };
                        S::as_mut_simd_f32s(&mut row[column * depth + c..][..lanes]).0[0] = v;
                    }
                }
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
