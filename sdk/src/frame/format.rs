//! Pixel formats: bytes per pixel, channels, channel order.

use serde::{Deserialize, Serialize};

/// How a camera's pixels lie in memory. Multi-byte values are in the machine's byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PixelFormat {
    /// One byte per pixel, 0 black to 255 white.
    Gray8,
    /// One `u16` per pixel, 0 black to 65535 white.
    Gray16,
    /// Red, green, blue bytes.
    Rgb8,
    /// Blue, green, red bytes (OpenCV's order).
    Bgr8,
    /// Red, green, blue, alpha bytes; alpha is ignored.
    Rgba8,
    /// Blue, green, red, alpha bytes; alpha is ignored.
    Bgra8,
    /// One `f32` per pixel, 0.0 black to 1.0 white; anything outside is refused, never rescaled.
    GrayF32,
    /// Red, green, blue as `f32`, each 0.0 to 1.0; anything outside is refused, never rescaled.
    RgbF32,
}

impl PixelFormat {
    /// Bytes of one pixel.
    pub const fn bytes_per_pixel(self) -> usize {
        match self {
            Self::Gray8 => 1,
            Self::Gray16 => 2,
            Self::Rgb8 | Self::Bgr8 => 3,
            Self::Rgba8 | Self::Bgra8 | Self::GrayF32 => 4,
            Self::RgbF32 => 12,
        }
    }

    /// Whether the format carries colour.
    pub const fn is_colour(self) -> bool {
        !matches!(self, Self::Gray8 | Self::Gray16 | Self::GrayF32)
    }
}
