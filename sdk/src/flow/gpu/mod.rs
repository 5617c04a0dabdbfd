//! The GPU engine: all steps of a flow map in one submission, on any vendor's GPU, through wgpu.
//!
//! ```text
//! Plan ─check─► Layout ─kernels─► Dispatches ─pipelines─► Network ─workspace─► runs
//! ```
//!
//! Sums have a fixed order and there are no atomics on floating point: results are equal bit by bit from run to run,
//! whatever the batch. A lost device is opened anew, a bounded number of times, one that hangs is not; then the
//! caller's choice applies.

mod adapter;
mod background;
mod cache;
mod device;
mod failure;
mod fault;
mod formulas;
mod generate;
mod kernels;
mod layout;
mod matrices;
mod network;
mod opening;
mod pace;
mod params;
mod pipelines;
mod probe;
mod profile;
mod report;
mod shader;
mod spirv;
mod update;
mod upload;
mod workspace;

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};

use self::device::lock;
use self::failure::Failure;
use self::network::{Carried, LEGS, Network};
use self::opening::Opening;
use self::pace::BUCKETS;
use self::report::Reports;
use self::upload::Images;
use super::plan::Plan;
use super::{
    Batch, EngineReport, FlowMap, GpuOptions, KernelTime, MemoryPlan, OnLoss, Schedule, Starts,
    StepStatistics, Transport, Transported,
};
use crate::error::{Error, Result};
use crate::model::ModelInfo;
use crate::preprocess::{Pixels, Shape};

pub(crate) use adapter::list;
pub(super) use background::Background;
pub use fault::{Point, left_at, lose_device_at};
pub use matrices::Matrices;
pub use probe::{Probe, Stepped, Usage, matrix_modules, plan, shader_texts, usage};

/// A network on a GPU.
pub(super) struct GpuFlow {
    opening: Opening,
    /// Whether networks are held against the golden vectors after a loss.
    self_test: bool,
    network: Mutex<Arc<Network>>,
    /// Who takes over after a loss.
    cpu: Option<Arc<dyn FlowMap>>,
    /// Why it is a GPU.
    asked: &'static str,
    reports: Reports,
    /// Why the device is not asked again.
    hung: OnceLock<String>,
}

impl GpuFlow {
    /// Puts `model`, whose graph is `plan`, on the GPU that `options` ask for. `cpu` takes over after a loss, if
    /// that is what the options say. `software` says whether a driver that computes on the CPU may be named,
    /// `self_test` whether the network is held against the golden vectors whenever nobody else can do it.
    pub(super) fn new(
        model: &ModelInfo,
        plan: Arc<Plan>,
        options: &GpuOptions,
        cpu: Option<Arc<dyn FlowMap>>,
        software: bool,
        self_test: bool,
        asked: &'static str,
    ) -> Result<Self> {
        let mut opening = Opening::new(model, plan, options, software)?;
        // In the background nobody sees it before it serves.
        let network = opening.first(self_test && options.background)?;
        Ok(Self {
            self_test,
            reports: Reports::new(asked, &opening, &network),
            opening,
            network: Mutex::new(network),
            cpu: cpu.filter(|_| options.on_loss == OnLoss::Cpu),
            asked,
            hung: OnceLock::new(),
        })
    }

    /// The network, loaded anew if its device is lost.
    fn network(&self) -> std::result::Result<Arc<Network>, Failure> {
        let mut network = lock(&self.network);
        match network.device.check() {
            Err(Failure::Lost(why)) => {
                *network = self.opening.again(&why, self.self_test)?;
                self.reports.reopened(self.asked, &self.opening, &network, &why);
            }
            well => well?,
        }
        Ok(Arc::clone(&network))
    }

    /// Everything once, without regard to what may be lost.
    fn attempt(
        &self,
        legs: &[(&Batch, &Schedule)],
    ) -> std::result::Result<Vec<Transport>, Failure> {
        let network = self.network()?;
        let pairs: Vec<Vec<(f64, f64)>> = legs.iter().map(|leg| leg.1.pairs().collect()).collect();
        let images: Vec<Vec<&[f32]>> = legs.iter().map(|leg| leg.0.images().collect()).collect();
        let alike = legs.len() <= LEGS
            && images.iter().all(|i| i.len() == images[0].len())
            && pairs.iter().all(|p| p.len() == pairs[0].len());
        if alike && !legs.is_empty() {
            return self.side_by_side(&network, &images, &pairs);
        }
        let mut all = Vec::with_capacity(legs.len());
        for (images, pairs) in images.iter().zip(&pairs) {
            let (images, pairs) = (std::slice::from_ref(images), std::slice::from_ref(pairs));
            all.extend(self.side_by_side(&network, images, pairs)?);
        }
        Ok(all)
    }

