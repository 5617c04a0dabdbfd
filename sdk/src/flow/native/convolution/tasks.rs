//! The parts of a block that run on vectors.

use pulp::{Simd, WithSimd};

use super::{Layer, Part, Segment, Shared};
use crate::flow::native::moments::{self, Sums};
use crate::flow::native::simd::load;
use crate::flow::native::strip::Source;
use crate::flow::native::winograd::{Filter, Four, Tile, Two};

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
fn finish<S: Simd>(
    simd: S,
    sum: S::f32s,
    bias: S::f32s,
    residual: Option<&[f32]>,
    scale: S::f32s,
    to: &mut [f32],
) -> S::f32s {
    let lanes = S::F32_LANES;
    let mut v = simd.add_f32s(sum, bias);
    if let Some(residual) = residual {
        v = simd.add_f32s(v, load(simd, residual, to.len()));
    }
    let v = simd.mul_f32s(v, scale);
    if to.len() == lanes {
        S::as_mut_simd_f32s(to).0[0] = v;
    } else {
        simd.partial_store_f32s(to, v);
    }
    v
}

/// Transformed inputs of the tiles of one segment: `[positions, tiles, depth]`, positions `apart` values apart.
pub(super) struct Tiles<'a> {
    pub(super) tile: Tile,
    pub(super) source: Source<'a>,
    pub(super) padding: [usize; 2],
    pub(super) segment: Segment,
    /// Tiles of a unit.
    pub(super) across: usize,
    /// Room for the rows of a unit before and after the first transformation.
    pub(super) lines: &'a mut [f32],
    pub(super) transformed: &'a mut [f32],
    pub(super) apart: usize,
    /// Number of the segment's first tile.
    pub(super) first_tile: usize,
}

impl WithSimd for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.tile {
            Tile::Two => self.transform::<S, Two, 4, 2>(simd),
            Tile::Four => self.transform::<S, Four, 6, 4>(simd),
        }
    }
}

impl Tiles<'_> {
    #[inline(always)]
    fn transform<S: Simd, F: Filter<I, O>, const I: usize, const O: usize>(self, simd: S) {
        let Self {
            source, padding, segment, across, lines, transformed, apart, first_tile, ..
        } = self;
        let lanes = S::F32_LANES;
        let vectors = source.image.channels.div_ceil(lanes);
        let width = across * O + 2;
        let (lines, columns) = S::as_mut_simd_f32s(lines).0.split_at_mut(I * width);
        let transformed = S::as_mut_simd_f32s(transformed).0;
        let apart = apart / lanes;
        let left = -(padding[1] as isize);
        for c in 0..vectors {
            let channels = source.channels(simd, c * lanes);
            for row in 0..segment.count {
                // Units overlap.
                let known = if row == 0 { 0 } else { I - O };
                lines.copy_within(O * width..(O + known) * width, 0);
                let top = ((segment.first + row) * O) as isize - padding[0] as isize;
                for (i, line) in lines.chunks_exact_mut(width).enumerate().skip(known) {
                    channels.row(simd, top + i as isize, left, 1, line);
                }
                for x in 0..width {
                    let d = F::input(simd, column_of::<S, I>(simd, &lines[x..], width));
                    for (i, d) in d.into_iter().enumerate() {
                        columns[i * width + x] = d;
                    }
                }
                let at = (first_tile + row * across) * vectors + c;
                for (i, line) in columns.chunks_exact(width).take(I).enumerate() {
                    for t in 0..across {
                        let d = F::input(simd, column_of::<S, I>(simd, &line[t * O..], 1));
                        let to = &mut transformed[i * I * apart + at + t * vectors..];
                        for (j, d) in d.into_iter().enumerate() {
                            to[j * apart] = d;
                        }
                    }
                }
            }
        }
    }
}

/// Every `step`-th vector.
#[inline(always)]
fn column_of<S: Simd, const I: usize>(simd: S, vectors: &[S::f32s], step: usize) -> [S::f32s; I] {
    let mut column = [simd.splat_f32s(0.0); I];
    for (i, v) in column.iter_mut().enumerate() {
        *v = vectors[i * step];
    }
    column
}

/// Outputs of one panel's products, and their moments.
pub(super) struct Outputs<'a, 'b> {
    pub(super) tile: Tile,
    pub(super) shared: &'a Shared<'a>,
    pub(super) part: &'a mut Part<'b>,
    pub(super) products: &'a [f32],
    pub(super) planes: usize,
    pub(super) panel: usize,
}

impl WithSimd for Outputs<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.tile {
            Tile::Two => self.transform::<S, Two, 4, 2>(simd),
            Tile::Four => self.transform::<S, Four, 6, 4>(simd),
        }
    }
}

impl Outputs<'_, '_> {
    #[inline(always)]
    fn transform<S: Simd, F: Filter<I, O>, const I: usize, const O: usize>(self, simd: S) {
        let Self { shared, part, products, planes, panel, .. } = self;
        let lanes = S::F32_LANES;
        let layer = shared.layer;
        let call = &layer.call;
        let output = &call.output;
        let panel = &layer.panels[0].list[panel];
        let products = S::as_simd_f32s(products).0;
        let planes = planes / lanes;
        let scale = simd.splat_f32s(call.scale);
        let across = layer.unit_rows();
        for (number, unit) in part.units.clone().enumerate() {
            let (image, unit) = (unit / layer.units(), unit % layer.units());
            let residual = shared.residual(image).zip(call.residual);
            let rows = O.min(output.height - unit * O);
            for v in 0..panel.vectors {
                let c = panel.first + v * lanes;
                let used = lanes.min(output.channels - c);
                let bias = S::as_simd_f32s(&layer.bias[c..][..lanes]).0[0];
                let mut sums = Sums::new(simd);
                for column in 0..across {
                    let from = &products[(number * across + column) * panel.vectors + v..];
                    let mut m = [[simd.splat_f32s(0.0); O]; I];
                    for (i, m) in m.iter_mut().enumerate() {
                        *m = F::output(simd, column_of(simd, &from[i * I * planes..], planes));
                    }
                    let columns = O.min(output.width - column * O);
                    for j in 0..columns {
                        let mut line = [simd.splat_f32s(0.0); I];
                        for (v, m) in line.iter_mut().zip(&m) {
                            *v = m[j];
                        }
                        let x = column * O + j;
                        for (i, &v) in F::output(simd, line).iter().enumerate().take(rows) {
                            let y = unit * O + i;
                            let to = part.row(output, image, y) + x * output.pixel + c;
                            let residual = residual.map(|(values, r)| {
                                &values[r.offset + y * r.row + x * r.pixel + c..]
                            });
                            let to = &mut part.output[to..][..used];
                            sums.add(simd, finish(simd, v, bias, residual, scale, to));
                        }
                    }
                }
                if call.moments.is_some() {
                    let to = &mut part.partials[number * 2 * output.channels + c..];
                    let (means, squares) = to.split_at_mut(output.channels);
                    sums.store(
                        simd,
                        rows * output.width,
                        [&mut means[..used], &mut squares[..used]],
                    );
                }
            }
        }
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
