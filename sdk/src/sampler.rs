//! [`Sampler`]: images from noise.

use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};
use crate::flow::{
    self, Batch, DivergenceGradient, EngineChoice, FlowMap, GpuOptions, Schedule, Threads,
};
use crate::likelihood::guided;
use crate::model::Model;
use crate::preprocess::{Pixels, Preprocess, Shape, noise};

/// Images that are drawn at the same time: bounds the memory of any number of samples.
const CHUNK: u32 = 64;

/// Draws images from a model that was trained in the sampling direction.
pub struct Sampler {
    model: Arc<Model>,
    flow: Arc<dyn FlowMap>,
    threads: Threads,
    /// Loaded when the first guided sample is drawn.
    gradient: OnceLock<DivergenceGradient>,
}

impl Sampler {
    /// Puts `model` on an engine with `threads` threads (0: one per core).
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if the model was not trained to sample; the engine's errors.
    pub fn new(model: Arc<Model>, engine: EngineChoice, threads: usize) -> Result<Self> {
        Self::with_gpu(model, engine, threads, &GpuOptions::default())
    }

    /// As [`Sampler::new`], with options for the GPU.
    ///
    /// # Errors
    /// Those of [`Sampler::new`].
    pub fn with_gpu(
        model: Arc<Model>,
        engine: EngineChoice,
        threads: usize,
        gpu: &GpuOptions,
    ) -> Result<Self> {
        Self::on(model, engine, &Threads::shared(threads)?, gpu)
    }

    /// As [`Sampler::new`], on threads that others may use as well.
    ///
    /// # Errors
    /// Those of [`Sampler::new`].
    pub fn on(
        model: Arc<Model>,
        engine: EngineChoice,
        threads: &Threads,
        gpu: &GpuOptions,
    ) -> Result<Self> {
        if !model.manifest().directions.sampling {
            return Err(Error::option("model direction", "scoring only", "a model that samples"));
        }
        let flow = flow::open(Arc::clone(&model), engine, threads, gpu, true)?;
        Ok(Self { model, flow, threads: threads.clone(), gradient: OnceLock::new() })
    }

    /// `n` images in `steps` network evaluations each; image i depends on `seed` and i only.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for no steps; the engine's errors.
    pub fn draw(&self, n: usize, steps: usize, seed: u64) -> Result<Vec<Pixels>> {
        self.images(n, steps, seed, Ok)
    }

    /// As [`Sampler::draw`], after one step of Adam of size `learning_rate` on the noise, towards a likelier image:
    /// one evaluation of the gradient more per image, on the CPU. Rates of 0.01 to 0.1 are usual.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] also for a rate that is not finite and above 0, and for a model without the output
    /// `grad_d` ([`ModelInfo::guides`](crate::ModelInfo::guides)); [`Error::SelfTest`] if its gradient is not what the
    /// file says.
    pub fn draw_guided(
        &self,
        n: usize,
        steps: usize,
        seed: u64,
        learning_rate: f64,
    ) -> Result<Vec<Pixels>> {
        if !(learning_rate.is_finite() && learning_rate > 0.0) {
            return Err(Error::option("learning rate", learning_rate, "a finite number above 0"));
        }
        let gradient = self.gradient()?;
        self.images(n, steps, seed, |noise| {
            let slopes = gradient.evaluate(&noise, 0.0, 1.0)?;
            let moved = noise.images().zip(&slopes).flat_map(|(x, g)| guided(x, g, learning_rate));
            Batch::new(noise.shape(), moved.collect())
        })
    }

    fn gradient(&self) -> Result<&DivergenceGradient> {
        if let Some(loaded) = self.gradient.get() {
            return Ok(loaded);
        }
        let loaded = DivergenceGradient::new(&self.model, self.threads.clone())?;
        Ok(self.gradient.get_or_init(|| loaded))
    }

    /// The images that `moved` noise becomes.
    fn images(
        &self,
        n: usize,
        steps: usize,
        seed: u64,
        moved: impl Fn(Batch) -> Result<Batch>,
    ) -> Result<Vec<Pixels>> {
        let manifest = self.model.manifest();
        let shape = manifest.preprocess.shape;
        let schedule: Schedule = manifest.scoring_schedule(steps, 1.0)?.reversed();
        let streams = u32::try_from(n).map_err(|_| Error::option("samples", n, "at most 2^32"))?;
        let mut images = Vec::new();
        for first in (0..streams).step_by(CHUNK as usize) {
            let chunk = first..streams.min(first.saturating_add(CHUNK));
            let noise =
                chunk.flat_map(|i| noise::normal(seed, noise::SAMPLE.wrapping_add(i), shape.len()));
            let batch = moved(Batch::new(shape, noise.collect())?)?;
            for result in self.flow.transport(&batch, &schedule) {
                images.push(to_pixels(&result?.state, &manifest.preprocess));
            }
        }
        Ok(images)
    }
}

/// The 8-bit image whose bins the values [C, H, W] fall into: the inverse of `(k + u) * scale + offset`.
fn to_pixels(state: &[f32], preprocess: &Preprocess) -> Pixels {
    let Shape { channels, height, width } = preprocess.shape;
    let bin = |v: f32| (f64::from(v) - preprocess.offset) / preprocess.scale;
    let at = |i: usize| state[i % channels * height * width + i / channels];
    let data = (0..state.len()).map(|i| bin(at(i)).floor().clamp(0.0, 255.0) as u8).collect();
    Pixels { channels, height, width, data }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::{Dequantization, ResizeFilter};

    #[test]
    fn pixels_invert_the_preprocessing() {
        let preprocess = Preprocess {
            shape: Shape { channels: 3, height: 2, width: 5 },
            resize: ResizeFilter::Box,
            dequantization: Dequantization::Uniform { seed: 1 },
            scale: 1.0 / 128.0,
            offset: -1.0,
        };
        let data = (0..30).map(|i| (i * 8) as u8).collect();
        let pixels = Pixels { channels: 3, height: 2, width: 5, data };
        let input = preprocess.dequantize(pixels.clone());
        assert_eq!(to_pixels(&input.values, &preprocess), pixels);
    }
}
