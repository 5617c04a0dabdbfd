//! [`PixelMap`]: the negative log-likelihood of one noise floor, pixel by pixel.

use super::FloorEvidence;
use crate::likelihood::LOG_TAU;
use crate::preprocess::Shape;

/// One number per pixel, [H, W].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PixelMap {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) values: Vec<f64>,
}

impl PixelMap {
    /// Nats per pixel: the latent's `z^2/2 + ln(2 pi)/2` summed over colours, minus the pixel's
    /// log-determinant, plus its share of the bin size. Sums to the image's likelihood; without a
    /// divergence map that part is left out.
    pub(crate) fn nll(shape: Shape, floor: &FloorEvidence) -> Self {
        let bin = floor.likelihood.bin.0 / shape.pixels() as f64;
        let mut values = vec![0.5 * LOG_TAU * shape.channels as f64 + bin; shape.pixels()];
        for plane in floor.transported.state.chunks_exact(shape.pixels().max(1)) {
            for (value, &z) in values.iter_mut().zip(plane) {
                *value += 0.5 * f64::from(z) * f64::from(z);
            }
        }
        for (value, &log_det) in
            values.iter_mut().zip(floor.transported.log_det_map.iter().flatten())
        {
            *value -= f64::from(log_det);
        }
        Self { width: shape.width, height: shape.height, values }
    }

    /// Mean over the square of `2 radius + 1` pixels around (x, y), or the part of it inside the
    /// image.
    pub(crate) fn box_mean(&self, x: usize, y: usize, radius: usize) -> f64 {
        let span = |i: usize, end: usize| i.saturating_sub(radius)..(i + radius + 1).min(end);
        let (columns, rows) = (span(x, self.width), span(y, self.height));
        let row =
            |y: usize| &self.values[y * self.width + columns.start..y * self.width + columns.end];
        let sum: f64 = rows.clone().flat_map(row).sum();
        sum / (rows.len() * columns.len()) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn the_map_sums_to_the_likelihood() {
        for floor in fixture::floors(fixture::SHAPE) {
            let map = PixelMap::nll(fixture::SHAPE, &floor);
            let (sum, nll) = (map.values.iter().sum::<f64>(), floor.likelihood.nll().0);
            assert!((sum - nll).abs() < 1e-9, "{} {sum} {nll}", floor.t0);
        }
    }

    #[test]
    fn box_means_are_clipped_at_the_border() {
        let values = (0..12).map(f64::from).collect();
        let map = PixelMap { width: 4, height: 3, values };
        assert_eq!(map.box_mean(1, 1, 1), 5.0);
        assert_eq!(map.box_mean(0, 0, 1), 2.5);
        assert_eq!(map.box_mean(3, 2, 1), 8.5);
        assert_eq!(map.box_mean(2, 1, 9), 5.5);
        assert_eq!(map.box_mean(2, 1, 0), 6.0);
    }
}
