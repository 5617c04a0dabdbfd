//! One benchmark per stage, and end to end, on the shipped model: `cargo bench --workspace --bench stages`.
//!
//! Kernels of the network by themselves: `f2d2 bench MODEL --profile`. Beside other engines: `tests/peers/cpu.py`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::{Arc, LazyLock};

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use f2d2::flow::{StepStatistics, Transported};
use f2d2::likelihood::{floor_noise, likelihood, noisy};
use f2d2::preprocess::{Input, noise};
use f2d2::statistics::{Evidence, FloorEvidence};
use f2d2::{
    Calibration, Detector, DetectorOptions, EngineChoice, Frame, Limits, Model, PixelFormat,
    Statistics, heatmap,
};

fn main() {
    divan::main();
}

static MODEL: LazyLock<Arc<Model>> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/fashion-mnist/model.onnx");
    Arc::new(Model::open(path, &Limits::default()).unwrap())
});

fn pixels(n: usize) -> Vec<u8> {
    noise::uniform(1, noise::GOLDEN, n).into_iter().map(|u| (256.0 * u) as u8).collect()
}

fn input() -> Input {
    let (preprocess, data) = (&MODEL.manifest().preprocess, pixels(28 * 28));
    preprocess.apply(&Frame::packed(&data, PixelFormat::Gray8, 28, 28).unwrap()).unwrap()
}

fn detector(engine: EngineChoice, steps: usize) -> Detector {
    let options =
        DetectorOptions { engine, steps: Some(steps), threads: 1, ..DetectorOptions::default() };
    Detector::from_model(Arc::clone(&MODEL), options).unwrap()
}

/// What the flow hands to the statistics, at the model's noise floors.
fn floors() -> Vec<FloorEvidence> {
    let manifest = MODEL.manifest();
    let n = manifest.preprocess.shape.len();
    let floor = |&t0: &f64| {
        let transported = Transported {
            state: noise::normal(2, noise::GOLDEN, n),
            log_det: -1000.0,
            log_det_map: Some(vec![-1.0; n]),
            steps: vec![StepStatistics { speed: 1.0, log_det: -500.0 }; 2],
        };
        let likelihood =
            likelihood(&transported.state, transported.log_det, t0, manifest.preprocess.scale);
        FloorEvidence { t0, transported, likelihood }
    };
    manifest.noise_floors.iter().map(floor).collect()
}

#[divan::bench(args = [(28, 28), (640, 480), (1920, 1080)])]
fn preprocess(bencher: Bencher<'_, '_>, (width, height): (u32, u32)) {
    let data = pixels(3 * width as usize * height as usize);
    let frame = Frame::packed(&data, PixelFormat::Bgr8, width, height).unwrap();
    let preprocess = &MODEL.manifest().preprocess;
    bencher.bench_local(|| preprocess.apply(black_box(&frame)).unwrap());
}

#[divan::bench]
fn noise_floor(bencher: Bencher<'_, '_>) {
    let input = input();
    let field = floor_noise(5, 1, input.values.len());
    bencher.bench_local(|| noisy(black_box(&input.values), &field, 0.9).collect::<Vec<f32>>());
}

#[divan::bench]
fn likelihood_of_a_latent(bencher: Bencher<'_, '_>) {
    let z = noise::normal(2, noise::GOLDEN, 28 * 28);
    bencher.bench_local(|| likelihood(black_box(&z), -1000.0, 1.0, 1.0 / 128.0));
}

#[divan::bench]
fn statistics(bencher: Bencher<'_, '_>) {
    let (input, floors) = (input(), floors());
    let shape = MODEL.manifest().preprocess.shape;
    let evidence = Evidence { pixels: &input.pixels, shape, floors: &floors };
    bencher.bench_local(|| Statistics::new(black_box(&evidence)).unwrap());
}

#[divan::bench]
fn heat_map(bencher: Bencher<'_, '_>) {
    let (input, floors) = (input(), floors());
    let shape = MODEL.manifest().preprocess.shape;
    let evidence = Evidence { pixels: &input.pixels, shape, floors: &floors };
    bencher.bench_local(|| heatmap::heat_map(black_box(&evidence)));
}

#[divan::bench]
fn calibration(bencher: Bencher<'_, '_>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/fashion-mnist/calibration.json");
    let calibration = Calibration::load(path).unwrap();
    let data = pixels(28 * 28);
    let frame = Frame::packed(&data, PixelFormat::Gray8, 28, 28).unwrap();
    let statistics = detector(EngineChoice::Cpu, MODEL.manifest().default_steps)
        .measure(&[frame])
        .remove(0)
        .unwrap();
    bencher.bench_local(|| calibration.score(black_box(&statistics)).unwrap());
}

/// Steps and frames per call.
const CALLS: [(usize, usize); 4] = [(1, 1), (2, 1), (8, 1), (2, 64)];

#[divan::bench(args = CALLS)]
fn end_to_end(bencher: Bencher<'_, '_>, call: (usize, usize)) {
    inspect(bencher, EngineChoice::Cpu, call);
}

#[divan::bench(args = CALLS, sample_count = 10)]
fn end_to_end_on_tract(bencher: Bencher<'_, '_>, call: (usize, usize)) {
    inspect(bencher, EngineChoice::Tract, call);
}

fn inspect(bencher: Bencher<'_, '_>, engine: EngineChoice, (steps, frames): (usize, usize)) {
    let detector = detector(engine, steps);
    let data = pixels(28 * 28);
    let frames = vec![Frame::packed(&data, PixelFormat::Gray8, 28, 28).unwrap(); frames];
    bencher
        .counter(ItemsCount::new(frames.len()))
        .bench_local(|| detector.inspect_batch(black_box(&frames)));
}
