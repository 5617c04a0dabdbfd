//! Heat maps as pictures: the original, beside it the original in grey under the colours of the heat map.
//!
//! Grey: nothing unusual. Blue, red, yellow: stranger and stranger. The bar at the right runs from the scale's low
//! end (bottom) to its high end (top); all images drawn with one [`Scale`] can be compared with each other.

use std::io::{Cursor, Write};

use anyhow::Result;
use colorous::PLASMA;
use f2d2::HeatMap;
use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, Rgba, RgbaImage};

/// Smallest height of a drawn image; the smaller original is enlarged by a whole number.
const MIN_SIDE: u32 = 280;
/// Largest width or height of a drawn image.
const MAX_SIDE: u32 = 640;
/// Transparent space between the parts of an overlay, in pixels.
const GAP: u32 = 8;
/// Width of the colour bar, in pixels.
const BAR: u32 = 10;
/// Opacity of the strangest colour.
const OPACITY: f32 = 0.85;
/// Opacity rises as this power of the value, so that weak signals are still seen.
const RISE: f32 = 0.7;
/// Share of images whose strangest pixels stay within the colours.
const WITHIN: f64 = 0.95;
/// The pixel of an image that stands for its strangest ones, as a quantile.
const PEAK: f64 = 0.99;

/// The values that the colours begin and end at, in nats per pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    /// Shown as plain grey, as is all below.
    pub(crate) low: f64,
    /// Shown in the last colour, as is all above.
    pub(crate) high: f64,
}

/// Collects what a [`Scale`] for many heat maps needs: two numbers per map.
#[derive(Default)]
pub(crate) struct Extent {
    medians: Vec<f64>,
    peaks: Vec<f64>,
}

impl Extent {
    /// Takes a heat map into account.
    pub(crate) fn add(&mut self, map: &HeatMap) {
        let mut values: Vec<f64> = map.values.iter().map(|&v| f64::from(v)).collect();
        values.retain(|v| v.is_finite());
        self.medians.extend(quantile(&mut values, 0.5));
        self.peaks.extend(quantile(&mut values, PEAK));
    }

    /// From the typical pixel of the typical image to a peak that one image in twenty exceeds.
    pub(crate) fn scale(&self) -> Scale {
        let low = quantile(&mut self.medians.clone(), 0.5).unwrap_or(0.0);
        let high = quantile(&mut self.peaks.clone(), WITHIN).unwrap_or(1.0);
        Scale { low, high: high.max(low) }
    }
}

impl Scale {
    fn place(self, value: f32) -> f32 {
        let span = self.high - self.low;
        let place = (f64::from(value) - self.low) / span;
        if span > 0.0 && place.is_finite() { place.clamp(0.0, 1.0) as f32 } else { 0.0 }
    }
}

/// The original as it is drawn: at least 280 pixels high where that leaves it at most 640 pixels wide.
pub(crate) fn panel(picture: &DynamicImage) -> RgbaImage {
    let (width, height) = (picture.width().max(1), picture.height().max(1));
    let factor = MIN_SIDE.div_ceil(height).max(1);
    let (wide, high) = (width.saturating_mul(factor), height.saturating_mul(factor));
    let shrink = (f64::from(MAX_SIDE) / f64::from(wide.max(high))).min(1.0);
    let scaled = |side: u32| ((f64::from(side) * shrink).round() as u32).max(1);
    let enlarge = shrink == 1.0;
    let filter = if enlarge { FilterType::Nearest } else { FilterType::Triangle };
    let mut image = opaque(picture);
    if (wide, high) != (width, height) || !enlarge {
        image = imageops::resize(&image, scaled(wide), scaled(high), filter);
    }
    image
}

