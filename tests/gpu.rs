//! The GPU engine as a whole: against the CPU, over batches, through losses of the device.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use f2d2::flow::gpu::{Point, left_at, lose_device_at, usage};
use f2d2::flow::{GpuOptions, OnLoss, Precision};
use f2d2::model::Head;
use f2d2::{
    Calibration, CalibrationOptions, Detector, DetectorOptions, Engine, EngineChoice, EngineReport,
    ErrorCode, Frame, Inspection, Limits, Model, PixelFormat, Verdict,
};
use f2d2_tests::gaussian::Gaussian;
use f2d2_tests::tolerance::{ENGINE_BITS_PER_DIM, F16_BITS_PER_DIM, assert_close};
use f2d2_tests::{device, shipped, skipped};
use prost::Message;
use serde_json::json;

/// Where the tests here lose devices.
const POINTS: [Point; 10] = [
    Point::Upload,
    Point::Dispatch,
    Point::Map,
    Point::Destroy,
    Point::Memory,
    Point::Adapter,
    Point::Hang,
    Point::Golden,
    Point::Narrow,
    Point::Skip,
];

/// A lost device is lost for all tests of the process: one at a time. `None` without an adapter.
fn alone() -> Option<(MutexGuard<'static, ()>, GpuOptions)> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // A test that failed may have left one behind.
    POINTS.iter().for_each(|&point| lose_device_at(point, 0));
    device::options().map(|options| (guard, options))
}

fn detector(model: &Arc<Model>, engine: EngineChoice, gpu: &GpuOptions) -> Detector {
    let options =
        DetectorOptions { engine, gpu: gpu.clone(), threads: 2, ..DetectorOptions::default() };
    Detector::from_model(Arc::clone(model), options).unwrap()
}

fn inspect(detector: &Detector, images: &[Vec<u8>]) -> Vec<Inspection> {
    let shape = detector.model().manifest().preprocess.shape;
    let format = if shape.channels == 3 { PixelFormat::Rgb8 } else { PixelFormat::Gray8 };
    let (width, height) = (shape.width as u32, shape.height as u32);
    let frame = |image| Frame::packed(image, format, width, height).unwrap();
    let frames: Vec<_> = images.iter().map(|image| frame(image)).collect();
    detector.inspect_batch(&frames)
}

fn bpd(inspections: &[Inspection]) -> Vec<f64> {
    inspections.iter().map(|i| i.measurement.as_ref().map_or(f64::NAN, |m| m.bpd.0)).collect()
}

fn furthest(got: &[f64], need: &[f64]) -> f64 {
    got.iter().zip(need).map(|(g, n)| (g - n).abs()).fold(0.0, f64::max)
}

/// A model folder: the model, its calibration, and the images of its reference.
struct Shipped {
    name: String,
    model: Arc<Model>,
    images: Vec<Vec<u8>>,
    calibration: Calibration,
}

impl Shipped {
    fn load(folder: &Path) -> Self {
        let model = Model::open(folder.join("model.onnx"), &Limits::default()).unwrap();
        let calibration = Calibration::load(folder.join("calibration.json")).unwrap();
        let (name, images) = (folder.display().to_string(), shipped::reference(folder).images);
        Self { name, model: Arc::new(model), images, calibration }
    }
}

fn fashion() -> Option<Shipped> {
    let folders = shipped::folders();
    folders.iter().find(|f| f.ends_with("fashion-mnist")).map(|f| Shipped::load(f))
}

/// As many images of the reference as the environment asks for, else a few of each kind.
fn chosen(images: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let asked = std::env::var("F2D2_IMAGES").ok().and_then(|n| n.parse().ok());
    shipped::some(images, asked.unwrap_or(4))
}

/// A shipped model in `precision` on the GPU, and on the CPU; both judge where the calibration is for `steps`.
fn pair(
    Shipped { model, calibration, .. }: &Shipped,
    steps: usize,
    gpu: &GpuOptions,
    precision: Precision,
) -> [Detector; 2] {
    let calibrated = steps == model.manifest().default_steps && precision == Precision::F32;
    let both = [(EngineChoice::Gpu, precision), (EngineChoice::Cpu, Precision::F32)];
    both.map(|(engine, precision)| {
        let options = DetectorOptions {
            engine,
            gpu: GpuOptions { precision, ..gpu.clone() },
            steps: Some(steps),
            // The calibration has all noise floors; elsewhere one will do.
            noise_floors: (!calibrated).then(|| vec![1.0]),
            threads: 2,
            ..DetectorOptions::default()
        };
        let mut detector = Detector::from_model(Arc::clone(model), options).unwrap();
        if calibrated {
            detector.set_calibration(calibration.clone()).unwrap();
        }
        detector
    })
}

