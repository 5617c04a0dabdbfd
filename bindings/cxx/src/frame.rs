//! Frames as C++ describes them → checked frames of the library, over the same memory.

use crate::failure::Failure;
use crate::ffi;

impl<'a> ffi::Frame<'a> {
    pub(crate) fn checked(&self) -> Result<f2d2::Frame<'a>, Failure> {
        let format = self.format.known()?;
        let row = self.width as usize * format.bytes_per_pixel();
        let stride = if self.stride == 0 { row } else { self.stride };
        let frame = f2d2::Frame::new(self.pixels, format, self.width, self.height, stride)?;
        let ffi::Roi { x, y, width, height } = self.roi;
        if [x, y, width, height] == [0; 4] {
            return Ok(frame);
        }
        Ok(frame.with_roi(f2d2::Roi { x, y, width, height })?)
    }
}

impl ffi::PixelFormat {
    /// A C++ enumeration can hold any number.
    fn known(self) -> Result<f2d2::PixelFormat, Failure> {
        Ok(match self {
            Self::Gray8 => f2d2::PixelFormat::Gray8,
            Self::Gray16 => f2d2::PixelFormat::Gray16,
            Self::Rgb8 => f2d2::PixelFormat::Rgb8,
            Self::Bgr8 => f2d2::PixelFormat::Bgr8,
            Self::Rgba8 => f2d2::PixelFormat::Rgba8,
            Self::Bgra8 => f2d2::PixelFormat::Bgra8,
            Self::GrayF32 => f2d2::PixelFormat::GrayF32,
            Self::RgbF32 => f2d2::PixelFormat::RgbF32,
            unknown => {
                return Err(Failure::from(f2d2::Error::InvalidFrame {
                    field: "format",
                    got: unknown.repr.to_string(),
                    need: "one of PixelFormat".into(),
                }));
            }
        })
    }
}
