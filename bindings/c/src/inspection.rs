//! What is known about one frame.

use std::ffi::c_char;
use std::time::Duration;

use f2d2::{Detector, Inspection, Verdict};

use crate::memory::{Versioned, fixed};

/// There is no calibration to judge by.
pub const F2D2_VERDICT_NONE: u32 = 0;
/// Not unlike the normal images, at the calibrated false-alarm rate.
pub const F2D2_VERDICT_NORMAL: u32 = 1;
/// Unlike the normal images.
pub const F2D2_VERDICT_ANOMALOUS: u32 = 2;
/// The frame or its score cannot be judged; f2d2_session_reason says why. Never to be treated as normal.
pub const F2D2_VERDICT_INVALID: u32 = 3;

/// The answer for one frame. Numbers that there are none of are NaN.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct f2d2_inspection {
    /// Size of this struct, set by the caller.
    pub struct_size: u32,
    /// F2D2_VERDICT_NONE to F2D2_VERDICT_INVALID.
    pub verdict: u32,
    /// Conformal p-value, in (0, 1]: at most a share p of normal images are as strange, on average.
    pub p_value: f64,
    /// Strangeness of the score vector, nats; higher = stranger.
    pub score: f64,
    /// Scores above it are anomalous.
    pub threshold: f64,
    /// Negative log-likelihood at the first noise floor, nats.
    pub nll_nats: f64,
    /// The same in bits per dimension.
    pub bpd: f64,
    /// Wall-clock time from frames to verdicts of the group of frames that it was in, nanoseconds.
    pub elapsed_ns: u64,
    /// Network evaluations per noise floor.
    pub steps: u32,
    /// Zero.
    pub reserved: u32,
    /// Name of the engine that computed it, with a NUL.
    pub engine: [c_char; 16],
}

// SAFETY: repr(C), begins with its u32 size, and any bytes are valid fields.
unsafe impl Versioned for f2d2_inspection {
    const NAME: &str = "f2d2_inspection";
    const FIRST: usize = size_of::<Self>();
}

/// What became of a frame: looked at, or refused for its description.
pub(crate) enum Outcome {
    Inspected(Inspection),
    Refused(String),
}

impl Outcome {
    /// The number of its verdict.
    pub(crate) fn verdict(&self) -> u32 {
        match self {
            Self::Refused(_) => F2D2_VERDICT_INVALID,
            Self::Inspected(inspection) => match &inspection.verdict {
                None => F2D2_VERDICT_NONE,
                Some(Verdict::Normal) => F2D2_VERDICT_NORMAL,
                Some(Verdict::Anomalous) => F2D2_VERDICT_ANOMALOUS,
                Some(Verdict::Invalid(_)) => F2D2_VERDICT_INVALID,
            },
        }
    }

    /// Why the verdict is F2D2_VERDICT_INVALID; empty for any other.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Refused(reason) => reason,
            Self::Inspected(inspection) => match &inspection.verdict {
                Some(Verdict::Invalid(reason)) => reason,
                _ => "",
            },
        }
    }

    /// What the caller gets.
    pub(crate) fn describe(&self, detector: &Detector) -> f2d2_inspection {
        let (mut score, mut measurement, mut elapsed) = (None, None, Duration::ZERO);
        let engine = if let Self::Inspected(inspection) = self {
            (score, measurement) = (inspection.score, inspection.measurement.as_ref());
            elapsed = inspection.elapsed;
            inspection.engine.engine
        } else {
            detector.engine().engine
        };
        let threshold =
            detector.calibration().map_or(f64::NAN, |calibration| calibration.threshold());
        f2d2_inspection {
            struct_size: 0,
            verdict: self.verdict(),
            p_value: score.map_or(f64::NAN, |score| score.p_value),
            score: score.map_or(f64::NAN, |score| score.value),
            threshold,
            nll_nats: measurement.map_or(f64::NAN, |m| m.nll.0),
            bpd: measurement.map_or(f64::NAN, |m| m.bpd.0),
            elapsed_ns: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
            steps: detector.steps() as u32,
            reserved: 0,
            engine: fixed(engine),
        }
    }
}
