//! [`Detector`]: frame in, calibrated verdict out. The only file that knows the whole chain.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::calibration::{Binding, Calibration, CalibrationOptions};
use crate::error::{Error, Result};
use crate::flow::{
    self, Batch, EngineChoice, EngineReport, FlowMap, GpuOptions, KernelTime, MemoryPlan, Schedule,
    Starts, Threads, Transported,
};
use crate::frame::{Frame, PixelFormat};
use crate::heatmap;
use crate::likelihood::likelihood;
use crate::model::{Limits, Model, ModelInfo};
use crate::preprocess::{Pixels, noise};
use crate::statistics::{Evidence, FloorEvidence, Statistics};
use crate::verdict::{Inspection, Measurement, Verdict};

/// Frames that are in work at the same time: bounds the memory of a batch of any size.
const CHUNK: usize = 64;

/// How a [`Detector`] is set up; the default suits most models.
#[derive(Clone, Debug)]
pub struct DetectorOptions {
    /// Which engine to run on.
    pub engine: EngineChoice,
    /// How the GPU is used, if it is.
    pub gpu: GpuOptions,
    /// Network evaluations per noise floor; `None` takes the model's recommendation.
    pub steps: Option<usize>,
    /// Images evaluated side by side; 0 is one per core. Detectors that ask for as many share their threads.
    pub threads: usize,
    /// Other threads to use in place of those, as of the host.
    pub pool: Option<Threads>,
    /// Noise floors, each in (0, 1]; `None` takes the model's recommendation.
    pub noise_floors: Option<Vec<f64>>,
    /// Whether inspections carry a heat map.
    pub heat_maps: bool,
    /// Whether opening checks the engine against the model's golden vectors.
    pub self_test: bool,
    /// Resource limits of the model file.
    pub limits: Limits,
}

impl Default for DetectorOptions {
    fn default() -> Self {
        Self {
            engine: EngineChoice::Auto,
            gpu: GpuOptions::default(),
            steps: None,
            threads: 0,
            pool: None,
            noise_floors: None,
            heat_maps: false,
            self_test: true,
            limits: Limits::default(),
        }
    }
}

/// A model on an engine, with a calibration to judge by. Immutable while inspecting: share it between threads.
///
/// A clone shares model, engine and threads; it can be given another calibration.
#[derive(Clone)]
pub struct Detector {
    model: Arc<ModelInfo>,
    flow: Arc<dyn FlowMap>,
    threads: Threads,
    starts: Arc<Starts>,
    heat_maps: bool,
    calibration: Option<Calibration>,
}

impl Detector {
    /// Opens the model file at `path`.
    ///
    /// # Errors
    /// Those of [`Model::open`] and [`Detector::from_model`].
    pub fn open(path: impl AsRef<Path>, options: DetectorOptions) -> Result<Self> {
        let model = Model::open(path, &options.limits)?;
        Self::from_model(Arc::new(model), options)
    }

    /// Puts a model on an engine.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for unusable steps or noise floors or a model that cannot score,
    /// [`Error::SelfTest`] if the engine does not reproduce the golden vectors, and the engine's errors.
    pub fn from_model(model: Arc<Model>, options: DetectorOptions) -> Result<Self> {
        let info = Arc::clone(model.info());
        let manifest = info.manifest();
        if !manifest.directions.scoring {
            return Err(Error::option("model direction", "sampling only", "a model that scores"));
        }
        let steps = options.steps.unwrap_or(manifest.default_steps);
        let noise_floors = options.noise_floors.unwrap_or_else(|| manifest.noise_floors.clone());
        if noise_floors.is_empty() {
            return Err(Error::option("noise floors", "an empty list", "at least one"));
        }
        if noise_floors.iter().enumerate().any(|(i, t0)| noise_floors[..i].contains(t0)) {
            let got = format!("{noise_floors:?}");
            return Err(Error::option("noise floors", got, "each time once"));
        }
        let schedules = noise_floors
            .iter()
            .map(|&t0| manifest.scoring_schedule(steps, t0))
            .collect::<Result<Vec<_>>>()?;
        let threads = options.pool.map_or_else(|| Threads::shared(options.threads), Ok)?;
        let flow = flow::open(model, options.engine, &threads, &options.gpu, options.self_test)?;
        let heat_maps = options.heat_maps;
        let calibration = None;
        let starts =
            Starts::new(&manifest.preprocess, manifest.noise_seed, noise_floors, schedules);
        let starts = Arc::new(starts);
        let detector = Self { model: info, flow, threads, starts, heat_maps, calibration };
        if options.self_test {
            detector.self_test()?;
        }
        Ok(detector)
    }

