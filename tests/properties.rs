//! Properties that hold for any images: what surrounds an image in memory, in a batch or in time changes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::OnceLock;

use f2d2::{
    Calibration, CalibrationOptions, Detector, DetectorOptions, Frame, Inspection, PixelFormat, Roi,
};
use f2d2_tests::gaussian::Gaussian;
use f2d2_tests::grey;
use proptest::collection::vec;
use proptest::prelude::*;

const WIDTH: u32 = 5;
const HEIGHT: u32 = 6;
const LEN: usize = 30;

fn open(channels: usize, threads: usize) -> Detector {
    let gaussian = Gaussian {
        noise_floors: vec![1.0, 0.9],
        ..Gaussian::new(channels, HEIGHT as usize, WIDTH as usize, 21)
    };
    let options = DetectorOptions { threads, heat_maps: true, ..DetectorOptions::default() };
    Detector::from_model(gaussian.model(), options).unwrap()
}

/// A calibrated detector for grey images, on one thread.
fn detector() -> &'static Detector {
    static DETECTOR: OnceLock<Detector> = OnceLock::new();
    DETECTOR.get_or_init(|| {
        let mut detector = open(1, 1);
        let calibration = calibrate(&detector, &images(), 0);
        detector.set_calibration(calibration).unwrap();
        detector
    })
}

fn images() -> Vec<Vec<u8>> {
    Gaussian::new(1, HEIGHT as usize, WIDTH as usize, 21).images(0, 160)
}

fn calibrate(detector: &Detector, images: &[Vec<u8>], seed: u64) -> Calibration {
    let frames: Vec<_> = images.iter().map(|i| grey(i, WIDTH, HEIGHT)).collect();
    let options = CalibrationOptions { alpha: 0.05, seed, ..CalibrationOptions::default() };
    detector.calibrate(&frames, &options).unwrap()
}

/// Every number of an inspection, bit by bit.
fn bits(inspection: &Inspection) -> Vec<u64> {
    let m = inspection.measurement.as_ref().unwrap();
    let map = m.heat_map.as_ref().unwrap().values.iter().map(|&v| f64::from(v));
    let score = inspection.score.map_or([0.0; 2], |s| [s.value, s.p_value]);
    let statistics = m.statistics.iter().map(|s| s.value);
    statistics.chain([m.nll.0, m.bpd.0]).chain(score).chain(map).map(f64::to_bits).collect()
}

