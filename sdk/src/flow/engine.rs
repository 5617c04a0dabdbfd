//! Which engine runs the network; the choice is reported with its reason, never silent.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

#[cfg(feature = "gpu")]
use super::OnLoss;
#[cfg(feature = "gpu")]
use super::gpu::{Background, GpuFlow};
use super::native::NativeFlow;
use super::{Adapter, FlowMap, GpuOptions, inversion, plan, tract};
use crate::error::{Error, Result};
use crate::model::Model;

/// What the caller asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// The fastest engine that works here.
    #[default]
    Auto,
    /// The fastest engine on the CPU.
    Cpu,
    /// The GPU, or an error.
    Gpu,
    /// tract, the reference engine.
    Tract,
}

/// An engine that runs networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Engine {
    /// This library's own kernels on the CPU.
    Cpu,
    /// tract on the CPU.
    Tract,
    /// The GPU.
    Gpu,
}

/// Which engine was chosen, how it computes, and why it was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineReport {
    /// The engine.
    pub engine: Engine,
    /// Number format of the convolutions.
    pub precision: &'static str,
    /// Threads that evaluate images side by side.
    pub threads: usize,
    /// Why this engine.
    pub reason: String,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Tract => "tract",
            Self::Gpu => "gpu",
        })
    }
}

impl FromStr for EngineChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            "tract" => Ok(Self::Tract),
            _ => Err(Error::option("engine", name, "auto, cpu, gpu or tract")),
        }
    }
}

/// Loads `model` on the chosen engine, which spreads batches over `pool` if it runs on the CPU.
///
/// # Errors
/// [`Error::EngineUnavailable`] if the choice cannot be met, [`Error::ModelCorrupt`] if the engine rejects the graph.
pub(crate) fn open(
    model: &Arc<Model>,
    choice: EngineChoice,
    pool: &Arc<rayon::ThreadPool>,
    options: &GpuOptions,
) -> Result<Arc<dyn FlowMap>> {
    let flow = match choice {
        EngineChoice::Auto => gpu(model, pool, options, false).or_else(|error| {
            let why = match error {
                Error::EngineUnavailable { why, .. } => why,
                error => error.to_string(),
            };
            cpu(model, pool, &format!("auto, no GPU ({why})"))
        }),
        EngineChoice::Cpu => cpu(model, pool, "asked for"),
        EngineChoice::Tract => on_tract(model, pool, "asked for"),
        EngineChoice::Gpu => gpu(model, pool, options, true),
    };
    Ok(inversion::for_scoring(model, flow?))
}

fn on_tract(model: &Model, pool: &Arc<rayon::ThreadPool>, why: &str) -> Result<Arc<dyn FlowMap>> {
    Ok(Arc::new(tract::TractFlow::new(model, Arc::clone(pool), why)?))
}

/// The fastest engine on the CPU.
fn cpu(model: &Model, pool: &Arc<rayon::ThreadPool>, why: &str) -> Result<Arc<dyn FlowMap>> {
    match plan::lower(model.graph().proto(), model.manifest().preprocess.shape) {
        Ok(plan) => Ok(Arc::new(NativeFlow::new(model, plan, Arc::clone(pool), why)?)),
        Err(unsupported) => {
            let why = format!("{why}, but the fast engine has no kernel for {unsupported}");
            on_tract(model, pool, &why)
        }
    }
}

/// The GPU; `asked` says that the caller wants no other engine.
#[cfg(feature = "gpu")]
fn gpu(
    model: &Arc<Model>,
    pool: &Arc<rayon::ThreadPool>,
    options: &GpuOptions,
    asked: bool,
) -> Result<Arc<dyn FlowMap>> {
    let shape = model.manifest().preprocess.shape;
    let unsupported = |why: plan::Unsupported| Error::EngineUnavailable {
        engine: "gpu".into(),
        why: why.to_string(),
    };
    let plan = Arc::new(plan::lower(model.graph().proto(), shape).map_err(unsupported)?);
    let reason = if asked { "asked for" } else { "auto" };
    let beside = options.on_loss == OnLoss::Cpu || options.background;
    let cpu = if beside { Some(cpu(model, pool, "beside the GPU")?) } else { None };
    let make = {
        let (model, options, cpu) = (Arc::clone(model), options.clone(), cpu.clone());
        move || -> Result<Arc<dyn FlowMap>> {
            Ok(Arc::new(GpuFlow::new(&model, plan, &options, cpu, asked, reason)?))
        }
    };
    match cpu.filter(|_| options.background) {
        Some(now) => Ok(Arc::new(Background::new(now, make))),
        None => make(),
    }
}

#[cfg(not(feature = "gpu"))]
fn gpu(
    _: &Arc<Model>,
    _: &Arc<rayon::ThreadPool>,
    _: &GpuOptions,
    _: bool,
) -> Result<Arc<dyn FlowMap>> {
    Err(Error::EngineUnavailable { engine: "gpu".into(), why: "not built in".into() })
}

/// All adapters of this machine, with what speaks against each. Empty if the library was built without the feature
/// `gpu`.
pub fn adapters() -> Vec<Adapter> {
    #[cfg(feature = "gpu")]
    return super::gpu::list();
    #[cfg(not(feature = "gpu"))]
    vec![]
}

/// A pool of `threads` threads (0: one per core) for everything that one detector does side by side.
pub(crate) fn thread_pool(threads: usize) -> Result<Arc<rayon::ThreadPool>> {
    let built = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("f2d2-{i}"))
        .build();
    let unavailable = |error: rayon::ThreadPoolBuildError| Error::EngineUnavailable {
        engine: "cpu".into(),
        why: format!("cannot start {threads} threads: {error}"),
    };
    built.map(Arc::new).map_err(unavailable)
}
