//! Frame → [`Input`]: region of interest, 8-bit pixels in the model's colours, resize, dequantise, affine map.
//!
//! The order is fixed: colours, resize, then dequantisation noise, then the one affine map to the model range.
//! Every frame first becomes an 8-bit image of the model's size ([`Pixels`]): that is what the model was trained
//! on, what the image codec measures, and what a heat map lies over.

mod dequantize;
pub mod noise;
mod pixels;
mod resize;

use serde::{Deserialize, Serialize};

pub use dequantize::Dequantization;
pub use pixels::Pixels;
pub use resize::ResizeFilter;

use crate::error::Result;
use crate::frame::Frame;

/// Channels, height and width of the model's images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Shape {
    /// Number of values of one image, `channels * height * width`: the dimension d of the likelihood. Saturates.
    pub const fn len(self) -> usize {
        self.channels.saturating_mul(self.pixels())
    }

    /// Whether the shape holds no value.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Number of pixels, `height * width`. Saturates.
    pub const fn pixels(self) -> usize {
        self.height.saturating_mul(self.width)
    }
}

/// Everything between a frame and the network; part of the model's manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Size of the model's images.
    pub shape: Shape,
    /// Filter used when a frame's region has another size.
    pub resize: ResizeFilter,
    /// How 8-bit values become continuous.
    pub dequantization: Dequantization,
    /// Model range = (8-bit value + dequantisation) * `scale` + `offset`.
    pub scale: f64,
    /// See `scale`.
    pub offset: f64,
}

/// One image in the model's range, ready for the flow.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// The 8-bit image that the values come from.
    pub pixels: Pixels,
    /// Model-range values, [C, H, W].
    pub values: Vec<f32>,
}

impl Preprocess {
    /// Prepares one frame.
    ///
    /// # Errors
    /// [`crate::Error::InvalidFrame`] for values that are not finite or outside the format's range.
    pub fn apply(&self, frame: &Frame<'_>) -> Result<Input> {
        Ok(self.dequantize(self.pixels(frame)?))
    }

    /// The 8-bit image of one frame.
    ///
    /// # Errors
    /// As [`Preprocess::apply`].
    pub fn pixels(&self, frame: &Frame<'_>) -> Result<Pixels> {
        resize::to_shape(frame, self.shape, self.resize)
    }

    /// Dequantises an 8-bit image and maps it to the model range.
    pub fn dequantize(&self, pixels: Pixels) -> Input {
        let noise = self.dequantization.noise(self.shape.len());
        let values = pixels.planes().zip(&noise).map(|(k, &u)| self.value(k, u)).collect();
        Input { pixels, values }
    }

    /// The 8-bit value `k` with dequantisation `u` in the model's range.
    pub(crate) fn value(&self, k: u8, u: f32) -> f32 {
        // The sum is exact in f64; one rounding to f32 makes the value reproducible anywhere.
        ((f64::from(k) + f64::from(u)) * self.scale + self.offset) as f32
    }
}
