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

/// What was measured on one image.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Negative log-likelihood at the first noise floor (the 8-bit image itself where that floor is t0 = 1).
    pub nll: Nats,
    /// The same in bits per dimension.
    pub bpd: BitsPerDim,
    /// The score vector.
    pub statistics: Statistics,
    /// Where in the image; present if it was asked for.
    pub heat_map: Option<HeatMap>,
}

/// Everything known about one image.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Normal, anomalous or invalid; `None` where there is no calibration to judge by.
    pub verdict: Option<Verdict>,
    /// Score and conformal p-value; `None` without a calibration and for invalid frames.
    pub score: Option<Score>,
    /// The numbers behind it; `None` for invalid frames.
    pub measurement: Option<Measurement>,
    /// Which engine computed it.
    pub engine: EngineReport,
    /// Network evaluations per noise floor.
    pub steps: usize,
    /// Wall-clock time from frames to verdict of the chunk of the batch that this image was in.
    pub elapsed: Duration,
}
