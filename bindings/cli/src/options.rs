//! Options that several sub-commands share, and the detector that they describe.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use f2d2::flow::Precision;
use f2d2::{Calibration, Detector, DetectorOptions, EngineChoice, GpuOptions};

/// How the network is run.
#[derive(Args)]
pub(crate) struct EngineOptions {
    /// Engine that runs the network: auto, cpu, gpu or tract
    #[arg(long, value_name = "ENGINE", default_value = "auto")]
    pub(crate) engine: EngineChoice,
    /// GPU to use, by PCI bus id or a part of its name; `f2d2 info` lists them
    #[arg(long, value_name = "NAME")]
    pub(crate) adapter: Option<String>,
    /// Number format: f32, or f16 for weights and activations on a GPU, in cooperative matrices where it has them, and
    /// for weights on the CPU
    #[arg(long, value_name = "FORMAT", default_value = "f32")]
    pub(crate) precision: Precision,
    /// Network evaluations per noise floor [default: the model's recommendation]
    #[arg(long, value_name = "K")]
    pub(crate) steps: Option<usize>,
    /// Images evaluated side by side; 0 is one per core
    #[arg(long, value_name = "T", default_value_t = 0)]
    pub(crate) threads: usize,
}

impl EngineOptions {
    /// Opens the model at `path`, judging by the calibration at `calibration` if there is one.
    pub(crate) fn open(
        &self,
        path: &Path,
        calibration: Option<&PathBuf>,
        heat_maps: bool,
    ) -> Result<Detector> {
        judged(Detector::open(path, self.detector(heat_maps))?, calibration)
    }

    /// The library's options for these.
    pub(crate) fn detector(&self, heat_maps: bool) -> DetectorOptions {
        DetectorOptions {
            engine: self.engine,
            gpu: GpuOptions {
                adapter: self.adapter.clone(),
                precision: self.precision,
                ..GpuOptions::default()
            },
            steps: self.steps,
            threads: self.threads,
            heat_maps,
            ..DetectorOptions::default()
        }
    }
}

/// `detector`, judging by the calibration at `path` if there is one.
pub(crate) fn judged(mut detector: Detector, path: Option<&PathBuf>) -> Result<Detector> {
    if let Some(path) = path {
        let fitted =
            Calibration::load(path).and_then(|calibration| detector.set_calibration(calibration));
        fitted.with_context(|| format!("calibration {}", path.display()))?;
    }
    Ok(detector)
}

/// Parses a probability strictly between 0 and 1.
pub(crate) fn probability(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value < 1.0 => Ok(value),
        _ => Err("need a number above 0 and below 1".into()),
    }
}

/// `1 - delta` as people write it: 0.93 and not 0.9299999999999999.
pub(crate) fn confidence(delta: f64) -> f64 {
    const DIGITS: f64 = 1e9;
    ((1.0 - delta) * DIGITS).round() / DIGITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_strictly_inside() {
        assert_eq!(probability("0.01"), Ok(0.01));
        for text in ["0", "1", "-0.1", "nan", "inf", "1%", ""] {
            assert!(probability(text).is_err(), "{text}");
        }
        assert_eq!(confidence(0.07), 0.93);
    }
}
