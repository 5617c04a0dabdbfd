//! `f2d2 evaluate`: normal and anomalous images → how well the detector tells them apart, and whether its promised
//! false-alarm rate holds.

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use f2d2::Verdict;

use crate::figures::{Figures, Group};
use crate::inputs::Inputs;
use crate::options::EngineOptions;
use crate::output::{self, Terminal};
use crate::overlay::Extent;
use crate::report::{self, Extremes};
use crate::resplit::Resplit;
use crate::{Outcome, scan, score};

const NORMAL: &str = "normal";

/// Measures how well normal and anomalous images are told apart.
///
/// Without --calibration images are compared by their negative log-likelihood, and nothing is flagged.
#[derive(Args)]
pub(crate) struct Evaluate {
    /// Model file
    model: PathBuf,
    /// Normal images that neither training nor calibration has seen; may be repeated
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    normal: Vec<PathBuf>,
    /// Anomalous images; may be repeated, every PATH is reported on its own too
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    anomalous: Vec<PathBuf>,
    /// Calibration to judge by
    #[arg(long, value_name = "CAL")]
    calibration: Option<PathBuf>,
    /// Normal images to fit fresh calibrations to, on random splits, to see whether the promise holds for those too
    #[arg(long, value_name = "PATH", requires = "calibration", num_args = 1..)]
    resplit: Vec<PathBuf>,
    /// Number of fresh calibrations
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    splits: u64,
    /// Self-contained HTML report to write
    #[arg(long, value_name = "HTML")]
    report: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineOptions,
}

impl Evaluate {
    pub(crate) fn run(self, terminal: &mut Terminal) -> Result<Outcome> {
        self.report.as_deref().map_or(Ok(()), output::check_writable)?;
        let calibration = self.calibration.as_ref();
        let detector = self.engine.open(&self.model, calibration, self.report.is_some())?;
        let resplitting = !self.resplit.is_empty();
        let mut extremes = Extremes::default();
        let mut extent = Extent::default();
        let mut normal = Group { name: NORMAL.into(), ..Group::default() };
        let mut collect = |group: &mut Group, paths: &[PathBuf], label: &str| {
            let inputs = Inputs::find(paths);
            let bar = terminal.progress(inputs.len());
            scan::scan(&detector, &inputs, &bar, |item, inspection| {
                match inspection {
                    Ok(inspection) => {
                        let Some(value) = score::score(&inspection) else {
                            return Ok(ControlFlow::Continue(()));
                        };
                        group.scores.push(value);
                        let flagged = inspection.verdict == Some(Verdict::Anomalous);
                        group.flagged += usize::from(flagged);
                        let Some(measurement) = inspection.measurement else {
                            return Ok(ControlFlow::Continue(()));
                        };
                        if let Some(map) = measurement.heat_map {
                            extent.add(&map);
                            extremes.offer(value, item, label, map);
                        }
                        if resplitting && label == NORMAL {
                            group.vectors.push(measurement.statistics);
                        }
                    }
                    Err(why) => {
                        group.invalid += 1;
                        bar.suspend(|| terminal.warn(&format!("left out {}: {why}", item.name())));
                    }
                }
                Ok(ControlFlow::Continue(()))
            })
        };
        collect(&mut normal, &self.normal, NORMAL)?;
        let mut fresh = Vec::new();
        if resplitting {
            let inputs = Inputs::find(&self.resplit);
            let bar = terminal.progress(inputs.len());
            scan::scan(&detector, &inputs, &bar, |_, inspection| {
                let measurement = inspection.ok().and_then(|i| i.measurement);
                fresh.extend(measurement.map(|m| m.statistics));
                Ok(ControlFlow::Continue(()))
            })?;
        }
        let resplit = match detector.calibration() {
            Some(calibration) if resplitting => {
                let normal = &normal.vectors;
                Some(Resplit::new(&detector, calibration, &fresh, normal, self.splits)?)
            }
            _ => None,
        };
        let mut groups = Vec::new();
        for path in &self.anomalous {
            let mut group = Group { name: path.display().to_string(), ..Group::default() };
            collect(&mut group, std::slice::from_ref(path), "anomalous")?;
            groups.push(group);
        }
        let figures = Figures::new(normal, groups, detector.calibration())?;
        if let Some(path) = &self.report {
            let page = report::page(&detector, &figures, &extremes, extent.scale())?;
            output::write_file(path, |writer| {
                Ok(std::io::Write::write_all(writer, page.as_bytes())?)
            })?;
        }
        if self.json {
            let mut object = figures.json(&detector);
            object["resplit"] = resplit.as_ref().map(Resplit::json).into();
            terminal.line(object)?;
        } else {
            figures.print(terminal)?;
            resplit.as_ref().map_or(Ok(()), |resplit| resplit.print(terminal))?;
        }
        if let (Some(path), false) = (&self.report, self.json) {
            terminal.line(format_args!("report               {}", path.display()))?;
        }
        let all = &figures.comparisons[0].group;
        Ok(Outcome { invalid: figures.normal.invalid + all.invalid })
    }
}
