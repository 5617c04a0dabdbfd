//! Noise floors: scoring may start at a time t0 < 1 from the slightly noised image `t0 y + (1 - t0) n`.
//!
//! Small t0 sees coarse structure, t0 = 1 every detail: their likelihoods are different statistics.

use crate::preprocess::noise;

/// The image at the noise floor `t0`; the noise depends on `seed` and on the floor's `position` in the list only.
pub fn noisy(values: &[f32], t0: f64, seed: u64, position: u32) -> Vec<f32> {
    if t0 == 1.0 {
        return values.to_vec();
    }
    let noise = noise::normal(seed, noise::NOISE_FLOOR + position, values.len());
    let (data, floor) = (t0 as f32, (1.0 - t0) as f32);
    values.iter().zip(&noise).map(|(&y, &n)| data * y + floor * n).collect()
}
