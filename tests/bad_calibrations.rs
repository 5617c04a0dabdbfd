//! Calibrations of something else, damaged ones, and ones that cannot be made: typed errors, no panics.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::mpsc;
use std::time::Duration;

use f2d2::{Calibration, CalibrationOptions, Detector, DetectorOptions, Error, ErrorCode, Verdict};
use f2d2_tests::gaussian::Gaussian;
use f2d2_tests::grey;

const WIDTH: u32 = 6;
const HEIGHT: u32 = 5;
const IMAGES: u64 = 200;

fn gaussian(seed: u64) -> Gaussian {
    Gaussian::new(1, HEIGHT as usize, WIDTH as usize, seed)
}

fn options() -> CalibrationOptions {
    CalibrationOptions { alpha: 0.05, ..CalibrationOptions::default() }
}

fn fit(detector: &Detector, images: &[Vec<u8>]) -> f2d2::Result<Calibration> {
    let frames: Vec<_> = images.iter().map(|i| grey(i, WIDTH, HEIGHT)).collect();
    detector.calibrate(&frames, &options())
}

fn good() -> Calibration {
    fit(&gaussian(1).detector(), &gaussian(1).images(0, IMAGES)).unwrap()
}

#[test]
fn a_calibration_for_something_else_is_refused_by_name() {
    let calibration = good();
    let model = gaussian(1).model();
    let open = |options: DetectorOptions| {
        Detector::from_model(model.clone(), DetectorOptions { threads: 1, ..options }).unwrap()
    };
    let base = DetectorOptions::default;
    let other_scale = Gaussian { offset: -1.25, ..gaussian(1) };
    let cases = [
        ("model", gaussian(2).detector()),
        ("model", other_scale.detector()),
        ("schedules", open(DetectorOptions { steps: Some(3), ..base() })),
        ("schedules", open(DetectorOptions { noise_floors: Some(vec![0.97]), ..base() })),
        ("schedules", open(DetectorOptions { noise_floors: Some(vec![1.0, 0.97]), ..base() })),
    ];
    for (part, mut detector) in cases {
        match detector.set_calibration(calibration.clone()) {
            Err(Error::CalibrationMismatch { field, got, need }) => {
                assert_eq!(field, part);
                assert_ne!(got, need);
            }
            other => panic!("{part}: {other:?}"),
        }
        assert!(detector.calibration().is_none());
        assert!(detector.inspect(&grey(&[9; 30], WIDTH, HEIGHT)).verdict.is_none());
    }
    let mut same = open(DetectorOptions { threads: 2, heat_maps: true, ..base() });
    same.set_calibration(calibration.clone()).unwrap();
    // A refused calibration leaves the one in use.
    let other = fit(&gaussian(2).detector(), &gaussian(2).images(0, IMAGES)).unwrap();
    assert!(same.set_calibration(other).is_err());
    assert_eq!(same.calibration(), Some(&calibration));
}

#[test]
fn too_few_images_say_how_many_are_needed() {
    let detector = gaussian(1).detector();
    let need_all = Calibration::minimum_images(0.05, 0.05);
    assert_eq!(need_all, 118);
    for n in [0, 1, 5, need_all - 1] {
        match fit(&detector, &gaussian(1).images(0, n as u64)) {
            Err(Error::TooFewImages { got, need }) => assert_eq!((got, need), (n, need_all)),
            other => panic!("{n}: {other:?}"),
        }
    }
    fit(&detector, &gaussian(1).images(0, need_all as u64)).unwrap();
    for (alpha, delta) in [
        (0.0, 0.05),
        (1.0, 0.05),
        (f64::NAN, 0.05),
        (0.05, 0.0),
        (0.05, f64::INFINITY),
        (-0.1, 0.5),
    ] {
        let images = gaussian(1).images(0, 130);
        let frames: Vec<_> = images.iter().map(|i| grey(i, WIDTH, HEIGHT)).collect();
        let error = detector.calibrate(&frames, &CalibrationOptions { alpha, delta, seed: 0 });
        assert_eq!(error.unwrap_err().code(), ErrorCode::InvalidOption);
    }
}

