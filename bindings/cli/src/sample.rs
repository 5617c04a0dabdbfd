//! `f2d2 sample`: images drawn from a model, as one grid.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use f2d2::preprocess::Pixels;
use f2d2::{EngineChoice, Limits, Model, Sampler};
use image::{Rgba, RgbaImage};

use crate::Outcome;
use crate::output::{self, Terminal};
use crate::overlay;

/// The grid is enlarged by a whole number until it is at least this wide.
const MIN_WIDTH: usize = 560;

/// Draws images from a model that was trained in the sampling direction.
#[derive(Args)]
pub(crate) struct Sample {
    /// Model file
    model: PathBuf,
    /// PNG file to write
    #[arg(long, value_name = "PNG")]
    out: PathBuf,
    /// Number of images
    #[arg(short, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    n: u32,
    /// Network evaluations per image [default: the model's recommendation]
    #[arg(long, value_name = "K")]
    steps: Option<usize>,
    /// Seed of the noise that the images start from
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Step size of one step on the noise towards likelier images, as 0.03; for models with the output grad_d
    #[arg(long, value_name = "LR", value_parser = learning_rate)]
    guidance: Option<f64>,
    /// Engine that runs the network: auto, cpu, gpu or tract
    #[arg(long, value_name = "ENGINE", default_value = "auto")]
    engine: EngineChoice,
    /// Images evaluated side by side; 0 is one per core
    #[arg(long, value_name = "T", default_value_t = 0)]
    threads: usize,
}

impl Sample {
    pub(crate) fn run(self, terminal: &mut Terminal) -> Result<Outcome> {
        output::check_writable(&self.out)?;
        let model = Arc::new(Model::open(&self.model, &Limits::default())?);
        let steps = self.steps.unwrap_or(model.manifest().default_steps);
        let sampler = Sampler::new(model, self.engine, self.threads)?;
        let (n, seed) = (self.n as usize, self.seed);
        let images = match self.guidance {
            None => sampler.draw(n, steps, seed)?,
            Some(rate) => sampler.draw_guided(n, steps, seed, rate)?,
        };
        overlay::save(&grid(&images), &self.out)?;
        terminal.line(format_args!(
            "{} images in {steps} steps{}, seed {seed}, written to {}",
            images.len(),
            self.guidance.map(|rate| format!(", guidance {rate}")).unwrap_or_default(),
            self.out.display()
        ))?;
        Ok(Outcome::default())
    }
}

/// Parses a step size: finite, above 0.
fn learning_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("need a finite number above 0".into()),
    }
}

/// The images in rows, as square as possible, one pixel of transparent space between them.
fn grid(images: &[Pixels]) -> RgbaImage {
    let columns = (1..=images.len()).find(|c| c * c >= images.len()).unwrap_or(1);
    let rows = images.len().div_ceil(columns);
    let (width, height) = images.first().map_or((1, 1), |image| (image.width, image.height));
    let (wide, high) = (columns * (width + 1) - 1, rows * (height + 1) - 1);
    let factor = MIN_WIDTH.div_ceil(wide).max(1);
    RgbaImage::from_fn((wide * factor) as u32, (high * factor) as u32, |x, y| {
        let (x, y) = (x as usize / factor, y as usize / factor);
        let (column, row) = (x / (width + 1), y / (height + 1));
        let inside = (x % (width + 1), y % (height + 1));
        match images.get(row * columns + column) {
            Some(image) if inside.0 < width && inside.1 < height => colour(image, inside),
            _ => Rgba([0; 4]),
        }
    })
}

fn colour(image: &Pixels, (x, y): (usize, usize)) -> Rgba<u8> {
    let start = (y * image.width + x) * image.channels;
    match image.data.get(start..start + image.channels) {
        Some([r, g, b]) => Rgba([*r, *g, *b, 255]),
        Some([grey, ..]) => Rgba([*grey, *grey, *grey, 255]),
        _ => Rgba([0; 4]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learning_rates_are_finite_and_above_0() {
        assert_eq!(learning_rate("0.03"), Ok(0.03));
        for text in ["0", "-0.1", "nan", "inf", "1e999", "3%", ""] {
            assert!(learning_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn grid_is_enlarged_and_leaves_missing_places_empty() {
        let image = |v| Pixels { channels: 1, height: 2, width: 2, data: vec![v; 4] };
        let grid = grid(&[image(10), image(20), image(30)]);
        assert_eq!(grid.dimensions(), (560, 560));
        assert_eq!(grid.get_pixel(0, 0).0, [10, 10, 10, 255]);
        assert_eq!(grid.get_pixel(559, 0).0, [20, 20, 20, 255]);
        assert_eq!(grid.get_pixel(0, 559).0, [30, 30, 30, 255]);
        assert_eq!(grid.get_pixel(559, 559).0[3], 0);
        assert_eq!(grid.get_pixel(2 * 112, 0).0[3], 0);
    }
}
