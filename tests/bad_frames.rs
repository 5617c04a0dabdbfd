//! Frames that cannot be judged: refused with what was got and what is needed, and never normal.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use f2d2::frame::MAX_SIDE;
use f2d2::{
    CalibrationOptions, Detector, DetectorOptions, ErrorCode, Frame, Inspection, PixelFormat, Roi,
    Verdict,
};
use f2d2_tests::gaussian::Gaussian;
use f2d2_tests::grey;

const WIDTH: u32 = 7;
const HEIGHT: u32 = 5;

fn gaussian() -> Gaussian {
    Gaussian::new(1, HEIGHT as usize, WIDTH as usize, 9)
}

fn calibrated(gaussian: &Gaussian) -> Detector {
    let mut detector = gaussian.detector();
    let images = gaussian.images(1000, 200);
    let frames: Vec<_> = images.iter().map(|i| grey(i, WIDTH, HEIGHT)).collect();
    let options = CalibrationOptions { alpha: 0.05, ..CalibrationOptions::default() };
    let calibration = detector.calibrate(&frames, &options).unwrap();
    detector.set_calibration(calibration).unwrap();
    detector
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_ne_bytes()).collect()
}

fn invalid(inspection: &Inspection) -> &str {
    assert!(inspection.score.is_none() && inspection.measurement.is_none());
    match &inspection.verdict {
        Some(Verdict::Invalid(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// The numbers of an inspection, bit by bit.
fn bits(inspection: &Inspection) -> Vec<u64> {
    let m = inspection.measurement.as_ref().unwrap();
    let score = inspection.score.map_or(0.0, |s| s.value);
    m.statistics.iter().map(|s| s.value).chain([m.nll.0, score]).map(f64::to_bits).collect()
}

#[test]
fn descriptions_that_do_not_fit_the_buffer_are_refused() {
    use PixelFormat::{Bgra8, Gray8, Gray16, GrayF32, Rgb8, RgbF32};
    let buffer = vec![0u8; 1000];
    let most = usize::MAX;
    let cases: [(usize, PixelFormat, u32, u32, usize, &str); 17] = [
        (0, Gray8, 7, 5, 7, "frame buffer length is 0, need at least 35 bytes"),
        (0, Gray8, 0, 0, 0, "frame width is 0, need 1 to 16384"),
        (1000, Gray8, 0, 5, 7, "frame width is 0, need 1 to 16384"),
        (1000, Gray8, 7, 0, 7, "frame height is 0, need 1 to 16384"),
        (1000, Gray8, 65_536, 5, 65_536, "frame width is 65536, need 1 to 16384"),
        (1000, Gray8, 7, 65_536, 7, "frame height is 65536, need 1 to 16384"),
        (1000, Gray8, u32::MAX, u32::MAX, most, "frame width is 4294967295, need 1 to 16384"),
        (
            1000,
            Gray8,
            MAX_SIDE,
            MAX_SIDE,
            16_384,
            "frame buffer length is 1000, need at least 268435456 bytes",
        ),
        (1000, Gray8, 7, 5, 6, "frame stride is 6, need at least 7 bytes"),
        (1000, Gray8, 7, 5, 0, "frame stride is 0, need at least 7 bytes"),
        (1000, Rgb8, 7, 5, 20, "frame stride is 20, need at least 21 bytes"),
        (1000, Gray16, 7, 5, 13, "frame stride is 13, need at least 14 bytes"),
        (1000, RgbF32, 7, 5, 83, "frame stride is 83, need at least 84 bytes"),
        (1000, Bgra8, 7, 5, most, "need a frame that fits in memory"),
        (1000, GrayF32, 7, 5, most / 8, "need at least"),
        (34, Gray8, 7, 5, 7, "frame buffer length is 34, need at least 35 bytes"),
        (46, Gray8, 7, 5, 10, "frame buffer length is 46, need at least 47 bytes"),
    ];
    for (length, format, width, height, stride, message) in cases {
        let error = Frame::new(&buffer[..length], format, width, height, stride).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidFrame);
        assert!(error.to_string().contains(message), "{error}, need {message}");
    }
    for length in [34, 36, 35 * 3] {
        let error = Frame::packed(&buffer[..length], Gray8, 7, 5).unwrap_err().to_string();
        assert!(error.starts_with(&format!("frame buffer length is {length}, need ")), "{error}");
    }
    assert!(Frame::new(&buffer[..47], Gray8, 7, 5, 10).is_ok());
    assert!(Frame::new(&buffer[..1], Gray8, 1, 1, most).is_ok(), "one row needs no stride");
}

#[test]
fn regions_outside_the_frame_are_refused() {
    let data = vec![0; 35];
    for (x, y, width, height) in [
        (0, 0, 0, 5),
        (0, 0, 7, 0),
        (7, 0, 1, 1),
        (0, 5, 1, 1),
        (1, 0, 7, 5),
        (0, 0, 8, 5),
        (u32::MAX, 0, 1, 1),
        (1, 1, u32::MAX, u32::MAX),
    ] {
        let error = grey(&data, 7, 5).with_roi(Roi { x, y, width, height }).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.code(), ErrorCode::InvalidFrame);
        assert!(text.contains(&format!("{width}x{height} at ({x}, {y})")), "{text}");
        assert!(text.contains("inside 7x5 pixels"), "{text}");
    }
}

#[test]
fn floats_outside_the_unit_range_are_invalid_with_the_value() {
    let gaussian = gaussian();
    let detector = calibrated(&gaussian);
    for (value, text) in [
        (f32::NAN, "NaN"),
        (f32::INFINITY, "inf"),
        (f32::NEG_INFINITY, "-inf"),
        (-1e-6, "-0.000001"),
        (1.000_001, "1.000001"),
        (255.0, "255"),
        (1e30, "1000000000000000000000000000000"),
    ] {
        for place in [0, 17, 34] {
            let mut values = vec![0.5; 35];
            values[place] = value;
            let data = bytes(&values);
            let frame = Frame::packed(&data, PixelFormat::GrayF32, WIDTH, HEIGHT).unwrap();
            let inspection = detector.inspect(&frame);
            let need = format!("frame pixel value is {text}, need a finite number from 0 to 1");
            assert_eq!(invalid(&inspection), need);
        }
    }
    for value in [-0.0, 0.0, 1.0, 1e-40] {
        let data = bytes(&[value; 35]);
        let frame = Frame::packed(&data, PixelFormat::GrayF32, WIDTH, HEIGHT).unwrap();
        assert!(detector.inspect(&frame).measurement.is_some(), "{value}");
    }
}

#[test]
fn one_invalid_frame_of_a_batch_fails_alone() {
    let gaussian = gaussian();
    let detector = calibrated(&gaussian);
    for bad in 0..5 {
        let images: Vec<Vec<u8>> = (0..5)
            .map(|i| {
                let unit = |v: &u8| f32::from(*v) / 255.0;
                let mut values: Vec<f32> = gaussian.image(i).iter().map(unit).collect();
                if i == bad {
                    values[11] = f32::NAN;
                }
                bytes(&values)
            })
            .collect();
        let frame = |data| Frame::packed(data, PixelFormat::GrayF32, WIDTH, HEIGHT).unwrap();
        let frames: Vec<_> = images.iter().map(|data| frame(data)).collect();
        for (i, inspection) in detector.inspect_batch(&frames).iter().enumerate() {
            if i as u64 == bad {
                assert!(invalid(inspection).contains("NaN"));
            } else {
                let single = detector.inspect(&frames[i]);
                assert_eq!(bits(inspection), bits(&single), "frame {i}");
                assert_eq!(inspection.verdict, single.verdict);
            }
        }
    }
}

#[test]
fn batches_of_none_one_and_many_sizes_are_answered_one_to_one() {
    let gaussian = gaussian();
    let detector = calibrated(&gaussian);
    assert!(detector.inspect_batch(&[]).is_empty());
    assert!(detector.measure(&[]).is_empty());
    let data = vec![90u8; 64 * 48 * 4];
    let sizes = [(7, 5), (1, 1), (64, 48), (5, 7), (1, 48), (64, 1)];
    let frames: Vec<_> = (0..150)
        .map(|i| {
            let (w, h) = sizes[i % sizes.len()];
            Frame::new(&data, PixelFormat::Bgra8, w, h, 256).unwrap()
        })
        .collect();
    let inspections = detector.inspect_batch(&frames);
    assert_eq!(inspections.len(), 150);
    for inspection in &inspections {
        assert_eq!(bits(inspection), bits(&inspections[0]), "a resized constant stays what it is");
    }
    assert_eq!(detector.inspect_batch(&frames[..1]).len(), 1);
}

#[test]
fn a_result_that_is_not_finite_is_invalid_and_never_normal() {
    // A scale of 1e30 squares to infinity in f32 although every input is finite.
    let mut wild = gaussian();
    wild.scale = 1e300;
    let detector = wild.detector();
    let image = wild.image(1);
    let why = invalid(&detector.inspect(&grey(&image, WIDTH, HEIGHT))).to_owned();
    assert!(why.contains("not finite"), "{why}");
    for inspection in detector.inspect_batch(&[grey(&image, WIDTH, HEIGHT); 3]) {
        assert!(invalid(&inspection).contains("not finite"));
    }
}

#[test]
fn frames_that_trap_likelihoods_are_anomalous() {
    let gaussian = gaussian();
    let detector = calibrated(&gaussian);
    let flat = |v: u8| vec![v; 35];
    let checkerboard: Vec<u8> = (0..35).map(|i| [0, 255][i % 2]).collect();
    let mean: Vec<u8> = gaussian
        .mu
        .iter()
        .map(|mu| ((mu - gaussian.offset) / gaussian.scale).floor() as u8)
        .collect();
    let mut hot = gaussian.image(3);
    hot[17] = if hot[17] > 127 { 0 } else { 255 };
    // The mean image has the highest likelihood of all images, and no image of the data looks like it.
    for (name, image) in [
        ("black", flat(0)),
        ("white", flat(255)),
        ("uint8 of 0 and 1", (0..35).map(|i| i as u8 % 2).collect()),
        ("checkerboard", checkerboard),
        ("most likely image", mean),
        ("hot pixel", hot),
    ] {
        let inspection = detector.inspect(&grey(&image, WIDTH, HEIGHT));
        assert_eq!(inspection.verdict, Some(Verdict::Anomalous), "{name}: {:?}", inspection.score);
        assert!(inspection.score.unwrap().value.is_finite());
    }
}

#[test]
fn options_that_cannot_be_met_are_refused_before_work() {
    let gaussian = gaussian();
    let open = |options| Detector::from_model(gaussian.model(), options).err().map(|e| e.code());
    let base = DetectorOptions::default;
    let option = Some(ErrorCode::InvalidOption);
    assert_eq!(open(DetectorOptions { steps: Some(0), ..base() }), option);
    for floors in
        [vec![], vec![0.0], vec![-0.5], vec![1.5], vec![f64::NAN], vec![1.0, f64::INFINITY]]
    {
        assert_eq!(
            open(DetectorOptions { noise_floors: Some(floors.clone()), ..base() }),
            option,
            "{floors:?}"
        );
    }
    let gpu = open(DetectorOptions { engine: f2d2::EngineChoice::Gpu, ..base() });
    assert!(gpu.is_none_or(|code| code == ErrorCode::EngineUnavailable), "{gpu:?}");
}
