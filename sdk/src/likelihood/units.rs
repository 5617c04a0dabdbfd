//! Units of likelihoods, and the only conversion between them.

use serde::{Deserialize, Serialize};

/// Natural-logarithm units, of one whole image.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nats(pub f64);

/// Bits per dimension: base-2 units divided by the number of values of the image.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BitsPerDim(pub f64);

impl Nats {
    /// Bits per dimension of an image with `dimensions` values.
    pub fn per_dim(self, dimensions: usize) -> BitsPerDim {
        BitsPerDim(self.0 / (dimensions as f64 * std::f64::consts::LN_2))
    }
}
