//! The CPU engine allocates nothing while it evaluates a network: only what it hands out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use f2d2::{Detector, DetectorOptions, Engine, EngineChoice, Frame, Limits, Model, PixelFormat};
use f2d2_tests::allocations::Counting;
use f2d2_tests::network::{FORMS, Network};
use f2d2_tests::programs::root;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CALLS: usize = 8;

/// Allocations of `CALLS` batches of `images` frames with `steps` network evaluations each, after a warm-up.
fn allocations(
    model: &Arc<Model>,
    engine: EngineChoice,
    steps: usize,
    threads: usize,
    images: usize,
) -> usize {
    let options = DetectorOptions {
        engine,
        threads,
        steps: Some(steps),
        noise_floors: Some(vec![1.0]),
        self_test: false,
        ..DetectorOptions::default()
    };
    let detector = Detector::from_model(Arc::clone(model), options).unwrap();
    if engine == EngineChoice::Cpu {
        assert_eq!(detector.engine().engine, Engine::Cpu);
    }
    let shape = model.manifest().preprocess.shape;
    let pixels: Vec<u8> = (0..shape.len()).map(|i| (i * 37 % 251) as u8).collect();
    let format = if shape.channels == 3 { PixelFormat::Rgb8 } else { PixelFormat::Gray8 };
    let (width, height) = (shape.width as u32, shape.height as u32);
    let frames = vec![Frame::packed(&pixels, format, width, height).unwrap(); images];
    let call = || {
        let inspections = detector.inspect_batch(&frames);
        assert!(inspections.iter().all(|i| i.measurement.is_some()));
    };
    // Which thread carries which images differs from call to call: all of them have to be warm.
    (0..4 * CALLS).for_each(|_| call());
    let before = Counting::of_all_threads();
    (0..CALLS).for_each(|_| call());
    Counting::of_all_threads() - before
}

/// One test, since it counts the allocations of the whole process.
#[test]
fn more_network_evaluations_allocate_no_more() {
    let mut models: Vec<(String, Arc<Model>)> = FORMS
        .iter()
        .map(|&form| (format!("{form:?}"), Network::block(1, [9, 8], 17, form).model()))
        .collect();
    let shipped = root().join("models/fashion-mnist/model.onnx");
    let shipped = Model::open(shipped, &Limits::default()).unwrap();
    models.push(("fashion-mnist".into(), Arc::new(shipped)));
    for (name, model) in &models {
        let cpu = |steps, images| allocations(model, EngineChoice::Cpu, steps, 1, images);
        for images in [1, 5] {
            let (two, eight) = (cpu(2, images), cpu(8, images));
            println!("{name}: {} per frame in batches of {images}", two / CALLS / images);
            // One thread counts exactly; the queue of a pool allocates a block now and then.
            assert!(eight.abs_diff(two) <= 2, "{name}: {two} at 2 steps, {eight} at 8");
        }
        // Who waits for other threads may allocate for that, but not for every evaluation.
        // The least of a few, since a thread that had slept until now warms up later.
        // A single image is cut up between them.
        for images in [1, 8] {
            let both = |steps| {
                let count = || allocations(model, EngineChoice::Cpu, steps, 2, images);
                (0..3).map(|_| count()).min().unwrap()
            };
            let (two, eight) = (both(2), both(8));
            let what = format!("{name}, 2 threads, {images} images");
            assert!(eight <= two + 2 * CALLS, "{what}: {two} at 2 steps, {eight} at 8");
        }
    }
    // The count would notice: tract allocates for every evaluation.
    let (_, model) = &models[0];
    let tract = |steps| allocations(model, EngineChoice::Tract, steps, 1, 1);
    assert!(tract(8) > tract(2) + 6 * CALLS);
}