    /// What its model is. The weights are the engine's: the model itself may be gone.
    pub fn model(&self) -> &ModelInfo {
        &self.model
    }

    /// The engine that runs it, why that one, and what has become of it.
    pub fn engine(&self) -> EngineReport {
        self.flow.latest_report()
    }

    /// Network evaluations per noise floor.
    pub fn steps(&self) -> usize {
        self.schedules()[0].steps()
    }

    /// The schedules, one per noise floor.
    pub fn schedules(&self) -> &[Schedule] {
        self.starts.schedules()
    }

    /// Everything that a calibration of this detector is bound to.
    pub fn binding(&self) -> Binding {
        Binding {
            model: self.model.hash().to_owned(),
            schedules: self.schedules().to_vec(),
            noise_floors: self.starts.noise_floors().to_vec(),
            precision: self.engine().precision.to_owned(),
            preprocess: self.model.manifest().preprocess.clone(),
        }
    }

    /// Checks the engine against the golden vectors in the model file.
    ///
    /// # Errors
    /// [`Error::SelfTest`] naming the first value that differs.
    pub fn self_test(&self) -> Result<()> {
        let manifest = self.model.manifest();
        let shape = manifest.preprocess.shape;
        manifest.golden.iter().try_for_each(|golden| golden.verify(&*self.flow, shape))
    }

