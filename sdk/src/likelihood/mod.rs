//! Transport → [`Nats`]: the prior at the noise end, the log-determinant along the way, and the size of a bin.
//!
//! For an image y carried from time t to noise z by the flow, `log p_t(y) = log N(z) + log_det` with
//! `log_det = ∫_t^0 div dτ` (negative: densities grow where the flow contracts towards the data). An 8-bit image has the
//! probability density times bin size, so at t = 1 `-log P = -(log p_1 + d ln scale)` with the affine map's scale.

mod guidance;
mod prior;
mod units;

pub use guidance::guided;
pub use prior::{log_normal, square_norm};
pub use units::{BitsPerDim, Nats};

pub use crate::flow::starts::{floor_noise, noisy};

pub(crate) use prior::LOG_TAU;

/// Negative log-likelihood of one transported image, split into the parts that can be wrong separately.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likelihood {
    /// `-log N(z)`, nats.
    pub prior: Nats,
    /// `-log_det`, nats.
    pub divergence: Nats,
    /// `-d ln scale` at t0 = 1, where the image is 8-bit data; 0 at noise floors below 1. Nats.
    pub bin: Nats,
}

impl Likelihood {
    /// The sum of the parts.
    pub fn nll(&self) -> Nats {
        Nats(self.prior.0 + self.divergence.0 + self.bin.0)
    }
}

/// The likelihood of one image from its latent `z` [C, H, W] and its accumulated `log_det`, for a start at `t0`.
pub fn likelihood(z: &[f32], log_det: f64, t0: f64, scale: f64) -> Likelihood {
    let bin = if t0 == 1.0 { -(z.len() as f64) * scale.ln() } else { 0.0 };
    Likelihood { prior: Nats(-log_normal(z)), divergence: Nats(-log_det), bin: Nats(bin) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uniform_8_bit_image_has_8_bits_per_dimension() {
        // The map z = Φ^-1(u) of uniform data has log_det = -log N(z) - ln(width); width 2 in model range.
        let z = [0.3f32, -1.2, 2.0];
        let log_det = -log_normal(&z) - 3.0 * 2f64.ln();
        let nll = likelihood(&z, log_det, 1.0, 1.0 / 128.0).nll();
        assert!((nll.per_dim(3).0 - 8.0).abs() < 1e-12);
    }
}
