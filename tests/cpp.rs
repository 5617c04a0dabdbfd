//! The C++ faces of the library: one conformance suite in C++, compiled against each of them.
//!
//! Models, images and expected values are written here, from closed forms and from the library in Rust.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use f2d2::likelihood::{floor_noise, noisy};
use f2d2::preprocess::noise;
use f2d2::{CalibrationOptions, Verdict};
use f2d2_tests::compiler::{Program, compile};
use f2d2_tests::gaussian::Gaussian;
use f2d2_tests::{device, grey, programs};
use prost::Message;
use serde_json::json;

const FLOORS: [f64; 2] = [1.0, 0.8];
const STEPS: usize = 2;
const SAMPLES: (usize, usize, u64) = (3, 4, 77);
/// Step on the noise of guided samples.
const RATE: f64 = 0.5;

fn gaussians() -> Vec<Gaussian> {
    let colour = Gaussian { scalar_head: true, ..Gaussian::new(3, 4, 6, 12) };
    vec![Gaussian::new(1, 6, 8, 31), colour, Gaussian::new(1, 1, 1, 4)]
}

/// Writes what conformance.cpp reads to `folder`.
fn write_cases(folder: &Path) {
    let mut text = format!("{}\n", gaussians().len());
    for (i, gaussian) in gaussians().iter().enumerate() {
        let model = folder.join(format!("{i}.onnx"));
        // The first is the calibrated one, and has no gradient.
        let guides = i > 0;
        let proto = if guides { gaussian.guided() } else { gaussian.proto() };
        std::fs::write(&model, proto.encode_to_vec()).unwrap();
        let f2d2::preprocess::Shape { channels, height, width } = gaussian.shape;
        writeln!(text, "case{i} {} {channels} {height} {width} {STEPS}", model.display()).unwrap();
        writeln!(text, "{} {} {}", FLOORS.len(), FLOORS[0], FLOORS[1]).unwrap();
        let n = gaussian.shape.len();
        let mut images = gaussian.images(100, 4);
        images.extend([vec![0; n], vec![255; n], (0..n).map(|i| (i * 255 / n) as u8).collect()]);
        write_images(&mut text, &images);
        for image in &images {
            let expected = expected(gaussian, image);
            write!(text, "{}", expected.len()).unwrap();
            for (name, value) in expected {
                write!(text, " {name} {value:?}").unwrap();
            }
            text.push('\n');
        }
        let (count, steps, seed) = SAMPLES;
        writeln!(text, "{steps} {seed}").unwrap();
        let samples = |rate: f64| -> Vec<_> {
            (0..count).map(|i| sample(gaussian, seed, i as u32, rate)).collect()
        };
        write_images(&mut text, &samples(0.0));
        writeln!(text, "{RATE}").unwrap();
        write_images(&mut text, &if guides { samples(RATE) } else { vec![] });
    }
    std::fs::write(folder.join("cases.txt"), text).unwrap();
    let adapter = device::options().and_then(|options| options.adapter).unwrap_or_default();
    std::fs::write(folder.join("adapter.txt"), adapter).unwrap();
    write_calibration(folder, &gaussians()[0]);
    let mut manifest = gaussians()[0].manifest();
    manifest["golden"][0]["log_det"] = json!(0.0);
    let wrong = gaussians()[0].proto_with(&manifest).encode_to_vec();
    std::fs::write(folder.join("wrong_golden.onnx"), wrong).unwrap();
}

fn write_images(text: &mut String, images: &[Vec<u8>]) {
    writeln!(text, "{}", images.len()).unwrap();
    for image in images {
        let values: Vec<_> = image.iter().map(u8::to_string).collect();
        writeln!(text, "{}", values.join(" ")).unwrap();
    }
}

