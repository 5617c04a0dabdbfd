//! The CPU engine: every network that it takes gives what tract gives, the others go to tract and say so, and whatever the
//! host does to its threads and registers, results are right or refused.

#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use f2d2::preprocess::noise;
use f2d2::{
    Detector, DetectorOptions, Engine, EngineChoice, Error, Frame, Inspection, Model, ModelInfo,
    PixelFormat, Sampler, Threads, Verdict,
};
use f2d2_tests::gaussian::Gaussian;
use f2d2_tests::graph::{int, ints};
use f2d2_tests::network::{FORMS, Form, Network, wild};
use f2d2_tests::tolerance::{BITS_PER_DIM, ENGINE_BITS_PER_DIM, assert_close, compare};

fn options(engine: EngineChoice, threads: usize) -> DetectorOptions {
    // The networks here have no golden vectors of their own.
    DetectorOptions { engine, threads, self_test: false, ..DetectorOptions::default() }
}

fn open(model: &Arc<Model>, engine: EngineChoice, threads: usize) -> Detector {
    Detector::from_model(Arc::clone(model), options(engine, threads)).unwrap()
}

fn images(model: &Model, n: u32) -> Vec<Vec<u8>> {
    let len = model.manifest().preprocess.shape.len();
    let image = |i| noise::uniform(7, i, len).into_iter().map(|u| (u * 256.0) as u8).collect();
    (0..n).map(image).collect()
}

fn frame<'a>(model: &ModelInfo, image: &'a [u8]) -> Frame<'a> {
    let shape = model.manifest().preprocess.shape;
    let format = if shape.channels == 3 { PixelFormat::Rgb8 } else { PixelFormat::Gray8 };
    Frame::packed(image, format, shape.width as u32, shape.height as u32).unwrap()
}

fn inspect(detector: &Detector, images: &[Vec<u8>]) -> Vec<Inspection> {
    let frames: Vec<_> = images.iter().map(|image| frame(detector.model(), image)).collect();
    detector.inspect_batch(&frames)
}

fn bpd(inspections: &[Inspection]) -> Vec<f64> {
    let one = |i: &Inspection| match &i.measurement {
        Some(m) => m.bpd.0,
        None => panic!("{:?}", i.verdict),
    };
    inspections.iter().map(one).collect()
}

/// Every number of the score vectors, bit by bit.
fn bits(inspections: &[Inspection]) -> Vec<u64> {
    let all = inspections.iter().flat_map(|i| i.measurement.as_ref().unwrap().statistics.iter());
    all.map(|s| s.value.to_bits()).collect()
}

/// The CPU engine and tract score the same images alike; the engine that ran.
fn agree(what: &str, model: &Arc<Model>) -> Engine {
    let images = images(model, 3);
    let need = bpd(&inspect(&open(model, EngineChoice::Tract, 1), &images));
    let mut engine = Engine::Tract;
    for threads in [1, 2, 4] {
        let detector = open(model, EngineChoice::Cpu, threads);
        engine = detector.engine().engine;
        for n in [1, 3] {
            let got = bpd(&inspect(&detector, &images[..n]));
            let what = format!("{what}, {threads} threads, {n} images");
            assert_close(&what, &got, &need[..n], ENGINE_BITS_PER_DIM);
        }
    }
    engine
}

#[test]
fn the_instruction_set_that_the_environment_forces_is_the_one_that_runs() {
    let Some(forced) = std::env::var("F2D2_CPU").ok().filter(|set| !set.is_empty()) else { return };
    let model = Network::block(1, [6, 5], 12, Form::Group).model();
    let reason = open(&model, EngineChoice::Cpu, 1).engine().reason.clone();
    assert!(reason.ends_with(&format!("; {forced}")), "{forced}: {reason}");
}

#[test]
fn odd_sizes_and_channels_give_what_tract_gives() {
    for size in [[1, 1], [1, 6], [7, 3], [9, 12]] {
        for (channels, inner) in [(1, 1), (3, 3), (1, 17), (3, 20)] {
            let model = Network::block(channels, size, inner, Form::Instance).model();
            let what = format!("{channels}x{size:?}, {inner} inside");
            assert_eq!(agree(&what, &model), Engine::Cpu, "{what}");
        }
    }
}

