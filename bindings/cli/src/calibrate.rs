//! `f2d2 calibrate`: normal images → the threshold that keeps false alarms at the promised rate.

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use f2d2::{Calibration, CalibrationOptions};

use crate::inputs::Inputs;
use crate::options::{EngineOptions, confidence, probability};
use crate::output::{self, Terminal};
use crate::{Outcome, scan};

/// Fits a decision threshold to images that are all normal.
///
/// Images that cannot be read are reported and left out. The calibration only fits the model, steps and engine
/// that it was made with; any other combination refuses it.
#[derive(Args)]
pub(crate) struct Calibrate {
    /// Model file
    model: PathBuf,
    /// Normal images that the model was not trained on: files, folders, arrays
    #[arg(required = true)]
    normals: Vec<PathBuf>,
    /// Calibration file to write
    #[arg(long, value_name = "CAL")]
    out: PathBuf,
    /// False-alarm rate to hold on normal images
    #[arg(long, value_name = "RATE", default_value_t = 0.01, value_parser = probability)]
    alpha: f64,
    /// Probability that the guaranteed band is missed
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.05, value_parser = probability)]
    delta: f64,
    #[command(flatten)]
    engine: EngineOptions,
}

impl Calibrate {
    pub(crate) fn run(self, terminal: &mut Terminal) -> Result<Outcome> {
        output::check_writable(&self.out)?;
        let detector = self.engine.open(&self.model, None, false)?;
        let inputs = Inputs::find(&self.normals);
        let bar = terminal.progress(inputs.len());
        let mut vectors = Vec::new();
        let mut invalid = 0;
        scan::scan(&detector, &inputs, &bar, |item, inspection| {
            match inspection.map(|inspection| inspection.measurement) {
                Ok(measurement) => vectors.extend(measurement.map(|m| m.statistics)),
                Err(why) => {
                    invalid += 1;
                    bar.suspend(|| terminal.warn(&format!("left out {}: {why}", item.name())));
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let options = CalibrationOptions {
            alpha: self.alpha,
            delta: self.delta,
            ..CalibrationOptions::default()
        };
        let calibration = Calibration::fit(detector.binding(), &vectors, &options)?;
        calibration.save(&self.out)?;
        let (low, high) = calibration.band();
        terminal.line(format_args!("images used          {}", calibration.images()))?;
        terminal.line(format_args!("images left out      {invalid}"))?;
        terminal.line(format_args!("threshold            {:.6}", calibration.threshold()))?;
        terminal.line(format_args!("false-alarm rate     {} asked for", self.alpha))?;
        terminal.line(format_args!(
            "guaranteed band      {low:.5} to {high:.5}, with probability {}",
            confidence(self.delta)
        ))?;
        terminal.line(format_args!("written              {}", self.out.display()))?;
        Ok(Outcome { invalid })
    }
}
