//! Guidance: noise moved uphill in the likelihood of the image that it will become (F2D2, arXiv 2512.02636, algorithm 2).
//!
//! An image drawn in one jump from noise x_0 has `log p_1(x_1) = log N(x_0) - Σ d(x_0, 0, 1)`. Its slope in the noise is
//! `-(x_0 + grad_d(x_0, 0, 1))`, with `grad_d = ∂(Σ d)/∂x`: prior and divergence of the whole jump from t = 0 to 1.

/// Keeps a slope of zero at zero.
const EPSILON: f32 = 1e-8;

/// `noise` [C, H, W] after one step of a fresh Adam on the negative log-likelihood, from `grad_d` of that noise.
///
/// The first step of Adam is `learning_rate * g / (|g| + e)`: the same size for every value.
pub fn guided(noise: &[f32], grad_d: &[f32], learning_rate: f64) -> Vec<f32> {
    let step = |(&x, &slope): (&f32, &f32)| {
        let g = x + slope;
        x - learning_rate as f32 * g / (g.abs() + EPSILON)
    };
    noise.iter().zip(grad_d).map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_slope_of_the_divergence_the_noise_shrinks_by_the_rate() {
        let moved = guided(&[1.5, -0.5, 0.0], &[0.0; 3], 0.1);
        let need = [1.4, -0.4, 0.0];
        assert!(moved.iter().zip(need).all(|(a, b)| (a - b).abs() < 1e-6), "{moved:?}");
    }

    #[test]
    fn the_sign_of_the_whole_slope_decides() {
        let moved = guided(&[1.0, 1.0, -1.0], &[-3.0, 3.0, 3.0], 0.1);
        let need = [1.1, 0.9, -1.1];
        assert!(moved.iter().zip(need).all(|(a, b)| (a - b).abs() < 1e-6), "{moved:?}");
        assert!(guided(&[1.0], &[f32::NAN], 0.1)[0].is_nan(), "never hidden");
    }
}
