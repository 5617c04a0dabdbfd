//! What the host application gets.

use std::time::Duration;

use crate::calibration::Score;
use crate::flow::EngineReport;
use crate::heatmap::HeatMap;
use crate::likelihood::{BitsPerDim, Nats};
use crate::statistics::Statistics;

/// The answer for one image.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Not unlike the normal images, at the calibrated false-alarm rate.
    Normal,
    /// Unlike the normal images.
    Anomalous,
    /// No answer: the frame or its score cannot be judged. Never to be treated as normal.
    Invalid(String),
}

/// Everything known about one image.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Normal, anomalous or invalid; `None` without a calibration.
    pub verdict: Option<Verdict>,
    /// Score and conformal p-value; `None` without a calibration.
    pub score: Option<Score>,
    /// Negative log-likelihood at the first noise floor of the model (t0 = 1 unless the model says otherwise).
    pub nll: Nats,
    /// The same in bits per dimension.
    pub bpd: BitsPerDim,
    /// The score vector.
    pub statistics: Statistics,
    /// Where in the image; present if it was asked for.
    pub heat_map: Option<HeatMap>,
    /// Which engine computed it.
    pub engine: EngineReport,
    /// Network evaluations per noise floor.
    pub steps: usize,
    /// Wall-clock time spent on this image by its thread.
    pub elapsed: Duration,
}
