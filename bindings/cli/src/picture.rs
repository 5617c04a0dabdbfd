//! Image files and arrays → [`Picture`]: 8-bit, 16-bit or float pixels as the library takes them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use f2d2::{Frame, PixelFormat, frame::MAX_SIDE};
use image::{DynamicImage, GrayImage, ImageReader, Limits, RgbImage, RgbaImage};
use ndarray::{Array4, ArrayView, ArrayViewD, Axis, Ix3, Ix4};
use ndarray_npy::{ViewNpyError, ViewNpyExt};
use zip::ZipArchive;

/// Bytes that one array may have.
const MAX_ARRAY: u64 = 8 << 30;

/// A decoded image in a pixel format that [`Frame`] knows. Pixels are as stored: no rotation, no rescaling.
pub(crate) struct Picture(DynamicImage);

impl Picture {
    fn new(image: DynamicImage) -> Self {
        Self(match image {
            DynamicImage::ImageLumaA8(_) => image.into_luma8().into(),
            DynamicImage::ImageLumaA16(_) => image.into_luma16().into(),
            DynamicImage::ImageRgb16(_) | DynamicImage::ImageRgba16(_) => image.into_rgb8().into(),
            DynamicImage::ImageRgba32F(_) => image.into_rgb32f().into(),
            image => image,
        })
    }

    /// The pixels.
    pub(crate) fn image(&self) -> &DynamicImage {
        &self.0
    }

    /// The pixels as the library looks at them.
    pub(crate) fn frame(&self) -> Result<Frame<'_>, String> {
        let format = match &self.0 {
            DynamicImage::ImageLuma8(_) => PixelFormat::Gray8,
            DynamicImage::ImageLuma16(_) => PixelFormat::Gray16,
            DynamicImage::ImageRgb8(_) => PixelFormat::Rgb8,
            DynamicImage::ImageRgba8(_) => PixelFormat::Rgba8,
            DynamicImage::ImageRgb32F(_) => PixelFormat::RgbF32,
            other => return Err(format!("pixels are {:?}, need 8-bit or 16-bit", other.color())),
        };
        let (width, height) = (self.0.width(), self.0.height());
        Frame::packed(self.0.as_bytes(), format, width, height).map_err(|e| e.to_string())
    }
}

/// Decodes an image file, whatever its name ends in.
pub(crate) fn decode(path: &Path) -> Result<Picture, String> {
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let mut reader = reader.map_err(|e| format!("cannot read: {e}"))?;
    reader.limits(limits);
    reader.decode().map(Picture::new).map_err(|e| format!("cannot decode: {e}"))
}

/// The images of one array, [N, H, W, C].
pub(crate) struct Images(Array4<u8>);

impl Images {
    /// Number of images.
    pub(crate) fn len(&self) -> usize {
        self.0.len_of(Axis(0))
    }

    /// Image number `index`.
    pub(crate) fn picture(&self, index: usize) -> Result<Picture, String> {
        let image = self.0.index_axis(Axis(0), index); // [H, W, C]
        let (h, w, channels) = image.dim();
        let side = |side: usize| u32::try_from(side).map_err(|_| format!("side is {side} pixels"));
        let (width, height) = (side(w)?, side(h)?);
        let data: Vec<u8> = image.iter().copied().collect();
        let built = match channels {
            1 => GrayImage::from_raw(width, height, data).map(DynamicImage::from),
            3 => RgbImage::from_raw(width, height, data).map(DynamicImage::from),
            _ => RgbaImage::from_raw(width, height, data).map(DynamicImage::from),
        };
        built.map(Picture).ok_or_else(|| format!("{w}x{h} pixels do not fit in memory"))
    }
}

/// Reads a `.npy` file, or one array of an `.npz` file; `key` may be left out if there is only one.
pub(crate) fn load_array(path: &Path, key: Option<&str>) -> Result<Images, String> {
    let file = File::open(path).map_err(|e| format!("cannot read: {e}"))?;
    let zipped = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz"));
    let bytes = if zipped { entry(file, key)? } else { read(file)? };
    parse(&bytes)
}