/// Inspections of all images by both, a chunk at a time, so that what takes long can be followed.
fn both(detectors: &[Detector; 2], images: &[Vec<u8>]) -> [Vec<Inspection>; 2] {
    let [mut got, mut need] = [vec![], vec![]];
    for chunk in images.chunks(50) {
        got.extend(inspect(&detectors[0], chunk));
        need.extend(inspect(&detectors[1], chunk));
        let furthest = furthest(&bpd(&got), &bpd(&need));
        println!("{} images: bits per dimension differ by {furthest:.2e}", got.len());
    }
    [got, need]
}

fn agree_in_f32(shipped: &Shipped, steps: usize, gpu: &GpuOptions) {
    let detectors = pair(shipped, steps, gpu, Precision::F32);
    assert_eq!(detectors[0].engine().engine, Engine::Gpu);
    assert_eq!(detectors[1].engine().engine, Engine::Cpu);
    let [got, need] = both(&detectors, &chosen(&shipped.images));
    assert_close(
        &format!("{}, K = {steps}", shipped.name),
        &bpd(&got),
        &bpd(&need),
        ENGINE_BITS_PER_DIM,
    );
    let Some(calibration) = detectors[1].calibration() else { return };
    let mut differing = 0;
    for (g, n) in got.iter().zip(&need).filter(|(g, n)| g.verdict != n.verdict) {
        let (g, n) = (g.score.as_ref().unwrap(), n.score.as_ref().unwrap());
        let threshold = calibration.threshold();
        assert!((n.value - threshold).abs() <= 1e-4, "{g:?} {n:?} {threshold}");
        differing += 1;
    }
    println!("{}: {differing} of {} verdicts differ", shipped.name, got.len());
    assert!(got.iter().all(|i| i.verdict.is_some()));
}

fn agree_in_f16(steps: usize) {
    let Some((_guard, gpu)) = alone() else { return };
    let Some(shipped) = fashion() else { return };
    if !f2d2::adapters().iter().any(|a| Some(&a.name) == gpu.adapter.as_ref() && a.f16) {
        return skipped("f16: the adapter cannot store it");
    }
    for matrices in [false, true] {
        let gpu = GpuOptions { matrices, ..gpu.clone() };
        let detectors = pair(&shipped, steps, &gpu, Precision::F16);
        let EngineReport { precision, reason, .. } = detectors[0].engine();
        assert_eq!(precision, "f16");
        let used = reason.contains(", cooperative matrices");
        assert!(matrices || !used, "{reason}");
        if matrices && !used {
            assert!(!device::required() || !reason.contains("known product"), "{reason}");
            return skipped(&format!("cooperative matrices: {reason}"));
        }
        let [got, need] = both(&detectors, &chosen(&shipped.images)).map(|all| bpd(&all));
        let ranks = spearman(&got, &need);
        let what = format!("f16, matrices {matrices}, K = {steps}");
        println!("{what}: rank correlation {ranks:.6}");
        assert_close(&what, &got, &need, F16_BITS_PER_DIM);
        // Ranks of a few images say nothing.
        assert!(got.len() < 100 || ranks >= 0.9999, "{ranks}");
    }
}

/// Rank correlation; ties get neighbouring ranks.
fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let ranks = |values: &[f64]| -> Vec<f64> {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
        let mut ranks = vec![0.0; values.len()];
        order.iter().enumerate().for_each(|(rank, &i)| ranks[i] = rank as f64);
        ranks
    };
    let n = a.len() as f64;
    let squares = ranks(a).iter().zip(ranks(b)).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    1.0 - 6.0 * squares / (n * (n * n - 1.0))
}

#[test]
fn rank_correlation_of_known_orders() {
    let up = [1.0, 2.0, 4.0, 8.0];
    assert_eq!(spearman(&up, &up.map(f64::sqrt)), 1.0);
    assert_eq!(spearman(&up, &up.map(|v| -v)), -1.0);
    // One exchange of neighbours among four: 1 - 6 * 2 / 60.
    assert_eq!(spearman(&up, &[1.0, 4.0, 2.0, 8.0]), 0.8);
}

#[test]
fn one_step_agrees_with_the_cpu() {
    let Some((_guard, gpu)) = alone() else { return };
    let Some(shipped) = fashion() else { return };
    agree_in_f32(&shipped, 1, &gpu);
}

#[test]
fn every_shipped_model_gets_the_verdicts_of_the_cpu() {
    let Some((_guard, gpu)) = alone() else { return };
    for folder in shipped::folders() {
        let shipped = Shipped::load(&folder);
        agree_in_f32(&shipped, shipped.model.manifest().default_steps, &gpu);
    }
}

#[test]
fn eight_steps_agree_with_the_cpu() {
    let Some((_guard, gpu)) = alone() else { return };
    let Some(shipped) = fashion() else { return };
    agree_in_f32(&shipped, 8, &gpu);
}

#[test]
fn one_step_in_f16_agrees_with_the_cpu() {
    agree_in_f16(1);
}

