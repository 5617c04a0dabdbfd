//! The standard normal prior, summed in f64.

/// `log N(z; 0, I)` in nats.
pub fn log_normal(z: &[f32]) -> f64 {
    -0.5 * square_norm(z) - 0.5 * z.len() as f64 * LOG_TAU
}

/// `|z|^2`, summed in f64.
pub fn square_norm(z: &[f32]) -> f64 {
    z.iter().map(|&v| f64::from(v) * f64::from(v)).sum()
}

/// ln(2 pi)
pub(crate) const LOG_TAU: f64 = 1.837_877_066_409_345_3;
