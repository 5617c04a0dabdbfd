//! The output `grad_d` = ∂(Σ d)/∂x, which guided sampling asks for once per image, whatever engine transports.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::{load, unexpected};
use crate::error::{Error, Result};
use crate::flow::{Batch, Engine, Threads};
use crate::model::Model;
use crate::preprocess::Shape;

/// The gradient of the divergence of a model's flow map, loaded by tract.
pub(crate) struct DivergenceGradient {
    plan: Arc<TypedRunnableModel>,
    threads: Threads,
    shape: Shape,
}

impl DivergenceGradient {
    /// Loads `model`'s gradient and holds it against the golden vector in the file.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if the model has none, [`Error::ModelCorrupt`] if tract rejects the graph,
    /// [`Error::SelfTest`] if it computes something else than the file says.
    pub(crate) fn new(model: &Model, threads: Threads) -> Result<Self> {
        let manifest = model.manifest();
        let (Some(graph), Some(golden)) =
            (model.graph().gradient_proto(), &manifest.golden_gradient)
        else {
            return Err(Error::option("model outputs", "u and d", "grad_d too for guided samples"));
        };
        let shape = manifest.preprocess.shape;
        let plan = load::plan(model, &graph, &["grad_d"])?;
        let gradient = Self { plan, threads, shape };
        let found = gradient.of_one(&golden.input(shape), 0.0, 1.0)?;
        golden.compare(&found, &Engine::Tract.to_string())?;
        Ok(gradient)
    }

    /// `grad_d` at time `t` of the map to `s`, [C, H, W] for each image; images do not depend on each other.
    ///
    /// # Errors
    /// [`Error::NonFinite`] if a value is NaN or infinite; the engine's errors.
    pub(crate) fn evaluate(&self, batch: &Batch, t: f64, s: f64) -> Result<Vec<Vec<f32>>> {
        let images: Vec<&[f32]> = batch.images().collect();
        self.threads.map(images, |x| self.of_one(x, t, s)).into_iter().collect()
    }

    fn of_one(&self, x: &[f32], t: f64, s: f64) -> Result<Vec<f32>> {
        let mut outputs = load::run(&self.plan, self.shape, x, [t, s])?;
        let sizes: Vec<usize> = outputs.iter().map(Vec::len).collect();
        let gradient = outputs.pop().unwrap_or_default();
        if sizes != [self.shape.len()] {
            return Err(unexpected(&sizes));
        }
        if gradient.iter().any(|v| !v.is_finite()) {
            return Err(Error::NonFinite { what: "gradient of the divergence" });
        }
        Ok(gradient)
    }
}
