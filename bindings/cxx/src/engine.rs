//! The engine that a caller asks for.

use f2d2::flow::{OnLoss, Precision};
use f2d2::{EngineChoice, Error, GpuOptions};

use crate::failure::Failure;
use crate::ffi;

pub(crate) fn engine_options() -> ffi::EngineOptions {
    ffi::EngineOptions {
        choice: ffi::Engine::Auto,
        adapter: String::new(),
        precision: ffi::Precision::F32,
        background: false,
        cpu_on_loss: false,
    }
}

impl ffi::EngineOptions {
    /// The engine, and how it is set up. A C++ enumeration can hold any number.
    pub(crate) fn read(&self) -> Result<(EngineChoice, GpuOptions), Failure> {
        let choice = match self.choice {
            ffi::Engine::Auto => EngineChoice::Auto,
            ffi::Engine::Cpu => EngineChoice::Cpu,
            ffi::Engine::Gpu => EngineChoice::Gpu,
            ffi::Engine::Tract => EngineChoice::Tract,
            unknown => return Err(refused("engine", unknown.repr, "one of Engine")),
        };
        let precision = match self.precision {
            ffi::Precision::F32 => Precision::F32,
            ffi::Precision::F16 => Precision::F16,
            unknown => return Err(refused("precision", unknown.repr, "one of Precision")),
        };
        let gpu = GpuOptions {
            adapter: (!self.adapter.is_empty()).then(|| self.adapter.clone()),
            precision,
            on_loss: if self.cpu_on_loss { OnLoss::Cpu } else { OnLoss::Error },
            background: self.background,
            ..GpuOptions::default()
        };
        Ok((choice, gpu))
    }
}

fn refused(option: &'static str, got: u8, need: &str) -> Failure {
    Failure::from(Error::InvalidOption { option, got: got.to_string(), need: need.into() })
}