#[test]
fn two_steps_in_f16_agree_with_the_cpu() {
    agree_in_f16(2);
}

#[test]
fn eight_steps_in_f16_agree_with_the_cpu() {
    agree_in_f16(8);
}

/// Most dispatches of one evaluation.
const DISPATCHES: [(&str, usize); 4] =
    [("casting", 40), ("cifar10-small", 32), ("fashion-mnist", 30), ("magnetic-tile", 40)];

#[test]
fn what_the_shipped_models_take_on_the_device_is_as_planned() {
    let Some((_guard, gpu)) = alone() else { return };
    for folder in shipped::folders() {
        let model = Model::open(folder.join("model.onnx"), &Limits::default()).unwrap();
        let (name, manifest) = (folder.file_name().unwrap().display(), model.manifest());
        let (values, pixels) =
            (manifest.preprocess.shape.len(), manifest.preprocess.shape.pixels());
        // Entries of four words per 256 pixels and step, and a map where there is one.
        let entries = pixels.div_ceil(256) * 16;
        let map = if manifest.head == Head::PerPixel { 4 * pixels } else { 0 };
        for images in [1, 8, 64] {
            let taken = usage(&model, images, &gpu).unwrap();
            println!("{name}, {images} images: {taken:?}");
            assert_eq!(taken.images, images);
            assert_eq!(taken.kernels.last(), Some(&"update"));
            assert_eq!(taken.read_back, 4 * values + map + 2 * entries);
            // One byte per value, whatever the number of noise floors.
            assert_eq!(taken.uploaded, values.next_multiple_of(4));
            // The file holds the weights once, and so does the device; what the times need stays on the host.
            let file = std::fs::metadata(folder.join("model.onnx")).unwrap().len() as usize;
            assert!((file / 2..=file).contains(&taken.weights), "{file} bytes in the file");
            // Beside the plan: results of 32 steps and the map, once to write and once to read back; the state to read
            // back, the 8-bit images; noise floors and tables of up to eight legs.
            let per_image = 2 * 32 * entries + map + 4 * pixels + 4 * values + taken.uploaded;
            let legs = images.min(8);
            let more = images * per_image + legs * (4 * (values + 1) + 32 * taken.tables);
            let beside = taken.allocated - taken.planned;
            assert!((more..more + 32 * 256).contains(&beside), "{beside} bytes, need {more}");
        }
        let known = DISPATCHES.iter().find(|(known, _)| folder.ends_with(known));
        let dispatches = usage(&model, 1, &gpu).unwrap().kernels.len();
        assert!(known.is_none_or(|(_, most)| dispatches <= *most), "{name}: {dispatches}");
    }
}

#[test]
fn nothing_is_allocated_for_frames_after_the_warm_up() {
    let Some((_guard, gpu)) = alone() else { return };
    let gaussian = Gaussian { noise_floors: vec![1.0, 0.9, 0.5], ..Gaussian::new(1, 5, 7, 26) };
    let images = gaussian.images(0, 5);
    let cold = detector(&gaussian.model(), EngineChoice::Gpu, &gpu);
    lose_device_at(Point::Memory, 1000);
    inspect(&cold, &images);
    assert!(left_at(Point::Memory) < 1000, "something is asked for the first time");
    lose_device_at(Point::Memory, 0);
    drop(cold);
    let warm = detector(&gaussian.model(), EngineChoice::Gpu, &gpu);
    warm.warm_up(5).unwrap();
    lose_device_at(Point::Memory, 1000);
    let inspections = inspect(&warm, &images);
    assert_eq!(left_at(Point::Memory), 1000);
    lose_device_at(Point::Memory, 0);
    assert!(inspections.iter().all(|i| i.measurement.is_some()));
}

#[test]
fn results_do_not_depend_on_the_batch() {
    let Some((_guard, gpu)) = alone() else { return };
    let gaussian = Gaussian { noise_floors: vec![1.0, 0.9, 0.5], ..Gaussian::new(3, 4, 6, 8) };
    let images = gaussian.images(0, 75);
    let detector = detector(&gaussian.model(), EngineChoice::Gpu, &gpu);
    let bits = |inspections: &[Inspection]| -> Vec<Vec<u64>> {
        let of = |i: &Inspection| {
            let m = i.measurement.as_ref().unwrap();
            m.statistics.iter().map(|s| s.value.to_bits()).collect()
        };
        inspections.iter().map(of).collect()
    };
    let together = bits(&inspect(&detector, &images));
    for size in [1, 3, 7, 64] {
        let parts: Vec<_> =
            images.chunks(size).flat_map(|part| bits(&inspect(&detector, part))).collect();
        assert_eq!(parts, together, "{size} at a time");
    }
    // Submissions of one step of one image.
    let gpu = GpuOptions { submission: Duration::from_nanos(1), ..gpu };
    let cut = Detector::from_model(
        gaussian.model(),
        DetectorOptions {
            engine: EngineChoice::Gpu,
            gpu,
            steps: Some(2),
            ..DetectorOptions::default()
        },
    );
    assert_eq!(bits(&inspect(&cut.unwrap(), &images[..5])), together[..5]);
}