    /// Legs of equal numbers of images and steps: the same images of all legs go together.
    fn side_by_side(
        &self,
        network: &Network,
        images: &[Vec<&[f32]>],
        pairs: &[Vec<(f64, f64)>],
    ) -> std::result::Result<Vec<Transport>, Failure> {
        let count = images[0].len();
        let mut all = self.in_parts(network, count, pairs, |part| {
            let together: Vec<&[f32]> =
                images.iter().flat_map(|leg| leg[part.clone()].iter().copied()).collect();
            network.run(Images::Values(&together), pairs, &self.opening.options)
        })?;
        let done = all[0].len();
        if done < count {
            // Not even one image of every leg at a time.
            for (leg, transport) in all.iter_mut().enumerate() {
                let (images, pairs) = ([images[leg][done..].to_vec()], [pairs[leg].clone()]);
                let rest = self.side_by_side(network, &images, &pairs)?;
                transport.extend(rest.into_iter().flatten());
            }
        }
        Ok(all)
    }

    /// 8-bit images from all their starts; `None` where they have to come as values.
    fn attempt_pixels(
        &self,
        images: &[&Pixels],
        starts: &Starts,
    ) -> std::result::Result<Option<Vec<Transport>>, Failure> {
        let network = self.network()?;
        let pairs: Vec<Vec<(f64, f64)>> =
            starts.schedules().iter().map(|schedule| schedule.pairs().collect()).collect();
        let shape = self.opening.preprocess.shape;
        let whole = images.iter().all(|image| image.data.len() == shape.len());
        let alike = pairs.len() == starts.noise_floors().len()
            && (1..=LEGS).contains(&pairs.len())
            && pairs.iter().all(|p| p.len() == pairs[0].len());
        if !whole
            || !alike
            || network.upload.is_none()
            || *starts.preprocess() != self.opening.preprocess
        {
            return Ok(None);
        }
        let all = self.in_parts(&network, images.len(), &pairs, |part| {
            network.run(Images::Pixels(&images[part], starts), &pairs, &self.opening.options)
        })?;
        Ok((all[0].len() == images.len()).then_some(all))
    }

    /// Calls `run` for as many of `count` images at a time as there is room and time for, and sorts its results by
    /// legs. Ends early where there is no room for one image of every leg.
    fn in_parts(
        &self,
        network: &Network,
        count: usize,
        pairs: &[Vec<(f64, f64)>],
        run: impl Fn(Range<usize>) -> std::result::Result<Vec<Carried>, Failure>,
    ) -> std::result::Result<Vec<Transport>, Failure> {
        let legs = pairs.len();
        let mut all: Vec<Transport> = pairs.iter().map(|_| Vec::with_capacity(count)).collect();
        let mut start = 0;
        while start < count {
            let wanted = (count - start) * legs;
            let size = BUCKETS[network.pace.bucket(wanted, self.opening.options.submission)];
            let size = size.min(network.most.load(Ordering::Relaxed));
            if size < legs {
                break;
            }
            let end = count.min(start + size / legs);
            let carried = match run(start..end) {
                Err(Failure::Memory { .. }) if size > 1 => {
                    let smaller = BUCKETS.iter().rev().find(|&&b| b < size).copied();
                    network.most.store(smaller.unwrap_or(1), Ordering::Relaxed);
                    continue;
                }
                carried => carried?,
            };
            for (i, carried) in carried.into_iter().enumerate() {
                let leg = i / (end - start);
                all[leg].push(transported(carried, &pairs[leg], self.opening.preprocess.shape));
            }
            start = end;
        }
        Ok(all)
    }

    /// What `attempt` gives, tried again after a loss; then what `cpu` gives, if it is to take over.
    fn through_losses<T>(
        &self,
        attempt: impl Fn() -> std::result::Result<T, Failure>,
        cpu: impl FnOnce(&dyn FlowMap) -> T,
    ) -> std::result::Result<T, Failure> {
        let failure = match self.tries(attempt) {
            Ok(all) => return Ok(all),
            Err(failure) => failure,
        };
        match (&self.cpu, failure) {
            (Some(engine), failure @ (Failure::Lost(_) | Failure::Hung(_))) => {
                if !self.reports.is_replaced() {
                    let why = Error::from(failure).to_string();
                    self.reports.replaced(engine.latest_report(), &why);
                }
                Ok(cpu(&**engine))
            }
            (_, failure) => Err(failure),
        }
    }

