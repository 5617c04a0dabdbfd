//! `f2d2 bench`: throughput and latency of a model on this machine.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use f2d2::flow::KernelTime;
use f2d2::preprocess::noise;
use f2d2::{Detector, DetectorOptions, Frame, PixelFormat};
use serde::Serialize;
use serde_json::json;

use crate::Outcome;
use crate::options::{EngineOptions, judged};
use crate::output::Terminal;

/// Seed of the synthetic frames.
const SEED: u64 = 0;
/// Timed calls that there are at least, unless they take longer than `PATIENCE`.
const MIN_CALLS: usize = 5;
/// Time after which the calls so far have to do.
const PATIENCE: Duration = Duration::from_secs(10);
/// Untimed calls before the timed ones.
const WARM_UP: usize = 2;

/// Measures throughput and latency on this machine with synthetic frames.
///
/// Every call's results have to be finite and equal to those of the first call; otherwise nothing is reported.
#[derive(Args)]
pub(crate) struct Bench {
    /// Model file
    model: PathBuf,
    /// Frames per call
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Time to measure for, after the warm-up
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Judge by this calibration, so that the verdict is part of what is timed
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// Start from these noise floors instead of the model's
    #[arg(long, value_name = "T", value_delimiter = ',', conflicts_with = "calibration")]
    noise_floors: Option<Vec<f64>>,
    /// Show where one network evaluation of a thread spends its time, kernel by kernel, instead
    #[arg(long)]
    profile: bool,
    /// Measure so many steps as well, and say how many times the evaluations and the time they take
    #[arg(long, value_name = "K", conflicts_with = "profile")]
    against: Option<usize>,
    #[command(flatten)]
    engine: EngineOptions,
}

/// What many steps take beside the few that were measured.
#[derive(Serialize)]
struct Against {
    steps: usize,
    evaluations_ratio: f64,
    time_ratio: f64,
}

impl Bench {
    pub(crate) fn run(self, terminal: &mut Terminal) -> Result<Outcome> {
        let start = Instant::now();
        let detector = judged(self.open(self.engine.steps)?, self.calibration.as_ref())?;
        let load_ms = milliseconds(start.elapsed());
        if self.profile {
            return self.show_profile(&detector, terminal);
        }
        // Before anything is measured: the number of steps may be refused.
        let many = self.against.map(|steps| self.open(Some(steps))).transpose()?;
        let times = self.measure(&detector)?;
        let (p50, p99) = (quantile(&times, 0.5), quantile(&times, 0.99));
        let rate = f64::from(self.batch) / p50.as_secs_f64();
        let engine = detector.engine();
        let schedules = detector.schedules();
        let evaluations: usize = schedules.iter().map(|schedule| schedule.steps()).sum();
        let against = many.map(|many| self.against(&many, detector.steps(), p50)).transpose()?;
        if self.json {
            terminal.line(json!({
                "model": detector.model().manifest().name,
                "engine": engine.engine.to_string(),
                "precision": engine.precision,
                "batch": self.batch,
                "steps": detector.steps(),
                "threads": engine.threads,
                "images_per_second": rate,
                "latency_p50_ms": milliseconds(p50),
                "latency_p99_ms": milliseconds(p99),
                "calls": times.len(),
                "noise_floors": schedules.len(),
                "evaluations_per_image": evaluations,
                "load_ms": load_ms,
                "against": against,
            }))?;
            return Ok(Outcome::default());
        }
        terminal.line(format_args!(
            "engine               {} {} ({})",
            engine.engine, engine.precision, engine.reason
        ))?;
        terminal.line(format_args!("threads              {}", engine.threads))?;
        terminal.line(format_args!(
            "evaluations/image    {evaluations} ({} steps, {} noise floors)",
            detector.steps(),
            schedules.len()
        ))?;
        terminal.line(format_args!("load                 {load_ms:.1} ms, with self-test"))?;
        if let Some(memory) = detector.memory_plan(self.batch as usize) {
            terminal.line(format_args!(
                "memory               {:.1} MB of weights, {:.1} MB per thread",
                memory.weights as f64 / 1e6,
                memory.session as f64 / 1e6
            ))?;
        }
        terminal.line(format_args!(
            "batch of {:<11} {:.3} ms median, {:.3} ms at 99 % ({} calls)",
            self.batch,
            milliseconds(p50),
            milliseconds(p99),
            times.len()
        ))?;
        terminal.line(format_args!("throughput           {rate:.1} images/s"))?;
        if let Some(Against { steps, evaluations_ratio, time_ratio }) = against {
            terminal.line(format_args!(
                "against {steps:<12} {evaluations_ratio:.1} times the evaluations, {time_ratio:.1} times the time"
            ))?;
        }
        Ok(Outcome::default())
    }

    /// The model with so many steps, or those that it recommends.
    fn open(&self, steps: Option<usize>) -> Result<Detector> {
        let noise_floors = self.noise_floors.clone();
        let options = DetectorOptions { steps, noise_floors, ..self.engine.detector(false) };
        Ok(Detector::open(&self.model, options)?)
    }

