//! Does the promise hold for other calibrations than the one at hand? Fits many, each on a random split.

use anyhow::Result;
use f2d2::{Calibration, CalibrationOptions, Detector, Statistics};
use serde_json::{Value, json};

use crate::output::Terminal;

/// False-alarm rates of calibrations fitted to random splits of the same images.
pub(crate) struct Resplit {
    alpha: f64,
    delta: f64,
    rates: Vec<f64>,
}

impl Resplit {
    /// Fits `splits` calibrations to `fresh` like `calibration` and counts their false alarms on `normal`.
    ///
    /// # Errors
    /// If there are too few images, or if a score cannot be computed.
    pub(crate) fn new(
        detector: &Detector,
        calibration: &Calibration,
        fresh: &[Statistics],
        normal: &[Statistics],
        splits: u64,
    ) -> Result<Self> {
        let (alpha, delta) = (calibration.alpha(), calibration.delta());
        let rate = |seed: u64| -> Result<f64> {
            let options = CalibrationOptions { alpha, delta, seed };
            let fitted = Calibration::fit(detector.binding(), fresh, &options)?;
            let mut alarms = 0;
            for statistics in normal {
                alarms += usize::from(fitted.is_anomalous(&fitted.score(statistics)?));
            }
            Ok(alarms as f64 / normal.len() as f64)
        };
        // Seed 0 is the split of the calibration file itself.
        let rates = (1..=splits).map(rate).collect::<Result<Vec<_>>>()?;
        Ok(Self { alpha, delta, rates })
    }

    /// Share of the calibrations with more false alarms than alpha.
    pub(crate) fn above(&self) -> f64 {
        self.rates.iter().filter(|&&rate| rate > self.alpha).count() as f64
            / self.rates.len() as f64
    }

    /// The largest share that is within two standard deviations of delta for this many splits.
    pub(crate) fn tolerated(&self) -> f64 {
        self.delta + 2.0 * (self.delta * (1.0 - self.delta) / self.rates.len() as f64).sqrt()
    }

    /// Whether the share above alpha is what chance allows.
    pub(crate) fn kept(&self) -> bool {
        self.above() <= self.tolerated()
    }

    /// Prints the figures for people.
    pub(crate) fn print(&self, terminal: &mut Terminal) -> Result<()> {
        let mean = self.rates.iter().sum::<f64>() / self.rates.len() as f64;
        let most = self.rates.iter().copied().fold(0.0, f64::max);
        terminal.line(format_args!(
            "\n{} fresh calibrations: false-alarm rate {mean:.5} in the mean, {most:.5} at most",
            self.rates.len()
        ))?;
        terminal.line(format_args!(
            "share above {}    {:.3}, at most {:.3} tolerated: {}",
            self.alpha,
            self.above(),
            self.tolerated(),
            if self.kept() { "kept" } else { "not kept" }
        ))
    }

    /// The figures for programs.
    pub(crate) fn json(&self) -> Value {
        json!({
            "rates": self.rates,
            "share_above_alpha": self.above(),
            "tolerated": self.tolerated(),
            "kept": self.kept(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_above_alpha_is_compared_with_what_chance_allows() {
        let with = |above: usize| {
            let rates = (0..20).map(|i| if i < above { 0.02 } else { 0.005 }).collect();
            Resplit { alpha: 0.01, delta: 0.05, rates }
        };
        assert!(with(2).kept() && !with(3).kept());
        assert_eq!(with(2).above(), 0.1);
    }
}
