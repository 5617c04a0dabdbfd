//! Frames: the caller's description of pixels → a checked view of them. Nothing is copied.

use std::ffi::c_void;

use f2d2::{Frame, PixelFormat, Roi};

use crate::failure::{Failure, Result};
use crate::memory::{self, Versioned};
use crate::status::F2D2_INVALID_FRAME;

/// One byte per pixel, 0 black to 255 white.
pub const F2D2_FORMAT_GRAY8: u32 = 1;
/// One 16-bit number per pixel in the machine's byte order, 0 black to 65535 white.
pub const F2D2_FORMAT_GRAY16: u32 = 2;
/// Red, green, blue bytes.
pub const F2D2_FORMAT_RGB8: u32 = 3;
/// Blue, green, red bytes, as OpenCV has them.
pub const F2D2_FORMAT_BGR8: u32 = 4;
/// Red, green, blue, alpha bytes; alpha is ignored.
pub const F2D2_FORMAT_RGBA8: u32 = 5;
/// Blue, green, red, alpha bytes; alpha is ignored.
pub const F2D2_FORMAT_BGRA8: u32 = 6;
/// One float per pixel, 0 black to 1 white; a frame with any other value, or NaN, is not judged.
pub const F2D2_FORMAT_GRAY_F32: u32 = 7;
/// Red, green, blue as floats, each 0 to 1; a frame with any other value, or NaN, is not judged.
pub const F2D2_FORMAT_RGB_F32: u32 = 8;

/// Pixels of the caller. They are read during the call only, and must not change during it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct f2d2_frame {
    /// Size of this struct, set by the caller.
    pub struct_size: u32,
    /// F2D2_FORMAT_GRAY8 to F2D2_FORMAT_RGB_F32.
    pub format: u32,
    /// First byte of the first row. Any alignment.
    pub data: *const c_void,
    /// Bytes that may be read from `data` on. The last row may end without padding.
    pub size: u64,
    /// Bytes from the beginning of one row to that of the next; 0 if rows follow each other without padding.
    pub stride: u64,
    /// Columns, 1 to 16384.
    pub width: u32,
    /// Rows, 1 to 16384.
    pub height: u32,
    /// First column of the region of interest.
    pub roi_x: u32,
    /// First row of the region of interest.
    pub roi_y: u32,
    /// Columns of the region of interest. All four zero: the whole frame.
    pub roi_width: u32,
    /// Rows of the region of interest.
    pub roi_height: u32,
}

// SAFETY: repr(C), begins with its u32 size, and any bytes are valid fields.
unsafe impl Versioned for f2d2_frame {
    const NAME: &str = "f2d2_frame";
    const FIRST: usize = size_of::<Self>();
}

impl f2d2_frame {
    /// The pixels; all faults of the description are F2D2_INVALID_FRAME.
    ///
    /// # Safety
    /// `data` is NULL or valid for reading `size` bytes for as long as `'a`, in which nobody writes to them.
    pub(crate) unsafe fn view<'a>(&self) -> Result<Frame<'a>> {
        let format = self.pixel_format()?;
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let packed = (self.width as usize).saturating_mul(format.bytes_per_pixel());
        let stride = match self.stride {
            0 => packed,
            stride => usize::try_from(stride).unwrap_or(usize::MAX),
        };
        if self.data.is_null() {
            return Err(invalid("frame data is NULL".into()));
        }
        // SAFETY: the caller's promise.
        let data = unsafe { memory::bytes("frame data", self.data.cast(), size) };
        let data = data.map_err(|failure| invalid(failure.message))?;
        let frame = Frame::new(data, format, self.width, self.height, stride)?;
        let (x, y) = (self.roi_x, self.roi_y);
        let (width, height) = (self.roi_width, self.roi_height);
        if [x, y, width, height] == [0; 4] {
            return Ok(frame);
        }
        Ok(frame.with_roi(Roi { x, y, width, height })?)
    }

    fn pixel_format(&self) -> Result<PixelFormat> {
        Ok(match self.format {
            F2D2_FORMAT_GRAY8 => PixelFormat::Gray8,
            F2D2_FORMAT_GRAY16 => PixelFormat::Gray16,
            F2D2_FORMAT_RGB8 => PixelFormat::Rgb8,
            F2D2_FORMAT_BGR8 => PixelFormat::Bgr8,
            F2D2_FORMAT_RGBA8 => PixelFormat::Rgba8,
            F2D2_FORMAT_BGRA8 => PixelFormat::Bgra8,
            F2D2_FORMAT_GRAY_F32 => PixelFormat::GrayF32,
            F2D2_FORMAT_RGB_F32 => PixelFormat::RgbF32,
            other => {
                let need = format!("{F2D2_FORMAT_GRAY8} to {F2D2_FORMAT_RGB_F32}");
                return Err(invalid(format!("frame format is {other}, need {need}")));
            }
        })
    }
}

/// The pixels of `count` frames. A wrong `struct_size` fails all; any other fault only its frame.
///
/// # Safety
/// `frames` is NULL or valid for reading `count` frames, each as for [`f2d2_frame::view`].
pub(crate) unsafe fn views<'a>(
    frames: *const f2d2_frame,
    count: usize,
) -> Result<Vec<Result<Frame<'a>>>> {
    // SAFETY: the caller's promise.
    let frames = unsafe { memory::sized_array("frames", frames, count) }?;
    // SAFETY: the caller's promise, for each.
    frames.map(|frame| Ok(unsafe { memory::sized_in("frames", frame)?.view() })).collect()
}

fn invalid(message: String) -> Failure {
    Failure::new(F2D2_INVALID_FRAME, message)
}
