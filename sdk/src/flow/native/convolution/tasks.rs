//! The parts of a block that run on vectors.

use pulp::{Simd, WithSimd};

use super::{Layer, Part, Segment, Shared};
use crate::flow::native::moments::{self, Sums};
use crate::flow::native::simd::load;
use crate::flow::plan::Convolution;

/// The taps of every pixel of some rows of the output, `[rows, columns, kernel height, kernel width, channels]`, from a
/// strip of the input that is `width` pixels wide and has whole vectors of channels.
pub(super) struct Pack<'a> {
    pub(super) call: &'a Convolution,
    pub(super) size: [usize; 2],
    pub(super) strip: &'a [f32],
    pub(super) width: usize,
    /// With room for one vector more.
    pub(super) rows: &'a mut [f32],
}

impl WithSimd for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { call, size: [height, across], strip, width, rows } = self;
        let ([kh, kw], [sh, sw], channels) = (call.kernel, call.stride, call.input.channels);
        let lanes = S::F32_LANES;
        let vectors = channels.div_ceil(lanes);
        let strip = S::as_simd_f32s(strip).0;
        let mut at = 0;
        for y in 0..height {
            for x in 0..across {
                for ky in 0..kh {
                    let first = (y * sh + ky) * width + x * sw;
                    for tap in strip[first * vectors..][..kw * vectors].chunks_exact(vectors) {
                        // Whole vectors: what is too much gives way to the next tap.
                        for (v, &value) in tap.iter().enumerate() {
                            store(simd, value, &mut rows[at + v * lanes..][..lanes]);
                        }
                        at += channels;
                    }
                }
            }
        }
    }
}

/// Moments of what a block wrote, unit by unit.
pub(super) struct Measure<'a> {
    pub(super) layer: &'a Layer,
    pub(super) part: Part<'a>,
}

impl WithSimd for Measure<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { layer, part } = self;
        let output = &layer.call.output;
        let (units, rows) = (layer.units(), layer.rows_per_unit());
        for (i, unit) in part.units.clone().enumerate() {
            let first = unit % units * rows;
            let count = (first + rows).min(output.height) - first;
            let start = part.row(output, unit / units, first);
            let to = &mut part.partials[i * 2 * output.channels..][..2 * output.channels];
            moments::measure(simd, &part.output[start..], output, count, to);
        }
    }
}

/// `(sum + bias + residual) * scale` of one vector of output channels from `channel` on.
#[inline(always)]
pub(super) fn finish<S: Simd>(
    simd: S,
    sum: S::f32s,
    bias: S::f32s,
    residual: Option<&[f32]>,
    scale: S::f32s,
    to: &mut [f32],
) -> S::f32s {
    let mut v = simd.add_f32s(sum, bias);
    if let Some(residual) = residual {
        v = simd.add_f32s(v, load(simd, residual, to.len()));
    }
    let v = simd.mul_f32s(v, scale);
    store(simd, v, to);
    v
}

/// As many elements of `v` as `to` has.
#[inline(always)]
fn store<S: Simd>(simd: S, v: S::f32s, to: &mut [f32]) {
    if to.len() == S::F32_LANES {
        S::as_mut_simd_f32s(to).0[0] = v;
    } else {
        simd.partial_store_f32s(to, v);
    }
}

/// Results of a product with one panel, written, and their moments if nothing is interleaved.
pub(super) struct Finish<'a, 'b> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) part: &'a mut Part<'b>,
    pub(super) products: &'a [f32],
    /// Which pixel of an interleaved square.
    pub(super) group: usize,
    pub(super) panel: usize,
    pub(super) segment: Segment,
}

impl WithSimd for Finish<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { shared, part, products, group, panel, segment } = self;
        let lanes = S::F32_LANES;
        let layer = shared.layer;
        let call = &layer.call;
        let panel = &layer.panels[group].list[panel];
        let (below, right) = (group / call.interleave, group % call.interleave);
        let output = &call.output;
        let scale = simd.splat_f32s(call.scale);
        let residual = shared.residual(segment.image).zip(call.residual);
        let across = layer.unit_rows();
        let products = S::as_simd_f32s(products).0;
        let before = segment.image * layer.units() + segment.first - part.units.start;
        for row in 0..segment.count {
            let y = (segment.first + row) * call.interleave + below;
            let line = part.row(output, segment.image, y);
            for v in 0..panel.vectors {
                let c = panel.first + v * lanes;
                let used = lanes.min(output.channels - c);
                let bias = S::as_simd_f32s(&layer.bias[c..][..lanes]).0[0];
                let mut sums = Sums::new(simd);
                let products = &products[row * across * panel.vectors + v..];
                for column in 0..across {
                    let x = column * call.interleave + right;
                    let residual = residual
                        .map(|(values, r)| &values[r.offset + y * r.row + x * r.pixel + c..]);
                    let to = &mut part.output[line + x * output.pixel + c..][..used];
                    let sum = products[column * panel.vectors];
                    sums.add(simd, finish(simd, sum, bias, residual, scale, to));
                }
                if call.moments.is_some() && call.interleave == 1 {
                    let to = &mut part.partials[(before + row) * 2 * output.channels + c..];
                    let (means, squares) = to.split_at_mut(output.channels);
                    sums.store(simd, across, [&mut means[..used], &mut squares[..used]]);
                }
            }
        }
    }
}