#[test]
fn threads_share_a_device_and_a_model() {
    let Some((_guard, gpu)) = alone() else { return };
    let gaussian = Gaussian::new(1, 5, 7, 9);
    let other = Gaussian::new(3, 4, 5, 10);
    let detectors =
        [&gaussian, &gaussian, &other].map(|g| detector(&g.model(), EngineChoice::Gpu, &gpu));
    let images = [gaussian.images(0, 4), gaussian.images(0, 4), other.images(0, 4)];
    let need: Vec<_> = detectors.iter().zip(&images).map(|(d, i)| bpd(&inspect(d, i))).collect();
    assert_eq!(need[0], need[1]);
    std::thread::scope(|scope| {
        for ((detector, images), need) in detectors.iter().zip(&images).zip(&need) {
            for _ in 0..2 {
                scope.spawn(move || {
                    for _ in 0..40 {
                        assert_eq!(&bpd(&inspect(detector, images)), need);
                    }
                });
            }
        }
    });
}

#[test]
fn a_lost_device_is_opened_anew_and_then_reported_or_replaced() {
    let Some((_guard, gpu)) = alone() else { return };
    let gaussian = Gaussian::new(1, 5, 7, 11);
    let (model, images) = (gaussian.model(), gaussian.images(0, 3));
    let need = bpd(&inspect(&detector(&model, EngineChoice::Gpu, &gpu), &images));
    for point in [Point::Upload, Point::Dispatch, Point::Map] {
        // Once: nobody notices.
        let patient = detector(&model, EngineChoice::Gpu, &gpu);
        lose_device_at(point, 1);
        assert_eq!(bpd(&inspect(&patient, &images)), need, "{point:?}");

        // Again and again, also while it is opened anew: an error, and no verdict.
        lose_device_at(point, 100);
        for inspection in inspect(&patient, &images) {
            let Some(Verdict::Invalid(why)) = inspection.verdict else {
                panic!("{point:?}: {:?}", inspection.verdict);
            };
            assert!(why.contains("lost"), "{point:?}: {why}");
        }
        // When it is back, so are the results.
        lose_device_at(point, 0);
        assert_eq!(bpd(&inspect(&patient, &images)), need, "{point:?}");
        assert_eq!(patient.engine().engine, Engine::Gpu);

        // With the CPU in reserve: its results, and a report that says so.
        let covered = GpuOptions { on_loss: OnLoss::Cpu, retries: 1, ..gpu.clone() };
        let covered = detector(&model, EngineChoice::Gpu, &covered);
        assert_eq!(covered.engine().engine, Engine::Gpu);
        lose_device_at(point, 100);
        assert_close("cpu", &bpd(&inspect(&covered, &images)), &need, ENGINE_BITS_PER_DIM);
        let report = covered.engine();
        assert_ne!(report.engine, Engine::Gpu);
        assert!(report.reason.contains("lost"), "{}", report.reason);
        lose_device_at(point, 0);
        assert_close("cpu", &bpd(&inspect(&covered, &images)), &need, ENGINE_BITS_PER_DIM);
    }
    // While it is given back: the next one is a new device. With a cache of its own, nobody else has this one.
    let cache = tempfile::tempdir().unwrap();
    let alone = GpuOptions { cache: Some(cache.path().into()), ..gpu };
    lose_device_at(Point::Destroy, 1);
    assert_eq!(bpd(&inspect(&detector(&model, EngineChoice::Gpu, &alone), &images)), need);
    assert_eq!(left_at(Point::Destroy), 0, "the device was not given back");
    assert_eq!(bpd(&inspect(&detector(&model, EngineChoice::Gpu, &alone), &images)), need);
}

/// All are invalid, and say every part of `why`.
#[track_caller]
fn all_invalid(inspections: &[Inspection], why: &[&str]) {
    assert!(!inspections.is_empty());
    for inspection in inspections {
        let Some(Verdict::Invalid(said)) = &inspection.verdict else {
            panic!("{:?}, need {why:?}", inspection.verdict);
        };
        for part in why {
            assert!(said.contains(part), "{said}, need {part}");
        }
    }
}

