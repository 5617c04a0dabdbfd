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
    let mut peak = f64::NEG_INFINITY;
    for y in inside(map.height) {
        for x in inside(map.width) {
            peak = peak.max(map.box_mean(x, y, RADIUS));
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
    fn nan_is_not_swallowed() {
        let mut map = spot(9, 7, 4, 3);
        map.values[0] = f64::NAN;
        assert!(peak(&map).is_nan());
    }
}
