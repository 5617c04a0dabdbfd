//! Score vectors → [`Score`] with a p-value, and a threshold that keeps a promise about false
//! alarms.
//!
//! The normal images are split in two by a seed. One half fits a density of score vectors
//! ([`Score::value`] is its negative logarithm); the scores of the other half, which the density
//! has not seen, give
//! * the conformal p-value of a new score: its rank among them;
//! * the threshold: the k-th largest of them, with the largest k for which the true false-alarm
//!   rate is at most alpha with probability 1 - delta (method: Vovk 2012; Bates et al. 2021).
//!
//! A score is flagged if it is above the k-th largest, which is the same as `p <= k / (n + 1)`.
//!
//! The promise is about images exchangeable with the calibration images: same camera, same product,
//! same light. Nearly equal frames of one scene, or images that the model was trained or selected
//! on, break it.

mod binding;
mod cholesky;
mod conformal;
mod density;
mod em;
mod file;
mod mixture;
mod pac;
mod split;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use binding::Binding;

use crate::error::{Error, Result};
use crate::statistics::Statistics;
use density::Density;
use file::{FORMAT_VERSION, Record, is_rate};

/// What a calibration shall promise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CalibrationOptions {
    /// Highest share of normal images that may be flagged, between 0 and 1. Default 0.01.
    pub alpha: f64,
    /// Probability that an unlucky choice of calibration images breaks that, between 0 and 1.
    /// Default 0.05.
    pub delta: f64,
    /// Seed of the split and of the fit. Default 0.
    pub seed: u64,
}

impl Default for CalibrationOptions {
    fn default() -> Self {
        Self { alpha: 0.01, delta: 0.05, seed: 0 }
    }
}

/// How strange one image is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Negative log-density of the standardised score vector, nats; higher = stranger.
    pub value: f64,
    /// Conformal p-value, in (0, 1]: at most a share `p` of normal images are as strange, on
    /// average.
    pub p_value: f64,
}

/// A density of normal score vectors with a threshold.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    record: Record,
    /// The threshold is the `rank`-th largest calibration score.
    rank: usize,
}

impl Calibration {
    /// Calibrates on the score vectors of normal images, in any order, for the detector described
    /// by `binding`.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for rates outside (0, 1) or vectors with different statistics,
    /// [`Error::TooFewImages`] for fewer than [`Self::minimum_images`], [`Error::NonFinite`] if a
    /// vector or the fitted density is not finite, [`Error::CalibrationCorrupt`] if `binding`
    /// contradicts itself.
    pub fn fit(
        binding: Binding,
        vectors: &[Statistics],
        options: &CalibrationOptions,
    ) -> Result<Self> {
        let CalibrationOptions { alpha, delta, seed } = *options;
        for (option, rate) in [("alpha", alpha), ("delta", delta)] {
            if !is_rate(rate) {
                return Err(Error::option(option, rate, "a value between 0 and 1"));
            }
        }
        let (got, need) = (vectors.len(), Self::minimum_images(alpha, delta));
        if got < need {
            return Err(Error::TooFewImages { got, need });
        }
        let names: Vec<String> = vectors.iter().take(1).flat_map(names).collect();
        if vectors.iter().any(|v| !v.iter().map(|s| &s.name).eq(&names)) {
            return Err(Error::option("score vectors", "different", "the same statistics"));
        }
        let mut values: Vec<Vec<f64>> = Vec::with_capacity(vectors.len());
        for i in split::shuffled(vectors.len(), seed) {
            values.push(finite_values(&vectors[i])?);
        }
        let (conformal, fitted) = values.split_at(vectors.len() / 2);
        let density = Density::fit(fitted, seed)?;
        let scores = conformal.iter().map(|v| density.strangeness(v));
        let mut scores = scores.collect::<Result<Vec<f64>>>()?;
        scores.sort_by(f64::total_cmp);
        Self::from_record(Record {
            format_version: FORMAT_VERSION,
            binding,
            alpha,
            delta,
            seed,
            statistics: names,
            density_images: fitted.len(),
            density,
            scores,
        })
    }