    /// What `attempt` gives; after a loss it is tried again, but never on an adapter that does not answer.
    fn tries<T>(
        &self,
        attempt: impl Fn() -> std::result::Result<T, Failure>,
    ) -> std::result::Result<T, Failure> {
        if let Some(why) = self.hung.get() {
            return Err(Failure::Hung(why.clone()));
        }
        let mut last = String::new();
        // Whoever has taken over stays.
        let tries = if self.reports.is_replaced() {
            0
        } else {
            self.opening.options.retries.saturating_add(1)
        };
        for _ in 0..tries {
            match attempt() {
                Err(Failure::Lost(why)) => last = why,
                Err(Failure::Hung(why)) => {
                    return Err(Failure::Hung(self.hung.get_or_init(|| why).clone()));
                }
                done => return done,
            }
        }
        Err(Failure::Lost(last))
    }
}

/// Sums in f64, as the engines on the CPU have them.
fn transported(carried: Carried, pairs: &[(f64, f64)], shape: Shape) -> Result<Transported> {
    let Carried { state, map, steps } = carried;
    let mut log_det = 0.0;
    let steps = steps.iter().zip(pairs).map(|(&(squares, divergence), (t, s))| {
        let step = (s - t) * divergence;
        log_det += step;
        StepStatistics { speed: (squares / shape.len() as f64).sqrt(), log_det: step }
    });
    let steps = steps.collect();
    if !log_det.is_finite() || state.iter().chain(&map).any(|v| !v.is_finite()) {
        return Err(Error::NonFinite { what: "result of the flow" });
    }
    let log_det_map = (!map.is_empty()).then_some(map);
    Ok(Transported { state, log_det, log_det_map, steps })
}

impl FlowMap for GpuFlow {
    fn report(&self) -> &EngineReport {
        self.reports.opened()
    }

    fn latest_report(&self) -> EngineReport {
        self.reports.latest()
    }

    fn transport(&self, batch: &Batch, schedule: &Schedule) -> Transport {
        self.transport_all(&[(batch, schedule)]).pop().unwrap_or_default()
    }

    fn transport_all(&self, legs: &[(&Batch, &Schedule)]) -> Vec<Transport> {
        let done = self.through_losses(|| self.attempt(legs), |cpu| cpu.transport_all(legs));
        let failed = |failure: &Failure, leg: &(&Batch, &Schedule)| -> Transport {
            leg.0.images().map(|_| Err(failure.clone().into())).collect()
        };
        done.unwrap_or_else(|failure| legs.iter().map(|leg| failed(&failure, leg)).collect())
    }

    fn profile(&self, batch: &Batch, schedule: &Schedule) -> Result<Vec<KernelTime>> {
        let images: Vec<&[f32]> = batch.images().collect();
        let pair = schedule
            .pairs()
            .next()
            .ok_or_else(|| Error::from(Failure::Unable("a schedule without steps".into())))?;
        Ok(profile::profile(&*self.network()?, &images, pair, &self.opening.options)?)
    }

    fn memory_plan(&self, images: usize) -> Option<MemoryPlan> {
        let network = self.network().ok()?;
        let images =
            BUCKETS.into_iter().find(|&b| b >= images).unwrap_or(BUCKETS[BUCKETS.len() - 1]);
        let session = network.layout.bytes_per_image() * images;
        Some(MemoryPlan { weights: network.weight_bytes, session })
    }

    fn transport_pixels(&self, images: &[&Pixels], starts: &Starts) -> Result<Vec<Transport>> {
        let attempt = || self.attempt_pixels(images, starts).map(|all| all.map(Ok));
        let done = self.through_losses(attempt, |cpu| Some(cpu.transport_pixels(images, starts)));
        match done {
            Ok(Some(all)) => all,
            Ok(None) => {
                let batches = starts.batches(images)?;
                let legs: Vec<_> = batches.iter().zip(starts.schedules()).collect();
                Ok(self.transport_all(&legs))
            }
            Err(failure) => {
                let failed = || images.iter().map(|_| Err(failure.clone().into())).collect();
                Ok(starts.noise_floors().iter().map(|_| failed()).collect())
            }
        }
    }
}
