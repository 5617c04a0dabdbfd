//! Score vectors and a calibration for the tests.

use super::{Calibration, CalibrationOptions, binding};
use crate::preprocess::noise;
use crate::statistics::Statistics;

pub(super) const OPTIONS: CalibrationOptions =
    CalibrationOptions { alpha: 0.05, delta: 0.1, seed: 0 };

/// Correlated normal vectors with two statistics.
pub(super) fn vectors(n: usize, seed: u64) -> Vec<Statistics> {
    let noise = noise::normal(seed, 1, 2 * n);
    let pair = |i: usize| (f64::from(noise[2 * i]), f64::from(noise[2 * i + 1]));
    (0..n).map(|i| vector(3.0 + pair(i).0, pair(i).0 + 0.5 * pair(i).1)).collect()
}

pub(super) fn vector(nll: f64, complexity: f64) -> Statistics {
    Statistics::from_pairs([("nll@1", nll), ("complexity", complexity)])
}

pub(super) fn calibration() -> Calibration {
    Calibration::fit(binding::fixture::binding(), &vectors(200, 1), &OPTIONS).unwrap()
}
