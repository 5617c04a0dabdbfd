//! How the GPU engine is set up.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};

/// Options of the GPU engine; the default suits a machine with one GPU.
///
/// An adapter is there only if its driver shows it to Vulkan, Metal or Direct3D 12. Some do not: those without a queue for
/// graphics, as parts of a GPU in MIG mode, and GPUs in containers that were started for computing only (for NVIDIA's
/// runtime `NVIDIA_DRIVER_CAPABILITIES` has to hold `graphics`). [`adapters`](super::adapters) lists those that are.
///
/// A run holds up to 64 images, all noise floors counted: larger batches go in rounds. A model that only samples
/// (`"time": "step"`) is inverted image by image, whatever the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuOptions {
    /// Which adapter: its PCI bus id (`0000:01:00.0`), or a part of its name in any case; `None` takes the
    /// environment variable `F2D2_ADAPTER`, else the best real GPU by `power`. Software adapters are taken only when
    /// named.
    pub adapter: Option<String>,
    /// Which GPU is best where there are several.
    pub power: Power,
    /// Number format of stored activations and weights; sums, statistics and states are f32 in any case. The CPU engine
    /// heeds it too, for weights; tract is f32 always.
    pub precision: Precision,
    /// Whether f16 is multiplied in the GPU's cooperative matrices (tensor cores), where it has them and they pass a
    /// test.
    pub matrices: bool,
    /// What happens when the device is lost and cannot be had again, or does not answer.
    pub on_loss: OnLoss,
    /// How many times in a row a lost device is opened anew before `on_loss` applies.
    pub retries: usize,
    /// Folder of compiled pipelines; `None` takes `f2d2` in the user's cache folder. A file that cannot be used is
    /// ignored.
    pub cache: Option<PathBuf>,
    /// Work is cut into submissions of about this much time: above a second or two, some drivers take a device for
    /// hung. One network evaluation of one image is never cut.
    pub submission: Duration,
    /// A submission that takes longer than this counts as a lost device that is not asked again: its driver may never
    /// answer. What it holds is not given back.
    pub deadline: Duration,
    /// The CPU serves until the GPU is ready and takes over, also with [`EngineChoice::Gpu`](super::EngineChoice::Gpu):
    /// [`EngineReport`](super::EngineReport) says who serves. Opening returns at once; dropping waits for the GPU's driver,
    /// which may be compiling.
    pub background: bool,
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self {
            adapter: None,
            power: Power::default(),
            precision: Precision::default(),
            matrices: true,
            on_loss: OnLoss::default(),
            retries: 2,
            cache: None,
            submission: Duration::from_millis(50),
            deadline: Duration::from_secs(10),
            background: false,
        }
    }
}

/// Preference among several GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Power {
    /// A discrete GPU before an integrated one.
    #[default]
    High,
    /// An integrated GPU before a discrete one.
    Low,
}

/// Number format: on a GPU of what convolutions read and write, on the CPU of their weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    F32,
    /// 16-bit storage with 32-bit sums: half the memory and its traffic. Opening fails unless the results agree with those in
    /// f32 on the model's golden inputs to 2e-3 bits per dimension.
    F16,
}

impl Precision {
    /// `f32` or `f16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            _ => Err(Error::option("precision", name, "f32 or f16")),
        }
    }
}

/// What follows when the device is lost for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// Results are [`Error::DeviceLost`](crate::Error::DeviceLost).
    #[default]
    Error,
    /// The CPU engine, opened beside the GPU's and in its precision if it can, takes over;
    /// [`EngineReport`](super::EngineReport) says so from then on.
    Cpu,
}

/// A GPU of this machine, or a driver that computes on the CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// Name that its driver gives it.
    pub name: String,
    /// PCI bus id; empty where there is none.
    pub pci: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// Driver and its version.
    pub driver: String,
    /// Whether it computes on the CPU: slow, and only of use in tests.
    pub software: bool,
    /// Whether it stores 16-bit floating point.
    pub f16: bool,
    /// Why it cannot be used; `None` if it can.
    pub unusable: Option<String>,
}
