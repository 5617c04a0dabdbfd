//! The library for C++ programs that are built from source together with it, by cargo or Corrosion.
//!
//! The same verbs as in Rust, in the C++ namespace `f2d2::bridge`. A failure is thrown as `rust::Error`; its text ends
//! with the stable code, which `error_code` reads. Frames are borrowed and never copied. Panics are failures, too.
//!
//! There is no ABI promise: both halves come from one compiler run. Shared binaries use `f2d2.h` and `f2d2.hpp`.

mod calibration;
mod detector;
mod engine;
mod failure;
mod frame;
mod model;
mod sampler;
mod threads;

use calibration::{Calibration, calibration_from_json, calibration_load, calibration_options};
use detector::{Detector, detector_new, detector_on, detector_options};
use engine::engine_options;
use failure::error_code;
use model::{Model, limits, model_from_bytes, model_open};
use sampler::{Sampler, sampler_new, sampler_on};
use threads::{Threads, Work, threads_none, threads_of_host, threads_shared, work_run};

// cxx writes the foreign functions and the conversions of their arguments, and checks both sides against each other.
#[allow(unreachable_pub, unsafe_code)]
#[cxx::bridge(namespace = "f2d2::bridge")]
mod ffi {
    /// How a camera's pixels lie in memory. Multi-byte values are in the machine's byte order.
    #[derive(Debug)]
    enum PixelFormat {
        /// One byte per pixel.
        Gray8,
        /// One `uint16_t` per pixel.
        Gray16,
        /// Red, green, blue bytes.
        Rgb8,
        /// Blue, green, red bytes (OpenCV's order).
        Bgr8,
        /// Red, green, blue, alpha bytes; alpha is ignored.
        Rgba8,
        /// Blue, green, red, alpha bytes; alpha is ignored.
        Bgra8,
        /// One `float` per pixel, 0 black to 1 white; anything outside is refused.
        GrayF32,
        /// Red, green, blue as `float`, each 0 to 1; anything outside is refused.
        RgbF32,
    }

    /// A rectangle of pixels inside a frame; all zero is the whole frame.
    #[derive(Debug)]
    struct Roi {
        /// First column.
        x: u32,
        /// First row.
        y: u32,
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    }