#[test]
fn every_form_of_normalisation_gives_what_tract_gives() {
    for form in FORMS {
        for (size, inner) in [([6, 5], 12), ([8, 8], 17)] {
            let model = Network::block(1, size, inner, form).model();
            assert_eq!(agree(&format!("{form:?} {inner}"), &model), Engine::Cpu, "{form:?}");
        }
    }
}

#[test]
fn the_comparison_notices_weights_that_are_a_hundredth_off() {
    let mut network = Network::block(1, [6, 5], 12, Form::Group);
    let score = |network: &Network| {
        let model = network.model();
        bpd(&inspect(&open(&model, EngineChoice::Cpu, 1), &images(&model, 3)))
    };
    let need = score(&network);
    network.scale_weights(1.01);
    compare(&score(&network), &need, ENGINE_BITS_PER_DIM).unwrap_err();
}

#[test]
fn networks_of_any_nodes_give_what_tract_gives() {
    let (mut native, mut refused, mut wrong) = (0, 0, vec![]);
    for seed in 0..150 {
        let model = wild(seed).model();
        if Detector::from_model(Arc::clone(&model), options(EngineChoice::Tract, 1)).is_err() {
            // There is nothing to compare with.
            refused += 1;
            continue;
        }
        let agrees = std::panic::catch_unwind(|| agree(&format!("seed {seed}"), &model));
        match agrees {
            Ok(engine) => native += usize::from(engine == Engine::Cpu),
            Err(_) => {
                // Kept for other engines to say who is right.
                let path = format!("{}/wild-{seed}.onnx", env!("CARGO_TARGET_TMPDIR"));
                std::fs::write(&path, wild(seed).bytes()).unwrap();
                wrong.push(path);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Were all of them left to tract, nothing would have been compared.
    assert!(native >= 120, "only {native} of 150 ran on the CPU's own kernels");
    assert!(refused <= 5, "tract refuses {refused} of 150");
}

#[test]
fn what_has_no_kernel_goes_to_tract_and_is_named() {
    type Add = fn(&mut Network, &str) -> String;
    let cases: [(&str, Add); 5] = [
        ("BatchNormalization", |n, x| {
            let all: Vec<String> = (0..3).map(|_| n.random(&[4], 1.0)).collect();
            let variance = n.constant(&[4], &[1.0, 2.0, 3.0, 4.0]);
            n.add("BatchNormalization", &[x, &all[0], &all[1], &all[2], &variance], vec![])
        }),
        ("Conv", |n, x| {
            let weights = n.random(&[4, 4, 3, 3], 0.2);
            n.add("Conv", &[x, &weights], vec![ints("dilations", &[2, 2]), ints("pads", &[2; 4])])
        }),
        ("Conv", |n, x| {
            let weights = n.random(&[4, 2, 3, 3], 0.2);
            n.add("Conv", &[x, &weights], vec![int("group", 2), ints("pads", &[1; 4])])
        }),
        ("Pad", |n, x| {
            let pads = n.integers(&[0, 0, 1, 1, 0, 0, 1, 1]);
            let weights = n.random(&[4, 4, 3, 3], 0.2);
            let padded = n.add("Pad", &[x, &pads], vec![]);
            n.add("Conv", &[&padded, &weights], vec![])
        }),
        ("Cast", |n, x| {
            let whole = n.add("Cast", &[x], vec![int("to", 6)]);
            n.add("Cast", &[&whole], vec![int("to", 1)])
        }),
    ];
    for (operator, add) in cases {
        let mut network = Network::new(1, 6, 5, 3);
        let mut h = network.convolution(&network.image(), 4, 3);
        h.name = add(&mut network, &h.name);
        let model = network.finish(&h).model();
        assert_eq!(agree(operator, &model), Engine::Tract, "{operator}");
        let report = open(&model, EngineChoice::Cpu, 1).engine().clone();
        let named = format!("no kernel for node \"{}", h.name.split('_').next().unwrap());
        let early =
            report.reason.contains("no kernel for node") && report.reason.contains(operator);
        assert!(report.reason.contains(&named) || early, "{operator}: {}", report.reason);
        assert!(f2d2::flow::memory_plan(&model, 1).unwrap().is_none(), "{operator}");
    }
}

#[test]
fn formulas_of_any_length_load_in_time_and_give_what_tract_gives() {
    type Link = fn(&mut Network, &str, usize) -> String;
    let chains: [(&str, Link, usize); 3] = [
        ("unary", |n, x, i| n.add(["Neg", "Abs", "Sin"][i % 3], &[x], vec![]), 3000),
        (
            "squares",
            |n, x, _| {
                let two = n.constant(&[], &[2.0]);
                let square = n.add("Pow", &[x, &two], vec![]);
                n.add("Sin", &[&square], vec![])
            },
            60,
        ),
        (
            "many operands",
            |n, x, i| {
                let plane = n.random(&[1, 4, 6, 5], 0.1);
                n.add(["Add", "Sub"][i % 2], &[x, &plane], vec![])
            },
            100,
        ),
    ];
    for (name, link, links) in chains {
        let mut network = Network::new(1, 6, 5, 3);
        let mut h = network.convolution(&network.image(), 4, 3);
        for i in 0..links {
            h.name = link(&mut network, &h.name, i);
        }
        let model = network.finish(&h).model();
        let start = Instant::now();
        assert_eq!(agree(name, &model), Engine::Cpu, "{name}");
        assert!(start.elapsed() < Duration::from_secs(60), "{name}: {:?}", start.elapsed());
    }
}

#[test]
fn rows_of_a_linear_layer_are_rows() {
    // 24 rows of 24 values: a bias per row has as many values as one per column.
    for bias in [vec![24], vec![1, 24], vec![24, 1]] {
        let mut network = Network::new(1, 4, 6, 5);
        let mut h = network.convolution(&network.image(), 24, 3);
        let target = network.integers(&[-1, 24]);
        let rows = network.add("Reshape", &[&h.name, &target], vec![]);
        let (weights, vector) = (network.random(&[24, 24], 0.2), network.random(&bias, 0.5));
        let product = network.add("Gemm", &[&rows, &weights, &vector], vec![int("transB", 1)]);
        let back = network.integers(&[1, 24, 4, 6]);
        h.name = network.add("Reshape", &[&product, &back], vec![]);
        let what = format!("bias {bias:?}");
        let engine = agree(&what, &network.finish(&h).model());
        // A bias per row has no kernel.
        let need = if bias == [24, 1] { Engine::Tract } else { Engine::Cpu };
        assert_eq!(engine, need, "{what}");
    }
}

#[test]
fn no_frames_are_no_results() {
    let model = Network::block(1, [5, 5], 8, Form::Group).model();
    for engine in [EngineChoice::Cpu, EngineChoice::Tract] {
        for threads in [1, 2] {
            let detector = open(&model, engine, threads);
            assert!(detector.inspect_batch(&[]).is_empty());
            assert!(detector.measure(&[]).is_empty());
        }
        assert!(
            Sampler::new(Arc::clone(&model), engine, 1).unwrap().draw(0, 1, 0).unwrap().is_empty()
        );
    }
}

/// A network with a layer whose inputs are multiplied by `factor`, its weights by `weights`, and its results by `back`.
fn multiplied(kernel: usize, factor: f32, weights: f32, back: f32) -> Arc<Model> {
    let mut network = Network::new(1, 9, 8, 3);
    let stem = network.convolution(&network.image(), 16, 3);
    let factor = network.constant(&[], &[factor]);
    let h = network.binary("Mul", &stem, &factor);
    let size = weights / (4 * kernel) as f32;
    let weights = network.random(&[16, 16, kernel, kernel], size);
    let pad = (kernel / 2) as i64;
    let h = network.tensor("Conv", &[&h.name, &weights], vec![ints("pads", &[pad; 4])], h.dims);
    let back = network.constant(&[], &[back]);
    let h = network.binary("Mul", &h, &back);
    network.finish(&h).model()
}

#[test]
fn denormal_weights_and_values_are_computed_with() {
    let score = |kernel, factor, weights, back| {
        let model = multiplied(kernel, factor, weights, back);
        let detector = open(&model, EngineChoice::Cpu, 1);
        assert_eq!(detector.engine().engine, Engine::Cpu);
        bpd(&inspect(&detector, &images(&model, 3)))
    };
    for kernel in [1, 3] {
        // tract flushes denormals: it can only tell what comes out without any.
        agree("no denormals", &multiplied(kernel, 1.0, 1.0, 1.0));
        let need = score(kernel, 1.0, 1.0, 1.0);
        for (factor, weights) in [(5e-39, 1.0), (1.0, 5e-39)] {
            let what = format!("{kernel}x{kernel}, inputs {factor:e}, weights {weights:e}");
            let got = score(kernel, factor, weights, 2e38);
            assert_close(&what, &got, &need, ENGINE_BITS_PER_DIM);
        }
        compare(&score(kernel, 0.0, 1.0, 2e38), &need, BITS_PER_DIM).unwrap_err();
    }
}

#[test]
fn values_that_overflow_are_refused() {
    let mut network = Network::block(1, [6, 5], 16, Form::Divided);
    network.scale_weights(1e37);
    let model = network.model();
    for engine in [EngineChoice::Cpu, EngineChoice::Tract] {
        for inspection in inspect(&open(&model, engine, 1), &images(&model, 3)) {
            let verdict = inspection.verdict;
            assert!(matches!(verdict, Some(Verdict::Invalid(_))), "{engine:?}: {verdict:?}");
        }
    }
}

/// Tests that count threads or change registers run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The control register of the floating-point unit.
mod register {
    #[cfg(target_arch = "x86_64")]
    pub(crate) const MODES: [(&str, u64); 3] =
        [("down", 1 << 13), ("up", 2 << 13), ("zero", 3 << 13)];
    /// Denormal results and operands are 0.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const FLUSH: u64 = 1 << 15 | 1 << 6;
    #[cfg(target_arch = "aarch64")]
    pub(crate) const MODES: [(&str, u64); 3] =
        [("up", 1 << 22), ("down", 2 << 22), ("zero", 3 << 22)];
    #[cfg(target_arch = "aarch64")]
    pub(crate) const FLUSH: u64 = 1 << 24;

    #[cfg(target_arch = "x86_64")]
    fn exchange(change: impl Fn(u64) -> u64) -> u64 {
        let mut value = 0u32;
        // SAFETY: stores the register in the variable.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack)) };
        let old = u64::from(value);
        let new = change(old) as u32;
        // SAFETY: a valid value; this thread expects anything of its arithmetic meanwhile.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const new, options(nostack)) };
        old
    }

    #[cfg(target_arch = "aarch64")]
    fn exchange(change: impl Fn(u64) -> u64) -> u64 {
        let old: u64;
        // SAFETY: reads the register, which every user program may.
        unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) old, options(nomem, nostack)) };
        let new = change(old);
        // SAFETY: a valid value; this thread expects anything of its arithmetic meanwhile.
        unsafe { std::arch::asm!("msr fpcr, {}", in(reg) new, options(nomem, nostack)) };
        old
    }

    /// Runs `work` with more bits of the register set.
    pub(crate) fn with<R>(bits: u64, work: impl FnOnce() -> R) -> R {
        let old = exchange(|value| value | bits);
        let result = work();
        exchange(|_| old);
        result
    }
}

