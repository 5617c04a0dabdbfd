//! The engine that a caller asks for: what the options of detectors and samplers share.

use std::ffi::c_char;

use f2d2::flow::OnLoss;
use f2d2::{EngineChoice, GpuOptions};

use crate::failure::{Failure, Result};
use crate::memory;
use crate::status::F2D2_UNSUPPORTED_FIELD;

/// Fields of the same names in the options.
pub(crate) struct EngineOptions {
    pub(crate) engine: *const c_char,
    pub(crate) adapter: *const c_char,
    pub(crate) precision: *const c_char,
    pub(crate) background: u32,
    pub(crate) cpu_on_loss: u32,
}

impl EngineOptions {
    /// The engine, and how it is set up.
    ///
    /// # Safety
    /// The pointers are NULL or text that ends with a NUL.
    pub(crate) unsafe fn read(&self) -> Result<(EngineChoice, GpuOptions)> {
        // SAFETY: the caller's promise.
        let (engine, adapter, precision) = unsafe {
            (
                memory::optional_text("engine", self.engine)?,
                memory::optional_text("adapter", self.adapter)?,
                memory::optional_text("precision", self.precision)?,
            )
        };
        let engine = engine.map_or(Ok(EngineChoice::Auto), |name| name.parse())?;
        let adapter = adapter.filter(|adapter| !adapter.is_empty());
        let background = memory::switch("background", self.background)?;
        let cpu_on_loss = memory::switch("cpu_on_loss", self.cpu_on_loss)?;
        if matches!(engine, EngineChoice::Cpu | EngineChoice::Tract) {
            let refuse = |field: &str, got: &str, need: &str| {
                let message = format!("{field} is {got}, need {need}: the engine is not the GPU");
                Err(Failure::new(F2D2_UNSUPPORTED_FIELD, message))
            };
            if let Some(adapter) = &adapter {
                return refuse("adapter", &format!("{adapter:?}"), "NULL");
            }
            for (field, set) in [("background", background), ("cpu_on_loss", cpu_on_loss)] {
                if set {
                    return refuse(field, "1", "0");
                }
            }
        }
        let gpu = GpuOptions {
            adapter: adapter.map(|adapter| adapter.to_string()),
            precision: precision.map_or(Ok(Default::default()), |name| name.parse())?,
            on_loss: if cpu_on_loss { OnLoss::Cpu } else { OnLoss::Error },
            background,
            ..GpuOptions::default()
        };
        Ok((engine, gpu))
    }
}