#[test]
fn a_device_that_cannot_be_had_again_is_lost_whatever_stands_in_the_way() {
    let Some((_guard, gpu)) = alone() else { return };
    let gaussian = Gaussian::new(1, 5, 7, 16);
    let (model, images) = (gaussian.model(), gaussian.images(0, 3));
    let need = bpd(&inspect(&detector(&model, EngineChoice::Gpu, &gpu), &images));
    for (point, why) in [
        (Point::Adapter, "there is no adapter"),
        (Point::Memory, "the gpu has no room"),
        (Point::Golden, "log-determinant"),
    ] {
        let patient = detector(&model, EngineChoice::Gpu, &gpu);
        let covered = GpuOptions { on_loss: OnLoss::Cpu, ..gpu.clone() };
        let covered = detector(&model, EngineChoice::Gpu, &covered);
        // What they need is there before the loss.
        assert_eq!(bpd(&inspect(&patient, &images)), need);
        assert_eq!(bpd(&inspect(&covered, &images)), need);
        lose_device_at(Point::Upload, 1);
        lose_device_at(point, 1000);
        for _ in 0..2 {
            let said = ["the gpu was lost", "opening it anew", why];
            all_invalid(&inspect(&patient, &images), &said);
        }
        assert_close("cpu", &bpd(&inspect(&covered, &images)), &need, ENGINE_BITS_PER_DIM);
        let report = covered.engine();
        assert_ne!(report.engine, Engine::Gpu);
        assert!(report.reason.contains(why), "{}", report.reason);
        lose_device_at(point, 0);
        assert_eq!(left_at(Point::Upload), 0);
        assert_eq!(bpd(&inspect(&patient, &images)), need, "{point:?}");
        assert_ne!(covered.engine().engine, Engine::Gpu, "it stays");
    }
}

#[test]
fn a_device_that_was_had_again_is_reported() {
    let Some((_guard, gpu)) = alone() else { return };
    let gaussian = Gaussian::new(1, 5, 7, 17);
    let (model, images) = (gaussian.model(), gaussian.images(0, 3));
    let patient = detector(&model, EngineChoice::Gpu, &gpu);
    let need = bpd(&inspect(&patient, &images));
    let before = patient.engine();
    assert!(!before.reason.contains("reopened"), "{}", before.reason);
    for (times, said) in [(1, "; reopened once: "), (2, "; reopened 2 times: ")] {
        lose_device_at(Point::Upload, 1);
        let inspections = inspect(&patient, &images);
        assert_eq!(bpd(&inspections), need, "{times}");
        let report = patient.engine();
        let told = report.reason.strip_prefix(&before.reason).unwrap();
        assert!(told.starts_with(said) && told.len() > said.len(), "{told}");
        assert_eq!(inspections[0].engine, report);
    }
}