#[test]
fn a_thread_that_rounds_otherwise_is_refused() {
    let _alone = alone();
    let gaussian = Gaussian::new(1, 5, 7, 3);
    let model = gaussian.model();
    let image = gaussian.image(1);
    for engine in [EngineChoice::Cpu, EngineChoice::Tract] {
        for threads in [1, 3] {
            let detector = open(&model, engine, threads);
            let score = || detector.inspect(&frame(&model, &image));
            let need = bits(&[score()]);
            for (name, mode) in register::MODES {
                let inspection = register::with(mode, score);
                match &inspection.verdict {
                    Some(Verdict::Invalid(why)) => assert!(why.contains("rounds"), "{why}"),
                    other => panic!("{engine:?} {name}: {other:?}"),
                }
                assert!(inspection.measurement.is_none());
                // Threads would inherit the mode: a number of them that nobody else asks for.
                let error = register::with(mode, || Threads::shared(7)).err();
                let Some(Error::EngineUnavailable { why, .. }) = error else { panic!("{error:?}") };
                assert!(why.contains("rounds"), "{why}");
                // What is computed while a model loads would stay.
                let error = register::with(mode, || {
                    Detector::from_model(Arc::clone(&model), options(engine, threads)).err()
                });
                let Some(Error::EngineUnavailable { why, .. }) = error else { panic!("{error:?}") };
                assert!(why.contains("rounds"), "{why}");
            }
            assert_eq!(bits(&[score()]), need, "the mode is back");
        }
    }
}

