//! Which engine runs the network; the choice is reported with its reason, never silent.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

#[cfg(feature = "gpu")]
use super::OnLoss;
#[cfg(feature = "gpu")]
use super::gpu::{Background, GpuFlow};
use super::native::{self, NativeFlow};
use super::{
    Adapter, Batch, FlowMap, GpuOptions, MemoryPlan, Precision, Threads, inversion, plan, rounding,
    tract,
};
use crate::error::{Error, Result};
use crate::model::{Model, ModelInfo};

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

impl Engine {
    /// The error that this engine failed, and why.
    pub(crate) fn failed(self, why: impl Into<String>) -> Error {
        Error::Engine { engine: self.to_string(), why: why.into() }
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

/// Loads `model` on the chosen engine, which spreads batches over `threads` if it runs on the CPU. `self_test` says
/// whether networks that nobody has seen, made in the background or anew, are held against the golden vectors.
///
/// # Errors
/// [`Error::EngineUnavailable`] if the choice cannot be met, [`Error::ModelCorrupt`] if the engine rejects the graph.
pub(crate) fn open(
    model: Arc<Model>,
    choice: EngineChoice,
    threads: &Threads,
    options: &GpuOptions,
    self_test: bool,
) -> Result<Arc<dyn FlowMap>> {
    // What is computed while loading is kept.
    rounding::check()
        .map_err(|why| Error::EngineUnavailable { engine: "any".into(), why: why.into() })?;
    let info = Arc::clone(model.info());
    let on_gpu = |asked| gpu(&model, threads, options, asked, self_test);
    let flow = match choice {
        EngineChoice::Auto => on_gpu(false).or_else(|error| {
            let why = match error {
                Error::EngineUnavailable { why, .. } => why,
                error => error.to_string(),
            };
            cpu(model, threads, options.precision, &format!("auto, no GPU ({why})"))
        }),
        EngineChoice::Cpu => cpu(model, threads, options.precision, "asked for"),
        EngineChoice::Tract => on_tract(&model, threads, "asked for"),
        EngineChoice::Gpu => on_gpu(true),
    };
    Ok(inversion::for_scoring(&info, flow?))
}

fn on_tract(model: &Model, threads: &Threads, why: &str) -> Result<Arc<dyn FlowMap>> {
    Ok(Arc::new(tract::TractFlow::new(model, threads.clone(), why)?))
}

/// The fastest engine on the CPU.
fn cpu(
    model: Arc<Model>,
    threads: &Threads,
    precision: Precision,
    why: &str,
) -> Result<Arc<dyn FlowMap>> {
    match plan::lower(model.graph(), model.manifest().preprocess.shape) {
        Ok(plan) => {
            let info = Arc::clone(model.info());
            // Weights as the file has them are not needed beside those that will be packed, unless somebody else does.
            drop(model);
            let flow = NativeFlow::new(&info, plan, threads.clone(), precision, why)?;
            if precision == Precision::F16 {
                agree(&info, &flow)?;
            }
            Ok(Arc::new(flow))
        }
        Err(unsupported) => {
            let mut why = format!("{why}, but the fast engine has no kernel for {unsupported}");
            if precision != Precision::F32 {
                why += &format!(", and no other has {}", precision.name());
            }
            on_tract(&model, threads, &why)
        }
    }
}

/// How far likelihoods in f16 may be from those in f32, bits per dimension.
const F16_BITS_PER_DIM: f64 = 2e-3;

/// Refuses, with the reason, f16 whose likelihood of a golden input differs from that in f32 by so many bits per
/// dimension.
pub(super) fn judge_f16(difference: f64) -> std::result::Result<(), String> {
    if difference.abs() <= F16_BITS_PER_DIM {
        return Ok(());
    }
    Err(format!(
        "f16 differs from f32 by {:.1e} bits per dimension on a golden input, the limit is \
         {F16_BITS_PER_DIM:.0e}",
        difference.abs()
    ))
}

/// Refuses f16 for a model whose likelihoods it changes: those of its golden inputs, which are known in f32.
fn agree(model: &ModelInfo, flow: &dyn FlowMap) -> Result<()> {
    let shape = model.manifest().preprocess.shape;
    let dimensions = shape.len() as f64;
    for golden in &model.manifest().golden {
        let batch = Batch::new(shape, golden.input(shape))?;
        for carried in flow.transport(&batch, &golden.schedule) {
            let carried = carried?;
            let squares: f64 = carried.state.iter().map(|&v| f64::from(v).powi(2)).sum();
            let nats = 0.5 * (squares - dimensions * golden.mean_square)
                - (carried.log_det - golden.log_det);
            judge_f16(nats / dimensions / std::f64::consts::LN_2)
                .map_err(|why| Error::EngineUnavailable { engine: Engine::Cpu.to_string(), why })?;
        }
    }
    Ok(())
}

/// Memory that `model` takes on the CPU for `images` images at a time on one thread, before it is loaded; `None` if it
/// has an operator without a kernel, for then nobody can say.
///
/// # Errors
/// [`Error::InvalidOption`] if the environment asks for an instruction set that this processor does not have.
pub fn memory_plan(model: &Model, images: usize) -> Result<Option<MemoryPlan>> {
    let plan = plan::lower(model.graph(), model.manifest().preprocess.shape).ok();
    plan.map(|plan| native::memory_plan(&plan, images)).transpose()
}

/// The GPU; `asked` says that the caller wants no other engine.
#[cfg(feature = "gpu")]
fn gpu(
    model: &Arc<Model>,
    threads: &Threads,
    options: &GpuOptions,
    asked: bool,
    self_test: bool,
) -> Result<Arc<dyn FlowMap>> {
    let shape = model.manifest().preprocess.shape;
    let unsupported = |why: plan::Unsupported| Error::EngineUnavailable {
        engine: "gpu".into(),
        why: why.to_string(),
    };
    let plan = Arc::new(plan::lower(model.graph(), shape).map_err(unsupported)?);
    let reason = if asked { "asked for" } else { "auto" };
    let beside = options.on_loss == OnLoss::Cpu || options.background;
    let cpu = |precision| cpu(Arc::clone(model), threads, precision, "beside the GPU");
    // In the same precision where that can be had: calibrations are bound to it.
    let cpu = || cpu(options.precision).or_else(|_| cpu(Precision::F32));
    let cpu = beside.then(cpu).transpose()?;
    let make = {
        let (model, options, cpu) = (Arc::clone(model.info()), options.clone(), cpu.clone());
        move || -> Result<Arc<dyn FlowMap>> {
            let flow = GpuFlow::new(&model, plan, &options, cpu, asked, self_test, reason)?;
            Ok(Arc::new(flow))
        }
    };
    match cpu.filter(|_| options.background) {
        Some(now) => Ok(Arc::new(Background::new(now, make))),
        None => make(),
    }
}

#[cfg(not(feature = "gpu"))]
fn gpu(_: &Arc<Model>, _: &Threads, _: &GpuOptions, _: bool, _: bool) -> Result<Arc<dyn FlowMap>> {
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
