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
use crate::{Outcome, scan, score};

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
        let mut extremes = Extremes::default();
        let mut extent = Extent::default();
        let mut normal = Group { name: "normal".into(), ..Group::default() };
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
                        if let Some(map) = inspection.measurement.and_then(|m| m.heat_map) {
                            extent.add(&map);
                            extremes.offer(value, item, label, map);
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
        collect(&mut normal, &self.normal, "normal")?;
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
        match self.json {
            true => terminal.line(figures.json(&detector))?,
            false => figures.print(terminal)?,
        }
        if let (Some(path), false) = (&self.report, self.json) {
            terminal.line(format_args!("report               {}", path.display()))?;
        }
        let all = &figures.comparisons[0].group;
        Ok(Outcome { invalid: figures.normal.invalid + all.invalid })
    }
}
