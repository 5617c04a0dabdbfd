//! The reference engine: any model that tract can run, on the CPU in f32.
//!
//! tract is fastest when it sees one image per evaluation at a fixed shape; a batch is spread over threads, one image
//! each, and no lock is held across an evaluation.

mod gradient;
mod load;

pub(crate) use gradient::DivergenceGradient;
pub(super) use load::without_panic;

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::{
    Batch, Engine, EngineReport, FlowMap, Schedule, StepStatistics, Threads, Transport,
    Transported, rounding,
};
use crate::error::{Error, Result};
use crate::model::{Head, Model};
use crate::preprocess::Shape;

/// A network loaded by tract.
pub(super) struct TractFlow {
    plan: Arc<TypedRunnableModel>,
    threads: Threads,
    shape: Shape,
    head: Head,
    report: EngineReport,
}

impl TractFlow {
    pub(super) fn new(model: &Model, threads: Threads, reason: &str) -> Result<Self> {
        let report = EngineReport {
            engine: Engine::Tract,
            precision: "f32",
            threads: threads.count(),
            reason: reason.into(),
        };
        let manifest = model.manifest();
        let graph = model.graph();
        let plan = load::plan(model, &graph.complete(graph.proto().clone()), &["u", "d"])?;
        Ok(Self { plan, threads, shape: manifest.preprocess.shape, head: manifest.head, report })
    }

    fn transport_one(&self, image: &[f32], schedule: &Schedule) -> Result<Transported> {
        let mut state = image.to_vec();
        let mut log_det = 0.0;
        let mut map = (self.head == Head::PerPixel).then(|| vec![0f64; self.shape.pixels()]);
        let mut steps = Vec::with_capacity(schedule.steps());
        for (t, s) in schedule.pairs() {
            let span = s - t;
            let (velocity, divergence) = self.evaluate(&state, t, s)?;
            let mut square = 0.0;
            for (x, &u) in state.iter_mut().zip(&velocity) {
                *x += (span * f64::from(u)) as f32;
                square += f64::from(u) * f64::from(u);
            }
            let mut step_log_det = 0.0;
            for (i, &d) in divergence.iter().enumerate() {
                let term = span * f64::from(d);
                step_log_det += term;
                if let Some(map) = &mut map {
                    map[i] += term;
                }
            }
            log_det += step_log_det;
            let speed = (square / state.len() as f64).sqrt();
            steps.push(StepStatistics { speed, log_det: step_log_det });
        }
        if !log_det.is_finite() || state.iter().any(|v| !v.is_finite()) {
            return Err(Error::NonFinite { what: "result of the flow" });
        }
        let log_det_map = map.map(|m| m.into_iter().map(|v| v as f32).collect());
        Ok(Transported { state, log_det, log_det_map, steps })
    }

    /// One network evaluation: average velocity [C, H, W], and divergence [H, W] or [1].
    fn evaluate(&self, x: &[f32], t: f64, s: f64) -> Result<(Vec<f32>, Vec<f32>)> {
        let outputs = load::run(&self.plan, self.shape, x, [t, s])?;
        let sizes: Vec<usize> = outputs.iter().map(Vec::len).collect();
        let need = if self.head == Head::PerPixel { self.shape.pixels() } else { 1 };
        match <[_; 2]>::try_from(outputs) {
            Ok([u, d]) if sizes == [self.shape.len(), need] => Ok((u, d)),
            _ => Err(unexpected(&sizes)),
        }
    }
}

/// The error of outputs that have other sizes than the file declares.
fn unexpected(sizes: &[usize]) -> Error {
    Engine::Tract.failed(format!("it returned outputs of {sizes:?} values"))
}

impl FlowMap for TractFlow {
    fn report(&self) -> &EngineReport {
        &self.report
    }

    fn transport(&self, batch: &Batch, schedule: &Schedule) -> Transport {
        if let Err(why) = rounding::check() {
            return batch.images().map(|_| Err(Engine::Tract.failed(why))).collect();
        }
        self.threads.map(batch.images().collect(), |image| self.transport_one(image, schedule))
    }
}