#[test]
fn a_device_that_hangs_is_not_asked_again() {
    let Some((_guard, gpu)) = alone() else { return };
    let gaussian = Gaussian::new(1, 5, 7, 18);
    let (model, images) = (gaussian.model(), gaussian.images(0, 3));
    for on_loss in [OnLoss::Error, OnLoss::Cpu] {
        let gpu = GpuOptions { on_loss, ..gpu.clone() };
        let own = detector(&model, EngineChoice::Gpu, &gpu);
        let need = bpd(&inspect(&own, &images));
        lose_device_at(Point::Hang, 1);
        // It would answer the second time: nobody asks.
        for _ in 0..2 {
            let inspections = inspect(&own, &images);
            assert_eq!(left_at(Point::Hang), 0);
            if on_loss == OnLoss::Cpu {
                assert_close("cpu", &bpd(&inspections), &need, ENGINE_BITS_PER_DIM);
                let report = own.engine();
                assert_ne!(report.engine, Engine::Gpu);
                assert!(report.reason.contains("no answer within"), "{}", report.reason);
            } else {
                all_invalid(&inspections, &["the gpu was lost", "no answer within"]);
            }
        }
        // Whoever opens the model again asks again.
        let other = detector(&model, EngineChoice::Gpu, &gpu);
        assert_eq!(bpd(&inspect(&other, &images)), need);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn nobody_waits_for_a_device_that_hangs() {
    let Some((_guard, gpu)) = alone() else { return };
    let software = |name: &Option<String>| {
        f2d2::adapters().iter().any(|a| Some(&a.name) == name.as_ref() && a.software)
    };
    if !software(&gpu.adapter) {
        return skipped("work of a hung device that goes on: seen where the CPU does it");
    }
    let Some(Shipped { model, images, .. }) = fashion() else { return };
    // With a cache of its own it is a device of its own: what others use is not given back.
    let cache = tempfile::tempdir().unwrap();
    let open = |deadline| {
        let (submission, cache) = (Duration::from_secs(600), Some(cache.path().into()));
        let gpu = GpuOptions { deadline, submission, cache, retries: 0, ..gpu.clone() };
        let options = DetectorOptions {
            engine: EngineChoice::Gpu,
            gpu,
            steps: Some(1),
            noise_floors: Some(vec![1.0]),
            self_test: false,
            ..DetectorOptions::default()
        };
        Detector::from_model(Arc::clone(&model), options).unwrap()
    };
    let patient = open(Duration::from_secs(600));
    let start = Instant::now();
    inspect(&patient, &images[..1]);
    let one = start.elapsed();
    // Too short for a batch, and long enough for the single image that opening evaluates.
    let hung = open(5 * one + Duration::from_millis(200));
    all_invalid(&inspect(&hung, &images[..64]), &["the gpu was lost", "no answer within"]);
    drop((patient, hung));
    // The driver is still at work: so nobody has waited for it.
    let busy = || {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let after = stat.rsplit(')').next().unwrap();
        // User and system time, in hundredths of a second.
        after.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum::<u64>()
    };
    let (before, start) = (busy(), Instant::now());
    // Looking takes next to nothing of that second.
    while busy() < before + 100 {
        assert!(start.elapsed() < Duration::from_secs(20), "all work is done");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn results_of_another_run_are_not_taken_for_those_of_this_one() {
    let Some((_guard, gpu)) = alone() else { return };
    let gaussian = Gaussian::new(1, 5, 7, 19);
    let (model, images) = (gaussian.model(), gaussian.images(0, 3));
    let patient = detector(&model, EngineChoice::Gpu, &gpu);
    let need = bpd(&inspect(&patient, &images));
    // The kernels do not run: what is read back is that of the run before.
    lose_device_at(Point::Skip, 1000);
    all_invalid(&inspect(&patient, &images), &["the gpu was lost", "the results are of run"]);
    lose_device_at(Point::Skip, 1);
    assert_eq!(bpd(&inspect(&patient, &images)), need, "tried again");
    assert_eq!(left_at(Point::Skip), 0);
}

#[test]
fn a_gpu_that_computes_something_else_never_serves() {
    let Some((_guard, gpu)) = alone() else { return };
    let gaussian = Gaussian::new(1, 5, 7, 20);
    let images = gaussian.images(0, 3);
    let background = GpuOptions { background: true, ..gpu };
    lose_device_at(Point::Golden, 1);
    let wrong = detector(&gaussian.model(), EngineChoice::Gpu, &background);
    let start = Instant::now();
    while wrong.engine().reason.contains("until the GPU is ready") {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(left_at(Point::Golden), 0);
    let report = wrong.engine();
    assert_ne!(report.engine, Engine::Gpu);
    assert!(report.reason.contains("log-determinant"), "{}", report.reason);
    assert!(inspect(&wrong, &images).iter().all(|i| i.measurement.is_some()));
    // Whoever does not want the test does not get it.
    lose_device_at(Point::Golden, 1000);
    let options = DetectorOptions {
        engine: EngineChoice::Gpu,
        gpu: background,
        self_test: false,
        ..DetectorOptions::default()
    };
    let untested = Detector::from_model(gaussian.model(), options).unwrap();
    while untested.engine().engine != Engine::Gpu {
        assert!(start.elapsed() < Duration::from_secs(120), "{:?}", untested.engine());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(left_at(Point::Golden), 1000);
    lose_device_at(Point::Golden, 0);
}

/// Options in f16; `None`, said aloud, where the adapter cannot store it.
fn narrow(gpu: &GpuOptions) -> Option<GpuOptions> {
    if !f2d2::adapters().iter().any(|a| Some(&a.name) == gpu.adapter.as_ref() && a.f16) {
        skipped("f16: the adapter cannot store it");
        return None;
    }
    Some(GpuOptions { precision: Precision::F16, ..gpu.clone() })
}

#[test]
fn the_engine_beside_the_gpu_computes_in_its_precision() {
    let Some((_guard, gpu)) = alone() else { return };
    let Some(gpu) = narrow(&gpu) else { return };
    let gaussian = Gaussian::new(1, 5, 7, 21);
    let (model, images) = (gaussian.model(), gaussian.images(0, 3));
    let wide = detector(&model, EngineChoice::Cpu, &GpuOptions::default());
    let frames = gaussian.images(100, 700);
    let frames: Vec<_> = frames.iter().map(|image| f2d2_tests::grey(image, 7, 5)).collect();
    let calibration = wide.calibrate(&frames, &CalibrationOptions::default()).unwrap();
    let background = GpuOptions { background: true, ..gpu.clone() };
    let mut serving = detector(&model, EngineChoice::Gpu, &background);
    assert_eq!((serving.engine().precision, &*serving.binding().precision), ("f16", "f16"));
    let error = serving.set_calibration(calibration.clone()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::CalibrationMismatch, "{error}");
    let covered = GpuOptions { on_loss: OnLoss::Cpu, retries: 0, ..gpu };
    let covered = detector(&model, EngineChoice::Gpu, &covered);
    lose_device_at(Point::Upload, 100);
    inspect(&covered, &images);
    lose_device_at(Point::Upload, 0);
    let report = covered.engine();
    assert!(report.engine != Engine::Gpu && report.precision == "f16", "{report:?}");
}

#[test]
fn scores_in_another_precision_than_the_calibration_are_not_judged() {
    let Some((_guard, gpu)) = alone() else { return };
    let Some(gpu) = narrow(&gpu) else { return };
    // On the CPU f16 is refused: the file's likelihood of its golden input is another one.
    let gaussian = Gaussian::new(1, 5, 7, 22);
    let mut manifest = gaussian.manifest();
    for golden in manifest["golden"].as_array_mut().unwrap() {
        golden["log_det"] = json!(golden["log_det"].as_f64().unwrap() + 10.0);
    }
    let bytes = gaussian.proto_with(&manifest).encode_to_vec();
    let model = Arc::new(Model::from_bytes("gaussian", &bytes, &Limits::default()).unwrap());
    let options = DetectorOptions {
        engine: EngineChoice::Gpu,
        gpu: GpuOptions { on_loss: OnLoss::Cpu, retries: 0, ..gpu },
        self_test: false,
        ..DetectorOptions::default()
    };
    let mut detector = Detector::from_model(model, options).unwrap();
    let normal = gaussian.images(100, 700);
    let normal: Vec<_> = normal.iter().map(|image| f2d2_tests::grey(image, 7, 5)).collect();
    let calibration = detector.calibrate(&normal, &CalibrationOptions::default()).unwrap();
    detector.set_calibration(calibration).unwrap();
    let images = gaussian.images(0, 3);
    let judged = inspect(&detector, &images);
    assert!(judged.iter().all(|i| i.score.is_some()), "{judged:?}");
    lose_device_at(Point::Upload, 100);
    let replaced = inspect(&detector, &images);
    lose_device_at(Point::Upload, 0);
    assert_eq!(detector.engine().precision, "f32", "{:?}", detector.engine());
    for inspections in [replaced, inspect(&detector, &images)] {
        all_invalid(&inspections, &["precision", "f16", "f32"]);
    }
}

#[test]
fn f16_that_changes_likelihoods_is_refused_or_computed_without_matrices() {
    let Some((_guard, gpu)) = alone() else { return };
    let Some(gpu) = narrow(&gpu) else { return };
    let open = |seed| {
        let options = DetectorOptions {
            engine: EngineChoice::Gpu,
            gpu: gpu.clone(),
            ..DetectorOptions::default()
        };
        Detector::from_model(Gaussian::new(1, 5, 7, seed).model(), options)
    };
    let plain = open(23).unwrap().engine().reason.contains("no cooperative matrices");
    lose_device_at(Point::Narrow, 1);
    let once = open(24);
    assert_eq!(left_at(Point::Narrow), 0);
    lose_device_at(Point::Narrow, 1000);
    let always = open(25);
    lose_device_at(Point::Narrow, 0);
    let error = always.err().unwrap();
    assert_eq!(error.code(), ErrorCode::EngineUnavailable, "{error}");
    assert!(error.to_string().contains("f16 differs from f32"), "{error}");
    if plain {
        skipped("f16 without matrices after all: there are none");
        assert!(once.is_err());
    } else {
        let reason = once.unwrap().engine().reason;
        assert!(reason.contains("no cooperative matrices (f16 differs from f32"), "{reason}");
    }
}

#[test]
fn a_full_device_takes_fewer_images_at_a_time_and_then_says_so() {
    let Some((_guard, gpu)) = alone() else { return };
    let gaussian = Gaussian::new(1, 5, 7, 14);
    let (model, images) = (gaussian.model(), gaussian.images(0, 20));
    let need = bpd(&inspect(&detector(&model, EngineChoice::Gpu, &gpu), &images));
    // No room for the largest batch, nor for the next one: fewer images at a time, and nobody notices.
    let patient = detector(&model, EngineChoice::Gpu, &gpu);
    assert!(!patient.engine().reason.contains("no room"), "{:?}", patient.engine());
    lose_device_at(Point::Memory, 2);
    assert_eq!(bpd(&inspect(&patient, &images)), need);
    assert_eq!(left_at(Point::Memory), 0);
    let reason = patient.engine().reason;
    assert!(reason.ends_with("; batches cut to 1, no room for more"), "{reason}");
    // No room at all: an error for every image, and no verdict. The workspaces that it had are not asked for again.
    let other = Gaussian::new(1, 5, 7, 15).model();
    lose_device_at(Point::Memory, 1000);
    let options = DetectorOptions {
        engine: EngineChoice::Gpu,
        gpu: gpu.clone(),
        ..DetectorOptions::default()
    };
    let error = Detector::from_model(other, options).err().unwrap();
    lose_device_at(Point::Memory, 0);
    assert_eq!(error.code(), ErrorCode::OutOfDeviceMemory, "{error}");
    assert_eq!(bpd(&inspect(&patient, &images)), need);
}

#[test]
fn a_profile_names_every_dispatch() {
    let Some((_guard, gpu)) = alone() else { return };
    let Some(Shipped { model, .. }) = fashion() else { return };
    let taken = usage(&model, 1, &gpu).unwrap();
    let profile = detector(&model, EngineChoice::Gpu, &gpu).profile(1).unwrap();
    if profile.is_empty() {
        return skipped("a profile: the device has no clock that the host can read");
    }
    let names = profile.iter().map(|k| k.kernel.split(' ').next().unwrap());
    assert!(names.eq(taken.kernels), "{profile:?}");
    assert!(profile.iter().all(|k| k.time < Duration::from_secs(60)));
    assert!(profile.iter().any(|k| k.time > Duration::ZERO && k.multiplications > 0));
}

#[test]
fn a_device_that_does_not_answer_in_time_counts_as_lost() {
    let Some((_guard, gpu)) = alone() else { return };
    let Some(Shipped { model, .. }) = fashion() else { return };
    let gpu = GpuOptions { deadline: Duration::from_nanos(1), retries: 0, ..gpu };
    let options = DetectorOptions { engine: EngineChoice::Gpu, gpu, ..DetectorOptions::default() };
    let error = Detector::from_model(model, options).err().unwrap();
    assert_eq!(error.code(), ErrorCode::DeviceLost, "{error}");
    assert!(error.to_string().contains("no answer within"), "{error}");
}

#[test]
fn the_cpu_serves_until_the_gpu_is_ready() {
    let Some((_guard, gpu)) = alone() else { return };
    let gaussian = Gaussian::new(1, 5, 7, 12);
    let images = gaussian.images(0, 3);
    let need = bpd(&inspect(&detector(&gaussian.model(), EngineChoice::Gpu, &gpu), &images));
    let gpu = GpuOptions { background: true, ..gpu };
    let detector = detector(&gaussian.model(), EngineChoice::Gpu, &gpu);
    let start = Instant::now();
    loop {
        assert_close("either", &bpd(&inspect(&detector, &images)), &need, ENGINE_BITS_PER_DIM);
        if detector.engine().engine == Engine::Gpu {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", detector.engine());
    }
    assert_eq!(bpd(&inspect(&detector, &images)), need);
    // A GPU that there is not: the CPU stays, and says why.
    let none = GpuOptions { adapter: Some("no such adapter".into()), ..gpu };
    let detector = self::detector(&gaussian.model(), EngineChoice::Gpu, &none);
    while detector.engine().reason.contains("until the GPU is ready") {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(detector.engine().reason.contains("no such adapter"), "{:?}", detector.engine());
    assert_ne!(detector.engine().engine, Engine::Gpu);
}

#[test]
#[cfg(target_os = "linux")]
fn nothing_compiles_on_when_its_detector_is_gone() {
    let Some((_guard, gpu)) = alone() else { return };
    let compiling = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let name = |task: PathBuf| std::fs::read_to_string(task.join("comm")).unwrap_or_default();
        tasks.filter(|task| name(task.as_ref().unwrap().path()).trim() == "f2d2-gpu").count()
    };
    // Of a shape of its own, with a cache of its own, so that nobody has compiled it.
    let cache = tempfile::tempdir().unwrap();
    let gpu = GpuOptions { cache: Some(cache.path().into()), ..gpu };
    // Opens the device: threads of the driver have the name of the thread that they are started from.
    let _open = detector(&Gaussian::new(3, 5, 7, 12).model(), EngineChoice::Gpu, &gpu);
    assert_eq!(compiling(), 0);
    let gpu = GpuOptions { background: true, ..gpu };
    let detector = detector(&Gaussian::new(3, 11, 13, 12).model(), EngineChoice::Gpu, &gpu);
    assert_eq!(compiling(), 1, "{:?}", detector.engine());
    drop(detector);
    assert_eq!(compiling(), 0);
}

#[test]
fn auto_takes_real_gpus_only_and_names_its_reason() {
    let Some((_guard, gpu)) = alone() else { return };
    let gaussian = Gaussian::new(1, 2, 3, 13);
    let auto = detector(&gaussian.model(), EngineChoice::Auto, &gpu);
    let adapters = f2d2::adapters();
    let real = adapters.iter().any(|a| !a.software && a.unusable.is_none());
    assert_eq!(auto.engine().engine == Engine::Gpu, real, "{:?}", auto.engine());
    if !real {
        assert!(auto.engine().reason.contains("no GPU ("), "{:?}", auto.engine());
    }
    let none = GpuOptions { adapter: Some("no such adapter".into()), ..gpu };
    let options =
        DetectorOptions { engine: EngineChoice::Gpu, gpu: none, ..DetectorOptions::default() };
    let error = Detector::from_model(gaussian.model(), options).err().unwrap();
    assert_eq!(error.code(), ErrorCode::EngineUnavailable);
    assert!(error.to_string().contains("no such adapter"), "{error}");
}
