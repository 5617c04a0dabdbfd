//! Making 8-bit values continuous, so that they have a density.

use serde::{Deserialize, Serialize};

use super::noise;

/// What is added to an 8-bit value before the affine map, in units of one 8-bit step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Dequantization {
    /// One half: the middle of the bin.
    Midpoint,
    /// Uniform noise in (0, 1), the same field for every image: scores depend on nothing but the image.
    Uniform {
        /// Seed of the field.
        seed: u64,
    },
}

impl Dequantization {
    /// The noise field for `n` values, in plane order.
    pub fn noise(self, n: usize) -> Vec<f32> {
        match self {
            Self::Midpoint => vec![0.5; n],
            Self::Uniform { seed } => noise::uniform(seed, noise::DEQUANTIZATION, n),
        }
    }
}
