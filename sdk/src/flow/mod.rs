//! Input → [`Transport`]: the learned flow map, carried out by an engine.
//!
//! A flow map moves an image x from time t to time s in one network evaluation, `x + (s - t) u(x, t, s)`, and
//! reports the average divergence d of the flow on the way, per pixel. Everything else (likelihood, sampling)
//! is a [`Schedule`] of such moves. `log_det = Σ (s - t) Σ_pixels d = ∫ div v dτ` along the schedule.

mod engine;
#[cfg(feature = "gpu")]
#[doc(hidden)]
pub mod gpu;
mod gpu_options;
mod inversion;
mod native;
#[doc(hidden)]
pub mod plan;
mod rounding;
mod schedule;
pub(crate) mod starts;
mod threads;
mod tract;

use std::time::Duration;

use crate::error::{Error, Result};
use crate::preprocess::{Pixels, Shape};

pub(crate) use engine::open;
pub use engine::{Engine, EngineChoice, EngineReport, adapters, memory_plan};
pub use gpu_options::{Adapter, GpuOptions, OnLoss, Power, Precision};
pub use schedule::{Clock, MAX_STEPS, Schedule};
pub use starts::Starts;
pub use threads::{Threads, Work};
pub(crate) use tract::DivergenceGradient;

/// Images at one time of the flow, [N, C, H, W] in model range.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    shape: Shape,
    values: Vec<f32>,
}

impl Batch {
    /// A batch of as many images of `shape` as `values` holds.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if the length is no multiple of the shape's, [`Error::NonFinite`] for NaN or infinity.
    pub fn new(shape: Shape, values: Vec<f32>) -> Result<Self> {
        if shape.is_empty() || !values.len().is_multiple_of(shape.len()) {
            let need = format!("a multiple of {} values", shape.len());
            return Err(Error::option("batch length", values.len(), need));
        }
        if values.iter().any(|v| !v.is_finite()) {
            return Err(Error::NonFinite { what: "flow input" });
        }
        Ok(Self { shape, values })
    }

    /// Shape of one image.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// All values, [N, C, H, W].
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The images one by one, [C, H, W] each.
    pub fn images(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.shape.len())
    }
}

/// What one step of one image's transport did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepStatistics {
    /// Root mean square of the average velocity.
    pub speed: f64,
    /// Log-determinant of this step, nats.
    pub log_det: f64,
}

/// One image carried along a schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Transported {
    /// The image at the last time of the schedule, [C, H, W].
    pub state: Vec<f32>,
    /// `∫ div v dτ` along the schedule, nats, summed in f64.
    pub log_det: f64,
    /// Its share per pixel, [H, W]; `None` if the model's divergence head is scalar.
    pub log_det_map: Option<Vec<f32>>,
    /// One entry per step.
    pub steps: Vec<StepStatistics>,
}

/// A batch carried along a schedule; a single image that fails does not fail the others.
pub type Transport = Vec<Result<Transported>>;

/// Time that one kernel took.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelTime {
    /// The kernel, its sizes, and how it is computed.
    pub kernel: String,
    /// Wall-clock time.
    pub time: Duration,
    /// Multiplications, as the definition counts them.
    pub multiplications: usize,
}

/// Memory that an engine needs, in bytes; beside the model, which keeps what its file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights, shared by all threads of a detector or sampler; while they are packed, the file's are there as well.
    pub weights: usize,
    /// Intermediate results of one evaluation at a time, on one thread.
    pub session: usize,
}

/// A loaded network on some engine. Shared between threads; no lock is held during an evaluation.
pub trait FlowMap: Send + Sync {
    /// Which engine this is and why it was chosen.
    fn report(&self) -> &EngineReport;

    /// The same with what has happened since: a device that was lost, another engine that has taken over.
    fn latest_report(&self) -> EngineReport {
        self.report().clone()
    }

    /// Carries every image of `batch` along `schedule`. Results do not depend on the composition of the batch.
    fn transport(&self, batch: &Batch, schedule: &Schedule) -> Transport;

    /// Carries several batches, each along its own schedule; the results are those of [`FlowMap::transport`].
    fn transport_all(&self, legs: &[(&Batch, &Schedule)]) -> Vec<Transport> {
        legs.iter().map(|(batch, schedule)| self.transport(batch, schedule)).collect()
    }

    /// Carries 8-bit images from every noise floor; one result per floor, each that of [`FlowMap::transport`].
    ///
    /// # Errors
    /// [`Error::NonFinite`] if a start is not finite.
    fn transport_pixels(&self, images: &[&Pixels], starts: &Starts) -> Result<Vec<Transport>> {
        let batches = starts.batches(images)?;
        let legs: Vec<(&Batch, &Schedule)> = batches.iter().zip(starts.schedules()).collect();
        Ok(self.transport_all(&legs))
    }

    /// Time of every kernel in one evaluation of `batch`, the first step of `schedule`; empty if the engine cannot say.
    ///
    /// # Errors
    /// The engine's.
    fn profile(&self, _batch: &Batch, _schedule: &Schedule) -> Result<Vec<KernelTime>> {
        Ok(vec![])
    }

    /// Memory for evaluations of `images` images at a time; `None` if the engine cannot say.
    fn memory_plan(&self, _images: usize) -> Option<MemoryPlan> {
        None
    }
}
