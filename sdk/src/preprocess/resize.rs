//! Frame → 8-bit image of the model's size.

use fast_image_resize as fir;
use serde::{Deserialize, Serialize};

use super::{Pixels, Shape};
use crate::error::{Error, Result};
use crate::frame::{Frame, PixelFormat};

/// The filter used when a frame has to be resized; shrinking always averages over its support.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeFilter {
    /// Mean of the covered pixels.
    Box,
    /// Triangle.
    Bilinear,
    /// Cubic (a = -0.5).
    CatmullRom,
    /// Windowed sinc, three lobes.
    Lanczos3,
}

/// The region of interest of `frame` in the colours and the size of `shape`.
pub(super) fn to_shape(frame: &Frame<'_>, shape: Shape, filter: ResizeFilter) -> Result<Pixels> {
    let roi = frame.roi();
    let data = to_bytes(frame, shape.channels)?;
    if (roi.width as usize, roi.height as usize) == (shape.width, shape.height) {
        let Shape { channels, height, width } = shape;
        return Ok(Pixels { channels, height, width, data });
    }
    let pixel_type = if shape.channels == 3 { fir::PixelType::U8x3 } else { fir::PixelType::U8 };
    let failed = |why: String| Error::InvalidFrame {
        field: "size",
        got: format!("{}x{}", roi.width, roi.height),
        need: format!("a size that can become {}x{} ({why})", shape.width, shape.height),
    };
    let source = fir::images::Image::from_vec_u8(roi.width, roi.height, data, pixel_type)
        .map_err(|e| failed(e.to_string()))?;
    let side = |n: usize| u32::try_from(n).map_err(|e| failed(e.to_string()));
    let mut target = fir::images::Image::new(side(shape.width)?, side(shape.height)?, pixel_type);
    let filter = match filter {
        ResizeFilter::Box => fir::FilterType::Box,
        ResizeFilter::Bilinear => fir::FilterType::Bilinear,
        ResizeFilter::CatmullRom => fir::FilterType::CatmullRom,
        ResizeFilter::Lanczos3 => fir::FilterType::Lanczos3,
    };
    let options = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(filter));
    fir::Resizer::new()
        .resize(&source, &mut target, &options)
        .map_err(|e| failed(e.to_string()))?;
    let Shape { channels, height, width } = shape;
    Ok(Pixels { channels, height, width, data: target.into_vec() })
}

/// The region as interleaved 8-bit values with `channels` channels.
fn to_bytes(frame: &Frame<'_>, channels: usize) -> Result<Vec<u8>> {
    let roi = frame.roi();
    let mut out = Vec::with_capacity(roi.width as usize * roi.height as usize * channels);
    let mut push = |rgb: [u8; 3]| match channels {
        1 => out.push(luma(rgb)),
        _ => out.extend_from_slice(&rgb),
    };
    let size = frame.format().bytes_per_pixel();
    for row in frame.rows() {
        for pixel in row.chunks_exact(size) {
            push(match frame.format() {
                PixelFormat::Gray8 => [pixel[0]; 3],
                PixelFormat::Gray16 => {
                    let value = u32::from(u16::from_ne_bytes([pixel[0], pixel[1]]));
                    [((value + 128) / 257) as u8; 3]
                }
                PixelFormat::Rgb8 | PixelFormat::Rgba8 => [pixel[0], pixel[1], pixel[2]],
                PixelFormat::Bgr8 | PixelFormat::Bgra8 => [pixel[2], pixel[1], pixel[0]],
                PixelFormat::GrayF32 => [unit_to_byte(pixel)?; 3],
                PixelFormat::RgbF32 => [
                    unit_to_byte(&pixel[..4])?,
                    unit_to_byte(&pixel[4..8])?,
                    unit_to_byte(&pixel[8..])?,
                ],
            });
        }
    }
    Ok(out)
}

/// Grey of a colour by the weights of ITU-R BT.601, in integers so that equal channels stay what they are.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7_471 + 32_768) >> 16) as u8
}

fn unit_to_byte(bytes: &[u8]) -> Result<u8> {
    let value = f32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    if !(0.0..=1.0).contains(&value) {
        return Err(Error::InvalidFrame {
            field: "pixel value",
            got: value.to_string(),
            need: "a finite number from 0 to 1".into(),
        });
    }
    Ok((value * 255.0).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(frame: &Frame<'_>) -> Vec<u8> {
        to_bytes(frame, 1).unwrap()
    }

    #[test]
    fn colour_orders_agree_and_grey_stays_grey() {
        let rgb = Frame::packed(&[200, 100, 50], PixelFormat::Rgb8, 1, 1).unwrap();
        let bgra = Frame::packed(&[50, 100, 200, 9], PixelFormat::Bgra8, 1, 1).unwrap();
        assert_eq!(to_bytes(&rgb, 3).unwrap(), to_bytes(&bgra, 3).unwrap());
        for value in 0..=255u8 {
            let frame = [value; 3];
            assert_eq!(grey(&Frame::packed(&frame, PixelFormat::Rgb8, 1, 1).unwrap()), [value]);
            let wide = (u16::from(value) * 257).to_ne_bytes();
            assert_eq!(grey(&Frame::packed(&wide, PixelFormat::Gray16, 1, 1).unwrap()), [value]);
            let unit = (f32::from(value) / 255.0).to_ne_bytes();
            assert_eq!(grey(&Frame::packed(&unit, PixelFormat::GrayF32, 1, 1).unwrap()), [value]);
        }
    }

    #[test]
    fn floats_outside_the_unit_range_are_refused() {
        for value in [f32::NAN, f32::INFINITY, -0.1, 1.5, 255.0, 1e30] {
            let bytes = value.to_ne_bytes();
            let frame = Frame::packed(&bytes, PixelFormat::GrayF32, 1, 1).unwrap();
            assert!(to_bytes(&frame, 1).is_err(), "{value}");
        }
        let bytes = (-0.0f32).to_ne_bytes();
        assert_eq!(grey(&Frame::packed(&bytes, PixelFormat::GrayF32, 1, 1).unwrap()), [0]);
    }

    #[test]
    fn resizing_a_constant_keeps_it() {
        let data = vec![77u8; 30 * 20 * 3];
        let frame = Frame::packed(&data, PixelFormat::Rgb8, 30, 20).unwrap();
        let shape = Shape { channels: 3, height: 7, width: 11 };
        for filter in [
            ResizeFilter::Box,
            ResizeFilter::Bilinear,
            ResizeFilter::CatmullRom,
            ResizeFilter::Lanczos3,
        ] {
            let pixels = to_shape(&frame, shape, filter).unwrap();
            assert_eq!(pixels.data, vec![77; 7 * 11 * 3], "{filter:?}");
        }
    }
}
