//! `f2d2 info`: what a model file holds, and whether each engine computes it correctly.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use f2d2::{Adapter, Detector, DetectorOptions, EngineChoice, EngineReport, Limits, Model};
use serde_json::{Value, json};

use crate::Outcome;
use crate::output::Terminal;

/// What can be asked for: each choice is tested on the engine that it means for this model.
const CHOICES: [(&str, EngineChoice); 3] =
    [("tract", EngineChoice::Tract), ("cpu", EngineChoice::Cpu), ("gpu", EngineChoice::Gpu)];

/// Describes a model, says which engine runs it and why, and tests each against the results stored in the file.
#[derive(Args)]
pub(crate) struct Info {
    /// Model file
    model: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

struct EngineTest {
    choice: &'static str,
    /// What the choice means here, and how long loading took.
    loaded: Option<(EngineReport, f64)>,
    result: TestResult,
}

enum TestResult {
    Passed,
    Unavailable(String),
    Failed(f2d2::Error),
}

impl Info {
    pub(crate) fn run(self, terminal: &mut Terminal) -> Result<Outcome> {
        let model = Arc::new(Model::open(&self.model, &Limits::default())?);
        let tests = test_engines(&model);
        if self.json {
            terminal.line(describe(&model, &tests)?)?;
        } else {
            for (label, text) in table(&model)? {
                terminal.line(format_args!("{label:<20} {text}"))?;
            }
            for test in &tests {
                let label = format!("engine {}", test.choice);
                terminal.line(format_args!("{label:<20} {}", test.text()))?;
            }
            for adapter in f2d2::adapters() {
                terminal.line(format_args!("{:<20} {}", "adapter", described(&adapter)))?;
            }
        }
        let failed = tests.into_iter().find_map(|test| match test.result {
            TestResult::Failed(error) => Some(error),
            _ => None,
        });
        failed.map_or(Ok(Outcome::default()), |error| Err(error.into()))
    }
}

impl EngineTest {
    fn new(choice: &'static str, engine: EngineChoice, model: &Arc<Model>) -> Self {
        let start = Instant::now();
        let options = DetectorOptions { engine, self_test: false, ..DetectorOptions::default() };
        let detector = match Detector::from_model(Arc::clone(model), options) {
            Ok(detector) => detector,
            Err(error) => {
                let result = match error {
                    f2d2::Error::EngineUnavailable { why, .. } => TestResult::Unavailable(why),
                    error => TestResult::Failed(error),
                };
                return Self { choice, loaded: None, result };
            }
        };
        let loaded = Some((detector.engine(), start.elapsed().as_secs_f64() * 1e3));
        let result = detector.self_test().map_or_else(TestResult::Failed, |()| TestResult::Passed);
        Self { choice, loaded, result }
    }

    fn text(&self) -> String {
        let loaded = self.loaded.as_ref().map_or(String::new(), |(report, ms)| {
            let EngineReport { engine, precision, reason, .. } = report;
            format!(", {precision}, loads in {ms:.1} ms on {engine} ({reason})")
        });
        match &self.result {
            TestResult::Passed => format!("self-test passed{loaded}"),
            TestResult::Unavailable(why) => format!("unavailable: {why}"),
            TestResult::Failed(error) => format!("self-test FAILED{loaded}: {error}"),
        }
    }

    fn json(&self) -> Value {
        let (result, why) = match &self.result {
            TestResult::Passed => ("passed", None),
            TestResult::Unavailable(why) => ("unavailable", Some(why.clone())),
            TestResult::Failed(error) => ("failed", Some(error.to_string())),
        };
        let report = self.loaded.as_ref().map(|(report, _)| report);
        let engine = report.map_or(self.choice.to_owned(), |report| report.engine.to_string());
        json!({ "choice": self.choice, "engine": engine, "reason": report.map(|r| &r.reason),
            "precision": report.map(|r| r.precision),
            "load_ms": self.loaded.as_ref().map(|(_, ms)| ms), "self_test": result, "why": why })
    }
}

fn test_engines(model: &Arc<Model>) -> Vec<EngineTest> {
    CHOICES.into_iter().map(|(name, choice)| EngineTest::new(name, choice, model)).collect()
}

/// Name, place and driver of an adapter, and whether it can be used.
fn described(adapter: &Adapter) -> String {
    let place = if adapter.pci.is_empty() { "no PCI id" } else { &adapter.pci };
    let state = match (&adapter.unusable, adapter.software) {
        (Some(why), _) => format!("unusable: {why}"),
        (None, true) => "usable by name only: it computes on the CPU".into(),
        (None, false) => "usable".into(),
    };
    format!("{} ({place}, {}, {}): {state}", adapter.name, adapter.backend, adapter.driver)
}

fn adapter_json(adapter: &Adapter) -> Value {
    json!({ "name": adapter.name, "pci": adapter.pci, "backend": adapter.backend,
        "driver": adapter.driver, "software": adapter.software, "f16": adapter.f16,
        "unusable": adapter.unusable })
}

fn colours(model: &Model) -> &'static str {
    if model.manifest().preprocess.shape.channels == 1 { "grey" } else { "rgb" }
}