fn image() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), LEN)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_is_its_images_in_any_order(images in vec(image(), 1..9), turn in 0usize..9) {
        let frames: Vec<_> = images.iter().map(|i| grey(i, WIDTH, HEIGHT)).collect();
        let single: Vec<_> = frames.iter().map(|f| bits(&detector().inspect(f))).collect();
        let batch: Vec<_> = detector().inspect_batch(&frames).iter().map(bits).collect();
        prop_assert_eq!(&batch, &single);
        let mut turned = frames.clone();
        turned.rotate_left(turn % frames.len());
        turned.reverse();
        let mut expected = single;
        expected.rotate_left(turn % frames.len());
        expected.reverse();
        let again: Vec<_> = detector().inspect_batch(&turned).iter().map(bits).collect();
        prop_assert_eq!(again, expected);
    }

    #[test]
    fn what_lies_around_an_image_in_memory_changes_nothing(
        image in image(), poison in any::<u8>(), left in 0u32..4, top in 0u32..4, padding in 0usize..5, right in 0u32..3,
    ) {
        let need = bits(&detector().inspect(&grey(&image, WIDTH, HEIGHT)));
        let (width, height) = (left + WIDTH + right, top + HEIGHT + 1);
        let stride = width as usize + padding;
        let mut data = vec![poison; stride * height as usize];
        for (y, row) in image.chunks_exact(WIDTH as usize).enumerate() {
            let start = (y + top as usize) * stride + left as usize;
            data[start..start + row.len()].copy_from_slice(row);
        }
        let roi = Roi { x: left, y: top, width: WIDTH, height: HEIGHT };
        let whole = Frame::new(&data, PixelFormat::Gray8, width, height, stride).unwrap();
        prop_assert_eq!(bits(&detector().inspect(&whole.with_roi(roi).unwrap())), need.clone());
        // The same pixels as a frame of their own, at an odd address.
        let start = top as usize * stride + left as usize;
        let end = start + (HEIGHT as usize - 1) * stride + WIDTH as usize;
        let part = Frame::new(&data[start..end], PixelFormat::Gray8, WIDTH, HEIGHT, stride).unwrap();
        prop_assert_eq!(bits(&detector().inspect(&part)), need);
    }

    #[test]
    fn formats_of_the_same_pixels_agree(rgb in vec(any::<u8>(), 3 * LEN), alpha in any::<u8>()) {
        static COLOUR: OnceLock<Detector> = OnceLock::new();
        let colour = COLOUR.get_or_init(|| open(3, 1));
        let pixels = || rgb.chunks_exact(3);
        let cases = [
            (PixelFormat::Rgb8, rgb.clone()),
            (PixelFormat::Bgr8, pixels().flat_map(|p| [p[2], p[1], p[0]]).collect()),
            (PixelFormat::Rgba8, pixels().flat_map(|p| [p[0], p[1], p[2], alpha]).collect()),
            (PixelFormat::Bgra8, pixels().flat_map(|p| [p[2], p[1], p[0], !alpha]).collect()),
            (PixelFormat::RgbF32, rgb.iter().flat_map(|&v| (f32::from(v) / 255.0).to_ne_bytes()).collect()),
        ];
        for detector in [colour, detector()] {
            let all: Vec<Vec<u64>> = cases.iter().map(|(format, data)| {
                bits(&detector.inspect(&Frame::packed(data, *format, WIDTH, HEIGHT).unwrap()))
            }).collect();
            for (other, (format, _)) in all.iter().zip(&cases) {
                prop_assert_eq!(other, &all[0], "{:?}", format);
            }
        }
    }

    #[test]
    fn grey_in_any_format_is_the_same_grey(image in image()) {
        let need = bits(&detector().inspect(&grey(&image, WIDTH, HEIGHT)));
        let cases: [(PixelFormat, Vec<u8>); 3] = [
            (PixelFormat::Rgb8, image.iter().flat_map(|&v| [v; 3]).collect()),
            (PixelFormat::Gray16, image.iter().flat_map(|&v| (u16::from(v) * 257).to_ne_bytes()).collect()),
            (PixelFormat::GrayF32, image.iter().flat_map(|&v| (f32::from(v) / 255.0).to_ne_bytes()).collect()),
        ];
        for (format, data) in cases {
            let frame = Frame::packed(&data, format, WIDTH, HEIGHT).unwrap();
            prop_assert_eq!(bits(&detector().inspect(&frame)), need.clone(), "{:?}", format);
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing(images in vec(image(), 1..20)) {
        static MANY: OnceLock<[Detector; 2]> = OnceLock::new();
        let many = MANY.get_or_init(|| [open(1, 2), open(1, 5)]);
        let frames: Vec<_> = images.iter().map(|i| grey(i, WIDTH, HEIGHT)).collect();
        static ONE: OnceLock<Detector> = OnceLock::new();
        let need: Vec<_> =
            ONE.get_or_init(|| open(1, 1)).inspect_batch(&frames).iter().map(bits).collect();
        for detector in many {
            let got: Vec<_> = detector.inspect_batch(&frames).iter().map(bits).collect();
            prop_assert_eq!(&got, &need);
        }
    }

    #[test]
    fn p_values_fall_as_scores_rise_and_agree_with_verdicts(a in image(), b in image(), seed in any::<u64>()) {
        let gaussian = Gaussian::new(1, HEIGHT as usize, WIDTH as usize, 21);
        let detector = detector();
        let calibration = detector.calibration().unwrap();
        let mut scores: Vec<_> = [a, b, gaussian.image(seed), gaussian.image(!seed)].iter()
            .map(|i| detector.inspect(&grey(i, WIDTH, HEIGHT)).score.unwrap())
            .collect();
        scores.sort_by(|x, y| x.value.total_cmp(&y.value));
        for pair in scores.windows(2) {
            prop_assert!(pair[0].p_value >= pair[1].p_value, "{:?}", pair);
        }
        for score in scores {
            prop_assert!(score.p_value > 0.0 && score.p_value <= 1.0, "{:?}", score);
            prop_assert_eq!(calibration.is_anomalous(&score), score.value > calibration.threshold());
            if calibration.is_anomalous(&score) {
                prop_assert!(score.p_value <= calibration.alpha(), "{:?}", score);
            }
        }
    }

    #[test]
    fn scores_of_extreme_frames_are_finite(
        level in any::<u8>(), x in 0..WIDTH as usize, y in 0..HEIGHT as usize, hot in any::<u8>(),
    ) {
        let at = y * WIDTH as usize + x;
        let spot = |ground: u8| {
            let mut image = vec![ground; LEN];
            image[at] = hot;
            image
        };
        let checkers = (0..LEN).map(|i| [level, hot][(i / WIDTH as usize + i) % 2]).collect();
        for image in [vec![level; LEN], vec![0; LEN], vec![255; LEN], spot(0), spot(255), spot(level), checkers] {
            let inspection = detector().inspect(&grey(&image, WIDTH, HEIGHT));
            let numbers: Vec<f64> = bits(&inspection).into_iter().map(f64::from_bits).collect();
            prop_assert!(numbers.iter().all(|v| v.is_finite()), "{:?}", numbers);
            prop_assert!(inspection.score.is_some());
        }
    }
}

#[test]
fn calibrating_depends_on_images_order_and_seed_and_on_nothing_else() {
    let images = images();
    let one = calibrate(detector(), &images, 3);
    assert_eq!(calibrate(detector(), &images, 3).to_json().unwrap(), one.to_json().unwrap());
    assert_eq!(calibrate(&open(1, 3), &images, 3).to_json().unwrap(), one.to_json().unwrap());
    // Another order or another seed deals the images to the two halves differently: other scores, the same promise.
    let mut reversed = images.clone();
    reversed.reverse();
    for other in [calibrate(detector(), &reversed, 3), calibrate(detector(), &images, 4)] {
        assert_ne!(other, one);
        assert_eq!(other.binding(), one.binding());
        assert_eq!((other.images(), other.band()), (one.images(), one.band()));
        assert_eq!(other.statistics(), one.statistics());
    }
    // What is dealt is the same: score vectors follow their images.
    let vectors = |images: &[Vec<u8>]| -> Vec<_> {
        let frames: Vec<_> = images.iter().map(|i| grey(i, WIDTH, HEIGHT)).collect();
        detector().measure(&frames).into_iter().map(Result::unwrap).collect()
    };
    let mut back = vectors(&reversed);
    back.reverse();
    assert_eq!(back, vectors(&images));
}