    /// The steps of `many` beside `few`, which take `time`.
    fn against(&self, many: &Detector, few: usize, time: Duration) -> Result<Against> {
        let (times, steps) = (self.measure(many)?, many.steps());
        let evaluations_ratio = steps as f64 / few as f64;
        let time_ratio = quantile(&times, 0.5).as_secs_f64() / time.as_secs_f64();
        Ok(Against { steps, evaluations_ratio, time_ratio })
    }

    /// One line per kernel, in order.
    fn show_profile(&self, detector: &Detector, terminal: &mut Terminal) -> Result<Outcome> {
        let kernels = detector.profile(self.batch as usize)?;
        if kernels.is_empty() {
            bail!("engine {} cannot say where its time goes", detector.engine().engine);
        }
        if self.json {
            let kernel = |KernelTime { kernel, time, multiplications }: &KernelTime| {
                let microseconds = time.as_secs_f64() * 1e6;
                json!({ "kernel": kernel, "microseconds": microseconds, "multiplications": multiplications })
            };
            let kernels: Vec<_> = kernels.iter().map(kernel).collect();
            terminal.line(json!({ "kernels": kernels }))?;
            return Ok(Outcome::default());
        }
        let total: Duration = kernels.iter().map(|k| k.time).sum();
        terminal.line("      us  share  GFLOP/s  kernel")?;
        for KernelTime { kernel, time, multiplications } in &kernels {
            let share = 100.0 * time.as_secs_f64() / total.as_secs_f64();
            let rate = 2e-9 * *multiplications as f64 / time.as_secs_f64();
            let microseconds = time.as_secs_f64() * 1e6;
            terminal.line(format_args!("{microseconds:8.1} {share:5.1}% {rate:8.1}  {kernel}"))?;
        }
        terminal.line(format_args!("{:8.1} all kernels", total.as_secs_f64() * 1e6))?;
        Ok(Outcome::default())
    }

    /// Wall-clock time of every call, the shortest first.
    fn measure(&self, detector: &Detector) -> Result<Vec<Duration>> {
        let shape = detector.model().manifest().preprocess.shape;
        let format = if shape.channels == 3 { PixelFormat::Rgb8 } else { PixelFormat::Gray8 };
        let images: Vec<Vec<u8>> = (0..self.batch).map(|i| synthetic(i, shape.len())).collect();
        let (width, height) = (shape.width as u32, shape.height as u32);
        let frame = |data| Frame::packed(data, format, width, height);
        let frames = images.iter().map(|image| frame(image)).collect::<f2d2::Result<Vec<_>>>()?;
        let expected = likelihoods(detector, &frames)?;
        let call = || {
            let start = Instant::now();
            let inspections = detector.inspect_batch(&frames);
            let elapsed = start.elapsed();
            let nll = |i: &f2d2::Inspection| i.measurement.as_ref().map(|m| m.nll.0.to_bits());
            let same = inspections.iter().map(nll).eq(expected.iter().map(|v| Some(v.to_bits())));
            if same { Ok(elapsed) } else { bail!("repeated calls do not give equal results") }
        };
        for _ in 1..WARM_UP {
            call()?;
        }
        let mut times = Vec::new();
        let start = Instant::now();
        let enough = |calls: usize| calls > 0 && (calls >= MIN_CALLS || start.elapsed() > PATIENCE);
        while !enough(times.len()) || start.elapsed().as_secs_f64() < self.seconds {
            times.push(call()?);
        }
        times.sort_unstable();
        Ok(times)
    }
}

/// The time that a share `q` of `sorted`, of which there is one at least, does not exceed.
fn quantile(sorted: &[Duration], q: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * q).round() as usize]
}

/// The first call: its results are what all others are held against.
fn likelihoods(detector: &Detector, frames: &[Frame<'_>]) -> Result<Vec<f64>> {
    let nll = |inspection: f2d2::Inspection| match (inspection.measurement, inspection.verdict) {
        (Some(measurement), _) if measurement.nll.0.is_finite() => Ok(measurement.nll.0),
        (_, Some(f2d2::Verdict::Invalid(why))) => bail!("a synthetic frame is invalid: {why}"),
        _ => bail!("the likelihood of a synthetic frame is not finite"),
    };
    detector.inspect_batch(frames).into_iter().map(nll).collect()
}

/// Grey ramps under noise: neither constant nor without structure.
fn synthetic(stream: u32, len: usize) -> Vec<u8> {
    let ramp = |i: usize| (i * 128 / len) as u8;
    let noise = noise::uniform(SEED, stream, len).into_iter().enumerate();
    noise.map(|(i, u)| ramp(i) + (u * 127.0) as u8).collect()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=3600.0).contains(&value) => Ok(value),
        _ => Err("need 0 to 3600 seconds".into()),
    }
}