/// What the closed form says about an image.
fn expected(gaussian: &Gaussian, image: &[u8]) -> Vec<(String, f64)> {
    let n = gaussian.shape.len() as f64;
    let nll = gaussian.nll(image);
    let values = gaussian.values(image);
    let (latent, log_det) = gaussian.transport(&values, 1.0, 0.0);
    let narrow: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    let field = floor_noise(gaussian.noise_seed, 1, narrow.len());
    let noised: Vec<f64> = noisy(&narrow, &field, FLOORS[1]).map(f64::from).collect();
    vec![
        ("nll".into(), nll),
        ("bpd".into(), nll / (n * std::f64::consts::LN_2)),
        ("latent_norm@1".into(), latent.iter().map(|v| v * v).sum::<f64>() / n),
        ("divergence@1".into(), -log_det / n),
        (format!("nll@{}", FLOORS[1]), gaussian.negative_log_density(&noised, FLOORS[1]) / n),
    ]
}

/// The image whose latent is the noise number `i`, every value of which is moved by `rate` towards 0.
fn sample(gaussian: &Gaussian, seed: u64, i: u32, rate: f64) -> Vec<u8> {
    let noise = noise::normal(seed, noise::SAMPLE + i, gaussian.shape.len());
    let moved = noise.into_iter().map(|x| f64::from(x) - rate * f64::from(x).signum());
    let (y, _) = gaussian.transport(&moved.collect::<Vec<_>>(), 0.0, 1.0);
    let (channels, plane) = (gaussian.shape.channels, gaussian.shape.pixels());
    let level = |j: usize| {
        let value = y[j % channels * plane + j / channels];
        ((value - gaussian.offset) / gaussian.scale).floor().clamp(0.0, 255.0) as u8
    };
    (0..gaussian.shape.len()).map(level).collect()
}

/// A calibration in Rust, and what it says about other images.
fn write_calibration(folder: &Path, gaussian: &Gaussian) {
    let options = CalibrationOptions { alpha: 0.05, delta: 0.05, seed: 3 };
    let (width, height) = (gaussian.shape.width as u32, gaussian.shape.height as u32);
    let normal = gaussian.images(1000, 200);
    let frames: Vec<_> = normal.iter().map(|image| grey(image, width, height)).collect();
    let settings = f2d2::DetectorOptions {
        threads: 1,
        steps: Some(STEPS),
        noise_floors: Some(FLOORS.to_vec()),
        ..f2d2::DetectorOptions::default()
    };
    let mut detector = f2d2::Detector::from_model(gaussian.model(), settings).unwrap();
    let calibration = detector.calibrate(&frames, &options).unwrap();
    std::fs::write(folder.join("calibration.json"), calibration.to_json().unwrap()).unwrap();
    detector.set_calibration(calibration).unwrap();

    let mut judged = gaussian.images(5000, 6);
    judged.extend([vec![0; gaussian.shape.len()], vec![255; gaussian.shape.len()]]);
    let mut text = format!("{} {} {}\n", options.alpha, options.delta, options.seed);
    write_images(&mut text, &normal);
    write_images(&mut text, &judged);
    for image in &judged {
        let inspection = detector.inspect(&grey(image, width, height));
        let score = inspection.score.unwrap();
        let anomalous = i32::from(inspection.verdict == Some(Verdict::Anomalous));
        writeln!(text, "{anomalous} {:?} {:?}", score.value, score.p_value).unwrap();
    }
    std::fs::write(folder.join("calibration.txt"), text).unwrap();
}

/// Runs the suite; also on expected values of which one is wrong, which it has to notice.
fn conforms(program: &Program, name: &str) {
    let folder = tempfile::tempdir().unwrap();
    write_cases(folder.path());
    let said = program.run(&[folder.path()]).expect(0).out();
    let count =
        said.strip_prefix(&format!("{name}: ")).and_then(|s| s.split_once(" checks, 0 wrong"));
    let count: usize = count.unwrap_or_else(|| panic!("{said}")).0.parse().unwrap();
    assert!(count > 300, "{count} checks");

    let cases = folder.path().join("cases.txt");
    let good = std::fs::read_to_string(&cases).unwrap();
    for (name, wrong) in [("bpd", "1e9"), ("divergence@1", "nan"), ("latent_norm@1", "-1")] {
        let (before, after) = good.split_once(&format!("{name} ")).unwrap();
        let rest = after.split_once(' ').unwrap().1;
        std::fs::write(&cases, format!("{before}{name} {wrong} {rest}")).unwrap();
        let said = program.run(&[folder.path()]).out();
        assert!(said.contains("wrong: ") && said.contains(name), "{name}: {said}");
    }
}