#[test]
fn threads_of_the_host_that_round_otherwise_are_refused() {
    let _alone = alone();
    let gaussian = Gaussian::new(1, 5, 7, 3);
    let model = gaussian.model();
    let images: Vec<_> = (1..5).map(|seed| gaussian.image(seed)).collect();
    for engine in [EngineChoice::Cpu, EngineChoice::Tract] {
        for (name, mode) in register::MODES {
            let start = |work: f2d2::flow::Work| {
                std::thread::Builder::new()
                    .spawn(move || register::with(mode, || work.run()))
                    .map(|_| ())
            };
            // A single thread leaves the network to whoever asks, but not what depends on the times.
            for threads in [1, 2] {
                let pool = Some(Threads::of_host(threads, start).unwrap());
                let settings = DetectorOptions { pool, ..options(engine, 0) };
                let detector = Detector::from_model(Arc::clone(&model), settings).unwrap();
                for images in [&images[..], &images[..1]] {
                    for inspection in inspect(&detector, images) {
                        match &inspection.verdict {
                            Some(Verdict::Invalid(why)) => assert!(why.contains("rounds"), "{why}"),
                            other => panic!("{engine:?} {name}, {threads} threads: {other:?}"),
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_thread_that_flushes_denormals_gets_the_same_scores() {
    let _alone = alone();
    let mut small = Network::block(1, [6, 5], 16, Form::Instance);
    small.scale_weights(1e-38);
    let usual = Network::block(3, [6, 5], 16, Form::Multiplied);
    for (model, count) in [(usual.model(), 5), (small.model(), 6)] {
        let images = images(&model, 5);
        for threads in [1, count] {
            let need = bpd(&inspect(&open(&model, EngineChoice::Cpu, threads), &images));
            let got = register::with(register::FLUSH, || {
                // Threads that start here inherit it.
                let detector = open(&model, EngineChoice::Cpu, threads);
                bpd(&inspect(&detector, &images))
            });
            assert_close("flushed", &got, &need, ENGINE_BITS_PER_DIM);
        }
    }
}

/// Names of the threads of this process that belong to the library or are called `own`.
fn threads(own: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    };
    let counted = |name: &String| name.starts_with("f2d2-") || name.trim() == own;
    tasks.filter_map(name).filter(counted).count()
}

/// Waits until there are as many threads: they end a little after they are told to.
fn expect_threads(own: &str, need: usize) {
    let start = Instant::now();
    while threads(own) != need {
        assert!(start.elapsed() < Duration::from_secs(20), "{} threads, need {need}", threads(own));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Both detectors at work from several threads of the host at the same time.
fn work(detectors: &[Detector], images: &[Vec<u8>]) -> Vec<Vec<u64>> {
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..4)
            .map(|i| scope.spawn(move || bits(&inspect(&detectors[i % detectors.len()], images))))
            .collect();
        all.into_iter().map(|handle| handle.join().unwrap()).collect()
    })
}

#[test]
#[cfg(target_os = "linux")]
fn two_detectors_share_their_threads_and_none_is_left_behind() {
    let _alone = alone();
    // Counts of its own, so that no test beside this one shares them.
    let child = std::env::var_os("F2D2_TEST_THREADS").is_some();
    if !child {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "two_detectors_share_their_threads_and_none_is_left_behind"])
            .args(["--nocapture", "--test-threads=1"])
            .env("F2D2_TEST_THREADS", "1")
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let model = Network::block(1, [9, 9], 16, Form::Group).model();
    let images = images(&model, 9);
    for engine in [EngineChoice::Cpu, EngineChoice::Tract] {
        let need = bits(&inspect(&open(&model, engine, 1), &images));
        expect_threads("", 0);
        let two = [open(&model, engine, 3), open(&model, engine, 3)];
        expect_threads("", 3);
        for got in work(&two, &images) {
            assert_eq!(got, need, "{engine:?}");
        }
        expect_threads("", 3);
        drop(two);
        expect_threads("", 0);

        // Threads of the host, and none.
        let mut handles = Vec::new();
        let start = |work: f2d2::flow::Work| {
            let builder = std::thread::Builder::new().name("mine".into());
            handles.push(builder.spawn(|| work.run())?);
            Ok(())
        };
        let mine = Threads::of_host(2, start).unwrap();
        assert_eq!(mine.count(), 2);
        let with = |pool: &Threads| {
            let options = DetectorOptions { pool: Some(pool.clone()), ..options(engine, 5) };
            Detector::from_model(Arc::clone(&model), options).unwrap()
        };
        let two = [with(&mine), with(&mine)];
        assert_eq!(two[0].engine().threads, 2);
        drop(mine);
        for got in work(&two, &images) {
            assert_eq!(got, need, "{engine:?}");
        }
        expect_threads("mine", 2);
        drop(two);
        handles.into_iter().for_each(|handle| handle.join().unwrap());
        expect_threads("mine", 0);
        let alone = [with(&Threads::none())];
        for got in work(&alone, &images) {
            assert_eq!(got, need, "{engine:?}");
        }
        assert_eq!((threads("mine"), alone[0].engine().threads), (0, 1));
    }
}

#[test]
fn a_host_that_cannot_start_threads_is_told() {
    let none = |_| Err(std::io::Error::other("no more"));
    let error = Threads::of_host(2, none).unwrap_err();
    assert!(error.to_string().contains("no more"), "{error}");
    assert!(Threads::of_host(0, |_| Ok(())).is_err());
}

#[test]
fn the_number_of_threads_and_of_images_changes_no_bit() {
    for (form, size) in
        [(Form::Instance, [11, 7]), (Form::Layer, [16, 16]), (Form::Divided, [1, 1])]
    {
        let model = Network::block(3, size, 20, form).model();
        let images = images(&model, 11);
        let need = bits(&inspect(&open(&model, EngineChoice::Cpu, 1), &images));
        for threads in [2, 3, 8, 16] {
            let detector = open(&model, EngineChoice::Cpu, threads);
            assert_eq!(bits(&inspect(&detector, &images)), need, "{threads} threads");
            for n in [1, 2, 5] {
                let some = bits(&inspect(&detector, &images[..n]));
                assert_eq!(some, need[..some.len()], "{threads} threads, {n} images");
            }
        }
    }
}

#[test]
fn memory_is_known_before_loading() {
    let model = Network::block(1, [9, 9], 16, Form::Group).model();
    for images in [1, 3, 4, 64] {
        let before = f2d2::flow::memory_plan(&model, images).unwrap().unwrap();
        let loaded = open(&model, EngineChoice::Cpu, 1).memory_plan(images).unwrap();
        assert_eq!(before, loaded, "{images} images");
        assert!(before.weights > 4 * 9 * 16 * 16 && before.session > 4 * 81 * 16, "{before:?}");
    }
    let plan = |images| f2d2::flow::memory_plan(&model, images).unwrap().unwrap().session;
    assert!(plan(1) < plan(4) && plan(4) == plan(64), "four images side by side at most");
}
