//! Where frames come from: a moving texture, or the luma of a YUV4MPEG2 file.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Pixels of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// Largest side of a video's frame.
const LARGEST: usize = 1 << 14;
/// Largest header of a stream or a frame, bytes.
const HEADER: u64 = 1024;

/// A source of grey frames.
pub(crate) enum Camera {
    Synthetic { size: Size, number: usize },
    Video { size: Size, chroma: u64, file: BufReader<File> },
}

impl Camera {
    /// A texture that moves by a pixel per frame.
    pub(crate) fn synthetic(size: Size) -> Self {
        Self::Synthetic { size, number: 0 }
    }

    /// The luma of a YUV4MPEG2 file with 8 bits per sample.
    pub(crate) fn video(path: &Path) -> Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let header = line(&mut file)?.context("an empty file")?;
        let mut words = header.split_ascii_whitespace();
        if words.next() != Some("YUV4MPEG2") {
            bail!("not a YUV4MPEG2 file");
        }
        let (mut width, mut height, mut format) = (0, 0, "420".to_owned());
        for word in words {
            match word.split_at_checked(1) {
                Some(("W", value)) => width = value.parse()?,
                Some(("H", value)) => height = value.parse()?,
                Some(("C", value)) => format = value.to_owned(),
                _ => {}
            }
        }
        if !(1..=LARGEST).contains(&width) || !(1..=LARGEST).contains(&height) {
            bail!("frames of {width}x{height}, need 1 to {LARGEST} pixels a side");
        }
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let chroma = match format.as_str() {
            "mono" => 0,
            "420" | "420jpeg" | "420paldv" | "420mpeg2" => 2 * half_width * half_height,
            "422" => 2 * half_width * height,
            "444" => 2 * width * height,
            other => bail!("colour format {other}, need mono, 420, 422 or 444 with 8 bits"),
        };
        Ok(Self::Video { size: Size { width, height }, chroma: chroma as u64, file })
    }

    /// Size of the frames.
    pub(crate) fn size(&self) -> Size {
        match self {
            Self::Synthetic { size, .. } | Self::Video { size, .. } => *size,
        }
    }

    /// Writes the next frame to `pixels`; false at the end.
    pub(crate) fn fill(&mut self, pixels: &mut [u8]) -> Result<bool> {
        match self {
            Self::Synthetic { size, number } => {
                for (i, pixel) in pixels.iter_mut().enumerate() {
                    let (x, y) = (i % size.width + *number, i / size.width);
                    *pixel = ((x * x / 3 + 7 * y + x * y / 5) % 251) as u8;
                }
                *number += 1;
                Ok(true)
            }
            Self::Video { chroma, file, .. } => {
                let Some(header) = line(file)? else { return Ok(false) };
                if !header.starts_with("FRAME") {
                    bail!("a frame begins with {header:?}");
                }
                file.read_exact(pixels).context("the last frame is cut off")?;
                let skipped = std::io::copy(&mut file.take(*chroma), &mut std::io::sink())?;
                if skipped < *chroma {
                    bail!("the last frame is cut off");
                }
                Ok(true)
            }
        }
    }
}

/// A line of text; `None` at the end of the file.
fn line(file: &mut BufReader<File>) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    file.take(HEADER).read_until(b'\n', &mut bytes)?;
    match bytes.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(String::from_utf8(bytes)?)),
        Some(_) => bail!("a header of more than {HEADER} bytes, or cut off"),
    }
}