fn entry(file: File, key: Option<&str>) -> Result<Vec<u8>, String> {
    let mut archive = ZipArchive::new(file).map_err(|e| format!("not an npz file: {e}"))?;
    let name_of = |file: &str| file.strip_suffix(".npy").unwrap_or(file).to_owned();
    let mut names: Vec<String> = archive.file_names().map(name_of).collect();
    let wanted = match (key, names.len()) {
        (Some(key), _) => names.iter().position(|name| name == key),
        (None, 1) => Some(0),
        (None, _) => None,
    };
    match wanted {
        Some(position) => {
            let name = names.swap_remove(position);
            let index = archive.index_for_name(&format!("{name}.npy"));
            let index = index.or_else(|| archive.index_for_name(&name)).unwrap_or(position);
            read(archive.by_index(index).map_err(|e| format!("cannot read array {name}: {e}"))?)
        }
        None => {
            let number = names.len();
            let list = names.join(", ");
            Err(format!("holds {number} arrays: write file.npz:key with one of {list}"))
        }
    }
}

fn read(reader: impl Read) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let size = reader.take(MAX_ARRAY + 1).read_to_end(&mut bytes);
    match size.map_err(|e| format!("cannot read: {e}"))? as u64 {
        size if size > MAX_ARRAY => Err(format!("array is above {MAX_ARRAY} bytes, split it")),
        _ => Ok(bytes),
    }
}

fn parse(bytes: &[u8]) -> Result<Images, String> {
    let view = ArrayViewD::<u8>::view_npy(bytes).map_err(|error| match error {
        ViewNpyError::WrongDescriptor(dtype) => {
            format!("array has dtype {dtype}, need uint8 (0 black to 255 white)")
        }
        error => format!("not a usable npy array: {error}"),
    })?;
    let shape = view.shape().to_vec();
    let grey: Option<ArrayView<'_, u8, Ix3>> = view.clone().into_dimensionality().ok();
    let colour: Option<ArrayView<'_, u8, Ix4>> = view.into_dimensionality().ok();
    match (grey, colour) {
        (Some(grey), _) => Ok(Images(grey.insert_axis(Axis(3)).to_owned())),
        (_, Some(colour)) if matches!(shape[3], 1 | 3 | 4) => Ok(Images(colour.to_owned())),
        _ => Err(format!("array has shape {shape:?}, need [N,H,W] or [N,H,W,C] with C 1, 3 or 4")),
    }
    .and_then(|images| match images.len() {
        0 => Err(format!("array has shape {shape:?}, need at least one image")),
        _ => Ok(images),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use image::{ImageBuffer, LumaA, Rgb};

    /// A picture for tests of other files.
    pub(crate) fn grey(image: GrayImage) -> Picture {
        Picture(image.into())
    }

    #[test]
    fn every_kind_of_pixel_becomes_one_that_frames_know() {
        let format = |image: DynamicImage| Picture::new(image).frame().unwrap().format();
        let rgb16: ImageBuffer<Rgb<u16>, _> = ImageBuffer::new(2, 2);
        let grey_alpha: ImageBuffer<LumaA<u16>, _> = ImageBuffer::new(2, 2);
        assert_eq!(format(GrayImage::new(2, 2).into()), PixelFormat::Gray8);
        assert_eq!(format(rgb16.into()), PixelFormat::Rgb8);
        assert_eq!(format(grey_alpha.into()), PixelFormat::Gray16);
        assert_eq!(format(DynamicImage::new_rgba32f(2, 2)), PixelFormat::RgbF32);
    }

    #[test]
    fn arrays_that_promise_more_than_they_hold_are_refused() {
        let mut bytes = Vec::new();
        ndarray_npy::WriteNpyExt::write_npy(&ndarray::Array3::<u8>::zeros((2, 3, 3)), &mut bytes)
            .unwrap();
        assert_eq!(parse(&bytes).unwrap().len(), 2);
        bytes.truncate(bytes.len() - 1);
        assert!(parse(&bytes).is_err());
        assert!(parse(b"not an array").is_err());
    }
}
