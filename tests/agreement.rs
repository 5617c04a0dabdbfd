//! The CPU engine against tract, the reference, on real images: likelihoods and verdicts of every shipped model.
//!
//! `F2D2_IMAGES=1000` takes as many images of each model's reference as there are up to 1,000, instead of a few.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use f2d2::{
    Calibration, CalibrationOptions, Detector, DetectorOptions, Engine, EngineChoice, Frame,
    Limits, Measurement, Model, PixelFormat,
};
use f2d2_tests::shipped;
use f2d2_tests::tolerance::{ENGINE_BITS_PER_DIM, assert_close};

const STEPS: [usize; 3] = [1, 2, 8];
/// Scores so close to the threshold may fall on either side of it.
const BORDER: f64 = 2e-4;
/// For calibrations that are fitted here, to the images at hand.
const RATE: f64 = 0.1;

fn measure(detector: &Detector, images: &[Vec<u8>]) -> Vec<Measurement> {
    let shape = detector.model().manifest().preprocess.shape;
    let format = if shape.channels == 3 { PixelFormat::Rgb8 } else { PixelFormat::Gray8 };
    let frame =
        |image| Frame::packed(image, format, shape.width as u32, shape.height as u32).unwrap();
    let frames: Vec<_> = images.iter().map(|image| frame(image)).collect();
    detector.inspect_batch(&frames).into_iter().map(|i| i.measurement.unwrap()).collect()
}

/// That of the folder where it is for so many steps, else one that is fitted to `measured`; `None` for too few of them.
fn calibration(
    folder: &Path,
    detector: &Detector,
    measured: &[Measurement],
) -> Option<Calibration> {
    let shipped = Calibration::load(folder.join("calibration.json")).unwrap();
    if shipped.check(&detector.binding()).is_ok() {
        return Some(shipped);
    }
    let enough = measured.len() >= Calibration::minimum_images(RATE, RATE);
    let statistics: Vec<_> = measured.iter().map(|m| m.statistics.clone()).collect();
    let options = CalibrationOptions { alpha: RATE, delta: RATE, ..CalibrationOptions::default() };
    enough.then(|| Calibration::fit(detector.binding(), &statistics, &options).unwrap())
}

/// How many verdicts differ, all of them at the threshold.
fn differing(calibration: &Calibration, got: &[Measurement], need: &[Measurement]) -> usize {
    let score = |m: &Measurement| calibration.score(&m.statistics).unwrap();
    let scores = got.iter().zip(need).map(|(g, n)| (score(g), score(n)));
    let differ = scores.filter(|(g, n)| calibration.is_anomalous(g) != calibration.is_anomalous(n));
    let all: Vec<_> = differ.collect();
    for (got, need) in &all {
        assert!((need.value - calibration.threshold()).abs() <= BORDER, "{got:?}, need {need:?}");
    }
    all.len()
}

#[test]
fn shipped_models_give_the_likelihoods_and_verdicts_of_tract() {
    let asked = std::env::var("F2D2_IMAGES").ok().and_then(|n| n.parse().ok());
    for folder in shipped::folders() {
        let model = Model::open(folder.join("model.onnx"), &Limits::default()).unwrap();
        let model = Arc::new(model);
        let images = shipped::some(&shipped::reference(&folder).images, asked.unwrap_or(4));
        for steps in STEPS {
            let open = |engine| {
                let options =
                    DetectorOptions { engine, steps: Some(steps), ..DetectorOptions::default() };
                Detector::from_model(Arc::clone(&model), options).unwrap()
            };
            let (cpu, tract) = (open(EngineChoice::Cpu), open(EngineChoice::Tract));
            assert_eq!([cpu.engine().engine, tract.engine().engine], [Engine::Cpu, Engine::Tract]);
            let (got, need) = (measure(&cpu, &images), measure(&tract, &images));
            let bpd = |all: &[Measurement]| all.iter().map(|m| m.bpd.0).collect::<Vec<f64>>();
            let (g, n) = (bpd(&got), bpd(&need));
            let furthest = g.iter().zip(&n).map(|(g, n)| (g - n).abs()).fold(0.0, f64::max);
            let verdicts = calibration(&folder, &tract, &need)
                .map(|calibration| differing(&calibration, &got, &need));
            println!(
                "{}, {steps} steps, {} images ({}): {furthest:.1e} bits per dimension, {verdicts:?} verdicts differ",
                folder.display(),
                images.len(),
                cpu.engine().reason,
            );
            assert_close(&format!("{folder:?}, {steps} steps"), &g, &n, ENGINE_BITS_PER_DIM);
        }
    }
}
