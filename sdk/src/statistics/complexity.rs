//! `complexity`: size of the image as a PNG file, bits per dimension.
//!
//! The likelihood of any image rises with its smoothness; the size that a general codec needs
//! measures that part (Serra et al. 2020), so that the density on the score vector can discount it.

use crate::preprocess::Pixels;

/// NaN if the image cannot be encoded.
pub(super) fn measure(pixels: &Pixels) -> f64 {
    match encoded_len(pixels) {
        Ok(bytes) => 8.0 * bytes as f64 / pixels.data.len() as f64,
        Err(_) => f64::NAN,
    }
}

fn encoded_len(pixels: &Pixels) -> Result<usize, png::EncodingError> {
    let mut file = Vec::new();
    let side = |n: usize| u32::try_from(n).unwrap_or(0);
    let mut encoder = png::Encoder::new(&mut file, side(pixels.width), side(pixels.height));
    encoder.set_color(if pixels.channels == 1 {
        png::ColorType::Grayscale
    } else {
        png::ColorType::Rgb
    });
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    encoder.set_filter(png::Filter::Adaptive);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels.data)?;
    writer.finish()?;
    Ok(file.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::noise;

    fn image(channels: usize, data: Vec<u8>) -> Pixels {
        Pixels { channels, height: 32, width: 32, data }
    }

    #[test]
    fn noise_costs_its_8_bits_and_a_constant_almost_nothing() {
        for channels in [1, 3] {
            let n = channels * 1024;
            let uniform: Vec<u8> =
                noise::uniform(1, 0, n).iter().map(|v| (v * 256.0) as u8).collect();
            let noisy = measure(&image(channels, uniform));
            assert!((8.0..9.5).contains(&noisy), "{noisy}");
            assert!(measure(&image(channels, vec![7; n])) < 1.0);
        }
    }

    #[test]
    fn an_image_that_cannot_be_encoded_is_nan() {
        assert!(measure(&image(1, vec![7; 5])).is_nan());
    }
}