    /// The score of one image's vector.
    ///
    /// # Errors
    /// [`Error::CalibrationMismatch`] for other statistics than calibrated, [`Error::NonFinite`] if
    /// a statistic or the score is not finite: such an image is invalid, never normal.
    pub fn score(&self, statistics: &Statistics) -> Result<Score> {
        if !statistics.iter().map(|s| &s.name).eq(&self.record.statistics) {
            binding::same("statistics", &self.record.statistics, &names(statistics))?;
        }
        let value = self.record.density.strangeness(&finite_values(statistics)?)?;
        Ok(Score { value, p_value: conformal::p_value(&self.record.scores, value) })
    }

    /// Whether the score is above the threshold. NaN is.
    pub fn is_anomalous(&self, score: &Score) -> bool {
        score.value > self.threshold() || score.value.is_nan()
    }

    /// Whether this calibration was made for the detector described by `detector`.
    ///
    /// # Errors
    /// [`Error::CalibrationMismatch`] naming the first part that differs.
    pub fn check(&self, detector: &Binding) -> Result<()> {
        self.record.binding.check(detector)
    }

    /// Whether scores that were computed in `precision` can be judged by it.
    ///
    /// # Errors
    /// [`Error::CalibrationMismatch`] if it was made for another one.
    pub(crate) fn check_precision(&self, precision: &str) -> Result<()> {
        binding::same("precision", &self.record.binding.precision.as_str(), &precision)
    }

    /// Smallest number of images for a threshold with these rates; `usize::MAX` unless both are
    /// between 0 and 1.
    pub fn minimum_images(alpha: f64, delta: f64) -> usize {
        pac::minimum(alpha, delta).saturating_mul(2)
    }

    /// Highest false-alarm rate that was asked for.
    pub fn alpha(&self) -> f64 {
        self.record.alpha
    }

    /// Probability, over calibrations, that the rate is higher after all.
    pub fn delta(&self) -> f64 {
        self.record.delta
    }

    /// Scores above it are anomalous.
    pub fn threshold(&self) -> f64 {
        self.record.scores[self.record.scores.len() - self.rank]
    }

    /// Central 95 % interval of the true false-alarm rate, for continuous scores.
    pub fn band(&self) -> (f64, f64) {
        pac::band(self.record.scores.len(), self.rank)
    }

    /// Number of images used, for the density and the threshold together.
    pub fn images(&self) -> usize {
        self.record.density_images + self.record.scores.len()
    }

    /// What the calibration was made for.
    pub fn binding(&self) -> &Binding {
        &self.record.binding
    }

    /// Names of the statistics in the score vector, in order.
    pub fn statistics(&self) -> &[String] {
        &self.record.statistics
    }

    /// Number of Gaussians in the density.
    pub fn components(&self) -> usize {
        self.record.density.components()
    }

    /// Reads a calibration file.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::CalibrationCorrupt`] with the reason.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_json(&file::read(path.as_ref())?)
    }

    /// Writes a calibration file. An older file is replaced as a whole, or kept if writing fails.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        file::write(path.as_ref(), &self.to_json()?)
    }

    /// The calibration in the text of a calibration file.
    ///
    /// # Errors
    /// [`Error::CalibrationCorrupt`] with the reason.
    pub fn from_json(json: &str) -> Result<Self> {
        Self::from_record(Record::from_json(json)?)
    }

    /// The text of a calibration file; reading it gives exactly this calibration.
    ///
    /// # Errors
    /// [`Error::CalibrationCorrupt`] if it cannot be represented.
    pub fn to_json(&self) -> Result<String> {
        self.record.to_json()
    }

    fn from_record(record: Record) -> Result<Self> {
        record.check()?;
        let got = record.scores.len();
        let rank = pac::rank(got, record.alpha, record.delta);
        let need = Self::minimum_images(record.alpha, record.delta);
        Ok(Self { record, rank: rank.ok_or(Error::TooFewImages { got, need })? })
    }
}

fn names(statistics: &Statistics) -> Vec<String> {
    statistics.iter().map(|s| s.name.clone()).collect()
}

fn finite_values(statistics: &Statistics) -> Result<Vec<f64>> {
    let values: Vec<f64> = statistics.iter().map(|s| s.value).collect();
    let finite = values.iter().all(|v| v.is_finite());
    if finite { Ok(values) } else { Err(Error::NonFinite { what: "statistic" }) }
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
