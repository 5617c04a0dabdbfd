//! `f2d2 score`: images → how strange each one is, as a table or as JSON lines.

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use f2d2::{Detector, Inspection, Verdict};
use serde_json::{Map, Value, json};

use crate::heatmaps::HeatMaps;
use crate::inputs::{Inputs, Item};
use crate::options::EngineOptions;
use crate::output::Terminal;
use crate::{Outcome, scan};

/// Widest column of input names in the table.
const MAX_NAME: usize = 60;

/// Scores images: how unlike the normal ones each is.
///
/// Scores are higher for stranger images. Without --calibration the score is the negative log-likelihood in nats
/// and there is no verdict.
#[derive(Args)]
pub(crate) struct Score {
    /// Model file
    model: PathBuf,
    /// Images: files, folders, arrays
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// Calibration to judge by
    #[arg(long, value_name = "CAL")]
    calibration: Option<PathBuf>,
    /// Print one JSON object per image and line
    #[arg(long)]
    json: bool,
    /// Folder for one heat map per image (PNG): the image, and beside it where it is strange
    ///
    /// Grey: nothing unusual. From blue over red to yellow: stranger and stranger. The colours mean the same in
    /// all images of one run: the bar runs from the run's median pixel (bottom) to a level that one image in
    /// twenty exceeds (top).
    #[arg(long, value_name = "DIR")]
    heatmaps: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineOptions,
}

impl Score {
    pub(crate) fn run(self, terminal: &mut Terminal) -> Result<Outcome> {
        let calibration = self.calibration.as_ref();
        let detector = self.engine.open(&self.model, calibration, self.heatmaps.is_some())?;
        let inputs = Inputs::find(&self.inputs);
        let mut heatmaps = self.heatmaps.clone().map(HeatMaps::new).transpose()?;
        // A bar between the lines of a table would tear both.
        let bar = match terminal.is_interactive() {
            true => indicatif::ProgressBar::hidden(),
            false => terminal.progress(inputs.len()),
        };
        let width = (inputs.name_width() + 7).clamp(20, MAX_NAME);
        if !self.json {
            terminal.line(format_args!(
                "{:width$}  {:>9}  {:>12}  {:>9}  verdict",
                "input", "bits/dim", "score", "p-value"
            ))?;
        }
        let mut invalid = 0;
        scan::scan(&detector, &inputs, &bar, |item, inspection| {
            invalid += usize::from(inspection.is_err());
            let map =
                inspection.as_ref().ok().and_then(|i| i.measurement.as_ref()?.heat_map.as_ref());
            let file = heatmaps.as_mut().map(|maps| maps.add(item, map)).transpose()?.flatten();
            if self.json {
                let mut object = object(&detector, item, &inspection);
                if let Some(file) = file {
                    object.insert("heatmap".into(), file.display().to_string().into());
                }
                terminal.line(Value::Object(object))?;
            } else {
                terminal.line(row(&item.name(), &inspection, width))?;
            }
            if item.index + 1 == item.of {
                terminal.flush()?;
            }
            let useless = terminal.is_closed() && heatmaps.is_none();
            Ok(if useless { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        if let Some(maps) = heatmaps {
            let (folder, scale, written) = (maps.folder().to_owned(), maps.scale(), maps.len());
            maps.write(&inputs)?;
            let (low, high) = (scale.low, scale.high);
            let text = format!(
                "{written} heat maps in {}: colours run from {low:.3} to {high:.3} nats per pixel",
                folder.display()
            );
            if !self.json {
                terminal.line(text)?;
            }
        }
        Ok(Outcome { invalid })
    }
}

fn object(
    detector: &Detector,
    item: &Item,
    inspection: &Result<Inspection, String>,
) -> Map<String, Value> {
    let inspection = inspection.as_ref();
    let measurement = inspection.ok().and_then(|i| i.measurement.as_ref());
    let statistics: Map<String, Value> = measurement
        .iter()
        .flat_map(|m| m.statistics.iter())
        .map(|s| (s.name.clone(), json!(s.value)))
        .collect();
    let value = json!({
        "input": item.input,
        "index": item.index,
        "nll_nats": measurement.map(|m| m.nll.0),
        "bpd": measurement.map(|m| m.bpd.0),
        "statistics": statistics,
        "score": inspection.ok().and_then(score),
        "p_value": inspection.ok().and_then(|i| i.score).map(|s| s.p_value),
        "verdict": verdict(inspection),
        "engine": detector.engine().engine.to_string(),
        "steps": detector.steps(),
    });
    let Value::Object(mut object) = value else { return Map::new() };
    if let Err(why) = inspection {
        object.insert("error".into(), why.clone().into());
    }
    object
}

/// The calibrated score, or the negative log-likelihood in nats where there is no calibration.
pub(crate) fn score(inspection: &Inspection) -> Option<f64> {
    let nll = inspection.measurement.as_ref().map(|m| m.nll.0);
    inspection.score.map(|score| score.value).or(nll)
}

fn verdict(inspection: Result<&Inspection, &String>) -> Option<&'static str> {
    match inspection.map(|i| i.verdict.as_ref()) {
        Ok(None) => None,
        Ok(Some(Verdict::Normal)) => Some("normal"),
        Ok(Some(Verdict::Anomalous)) => Some("anomalous"),
        Ok(Some(Verdict::Invalid(_))) | Err(_) => Some("invalid"),
    }
}

fn row(name: &str, inspection: &Result<Inspection, String>, width: usize) -> String {
    let name = fit(name, width);
    match inspection {
        Err(why) => format!("{name:width$}  {:>9}  {:>12}  {:>9}  invalid: {why}", "-", "-", "-"),
        Ok(inspection) => {
            let number = |value: Option<f64>, digits: usize| match value {
                Some(value) => format!("{value:.digits$}"),
                None => "-".into(),
            };
            let bpd = number(inspection.measurement.as_ref().map(|m| m.bpd.0), 4);
            let score = number(score(inspection), 4);
            let p_value = number(inspection.score.map(|s| s.p_value), 5);
            let verdict = verdict(Ok(inspection)).unwrap_or("-");
            format!("{name:width$}  {bpd:>9}  {score:>12}  {p_value:>9}  {verdict}")
        }
    }
}

/// The end of a name tells images apart better than its beginning.
fn fit(name: &str, width: usize) -> String {
    let length = name.chars().count();
    if length <= width {
        return name.into();
    }
    let tail: String = name.chars().skip(length - width + 1).collect();
    format!("…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(fit("short.png", 20), "short.png");
        let fitted = fit("a/very/long/path/to/an/image.png", 12);
        assert_eq!(fitted, "…n/image.png");
        assert_eq!(fitted.chars().count(), 12);
    }

    #[test]
    fn invalid_rows_say_why() {
        let row = row("a.png", &Err("cannot decode".into()), 20);
        assert!(row.ends_with("invalid: cannot decode"), "{row}");
    }
}