fn source(name: &str) -> PathBuf {
    programs::root().join("tests/cpp").join(name)
}

#[test]
fn the_bridge_conforms() {
    let library = programs::library("libf2d2_cxx.a", "bindings/cxx/src");
    let headers = library.ancestors().nth(2).unwrap().join("cxxbridge");
    let program = compile("c++")
        .args(["-std=c++17", "-Wall", "-Wextra", "-DSUBJECT=\"bridge.hpp\""])
        .arg(format!("-isystem{}", headers.display()))
        .arg(source("conformance.cpp"))
        .arg(&library)
        .args(["-lm", "-lpthread", "-ldl"])
        .program();
    conforms(&program, "bridge");
}

/// The shared library in a folder of its own under the name that programs look for.
fn shared_library() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let built = programs::built("libf2d2_c.so");
    for name in ["libf2d2.so", "libf2d2.so.0"] {
        std::os::unix::fs::symlink(&built, folder.path().join(name)).unwrap();
    }
    folder
}

#[test]
fn the_wrapper_conforms() {
    let library = shared_library();
    let subject = ["-DSUBJECT=\"wrapper.hpp\""];
    conforms(&with_wrapper(library.path(), "conformance.cpp", &subject), "wrapper");
}

/// A program of tests/cpp that includes f2d2.hpp.
fn with_wrapper(library: &Path, name: &str, flags: &[&str]) -> Program {
    compile("c++")
        .args(["-std=c++17", "-O2", "-Wall", "-Wextra"])
        .args(flags)
        .arg(format!("-I{}", programs::root().join("include").display()))
        .arg(source(name))
        .arg(format!("-L{}", library.display()))
        .args(["-lf2d2", &format!("-Wl,-rpath,{}", library.display())])
        .program()
}

#[test]
#[ignore = "a measurement, to be run alone on a quiet machine"]
fn scoring_through_cpp_costs_what_it_costs_in_rust() {
    const ROUNDS: usize = 8;
    const FRAMES: usize = 30;
    let library = shared_library();
    let program = with_wrapper(library.path(), "latency.cpp", &[]);
    let model = programs::root().join("models/fashion-mnist/model.onnx");
    let options = f2d2::DetectorOptions { threads: 1, ..f2d2::DetectorOptions::default() };
    let detector = f2d2::Detector::open(&model, options).unwrap();
    let pixels: Vec<u8> = (0..28 * 28).map(|i| (i % 251) as u8).collect();
    let frame = grey(&pixels, 28, 28);
    let (mut rust, mut cpp) = (Vec::new(), Vec::new());
    // In turns, so that whatever else the machine does meets both.
    for _ in 0..ROUNDS {
        for i in 0..FRAMES + 3 {
            let start = std::time::Instant::now();
            assert!(detector.inspect(&frame).measurement.is_some());
            if i >= 3 {
                rust.push(start.elapsed().as_nanos() as f64);
            }
        }
        let said = program.run(&[model.as_os_str(), FRAMES.to_string().as_ref()]).expect(0).out();
        cpp.extend(said.lines().map(|line| line.parse::<f64>().unwrap()));
    }
    assert_eq!((rust.len(), cpp.len()), (ROUNDS * FRAMES, ROUNDS * FRAMES));
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2] / 1e6
    };
    let (rust, cpp) = (median(&mut rust), median(&mut cpp));
    println!("one frame: rust {rust:.3} ms, c++ {cpp:.3} ms, ratio {:.4}", cpp / rust);
    assert!(cpp / rust <= 1.02, "{}", cpp / rust);
}
