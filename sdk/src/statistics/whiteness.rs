//! `whiteness`: autocorrelation of the latent at lag 1, the mean of horizontal and vertical, then
//! of the channels.
//!
//! The latent of a normal image is white noise; what the flow cannot explain leaves structure in
//! it, whatever its norm.

use super::FloorEvidence;
use crate::preprocess::Shape;

pub(super) fn measure(shape: Shape, floor: &FloorEvidence) -> Option<f64> {
    let planes = floor.transported.state.chunks_exact(shape.pixels());
    let sum: f64 = planes.map(|plane| correlation(plane, shape.width)).sum();
    Some(sum / shape.channels as f64)
}

/// Correlation of neighbours in one plane [H, W]. A constant plane is perfectly predictable: 1. A
/// single pixel: 0.
fn correlation(plane: &[f32], width: usize) -> f64 {
    let mean = plane.iter().map(|&v| f64::from(v)).sum::<f64>() / plane.len() as f64;
    let centred: Vec<f64> = plane.iter().map(|&v| f64::from(v) - mean).collect();
    let variance = centred.iter().map(|v| v * v).sum::<f64>() / plane.len() as f64;
    if variance == 0.0 {
        return if plane.len() > 1 { 1.0 } else { 0.0 };
    }
    let rows = centred.chunks_exact(width);
    let horizontal = mean_of(rows.flat_map(|row| row.windows(2).map(|w| w[0] * w[1])));
    let vertical = mean_of(centred.iter().zip(centred.iter().skip(width)).map(|(a, b)| a * b));
    let directions = [horizontal, vertical];
    mean_of(directions.into_iter().flatten()).unwrap_or(0.0) / variance
}

fn mean_of(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0usize), |(sum, n), v| (sum + v, n + 1));
    (n > 0).then(|| sum / n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::noise;

    #[test]
    fn known_planes_have_known_correlations() {
        let checkerboard: Vec<f32> = (0..36).map(|i| [1.0, -1.0][(i / 6 + i % 6) % 2]).collect();
        assert!((correlation(&checkerboard, 6) + 1.0).abs() < 1e-12);
        let stripes: Vec<f32> = (0..36).map(|i| [1.0, -1.0][(i / 6) % 2]).collect();
        assert!(correlation(&stripes, 6).abs() < 1e-12);
        assert_eq!(correlation(&[0.3; 36], 6), 1.0);
        assert_eq!(correlation(&[0.3], 1), 0.0);
        assert!((correlation(&[1.0, -1.0, 1.0, -1.0], 4) + 1.0).abs() < 1e-12);
        assert!(correlation(&[1.0, f32::NAN, 1.0, -1.0], 2).is_nan());
    }

    #[test]
    fn white_noise_is_white_and_smoothed_noise_is_not() {
        let noise = noise::normal(5, 0, 64 * 64);
        assert!(correlation(&noise, 64).abs() < 0.05);
        let smooth: Vec<f32> = noise.windows(2).map(|w| w[0] + w[1]).chain([0.0]).collect();
        assert!(correlation(&smooth, 64) > 0.2);
    }
}
