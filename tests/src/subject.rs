//! Everything under test looks the same: a [`Subject`] opens models, a [`Session`] scores with one.

use std::sync::Arc;

use f2d2::flow::GpuOptions;
use f2d2::{
    Detector, DetectorOptions, EngineChoice, Frame, Limits, Model, PixelFormat, Result, Sampler,
};

use crate::device;

/// A way to run a model: an engine today, a language binding later.
pub trait Subject {
    /// For messages.
    fn name(&self) -> &'static str;

    /// Opens a model file with `steps` steps at `noise_floors`, with the self-test.
    ///
    /// # Errors
    /// Those of the library.
    fn open(&self, model: &[u8], steps: usize, noise_floors: &[f64]) -> Result<Box<dyn Session>>;
}

/// A model that was opened.
pub trait Session {
    /// Name of the engine that runs it.
    fn engine(&self) -> String;

    /// Scores packed 8-bit images of the model's size.
    fn score(&self, images: &[Vec<u8>]) -> Vec<Scored>;

    /// Draws images.
    ///
    /// # Errors
    /// Those of the library.
    fn sample(&self, n: usize, steps: usize, seed: u64) -> Result<Vec<Vec<u8>>>;
}

/// What is known about one image.
#[derive(Clone, Debug)]
pub struct Scored {
    /// Negative log-likelihood, nats.
    pub nll: f64,
    /// Bits per dimension.
    pub bpd: f64,
    /// The score vector.
    pub statistics: Vec<(String, f64)>,
}

impl Scored {
    /// The statistic `name`.
    ///
    /// # Panics
    /// If there is none.
    pub fn get(&self, name: &str) -> f64 {
        let found = self.statistics.iter().find(|(n, _)| n == name);
        found.unwrap_or_else(|| panic!("no statistic {name}: {:?}", self.statistics)).1
    }
}

/// The library in Rust, on an engine of its choice.
pub struct Rust(pub EngineChoice);

/// The library in Rust, on a GPU.
pub struct RustGpu(pub GpuOptions);

/// Every subject that exists today.
pub fn all() -> Vec<Box<dyn Subject>> {
    let mut all: Vec<Box<dyn Subject>> =
        vec![Box::new(Rust(EngineChoice::Cpu)), Box::new(Rust(EngineChoice::Tract))];
    if let Some(options) = device::options() {
        all.push(Box::new(RustGpu(options)));
    }
    all
}

impl Subject for RustGpu {
    fn name(&self) -> &'static str {
        "rust gpu"
    }

    fn open(&self, model: &[u8], steps: usize, noise_floors: &[f64]) -> Result<Box<dyn Session>> {
        session(EngineChoice::Gpu, &self.0, model, steps, noise_floors)
    }
}

impl Subject for Rust {
    fn name(&self) -> &'static str {
        match self.0 {
            EngineChoice::Auto => "rust auto",
            EngineChoice::Cpu => "rust cpu",
            EngineChoice::Gpu => "rust gpu",
            EngineChoice::Tract => "rust tract",
        }
    }

    fn open(&self, model: &[u8], steps: usize, noise_floors: &[f64]) -> Result<Box<dyn Session>> {
        session(self.0, &GpuOptions::default(), model, steps, noise_floors)
    }
}

fn session(
    engine: EngineChoice,
    gpu: &GpuOptions,
    model: &[u8],
    steps: usize,
    noise_floors: &[f64],
) -> Result<Box<dyn Session>> {
    let model = Arc::new(Model::from_bytes("test", model, &Limits::default())?);
    let options = DetectorOptions {
        engine,
        gpu: gpu.clone(),
        steps: Some(steps),
        threads: 1,
        noise_floors: Some(noise_floors.to_vec()),
        ..DetectorOptions::default()
    };
    let detector = Detector::from_model(Arc::clone(&model), options)?;
    Ok(Box::new(RustSession { model, detector, engine, gpu: gpu.clone() }))
}

struct RustSession {
    model: Arc<Model>,
    detector: Detector,
    engine: EngineChoice,
    gpu: GpuOptions,
}

impl Session for RustSession {
    fn engine(&self) -> String {
        self.detector.engine().engine.to_string()
    }

    fn score(&self, images: &[Vec<u8>]) -> Vec<Scored> {
        let shape = self.model.manifest().preprocess.shape;
        let format = if shape.channels == 3 { PixelFormat::Rgb8 } else { PixelFormat::Gray8 };
        let (width, height) = (shape.width as u32, shape.height as u32);
        let frame = |data| Frame::packed(data, format, width, height).unwrap();
        let frames: Vec<_> = images.iter().map(|image| frame(image)).collect();
        let scored = |inspection: f2d2::Inspection| {
            let Some(m) = inspection.measurement else {
                panic!("no measurement: {:?}", inspection.verdict);
            };
            let statistics = m.statistics.iter().map(|s| (s.name.clone(), s.value)).collect();
            Scored { nll: m.nll.0, bpd: m.bpd.0, statistics }
        };
        self.detector.inspect_batch(&frames).into_iter().map(scored).collect()
    }

    fn sample(&self, n: usize, steps: usize, seed: u64) -> Result<Vec<Vec<u8>>> {
        let sampler = Sampler::with_gpu(Arc::clone(&self.model), self.engine, 1, &self.gpu)?;
        Ok(sampler.draw(n, steps, seed)?.into_iter().map(|pixels| pixels.data).collect())
    }
}
