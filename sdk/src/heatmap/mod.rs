//! Where in the image: the likelihood, pixel by pixel.
//!
//! Values are relative within one image. Textured regions cost more nats than smooth ones in normal
//! images too, so a hot pixel is no verdict; the calibrated score is. An image that is strange because
//! it is too smooth has a cold map.

use crate::statistics::{Evidence, PixelMap};

/// Radius of the smoothing square: 3 x 3 pixels, since the latent of one pixel alone is mostly
/// noise.
const RADIUS: usize = 1;

/// Strangeness per pixel, at the model's image size.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Nats per pixel, [H, W], higher = stranger. Negative values occur where the flow's density
    /// exceeds 1.
    pub values: Vec<f32>,
}

/// The negative log-likelihood per pixel, averaged over the noise floors and over 3 x 3 pixels.
///
/// For a model with a scalar divergence head only the latent's part is known per pixel. Without
/// noise floors the map is zero.
pub fn heat_map(evidence: &Evidence<'_>) -> HeatMap {
    let (width, height) = (evidence.shape.width, evidence.shape.height);
    let mut mean = PixelMap { width, height, values: vec![0.0; evidence.shape.pixels()] };
    for floor in evidence.floors {
        let map = PixelMap::nll(evidence.shape, floor);
        for (sum, value) in mean.values.iter_mut().zip(map.values) {
            *sum += value / evidence.floors.len() as f64;
        }
    }
    let positions = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let values = positions.map(|(x, y)| mean.box_mean(x, y, RADIUS) as f32).collect();
    HeatMap { width, height, values }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::fixture::{SHAPE, floor, floors, pixels};

    #[test]
    fn the_hottest_pixel_is_the_strange_one() {
        for head in [Some(vec![0.0; SHAPE.pixels()]), None] {
            let mut state = vec![0.1; SHAPE.len()];
            let (x, y) = (6, 2);
            state[SHAPE.pixels() + y * SHAPE.width + x] = 9.0;
            let floors = [floor(0.9, state, head)];
            let evidence = Evidence { pixels: &pixels(SHAPE), shape: SHAPE, floors: &floors };
            let map = heat_map(&evidence);
            assert_eq!((map.width, map.height, map.values.len()), (9, 8, 72));
            let hottest = map.values.iter().copied().fold(f32::MIN, f32::max);
            assert_eq!(map.values[y * SHAPE.width + x], hottest);
            assert!(map.values[0] < hottest);
        }
    }

    #[test]
    fn floors_are_averaged() {
        let both = floors(SHAPE);
        let pixels = pixels(SHAPE);
        let map = |floors| heat_map(&Evidence { pixels: &pixels, shape: SHAPE, floors }).values;
        let (a, b) = (map(&both[..1]), map(&both[1..]));
        for (i, value) in map(&both).iter().enumerate() {
            assert!((value - 0.5 * (a[i] + b[i])).abs() < 1e-4);
        }
        assert!(map(&[]).iter().all(|&v| v == 0.0));
    }
}
