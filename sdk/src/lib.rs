//! Real-time, calibrated image anomaly detection with few-step flow maps.
//!
//! A frame goes in, a calibrated verdict comes out. Each module is one step of that sentence, in this order:
//!
//! [`frame`] → [`preprocess`] → [`model`], [`flow`] → [`likelihood`] → [`statistics`] → [`calibration`] →
//! [`Verdict`], with [`heatmap`] for where in the image.
//!
//! Conventions everywhere: time t = 0 is noise and t = 1 is data; a score is higher for stranger images; the
//! log-determinant of a transport from t to s is `∫_t^s div v dτ`, so that `log p_t(x_t) = log p_s(x_s) + log_det`.
//!
//! Start with [`Detector`]; [`Sampler`] draws images from a model, guided towards likelier ones or not.

pub mod error;
mod file;
pub mod frame;
pub mod preprocess;
pub mod model;
pub mod flow;
pub mod likelihood;
pub mod statistics;
pub mod calibration;
pub mod heatmap;
mod verdict;
mod detector;
mod sampler;

pub use calibration::{Calibration, CalibrationOptions, Score};
pub use detector::{Detector, DetectorOptions};
pub use error::{Error, ErrorCode, Result};
pub use flow::{Adapter, Engine, EngineChoice, EngineReport, GpuOptions, Threads, adapters};
pub use frame::{Frame, PixelFormat, Roi};
pub use heatmap::HeatMap;
pub use likelihood::{BitsPerDim, Nats};
pub use model::{Limits, Model, ModelInfo};
pub use sampler::Sampler;
pub use statistics::Statistics;
pub use verdict::{Inspection, Measurement, Verdict};

#[doc = include_str!("../../README.md")]
#[cfg(doctest)]
mod readme {}
