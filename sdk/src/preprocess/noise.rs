//! Reproducible noise: Philox4x32-10 (Salmon et al. 2011), a function of (seed, stream, index) alone.
//!
//! The same numbers come out on every machine, in the training recipe and on a GPU, whatever the batch or thread.

use rand_philox::{philox4x32_10, u32_to_unit_f32, u32_to_unit_f64};

/// Stream of the dequantisation noise.
pub const DEQUANTIZATION: u32 = 0;
/// Streams of the Gaussian noise of noise floors: this plus the floor's position in the list.
pub const NOISE_FLOOR: u32 = 0x100;
/// Stream of the Gaussian noise that samples start from; one stream per sample counts up from here.
pub const SAMPLE: u32 = 0x1_0000;
/// Stream of the golden vectors' inputs.
pub const GOLDEN: u32 = 0x2;

/// `n` values uniform in (0, 1). Value i is lane `i % 4` of block `i / 4`.
pub fn uniform(seed: u64, stream: u32, n: usize) -> Vec<f32> {
    words(seed, stream).map(u32_to_unit_f32).take(n).collect()
}

/// `n` standard normal values by the Box-Muller transform; values 2j and 2j+1 share the uniforms 2j and 2j+1.
pub fn normal(seed: u64, stream: u32, n: usize) -> Vec<f32> {
    let mut uniforms = words(seed, stream).map(u32_to_unit_f64);
    let mut pair = move || {
        let (a, b) = (uniforms.next().unwrap_or(0.5), uniforms.next().unwrap_or(0.5));
        let (radius, angle) = ((-2.0 * a.ln()).sqrt(), std::f64::consts::TAU * b);
        [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]
    };
    let mut values: Vec<f32> = (0..n.div_ceil(2)).flat_map(|_| pair()).collect();
    values.truncate(n);
    values
}

fn words(seed: u64, stream: u32) -> impl Iterator<Item = u32> {
    let key = [seed as u32, (seed >> 32) as u32];
    (0u32..=u32::MAX).flat_map(move |block| philox4x32_10([block, stream, 0, 0], key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_match_the_random123_known_answer() {
        // Known-answer vector of Random123 for a zero counter and key.
        let first: Vec<u32> = words(0, 0).take(4).collect();
        assert_eq!(first, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    }

    #[test]
    fn normal_has_unit_moments_and_streams_differ() {
        let a = normal(7, NOISE_FLOOR, 40_001);
        assert_eq!(a.len(), 40_001);
        let mean = a.iter().map(|&v| f64::from(v)).sum::<f64>() / a.len() as f64;
        let square = a.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / a.len() as f64;
        assert!(mean.abs() < 0.02 && (square - 1.0).abs() < 0.03, "{mean} {square}");
        assert_ne!(a[..8], normal(7, NOISE_FLOOR + 1, 8)[..]);
        assert_ne!(a[..8], normal(8, NOISE_FLOOR, 8)[..]);
        assert_eq!(a[..8], normal(7, NOISE_FLOOR, 8)[..]);
    }
}
