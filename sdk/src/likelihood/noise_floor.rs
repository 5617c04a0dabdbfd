//! Noise floors: scoring may start at a time t0 < 1 from the slightly noised image `t0 y + (1 - t0) n`.
//!
//! Small t0 sees coarse structure, t0 = 1 every detail: their likelihoods are different statistics.

use crate::preprocess::noise;

/// The Gaussian noise of the floor at `position` in the list, for `n` values: the same field for every image.
pub fn floor_noise(seed: u64, position: u32, n: usize) -> Vec<f32> {
    noise::normal(seed, noise::NOISE_FLOOR + position, n)
}

/// The image at the noise floor `t0`, value by value; at t0 = 1 the image itself.
pub fn noisy<'a>(values: &'a [f32], noise: &'a [f32], t0: f64) -> impl Iterator<Item = f32> + 'a {
    let (data, floor) = (t0 as f32, (1.0 - t0) as f32);
    values.iter().zip(noise).map(move |(&y, &n)| data * y + floor * n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_floor_is_the_image_itself() {
        let values = [-1.0f32, 0.123_456_7, 0.999];
        let noise = floor_noise(1, 0, 3);
        assert_eq!(noisy(&values, &noise, 1.0).collect::<Vec<_>>(), values);
        assert_ne!(noisy(&values, &noise, 0.97).collect::<Vec<_>>(), values);
    }
}