#[test]
fn identical_and_doubled_frames_give_a_usable_calibration_or_a_typed_error() {
    let model = gaussian(1);
    let image = model.image(7);
    let doubled: Vec<Vec<u8>> = (0..700).map(|i| model.image(i / 10)).collect();
    for (name, images) in [
        ("one image", vec![image.clone(); 700]),
        ("black", vec![vec![0; 30]; 700]),
        ("each ten times", doubled),
    ] {
        let mut detector = model.detector();
        match fit(&detector, &images) {
            Ok(calibration) => {
                assert!(calibration.threshold().is_finite());
                let text = calibration.to_json().unwrap();
                assert_eq!(Calibration::from_json(&text).unwrap(), calibration, "{name}");
                detector.set_calibration(calibration).unwrap();
                let inspection = detector.inspect(&grey(&images[0], WIDTH, HEIGHT));
                assert_eq!(inspection.verdict, Some(Verdict::Normal), "{name}");
                let strange = detector.inspect(&grey(&[255; 30], WIDTH, HEIGHT));
                assert_eq!(strange.verdict, Some(Verdict::Anomalous), "{name}");
            }
            Err(error) => assert_eq!(error.code(), ErrorCode::NonFinite, "{name}: {error}"),
        }
    }
}

#[test]
fn damaged_files_are_refused_with_their_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calibration.json");
    let whole = good().to_json().unwrap();
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Calibration::load(&path)
    };
    assert_eq!(load(&whole).unwrap(), good());
    let replaced = |from: &str, to: &str| {
        assert!(whole.contains(from), "{from}");
        whole.replacen(from, to, 1)
    };
    let cases = [
        ("empty", String::new()),
        ("null", "null".into()),
        ("list", "[]".into()),
        ("deep", "[".repeat(100_000)),
        ("twice", format!("{whole}{whole}")),
        ("NaN", replaced("\"alpha\":0.05", "\"alpha\":NaN")),
        ("null rate", replaced("\"alpha\":0.05", "\"alpha\":null")),
        ("infinite", replaced("\"alpha\":0.05", "\"alpha\":1e999")),
        ("no room", replaced("\"alpha\":0.05", "\"alpha\":0.001")),
        ("future", replaced("\"format_version\":1", "\"format_version\":2")),
        ("surprise", replaced("{", "{\"surprise\":1,")),
        ("scores reversed", replaced("\"scores\":[", "\"scores\":[1e9,")),
        ("text", "calibration".into()),
    ];
    for (name, text) in cases {
        match load(&text) {
            Err(Error::CalibrationCorrupt { why }) => assert!(!why.is_empty(), "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    for length in (0..whole.len()).filter(|i| i % 61 == 0 || whole.len() - i < 50) {
        assert!(load(&whole[..length]).is_err(), "{length} bytes are accepted");
    }
    std::fs::write(&path, [0xff, 0xfe, 0]).unwrap();
    assert_eq!(Calibration::load(&path).unwrap_err().code(), ErrorCode::CalibrationCorrupt);
    for path in [folder.path(), &folder.path().join("none.json")] {
        assert_eq!(Calibration::load(path).unwrap_err().code(), ErrorCode::Io);
    }
}

#[test]
fn a_pipe_is_refused_without_waiting_for_its_other_end() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("calibration.json");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (sender, receiver) = mpsc::channel();
    // If nobody waits for the answer any more, the test has failed already.
    std::thread::spawn(move || {
        let _ = sender.send(Calibration::load(pipe).map(drop).map_err(|e| e.code()));
    });
    match receiver.recv_timeout(Duration::from_secs(5)) {
        Ok(result) => assert_eq!(result.unwrap_err(), ErrorCode::Io),
        Err(_) => panic!("loading a calibration from a pipe waits for ever"),
    }
}

#[test]
fn a_failed_save_keeps_the_older_file() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("calibration.json");
    let calibration = good();
    calibration.save(&target).unwrap();
    let missing = folder.path().join("none").join("calibration.json");
    assert_eq!(calibration.save(&missing).unwrap_err().code(), ErrorCode::Io);
    // A folder in the place of the file cannot be replaced, whoever runs this.
    let occupied = folder.path().join("occupied");
    std::fs::create_dir(&occupied).unwrap();
    std::fs::write(occupied.join("inside"), "older").unwrap();
    assert_eq!(calibration.save(&occupied).unwrap_err().code(), ErrorCode::Io);
    assert_eq!(std::fs::read_to_string(occupied.join("inside")).unwrap(), "older");
    assert_eq!(Calibration::load(&target).unwrap(), calibration);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "litter is left");
}

#[test]
fn noise_floors_given_twice_are_refused_when_opening() {
    let floors = Some(vec![0.9, 0.9]);
    let options =
        DetectorOptions { noise_floors: floors, threads: 1, ..DetectorOptions::default() };
    // Accepted, it would give two statistics of one name, and so no calibration after all the work.
    let error = Detector::from_model(gaussian(1).model(), options).err();
    assert_eq!(error.map(|e| e.code()), Some(ErrorCode::InvalidOption));
}
