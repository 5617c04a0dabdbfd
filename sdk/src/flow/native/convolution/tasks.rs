//! The parts of a block that run on vectors.

use pulp::{Simd, WithSimd};

use super::{Layer, Part, Segment, Shared, segments};
use crate::flow::native::moments;
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
) {
    let lanes = S::F32_LANES;
    let mut v = simd.add_f32s(sum, bias);
    if to.len() >= lanes {
        if let Some(residual) = residual {
            v = simd.add_f32s(v, S::as_simd_f32s(&residual[..lanes]).0[0]);
        }
        S::as_mut_simd_f32s(&mut to[..lanes]).0[0] = simd.mul_f32s(v, scale);
    } else {
        if let Some(residual) = residual {
            v = simd.add_f32s(v, simd.partial_load_f32s(&residual[..to.len()]));
        }
        simd.partial_store_f32s(to, simd.mul_f32s(v, scale));
    }
}

#[inline(always)]
fn column_of<S: Simd, const I: usize, const N: usize>(
    simd: S,
    rows: &[[S::f32s; N]; I],
    j: usize,
) -> [S::f32s; I] {
    let mut column = [simd.splat_f32s(0.0); I];
    for (v, row) in column.iter_mut().zip(rows) {
        *v = row[j];
    }
    column
}

/// Transformed inputs of the tiles of one segment: `[positions, tiles, depth]`, positions `apart` values apart.
pub(super) struct Tiles<'a> {
    pub(super) tile: Tile,
    pub(super) strip: &'a [f32],
    /// Pixels of a row of the strip.
    pub(super) width: usize,
    pub(super) depth: usize,
    /// Rows and columns of tiles.
    pub(super) grid: [usize; 2],
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
        let Self { strip, width, depth, grid, transformed, apart, first_tile, .. } = self;
        let lanes = S::F32_LANES;
        let vectors = depth / lanes;
        let strip = S::as_simd_f32s(strip).0;
        let transformed = S::as_mut_simd_f32s(transformed).0;
        let apart = apart / lanes;
        for row in 0..grid[0] {
            for column in 0..grid[1] {
                let corner = (row * O * width + column * O) * vectors;
                let at = (first_tile + row * grid[1] + column) * vectors;
                for c in 0..vectors {
                    let mut d = [[simd.splat_f32s(0.0); I]; I];
                    for (i, d) in d.iter_mut().enumerate() {
                        let line = &strip[corner + i * width * vectors + c..];
                        for (j, d) in d.iter_mut().enumerate() {
                            *d = line[j * vectors];
                        }
                        *d = F::input(simd, *d);
                    }
                    for j in 0..I {
                        let v = F::input(simd, column_of(simd, &d, j));
                        for i in 0..I {
                            transformed[(i * I + j) * apart + at + c] = v[i];
                        }
                    }
                }
            }
        }
    }
}

/// Outputs of one panel's products.
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
        let panel = &layer.panels[0].list[panel];
        let products = S::as_simd_f32s(products).0;
        let planes = planes / lanes;
        let scale = simd.splat_f32s(call.scale);
        let mut at = 0;
        for Segment { image, first, count } in segments(part.units.clone(), layer.units()) {
            let residual = shared.residual(image).zip(call.residual);
            for unit in first..first + count {
                let rows = O.min(call.output.height - unit * O);
                for column in 0..layer.unit_rows() {
                    let columns = O.min(call.output.width - column * O);
                    for v in 0..panel.vectors {
                        let from = at * panel.vectors + v;
                        let mut m = [[simd.splat_f32s(0.0); O]; I];
                        for (i, m) in m.iter_mut().enumerate() {
                            let mut line = [simd.splat_f32s(0.0); I];
                            for (j, v) in line.iter_mut().enumerate() {
                                *v = products[(i * I + j) * planes + from];
                            }
                            *m = F::output(simd, line);
                        }
                        let c = panel.first + v * lanes;
                        let bias = S::as_simd_f32s(&layer.bias[c..][..lanes]).0[0];
                        let used = lanes.min(call.output.channels - c);
                        for j in 0..O {
                            let v = F::output(simd, column_of(simd, &m, j));
                            if j >= columns {
                                break;
                            }
                            let x = column * O + j;
                            for (i, &v) in v.iter().enumerate() {
                                if i >= rows {
                                    break;
                                }
                                let y = unit * O + i;
                                let to =
                                    part.row(&call.output, image, y) + x * call.output.pixel + c;
                                let residual = residual.map(|(values, r)| {
                                    &values[r.offset + y * r.row + x * r.pixel + c..]
                                });
                                let to = &mut part.output[to..][..used];
                                finish(simd, v, bias, residual, scale, to);
                            }
                        }
                    }
                    at += 1;
                }
            }
        }
    }
}

/// Results of a product with one panel, written.
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
        let scale = simd.splat_f32s(call.scale);
        let residual = shared.residual(segment.image).zip(call.residual);
        let mut sums = products.chunks_exact(panel.vectors * lanes);
        for row in segment.first..segment.first + segment.count {
            let y = row * call.interleave + below;
            let line = part.row(&call.output, segment.image, y);
            for column in 0..layer.unit_rows() {
                let x = column * call.interleave + right;
                let Some(sums) = sums.next() else { return };
                for (v, &sum) in S::as_simd_f32s(sums).0.iter().enumerate() {
                    let c = panel.first + v * lanes;
                    let used = lanes.min(call.output.channels - c);
                    let bias = S::as_simd_f32s(&layer.bias[c..][..lanes]).0[0];
                    let residual = residual
                        .map(|(values, r)| &values[r.offset + y * r.row + x * r.pixel + c..]);
                    let to = &mut part.output[line + x * call.output.pixel + c..][..used];
                    finish(simd, sum, bias, residual, scale, to);
                }
            }
        }
    }
}
