//! An engine that serves while another one gets ready.

use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use crate::error::Result;
use crate::flow::{
    Batch, EngineReport, FlowMap, KernelTime, MemoryPlan, Schedule, Starts, Transport,
};
use crate::preprocess::Pixels;

/// `now` serves until `later` is there.
pub(in crate::flow) struct Background {
    now: Arc<dyn FlowMap>,
    waiting: EngineReport,
    later: Arc<OnceLock<Outcome>>,
    thread: Option<JoinHandle<()>>,
}

type Outcome = std::result::Result<Arc<dyn FlowMap>, EngineReport>;

impl Background {
    /// `make` runs on a thread of its own; if it fails, `now` serves on and its report says why.
    pub(in crate::flow) fn new(
        now: Arc<dyn FlowMap>,
        make: impl FnOnce() -> Result<Arc<dyn FlowMap>> + Send + 'static,
    ) -> Self {
        let report = now.report().clone();
        let with = |reason: String| EngineReport { reason, ..report.clone() };
        let waiting = with(format!("until the GPU is ready: {}", report.reason));
        let later: Arc<OnceLock<Outcome>> = Arc::default();
        let (slot, fallback) = (Arc::clone(&later), report.clone());
        let thread = std::thread::Builder::new().name("f2d2-gpu".into()).spawn(move || {
            let outcome = make().map_err(|error| EngineReport {
                reason: format!("{error}; instead: {}", fallback.reason),
                ..fallback
            });
            // Only this thread sets it.
            let _ = slot.set(outcome);
        });
        let thread = thread.map_err(|error| {
            let _ = later.set(Err(with(format!("no thread for the GPU: {error}"))));
        });
        Self { now, waiting, later, thread: thread.ok() }
    }

    fn serving(&self) -> &dyn FlowMap {
        match self.later.get() {
            Some(Ok(flow)) => &**flow,
            _ => &*self.now,
        }
    }
}

impl Drop for Background {
    /// Waits: a process that ends while a driver compiles ends in a crash of the driver.
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Whatever it panicked with, nobody waits for it any more.
            let _ = thread.join();
        }
    }
}

impl FlowMap for Background {
    fn report(&self) -> &EngineReport {
        match self.later.get() {
            Some(Ok(flow)) => flow.report(),
            Some(Err(report)) => report,
            None => &self.waiting,
        }
    }

    fn latest_report(&self) -> EngineReport {
        match self.later.get() {
            Some(Ok(flow)) => flow.latest_report(),
            _ => self.report().clone(),
        }
    }

    fn transport(&self, batch: &Batch, schedule: &Schedule) -> Transport {
        self.serving().transport(batch, schedule)
    }

    fn transport_all(&self, legs: &[(&Batch, &Schedule)]) -> Vec<Transport> {
        self.serving().transport_all(legs)
    }

    fn profile(&self, batch: &Batch, schedule: &Schedule) -> Result<Vec<KernelTime>> {
        self.serving().profile(batch, schedule)
    }

    fn memory_plan(&self, images: usize) -> Option<MemoryPlan> {
        self.serving().memory_plan(images)
    }

    fn transport_pixels(&self, images: &[&Pixels], starts: &Starts) -> Result<Vec<Transport>> {
        self.serving().transport_pixels(images, starts)
    }
}
