//! [`Frame`]: a checked view of somebody else's pixels. All arithmetic on caller-given sizes is here.

use super::PixelFormat;
use crate::error::{Error, Result};

/// The largest width or height of a frame, in pixels.
pub const MAX_SIDE: u32 = 16_384;

/// A rectangle of pixels inside a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roi {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
}

/// A borrowed image. Constructing one checks that every pixel it promises lies inside the buffer.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    data: &'a [u8],
    format: PixelFormat,
    width: u32,
    height: u32,
    stride: usize,
    roi: Roi,
}

impl<'a> Frame<'a> {
    /// A frame of `width` x `height` pixels whose rows begin every `stride` bytes.
    ///
    /// The last row may end without the padding that other rows have.
    ///
    /// # Errors
    /// [`Error::InvalidFrame`] if a side is 0 or above [`MAX_SIDE`], if the stride is smaller than a row,
    /// or if the buffer is too short.
    pub fn new(
        data: &'a [u8],
        format: PixelFormat,
        width: u32,
        height: u32,
        stride: usize,
    ) -> Result<Self> {
        for (field, side) in [("width", width), ("height", height)] {
            if side == 0 || side > MAX_SIDE {
                return Err(invalid(field, side, format!("1 to {MAX_SIDE}")));
            }
        }
        // Both sides are at most MAX_SIDE, so a row fits in usize; the stride is the caller's and may not.
        let row = width as usize * format.bytes_per_pixel();
        if stride < row {
            return Err(invalid("stride", stride, format!("at least {row} bytes")));
        }
        let need = stride.checked_mul(height as usize - 1).and_then(|b| b.checked_add(row));
        match need {
            Some(need) if data.len() >= need => {}
            Some(need) => {
                return Err(invalid("buffer length", data.len(), format!("at least {need} bytes")));
            }
            None => return Err(invalid("stride", stride, "a frame that fits in memory".into())),
        }
        let roi = Roi { x: 0, y: 0, width, height };
        Ok(Self { data, format, width, height, stride, roi })
    }

    /// A frame whose rows follow each other without padding.
    ///
    /// # Errors
    /// As [`Frame::new`]; here the buffer must have exactly the frame's length, so that a wrong size is noticed.
    pub fn packed(data: &'a [u8], format: PixelFormat, width: u32, height: u32) -> Result<Self> {
        let stride = width as usize * format.bytes_per_pixel();
        let frame = Self::new(data, format, width, height, stride)?;
        let need = stride * height as usize;
        if data.len() != need {
            return Err(invalid("buffer length", data.len(), format!("exactly {need} bytes")));
        }
        Ok(frame)
    }

    /// The same frame restricted to `roi`, in pixels of the whole frame.
    ///
    /// # Errors
    /// [`Error::InvalidFrame`] if the region is empty or leaves the frame.
    pub fn with_roi(self, roi: Roi) -> Result<Self> {
        let inside = |start: u32, length: u32, side: u32| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= side)
        };
        if !inside(roi.x, roi.width, self.width) || !inside(roi.y, roi.height, self.height) {
            let got = format!("{}x{} at ({}, {})", roi.width, roi.height, roi.x, roi.y);
            let need =
                format!("a non-empty rectangle inside {}x{} pixels", self.width, self.height);
            return Err(invalid("region of interest", got, need));
        }
        Ok(Self { roi, ..self })
    }

    /// The pixel format.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// The region that is looked at; the whole frame unless [`Frame::with_roi`] was used.
    pub fn roi(&self) -> Roi {
        self.roi
    }

    /// The rows of the region of interest, each exactly `roi.width` pixels long.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &'a [u8]> {
        let pixel = self.format.bytes_per_pixel();
        let (first, length) = (self.roi.x as usize * pixel, self.roi.width as usize * pixel);
        let (data, stride, top) = (self.data, self.stride, self.roi.y as usize);
        (0..self.roi.height as usize).map(move |row| {
            let start = (top + row) * stride + first;
            &data[start..start + length]
        })
    }
}

fn invalid(field: &'static str, got: impl std::fmt::Display, need: String) -> Error {
    Error::InvalidFrame { field, got: got.to_string(), need }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stride_smaller_than_row_is_rejected() {
        let error = Frame::new(&[0; 64], PixelFormat::Rgb8, 8, 2, 23).unwrap_err();
        assert_eq!(error.to_string(), "frame stride is 23, need at least 24 bytes");
    }

    #[test]
    fn last_row_needs_no_padding() {
        assert!(Frame::new(&[0; 10 + 8], PixelFormat::Gray8, 8, 2, 10).is_ok());
        assert!(Frame::new(&[0; 10 + 7], PixelFormat::Gray8, 8, 2, 10).is_err());
    }

    #[test]
    fn huge_strides_do_not_overflow() {
        assert!(Frame::new(&[0; 64], PixelFormat::Gray8, 8, 3, usize::MAX).is_err());
    }

    #[test]
    fn region_outside_is_rejected_and_inside_selects_rows() {
        let data: Vec<u8> = (0..12).collect();
        let frame = Frame::packed(&data, PixelFormat::Gray8, 4, 3).unwrap();
        for roi in [(0, 0, 0, 1), (3, 0, 2, 1), (0, 3, 1, 1), (u32::MAX, 0, 2, 1)] {
            let (x, y, width, height) = roi;
            assert!(frame.with_roi(Roi { x, y, width, height }).is_err(), "{roi:?}");
        }
        let part = frame.with_roi(Roi { x: 1, y: 1, width: 2, height: 2 }).unwrap();
        assert_eq!(part.rows().collect::<Vec<_>>(), [&[5u8, 6][..], &[9, 10]]);
    }
}
