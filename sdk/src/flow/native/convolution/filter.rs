//! The transformations of minimal filtering, of whole blocks of tiles.

use pulp::{Simd, WithSimd};

use super::block::Block;
use super::tasks::finish;
use super::{Part, Segment, Shared};
use crate::flow::native::moments::Sums;
use crate::flow::native::strip::Source;
use crate::flow::native::winograd::{Filter, Four, INPUTS, OUTPUTS, Six, Three, Tile, Two};

/// Calls a function with the filter of a tile.
macro_rules! with_filter {
    ($tile:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match $tile {
            Tile::Two => $function::<S, Two, 4, 2>($($argument),*),
            Tile::Three => $function::<S, Three, 5, 3>($($argument),*),
            Tile::Four => $function::<S, Four, 6, 4>($($argument),*),
            Tile::Six => $function::<S, Six, 8, 6>($($argument),*),
        }
    };
}
pub(super) use with_filter;

/// Transformed inputs of the tiles of one segment: `[positions, tiles, depth]`, positions `apart` values apart.
pub(super) struct Tiles<'a> {
    pub(super) block: &'a Block,
    pub(super) source: Source<'a>,
    pub(super) padding: [usize; 2],
    pub(super) segment: Segment,
    /// Room for the rows of a unit before and after the first transformation.
    pub(super) lines: &'a mut [f32],
    pub(super) transformed: &'a mut [f32],
    pub(super) apart: usize,
}

impl WithSimd for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { block, source, padding, segment, lines, transformed, apart } = self;
        let [down, across] = block.axes;
        let lanes = S::F32_LANES;
        let vectors = source.image.channels.div_ceil(lanes);
        let width = across.inputs();
        let inputs = block.tile().inputs();
        let (lines, columns) = S::as_mut_simd_f32s(lines).0.split_at_mut(inputs * width);
        let transformed = S::as_mut_simd_f32s(transformed).0;
        let apart = apart / lanes;
        let left = -(padding[1] as isize);
        let counts = block.columns();
        let first = segment.image * down.tiles() + segment.first;
        for c in 0..vectors {
            let channels = source.channels(simd, c * lanes);
            for row in 0..segment.count {
                let unit = segment.first + row;
                let tile = down.tile(unit);
                // Units overlap.
                let known = if row == 0 { 0 } else { 2 };
                let size = block.tile().outputs();
                lines.copy_within(size * width..(size + known) * width, 0);
                let top = (unit * size) as isize - padding[0] as isize;
                for (i, line) in
                    lines.chunks_exact_mut(width).enumerate().take(tile.inputs()).skip(known)
                {
                    channels.row(simd, top + i as isize, left, 1, line);
                }
                with_filter!(tile, columns_in(simd, lines, columns, width));
                let before = block.rows_before(first + row);
                for (i, line) in columns.chunks_exact(width).take(tile.inputs()).enumerate() {
                    let planes = &mut transformed[i * inputs * apart..];
                    let mut starts = [0; INPUTS];
                    for (j, start) in starts.iter_mut().enumerate() {
                        *start = j * apart + before[i] * counts[j] * vectors + c;
                    }
                    let whole = across.whole;
                    with_filter!(
                        across.tile,
                        rows_in(simd, line, &mut *planes, &starts, whole, vectors)
                    );
                    if let Some(last) = across.last {
                        let line = &line[whole * size..];
                        for start in &mut starts {
                            *start += whole * vectors;
                        }
                        with_filter!(last, rows_in(simd, line, planes, &starts, 1, vectors));
                    }
                }
            }
        }
    }
}

/// Transforms `width` columns of I rows.
#[inline(always)]
fn columns_in<S: Simd, F: Filter<I, O>, const I: usize, const O: usize>(
    simd: S,
    lines: &[S::f32s],
    columns: &mut [S::f32s],
    width: usize,
) {
    let lines = &lines[..I * width];
    let columns = &mut columns[..I * width];
    for x in 0..width {
        let mut d = [simd.splat_f32s(0.0); I];
        for (i, d) in d.iter_mut().enumerate() {
            *d = lines[i * width + x];
        }
        for (i, d) in F::input(simd, d).into_iter().enumerate() {
            columns[i * width + x] = d;
        }
    }
}

/// Transforms the rows of `count` tiles from `line` into the planes, from `starts` on every `step`.
#[inline(always)]
fn rows_in<S: Simd, F: Filter<I, O>, const I: usize, const O: usize>(
    simd: S,
    line: &[S::f32s],
    planes: &mut [S::f32s],
    starts: &[usize; INPUTS],
    count: usize,
    step: usize,
) {
    for t in 0..count {
        let mut d = [simd.splat_f32s(0.0); I];
        d.copy_from_slice(&line[t * O..][..I]);
        for (d, start) in F::input(simd, d).into_iter().zip(starts) {
            planes[start + t * step] = d;
        }
    }
}

