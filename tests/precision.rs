//! Weights in f16 on the CPU: half the memory, nearly the same likelihoods, or refused.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use f2d2::flow::{self, GpuOptions, Precision};
use f2d2::preprocess::noise;
use f2d2::{Detector, DetectorOptions, EngineChoice, Error, Frame, Limits, Model, PixelFormat};
use f2d2_tests::gaussian::Gaussian;
use f2d2_tests::network::{Form, Network};
use f2d2_tests::programs;
use f2d2_tests::tolerance::{F16_BITS_PER_DIM, assert_close, compare};
use prost::Message;

fn open(model: &Arc<Model>, engine: EngineChoice, precision: Precision) -> f2d2::Result<Detector> {
    let gpu = GpuOptions { precision, ..GpuOptions::default() };
    // What f16 does is judged when the engine opens, whether or not the self-test follows.
    let self_test = false;
    let options =
        DetectorOptions { engine, gpu, threads: 1, self_test, ..DetectorOptions::default() };
    Detector::from_model(Arc::clone(model), options)
}

fn bpd(detector: &Detector, images: &[Vec<u8>]) -> Vec<f64> {
    let shape = detector.model().manifest().preprocess.shape;
    let frame = |image| {
        Frame::packed(image, PixelFormat::Gray8, shape.width as u32, shape.height as u32).unwrap()
    };
    let frames: Vec<_> = images.iter().map(|image| frame(image)).collect();
    let all = detector.inspect_batch(&frames);
    all.iter().map(|i| i.measurement.as_ref().unwrap().bpd.0).collect()
}

#[test]
fn the_shipped_model_scores_alike_in_half_the_memory() {
    let path = programs::root().join("models/fashion-mnist/model.onnx");
    let model = Arc::new(Model::open(path, &Limits::default()).unwrap());
    let len = model.manifest().preprocess.shape.len();
    // From smooth to rough.
    let image = |i: u32| -> Vec<u8> {
        let (u, part) = (noise::uniform(7, i, len), 1 << (i % 8));
        (0..len).map(|at| (u[at / part * part] * 256.0) as u8).collect()
    };
    let images: Vec<_> = (0..24).map(image).collect();
    let wide = open(&model, EngineChoice::Cpu, Precision::F32).unwrap();
    let narrow = open(&model, EngineChoice::Cpu, Precision::F16).unwrap();
    assert_eq!((wide.engine().precision, narrow.engine().precision), ("f32", "f16"));

    let (need, got) = (bpd(&wide, &images), bpd(&narrow, &images));
    assert_close("f16", &got, &need, F16_BITS_PER_DIM);
    assert_ne!(got, need, "weights that are rounded change something");
    for wrong in [need[3] + 3e-3, f64::NAN] {
        let mut values = got.clone();
        values[3] = wrong;
        assert!(compare(&values, &need, F16_BITS_PER_DIM).is_err(), "{wrong}");
    }

    let weights = |detector: &Detector| detector.memory_plan(1).unwrap().weights;
    assert!(2 * weights(&narrow) <= weights(&wide), "{} {}", weights(&narrow), weights(&wide));
    let known = flow::memory_plan(&model, 1).unwrap().unwrap();
    assert_eq!(known.weights, weights(&wide));
}

#[test]
fn tract_is_f32_whatever_is_asked_for() {
    let model = Network::block(1, [9, 9], 16, Form::Group).model();
    let detector = open(&model, EngineChoice::Tract, Precision::F16).unwrap();
    assert_eq!(detector.engine().precision, "f32");
}

#[test]
fn weights_that_f16_cannot_hold_are_refused() {
    let mut network = Network::block(1, [9, 9], 16, Form::Group);
    network.scale_weights(1e6);
    let model = network.model();
    open(&model, EngineChoice::Cpu, Precision::F32).unwrap();
    match open(&model, EngineChoice::Cpu, Precision::F16) {
        Err(Error::EngineUnavailable { engine, why }) => {
            assert!(engine == "cpu" && why.contains("f16 cannot hold a weight of"), "{why}");
        }
        other => panic!("{:?}", other.map(|d| d.engine())),
    }
}

#[test]
fn a_likelihood_that_f16_changes_is_refused() {
    let gaussian = Gaussian::new(1, 4, 5, 3);
    let mut manifest = gaussian.manifest();
    let bits = 20.0 * std::f64::consts::LN_2;
    let right = manifest["golden"][1]["log_det"].as_f64().unwrap();
    for (off, refused) in [(1e-3, false), (3e-3, true), (-3e-3, true)] {
        manifest["golden"][1]["log_det"] = (right + off * bits).into();
        let bytes = gaussian.proto_with(&manifest).encode_to_vec();
        let model = Arc::new(Model::from_bytes("gaussian", &bytes, &Limits::default()).unwrap());
        match open(&model, EngineChoice::Cpu, Precision::F16) {
            Ok(_) => assert!(!refused, "{off} bits per dimension"),
            Err(Error::EngineUnavailable { why, .. }) => {
                assert!(refused && why.contains("f16 differs from f32 by 3.0e-3"), "{why}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}