/// Original, overlay and colour bar side by side; `panel` is that of [`panel`].
pub(crate) fn draw(panel: &RgbaImage, map: &HeatMap, scale: Scale) -> RgbaImage {
    let (width, height) = panel.dimensions();
    let values: Vec<f32> = map.values.iter().map(|&v| scale.place(v)).collect();
    let places: ImageBuffer<Luma<f32>, Vec<f32>> =
        ImageBuffer::from_raw(map.width as u32, map.height as u32, values)
            .unwrap_or_else(|| ImageBuffer::new(1, 1));
    let places = imageops::resize(&places, width, height, FilterType::Triangle);
    let mut canvas = RgbaImage::new(2 * width + 2 * GAP + BAR, height);
    imageops::replace(&mut canvas, panel, 0, 0);
    for (x, y, pixel) in panel.enumerate_pixels() {
        let place = places.get_pixel(x, y)[0].clamp(0.0, 1.0);
        canvas.put_pixel(width + GAP + x, y, blend(grey(pixel), place));
    }
    for (x, y) in (0..BAR).flat_map(|x| (0..height).map(move |y| (x, y))) {
        let place = 1.0 - y as f32 / height.max(2).saturating_sub(1) as f32;
        canvas.put_pixel(2 * (width + GAP) + x, y, blend(96.0, place));
    }
    canvas
}

/// The image as a PNG file's bytes.
pub(crate) fn png(image: &RgbaImage) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

/// Writes the image as a PNG file, whole or not at all.
pub(crate) fn save(image: &RgbaImage, path: &std::path::Path) -> Result<()> {
    let bytes = png(image)?;
    crate::output::write_file(path, |writer| Ok(writer.write_all(&bytes)?))
}

fn opaque(picture: &DynamicImage) -> RgbaImage {
    // A detector ignores alpha, so a picture of what it saw does too.
    DynamicImage::from(picture.to_rgb8()).into_rgba8()
}

fn grey(pixel: &Rgba<u8>) -> f32 {
    let [r, g, b, _] = pixel.0.map(f32::from);
    (0.299 * r + 0.587 * g + 0.114 * b) * 0.8
}

fn blend(grey: f32, place: f32) -> Rgba<u8> {
    let colour = PLASMA.eval_continuous(f64::from(place)).as_array().map(f32::from);
    let opacity = OPACITY * place.powf(RISE);
    let [r, g, b] = colour.map(|c| (grey + (c - grey) * opacity).round() as u8);
    Rgba([r, g, b, 255])
}

fn quantile(values: &mut [f64], q: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let position = (q * last as f64).round() as usize;
    Some(*values.select_nth_unstable_by(position.min(last), f64::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::GrayImage;

    fn map(values: Vec<f32>) -> HeatMap {
        HeatMap { width: 2, height: 2, values }
    }

    #[test]
    fn small_images_are_enlarged_by_a_whole_number_and_large_ones_shrunk() {
        let size = |w, h| panel(&GrayImage::new(w, h).into()).dimensions();
        assert_eq!(size(28, 28), (280, 280));
        assert_eq!(size(32, 30), (320, 300));
        assert_eq!(size(300, 290), (300, 290));
        assert_eq!(size(6400, 3200), (640, 320));
        assert_eq!(size(100, 20), (640, 128));
        assert_eq!(size(4000, 1), (640, 1));
    }

    #[test]
    fn strange_corner_is_coloured_and_ordinary_corner_stays_grey() {
        let panel = panel(&GrayImage::from_pixel(28, 28, Luma([100])).into());
        let image = draw(&panel, &map(vec![0.0, 0.0, 0.0, 5.0]), Scale { low: 0.0, high: 5.0 });
        assert_eq!(image.dimensions(), (2 * 280 + 2 * GAP + BAR, 280));
        let [r, g, b, a] = image.get_pixel(280 + GAP, 0).0;
        assert_eq!((r, g, b, a), (80, 80, 80, 255));
        let [r, _, b, _] = image.get_pixel(280 + GAP + 279, 279).0;
        assert!(r > 200 && b < 100, "{r} {b}");
    }

    #[test]
    fn scale_is_shared_and_survives_flat_and_broken_maps() {
        let mut extent = Extent::default();
        extent.add(&map(vec![1.0, 1.0, 1.0, 9.0]));
        extent.add(&map(vec![f32::NAN, 2.0, 2.0, 2.0]));
        let scale = extent.scale();
        assert!(scale.low >= 1.0 && scale.high == 9.0, "{scale:?}");
        let flat = Scale { low: 3.0, high: 3.0 };
        assert_eq!(flat.place(7.0), 0.0);
        assert_eq!(scale.place(f32::NAN), 0.0);
        assert_eq!(Extent::default().scale(), Scale { low: 0.0, high: 1.0 });
    }
}