/// Outputs of one panel's products, and their moments: of some of the units of the block.
pub(super) struct Outputs<'a, 'b> {
    pub(super) block: &'a Block,
    pub(super) shared: &'a Shared<'a>,
    pub(super) part: &'a mut Part<'b>,
    /// The panel's products of the first tile, followed by those of the next `stride` values later, and those of the
    /// next position `planes` values later.
    pub(super) products: &'a [f32],
    pub(super) stride: usize,
    pub(super) planes: usize,
    pub(super) panel: usize,
    /// Room for a tile after the first of two transformations, of [`HALF`] vectors.
    pub(super) half: &'a mut [f32],
}

/// Vectors of the largest tile after the first of two transformations.
pub(super) const HALF: usize = OUTPUTS * INPUTS;

impl WithSimd for Outputs<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { block, shared, part, products, stride, planes, panel, half } = self;
        let [down, across] = block.axes;
        let lanes = S::F32_LANES;
        let layer = shared.layer;
        let call = &layer.call;
        let output = &call.output;
        let panel = &layer.panels[0].list[panel];
        let products = S::as_simd_f32s(products).0;
        let (stride, planes) = (stride / lanes, planes / lanes);
        let (inputs, size) = (block.tile().inputs(), block.tile().outputs());
        let counts = block.columns();
        let half = S::as_mut_simd_f32s(half).0.as_chunks_mut().0;
        for (number, unit) in part.units.clone().enumerate() {
            let before = block.rows_before(unit);
            let (image, unit) = (unit / down.tiles(), unit % down.tiles());
            let residual = shared.residual(image).zip(call.residual);
            let tile = down.tile(unit);
            let rows = tile.outputs().min(output.height - unit * size);
            for v in 0..panel.vectors {
                let mut starts = [[0; INPUTS]; INPUTS];
                for (j, starts) in starts.iter_mut().enumerate() {
                    for (i, start) in starts.iter_mut().enumerate() {
                        let tile = before[i] * counts[j];
                        *start = (i * inputs + j) * planes + tile * stride + v;
                    }
                }
                let c = panel.first + v * lanes;
                let used = lanes.min(output.channels - c);
                let mut write = Write {
                    bias: S::as_simd_f32s(&layer.bias[c..][..lanes]).0[0],
                    scale: simd.splat_f32s(call.scale),
                    used,
                    sums: Sums::new(simd),
                };
                for column in 0..across.tiles() {
                    let wide = across.tile(column);
                    let from = &products[column * stride..];
                    let starts = &starts[..wide.inputs()];
                    with_filter!(tile, columns_out(simd, from, starts, half));
                    let left = column * size;
                    let columns = wide.outputs().min(output.width - left);
                    for (k, line) in half.iter().enumerate().take(rows) {
                        let y = unit * size + k;
                        let to = part.row(output, image, y) + left * output.pixel + c;
                        let to = (&mut part.output[to..], output.pixel);
                        let residual = residual.map(|(values, r)| {
                            (&values[r.offset + y * r.row + left * r.pixel + c..], r.pixel)
                        });
                        with_filter!(wide, row_out(simd, line, columns, &mut write, residual, to));
                    }
                }
                if call.moments.is_some() {
                    let to = &mut part.partials[number * 2 * output.channels + c..];
                    let (means, squares) = to.split_at_mut(output.channels);
                    let to = [&mut means[..used], &mut squares[..used]];
                    write.sums.store(simd, rows * output.width, to);
                }
            }
        }
    }
}

/// What happens to outputs on their way to one vector of channels.
struct Write<S: Simd> {
    bias: S::f32s,
    scale: S::f32s,
    used: usize,
    sums: Sums<S>,
}

/// Transforms columns of products: `half[k][j]` are the outputs of column j.
#[inline(always)]
fn columns_out<S: Simd, F: Filter<I, O>, const I: usize, const O: usize>(
    simd: S,
    products: &[S::f32s],
    starts: &[[usize; INPUTS]],
    half: &mut [[S::f32s; INPUTS]],
) {
    for (j, starts) in starts.iter().enumerate() {
        let mut m = [simd.splat_f32s(0.0); I];
        for (m, &start) in m.iter_mut().zip(starts) {
            *m = products[start];
        }
        for (half, v) in half.iter_mut().zip(F::output(simd, m)) {
            half[j] = v;
        }
    }
}

/// Transforms a row of a tile and writes its first `columns` outputs.
#[inline(always)]
fn row_out<S: Simd, F: Filter<I, O>, const I: usize, const O: usize>(
    simd: S,
    line: &[S::f32s; INPUTS],
    columns: usize,
    write: &mut Write<S>,
    residual: Option<(&[f32], usize)>,
    (to, pixel): (&mut [f32], usize),
) {
    let mut m = [simd.splat_f32s(0.0); I];
    m.copy_from_slice(&line[..I]);
    for (x, &v) in F::output(simd, m).iter().enumerate().take(columns) {
        let residual = residual.map(|(values, pixel)| &values[x * pixel..]);
        let to = &mut to[x * pixel..][..write.used];
        write.sums.add(simd, finish(simd, v, write.bias, residual, write.scale, to));
    }
}
