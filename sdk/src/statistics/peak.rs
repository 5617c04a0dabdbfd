//! `peak`: the largest mean of the per-pixel likelihood over 5 x 5 pixels, nats per dimension.
//!
//! A small defect hardly moves the likelihood of the whole image; it moves this. Only squares that
//! lie inside the image count (the clipped ones at the border vary more); a side below 5 is covered
//! by one clipped square.

use super::{FloorEvidence, PixelMap};
use crate::preprocess::Shape;

const RADIUS: usize = 2;

pub(super) fn measure(shape: Shape, floor: &FloorEvidence) -> Option<f64> {
    Some(peak(&PixelMap::nll(shape, floor)) / shape.channels as f64)
}

fn peak(map: &PixelMap) -> f64 {
    // f64::max drops NaN.
    if map.values.iter().any(|v| !v.is_finite()) {
        return f64::NAN;
    }
    let inside = |side: usize| {
        let margin = RADIUS.min(side.saturating_sub(1) / 2);
        margin..side - margin
    };
    let span = |i: usize, end: usize| i.saturating_sub(RADIUS)..(i + RADIUS + 1).min(end);
    let mut peak = f64::NEG_INFINITY;
    let mut sums = vec![0.0; map.width];
    for y in inside(map.height) {
        // Down the columns first: whole rows are added as vectors.
        sums.fill(0.0);
        let rows = span(y, map.height);
        for row in map.values.chunks_exact(map.width).take(rows.end).skip(rows.start) {
            sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
        }
        for x in inside(map.width) {
            let columns = &sums[span(x, map.width)];
            let mean = columns.iter().sum::<f64>() / (rows.len() * columns.len()) as f64;
            peak = peak.max(mean);
        }
    }
    peak
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(width: usize, height: usize, x: usize, y: usize) -> PixelMap {
        let mut values = vec![1.0; width * height];
        values[y * width + x] = 26.0;
        PixelMap { width, height, values }
    }

    #[test]
    fn a_spot_is_found_wherever_it_is() {
        assert_eq!(peak(&spot(9, 7, 4, 3)), 2.0);
        assert_eq!(peak(&spot(9, 7, 0, 0)), 2.0);
        assert_eq!(peak(&spot(9, 7, 8, 6)), 2.0);
        assert_eq!(peak(&spot(1, 1, 0, 0)), 26.0);
        assert_eq!(peak(&spot(5, 1, 4, 0)), 6.0);
    }

    #[test]
    fn it_is_the_largest_mean_of_a_whole_square() {
        let noise = crate::preprocess::noise::normal(3, 0, 13 * 11);
        let values = noise.into_iter().map(f64::from).collect();
        let map = PixelMap { width: 13, height: 11, values };
        let means = (2..9).flat_map(|y| (2..11).map(move |x| (x, y)));
        let means = means.map(|(x, y)| map.box_mean(x, y, RADIUS));
        let need = means.fold(f64::NEG_INFINITY, f64::max);
        assert!((peak(&map) - need).abs() < 1e-12, "{}, need {need}", peak(&map));
    }

    #[test]
    fn nan_is_not_swallowed() {
        let mut map = spot(9, 7, 4, 3);
        map.values[0] = f64::NAN;
        assert!(peak(&map).is_nan());
    }
}