    /// A borrowed image.
    struct Frame<'a> {
        /// The pixels; the last row may end without padding.
        pixels: &'a [u8],
        /// Their format.
        format: PixelFormat,
        /// Columns, 1 to 16384.
        width: u32,
        /// Rows, 1 to 16384.
        height: u32,
        /// Bytes from one row to the next; 0 is without padding.
        stride: usize,
        /// What to look at.
        roi: Roi,
    }

    /// Resource limits that a model file must keep.
    #[derive(Debug)]
    struct Limits {
        /// Bytes of the file.
        file_bytes: u64,
        /// Nodes of the graph.
        nodes: u64,
        /// Constant tensors of the graph.
        initializers: u64,
        /// Dimensions of one tensor.
        rank: u64,
        /// Length of one dimension.
        dimension: u64,
        /// Bytes of one tensor.
        tensor_bytes: u64,
        /// Bytes of one name.
        name_bytes: u64,
        /// Values of one image, channels times height times width.
        image_values: u64,
    }

    /// Size of a model's images.
    #[derive(Debug)]
    struct Shape {
        /// 1 grey, 3 colour.
        channels: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    }

    /// Which engine to run on.
    #[derive(Debug)]
    enum Engine {
        /// The fastest that works here.
        Auto,
        /// The fastest on the CPU.
        Cpu,
        /// The GPU, or an error.
        Gpu,
        /// tract, the reference engine.
        Tract,
    }

    /// Number format.
    #[derive(Debug)]
    enum Precision {
        /// 32-bit floating point.
        F32,
        /// 16-bit weights, and on a GPU activations; an error unless the results agree.
        F16,
    }

    /// Which engine to run on, and how; start from `engine_options()`.
    #[derive(Debug)]
    struct EngineOptions {
        /// The engine.
        choice: Engine,
        /// PCI bus id of the GPU to use, or a part of its name; empty for any.
        adapter: String,
        /// Number format. tract knows F32 only; a report says what is used.
        precision: Precision,
        /// Whether the CPU serves while the GPU compiles.
        background: bool,
        /// Whether the CPU takes over from a GPU that is lost for good.
        cpu_on_loss: bool,
    }

    /// Which engine was chosen.
    #[derive(Debug)]
    struct EngineReport {
        /// Its name.
        engine: String,
        /// Number format of the convolutions.
        precision: String,
        /// Threads that evaluate images side by side.
        threads: usize,
        /// Why this engine.
        reason: String,
    }

    /// How a detector is set up; start from `detector_options()`.
    #[derive(Debug)]
    struct DetectorOptions {
        /// Which engine to run on, and how.
        engine: EngineOptions,
        /// Network evaluations per noise floor; 0 takes the model's recommendation.
        steps: usize,
        /// Images evaluated side by side; 0 is one per core.
        threads: usize,
        /// Noise floors, each in (0, 1]; none takes the model's recommendation.
        noise_floors: Vec<f64>,
        /// Whether inspections carry a heat map.
        heat_maps: bool,
        /// Whether opening checks the engine against the model's golden vectors.
        self_test: bool,
    }

    /// What a calibration shall promise; start from `calibration_options()`.
    #[derive(Debug)]
    struct CalibrationOptions {
        /// Highest share of normal images that may be flagged, between 0 and 1.
        alpha: f64,
        /// Probability that an unlucky choice of calibration images breaks that, between 0 and 1.
        delta: f64,
        /// Seed of the split and of the fit.
        seed: u64,
    }

    /// The answer for one image.
    #[derive(Debug)]
    enum Verdict {
        /// There is no calibration to judge by.
        Uncalibrated,
        /// Not unlike the normal images, at the calibrated false-alarm rate.
        Normal,
        /// Unlike the normal images.
        Anomalous,
        /// No answer. Never to be treated as normal.
        Invalid,
    }

    /// One number about an image.
    #[derive(Debug)]
    struct Statistic {
        /// Which number; with the noise floor where there is one, as in `nll@0.97`.
        name: String,
        /// Its value.
        value: f64,
    }

    /// Everything known about one image. Numbers that are not known are NaN, lists that are not known empty.
    #[derive(Debug)]
    struct Inspection {
        /// Normal, anomalous, invalid, or not judged.
        verdict: Verdict,
        /// Why it is invalid; empty otherwise.
        reason: String,
        /// Strangeness in nats; higher = stranger.
        score: f64,
        /// Conformal p-value, in (0, 1].
        p_value: f64,
        /// Negative log-likelihood at the first noise floor, nats.
        nll: f64,
        /// The same in bits per dimension.
        bpd: f64,
        /// The score vector.
        statistics: Vec<Statistic>,
        /// Strangeness per pixel, nats, `[height, width]` of the model; higher = stranger. Empty unless asked for.
        heat_map: Vec<f32>,
        /// Wall-clock time, nanoseconds.
        elapsed_ns: u64,
    }

    extern "Rust" {
        /// The stable code at the end of the text of a `rust::Error`; 0 if there is none.
        fn error_code(what: &str) -> u32;

        /// A checked model file.
        type Model;
        /// The default limits.
        fn limits() -> Limits;
        /// Reads and checks a model file.
        fn model_open(path: &str, limits: &Limits) -> Result<Box<Model>>;
        /// Checks a model in memory; `name` appears in messages.
        fn model_from_bytes(name: &str, bytes: &[u8], limits: &Limits) -> Result<Box<Model>>;
        /// SHA-256 of the file, lower-case hexadecimal.
        fn hash(self: &Model) -> &str;
        /// Size of its images.
        fn shape(self: &Model) -> Shape;
        /// Whether its samples can be guided.
        fn guides(self: &Model) -> bool;

        /// Threads that any number of detectors and samplers may share. They end soon after the last of all that use
        /// them was dropped.
        type Threads;
        /// `count` threads of the library, 0 for one per core. Whoever asks for as many gets the same ones while they
        /// live.
        fn threads_shared(count: usize) -> Result<Box<Threads>>;
        /// No threads: every call does its own work.
        fn threads_none() -> Box<Threads>;
        /// `count` threads of the host, 1 or more. Each has to take its work and run it, with a stack of 2 MiB and in
        /// the default rounding mode; until one of them does, calls that need the threads wait.
        fn threads_of_host(count: usize) -> Result<Box<Threads>>;
        /// The work of one thread of the host, as often as there are threads.
        fn take_work(self: &mut Threads) -> Result<Box<Work>>;

        /// What one thread of the host has to do. The others go on without if it is dropped.
        type Work;
        /// Works until the threads are no longer used; returns then.
        fn work_run(work: Box<Work>) -> Result<()>;

        /// The default: the fastest engine that works here, in F32.
        fn engine_options() -> EngineOptions;

        /// A model on an engine. Inspecting from several threads at once is allowed.
        type Detector;
        /// The default options.
        fn detector_options() -> DetectorOptions;
        /// Puts a model on an engine. The model may be dropped afterwards.
        fn detector_new(model: &Model, options: &DetectorOptions) -> Result<Box<Detector>>;
        /// As `detector_new`, on `threads` in place of those that the options ask for, which have to be 0.
        fn detector_on(
            model: &Model,
            options: &DetectorOptions,
            threads: &Threads,
        ) -> Result<Box<Detector>>;
        /// The engine in use.
        fn engine(self: &Detector) -> EngineReport;
        /// Network evaluations per noise floor.
        fn steps(self: &Detector) -> usize;
        /// Checks the engine against the golden vectors.
        fn self_test(self: &Detector) -> Result<()>;
        /// Judges by a copy of `calibration` from now on; no inspection may run at the same time.
        fn set_calibration(self: &mut Detector, calibration: &Calibration) -> Result<()>;
        /// Inspects one frame. Throws only if the frame's description cannot be true.
        fn inspect(self: &Detector, frame: &Frame<'_>) -> Result<Inspection>;
        /// Inspects frames side by side. A frame that fails fails alone: its verdict is `Invalid`.
        fn inspect_batch(self: &Detector, frames: &[Frame<'_>]) -> Result<Vec<Inspection>>;
        /// Fits a calibration to frames that are all normal; those that cannot be used are left out.
        fn calibrate(
            self: &Detector,
            frames: &[Frame<'_>],
            options: &CalibrationOptions,
        ) -> Result<Box<Calibration>>;

        /// A density of normal score vectors with a threshold.
        type Calibration;
        /// The default rates: 1 % false alarms, broken with 5 % probability.
        fn calibration_options() -> CalibrationOptions;
        /// Reads a calibration file.
        fn calibration_load(path: &str) -> Result<Box<Calibration>>;
        /// Reads the text of a calibration file.
        fn calibration_from_json(json: &str) -> Result<Box<Calibration>>;
        /// Writes a calibration file; an older one is replaced as a whole.
        fn save(self: &Calibration, path: &str) -> Result<()>;
        /// The text of a calibration file.
        fn to_json(self: &Calibration) -> Result<String>;
        /// Scores above it are anomalous, nats.
        fn threshold(self: &Calibration) -> f64;
        /// Number of images used.
        fn images(self: &Calibration) -> usize;

        /// Draws images from a model.
        type Sampler;
        /// Puts a model on an engine for drawing with `threads` threads (0: one per core).
        fn sampler_new(
            model: &Model,
            engine: &EngineOptions,
            threads: usize,
        ) -> Result<Box<Sampler>>;
        /// As `sampler_new`, on threads that others may use as well.
        fn sampler_on(
            model: &Model,
            engine: &EngineOptions,
            threads: &Threads,
        ) -> Result<Box<Sampler>>;
        /// `n` images in `steps` evaluations each, 8 bit, `[n, height, width, channels]`; image i depends on `seed` and
        /// i only.
        fn draw(self: &Sampler, n: usize, steps: usize, seed: u64) -> Result<Vec<u8>>;
        /// As `draw`, after one step of size `learning_rate` on the noise, towards a likelier image; for models with the
        /// output grad_d.
        fn draw_guided(
            self: &Sampler,
            n: usize,
            steps: usize,
            seed: u64,
            learning_rate: f64,
        ) -> Result<Vec<u8>>;
    }
}