    /// The score vector of every frame, in order; for callers of [`Calibration::fit`] that cannot hold all their
    /// frames at once, as [`Detector::calibrate`] needs them.
    pub fn measure(&self, frames: &[Frame<'_>]) -> Vec<Result<Statistics>> {
        let chunks = frames.chunks(CHUNK).flat_map(|chunk| self.measure_chunk(chunk, false));
        chunks.map(|result| result.map(|measurement| measurement.statistics)).collect()
    }

    /// Memory that the engine takes for `images` images at a time; `None` if it cannot say.
    pub fn memory_plan(&self, images: usize) -> Option<MemoryPlan> {
        self.flow.memory_plan(images)
    }

    /// Where one network evaluation of `images` seeded images spends its time, kernel by kernel; the median of several.
    /// Empty if the engine cannot say.
    ///
    /// # Errors
    /// The engine's.
    pub fn profile(&self, images: usize) -> Result<Vec<KernelTime>> {
        let shape = self.model.manifest().preprocess.shape;
        let values = noise::uniform(0, noise::GOLDEN, images.max(1) * shape.len());
        let values = values.into_iter().map(|u| 2.0 * u - 1.0).collect();
        self.flow.profile(&Batch::new(shape, values)?, &self.schedules()[0])
    }

    /// Fits a calibration to frames that are all normal. Invalid frames are left out.
    ///
    /// # Errors
    /// [`Error::TooFewImages`] if the valid frames cannot support the requested guarantee.
    pub fn calibrate(
        &self,
        frames: &[Frame<'_>],
        options: &CalibrationOptions,
    ) -> Result<Calibration> {
        let vectors: Vec<Statistics> = self.measure(frames).into_iter().flatten().collect();
        Calibration::fit(self.binding(), &vectors, options)
    }

    /// Judges by `calibration` from now on.
    ///
    /// # Errors
    /// [`Error::CalibrationMismatch`] if it was made for another model, schedule, engine or preprocessing.
    pub fn set_calibration(&mut self, calibration: Calibration) -> Result<()> {
        calibration.check(&self.binding())?;
        self.calibration = Some(calibration);
        Ok(())
    }

    /// The calibration in use.
    pub fn calibration(&self) -> Option<&Calibration> {
        self.calibration.as_ref()
    }

    /// Scores `images` grey frames and forgets them, so that the first frames of the camera do not pay for what comes
    /// once: memory for so many images at all noise floors, and what depends on the times of the schedules only.
    ///
    /// # Errors
    /// Why the frames could not be scored.
    pub fn warm_up(&self, images: usize) -> Result<()> {
        let shape = self.model.manifest().preprocess.shape;
        let format = if shape.channels == 1 { PixelFormat::Gray8 } else { PixelFormat::Rgb8 };
        let grey = vec![127; shape.len()];
        let frame = Frame::packed(&grey, format, shape.width as u32, shape.height as u32)?;
        let frames = vec![frame; images.min(CHUNK)];
        self.measure(&frames).into_iter().try_for_each(|measured| measured.map(drop))
    }

    /// Inspects one frame. Whatever cannot be judged is [`Verdict::Invalid`], with the reason.
    pub fn inspect(&self, frame: &Frame<'_>) -> Inspection {
        let (start, precision) = (Instant::now(), self.flow.report().precision);
        let mut measured = self.measure_chunk(std::slice::from_ref(frame), self.heat_maps);
        let missing = Err(Error::NonFinite { what: "measurement" });
        self.judge(measured.pop().unwrap_or(missing), precision, start)
    }

    /// Inspects frames side by side; each result is that of [`Detector::inspect`].
    pub fn inspect_batch(&self, frames: &[Frame<'_>]) -> Vec<Inspection> {
        let chunk = |chunk| {
            let (start, precision) = (Instant::now(), self.flow.report().precision);
            let measured = self.measure_chunk(chunk, self.heat_maps);
            measured.into_iter().map(move |m| self.judge(m, precision, start))
        };
        frames.chunks(CHUNK).flat_map(chunk).collect()
    }

    /// `before`: precision of the engine before it measured. It may have been replaced meanwhile, and nobody knows whose
    /// the scores are then: the calibration has to hold for both.
    fn judge(
        &self,
        measured: Result<Measurement>,
        before: &'static str,
        start: Instant,
    ) -> Inspection {
        let (engine, steps) = (self.engine(), self.steps());
        let judged = measured.and_then(|measurement| {
            let Some(calibration) = &self.calibration else {
                return Ok((None, None, measurement));
            };
            [before, engine.precision].iter().try_for_each(|p| calibration.check_precision(p))?;
            let score = calibration.score(&measurement.statistics)?;
            let anomalous = calibration.is_anomalous(&score);
            let verdict = if anomalous { Verdict::Anomalous } else { Verdict::Normal };
            Ok((Some(verdict), Some(score), measurement))
        });
        let (verdict, score, measurement) = match judged {
            Ok((verdict, score, measurement)) => (verdict, score, Some(measurement)),
            Err(error) => (Some(Verdict::Invalid(error.to_string())), None, None),
        };
        Inspection { verdict, score, measurement, engine, steps, elapsed: start.elapsed() }
    }

    /// Frames → measurements: one transport of all valid frames per noise floor. A frame that fails fails alone.
    fn measure_chunk(&self, frames: &[Frame<'_>], heat_maps: bool) -> Vec<Result<Measurement>> {
        let preprocess = &self.model.manifest().preprocess;
        let images: Vec<Result<Pixels>> =
            self.side_by_side(frames.iter().collect(), |frame| preprocess.pixels(frame));
        let valid: Vec<&Pixels> = images.iter().flatten().collect();
        let mut columns: Vec<_> = match self.flow.transport_pixels(&valid, &self.starts) {
            Ok(floors) => floors.into_iter().map(Vec::into_iter).collect(),
            Err(error) => {
                let why = error.to_string();
                let engine = self.flow.report().engine;
                return frames.iter().map(|_| Err(engine.failed(&*why))).collect();
            }
        };
        let mut row = || columns.iter_mut().filter_map(Iterator::next).collect::<Result<Vec<_>>>();
        let jobs = images.into_iter().map(|image| image.map(|pixels| (pixels, row()))).collect();
        self.side_by_side(jobs, |job| {
            let (pixels, transported) = job?;
            self.measurement(&pixels, transported?, heat_maps)
        })
    }

    fn measurement(
        &self,
        pixels: &Pixels,
        transported: Vec<Transported>,
        heat_map: bool,
    ) -> Result<Measurement> {
        let preprocess = &self.model.manifest().preprocess;
        let floor = |(&t0, transported): (&f64, Transported)| FloorEvidence {
            t0,
            likelihood: likelihood(&transported.state, transported.log_det, t0, preprocess.scale),
            transported,
        };
        let floors: Vec<_> =
            self.starts.noise_floors().iter().zip(transported).map(floor).collect();
        let evidence = Evidence { pixels, shape: preprocess.shape, floors: &floors };
        let statistics = Statistics::new(&evidence)?;
        let first = floors.first().ok_or(Error::NonFinite { what: "likelihood" })?;
        let nll = first.likelihood.nll();
        if !nll.0.is_finite() {
            return Err(Error::NonFinite { what: "likelihood" });
        }
        let bpd = nll.per_dim(preprocess.shape.len());
        let heat_map = heat_map.then(|| heatmap::heat_map(&evidence));
        Ok(Measurement { nll, bpd, statistics, heat_map })
    }

    fn side_by_side<T: Send, R: Send>(
        &self,
        jobs: Vec<T>,
        work: impl Fn(T) -> R + Send + Sync,
    ) -> Vec<R> {
        if jobs.len() < 2 {
            return jobs.into_iter().map(work).collect();
        }
        self.threads.map(jobs, work)
    }
}
