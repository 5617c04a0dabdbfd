//! Which engine runs the network; the choice is reported with its reason, never silent.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{FlowMap, inversion, tract};
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
    /// tract on the CPU.
    Tract,
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
            Self::Tract => "tract",
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
    model: &Model,
    choice: EngineChoice,
    pool: &Arc<rayon::ThreadPool>,
) -> Result<Arc<dyn FlowMap>> {
    let reason = match choice {
        EngineChoice::Auto => "auto: the only engine built in",
        EngineChoice::Cpu => "cpu: the only CPU engine built in",
        EngineChoice::Tract => "asked for",
        EngineChoice::Gpu => {
            return Err(Error::EngineUnavailable {
                engine: "gpu".into(),
                why: "not built in".into(),
            });
        }
    };
    let flow = Arc::new(tract::TractFlow::new(model, Arc::clone(pool), reason)?);
    Ok(inversion::for_scoring(model, flow))
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