fn describe(model: &Model, tests: &[EngineTest]) -> Result<Value> {
    let manifest = model.manifest();
    let mut value = serde_json::to_value(manifest)?;
    if let Value::Object(object) = &mut value {
        // The values that engines are held against are long, and of use to engines only.
        object.remove("golden");
        object.remove("golden_gradient");
        object.insert("guidance".into(), model.guides().into());
        object.insert("golden_vectors".into(), manifest.golden.len().into());
        object.insert("colours".into(), colours(model).into());
        object.insert("range".into(), json!(range(model)));
        object.insert("sha256".into(), model.hash().into());
        object.insert("file_bytes".into(), model.file_bytes().into());
        object.insert("engines".into(), tests.iter().map(EngineTest::json).collect());
        object.insert("adapters".into(), f2d2::adapters().iter().map(adapter_json).collect());
    }
    Ok(value)
}

/// Model range of black and white, without dequantisation noise.
fn range(model: &Model) -> [f64; 2] {
    let preprocess = &model.manifest().preprocess;
    [0.0, 255.0].map(|value| value * preprocess.scale + preprocess.offset)
}

fn table(model: &Model) -> Result<Vec<(String, String)>> {
    let manifest = model.manifest();
    let preprocess = &manifest.preprocess;
    let (shape, [low, high]) = (preprocess.shape, range(model));
    let direction = |trained: bool, name: &'static str| if trained { vec![name] } else { vec![] };
    let directions = [
        direction(manifest.directions.scoring, "scoring"),
        direction(manifest.directions.sampling, "sampling"),
    ];
    let mut rows = vec![
        ("name", manifest.name.clone()),
        ("file", format!("{} bytes, sha256 {}", model.file_bytes(), model.hash())),
        ("format", format!("version {}", manifest.format_version)),
        ("licence", stated(&manifest.licence)),
        ("trained on", stated(&manifest.provenance.data)),
        ("recipe", format!("{}, seed {}", manifest.provenance.recipe, manifest.provenance.seed)),
        ("images", format!("{}x{} {}", shape.width, shape.height, colours(model))),
        ("model range", format!("{low:.6} (black) to {high:.6} (white)")),
        ("resize", plain(serde_json::to_value(preprocess.resize)?)),
        ("dequantisation", plain(serde_json::to_value(preprocess.dequantization)?)),
        ("divergence head", plain(serde_json::to_value(manifest.head)?)),
        ("directions", directions.concat().join(", ")),
        ("guidance", if model.guides() { "yes" } else { "no: no output grad_d" }.into()),
        ("clock", plain(serde_json::to_value(manifest.clock)?)),
        ("noise floors", format!("{:?}", manifest.noise_floors)),
        ("default steps", manifest.default_steps.to_string()),
    ]
    .into_iter()
    .map(|(label, text)| (label.to_owned(), text))
    .collect::<Vec<_>>();
    for (steps, schedule) in &manifest.schedules {
        let times: Vec<String> = schedule.times().iter().map(|t| format!("{t:.4}")).collect();
        rows.push((format!("schedule K={steps}"), times.join(" ")));
    }
    Ok(rows)
}

fn stated(text: &str) -> String {
    if text.is_empty() { "not stated".into() } else { text.into() }
}

/// `log snr, epsilon 0.001` of `{"kind": "log_snr", "epsilon": 0.001}`.
fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text.replace('_', " "),
        Value::Object(mut fields) => {
            let kind = fields.remove("kind").map(plain);
            let fields = fields.into_iter().map(|(name, value)| format!("{name} {}", plain(value)));
            kind.into_iter().chain(fields).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}
