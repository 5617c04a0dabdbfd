//! [`Sampler`]: images from noise.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::flow::{self, Batch, EngineChoice, FlowMap, Schedule};
use crate::model::Model;
use crate::preprocess::{Pixels, noise};

/// Draws images from a model that was trained in the sampling direction.
pub struct Sampler {
    model: Arc<Model>,
    flow: Arc<dyn FlowMap>,
}

impl Sampler {
    /// Puts `model` on an engine with `threads` threads (0: one per core).
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if the model was not trained to sample; the engine's errors.
    pub fn new(model: Arc<Model>, engine: EngineChoice, threads: usize) -> Result<Self> {
        if !model.manifest().directions.sampling {
            return Err(Error::option("model direction", "scoring only", "a model that samples"));
        }
        let flow = flow::open(&model, engine, &flow::thread_pool(threads)?)?;
        Ok(Self { model, flow })
    }

    /// `n` images in `steps` network evaluations each; image i depends on `seed` and i only.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for no steps; the engine's errors.
    pub fn draw(&self, n: usize, steps: usize, seed: u64) -> Result<Vec<Pixels>> {
        let manifest = self.model.manifest();
        let shape = manifest.preprocess.shape;
        let schedule: Schedule = manifest.scoring_schedule(steps, 1.0)?.reversed();
        let streams = u32::try_from(n).map_err(|_| Error::option("samples", n, "at most 2^32"))?;
        let values = (0..streams)
            .flat_map(|i| noise::normal(seed, noise::SAMPLE.wrapping_add(i), shape.len()))
            .collect();
        let batch = Batch::new(shape, values)?;
        let (scale, offset) = (manifest.preprocess.scale, manifest.preprocess.offset);
        // The inverse of (k + u) * scale + offset: the bin that a value falls into.
        let pixel = |v: f32| ((f64::from(v) - offset) / scale).floor().clamp(0.0, 255.0) as u8;
        let interleave = |state: Vec<f32>| {
            let plane = shape.pixels();
            let at = |i: usize| pixel(state[i % shape.channels * plane + i / shape.channels]);
            let data = (0..shape.len()).map(at).collect();
            Pixels { channels: shape.channels, height: shape.height, width: shape.width, data }
        };
        let results = self.flow.transport(&batch, &schedule);
        results.into_iter().map(|r| r.map(|t| interleave(t.state))).collect()
    }
}
