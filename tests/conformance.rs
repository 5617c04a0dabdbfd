//! What every engine and binding has to do alike: closed forms on Gaussian models, and the shipped models.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use f2d2::flow::Clock;
use f2d2::likelihood::{floor_noise, noisy};
use f2d2::preprocess::noise;
use f2d2::{Error, ErrorCode};
use f2d2_tests::gaussian::Gaussian;
use f2d2_tests::shipped;
use f2d2_tests::subject::{Session, Subject, all};
use f2d2_tests::tolerance::{
    BITS_PER_DIM, GREY_LEVEL, INVERTED_BITS_PER_DIM, LATENT, MEAN_SQUARE, NATS_PER_DIM,
    REFERENCE_BITS_PER_DIM, assert_close,
};
use prost::Message;
use serde_json::json;

const STEPS: [usize; 4] = [1, 2, 4, 8];
const CLOCKS: [Clock; 2] = [Clock::Uniform, Clock::LogSnr { epsilon: 1e-3 }];

/// Grey and colour, both heads, both clocks.
fn gaussians() -> Vec<Gaussian> {
    let mut all = Vec::new();
    for (i, clock) in CLOCKS.into_iter().enumerate() {
        for (channels, height, width) in [(1, 5, 7), (3, 4, 6), (1, 1, 1)] {
            let seed = (10 * channels + height + i) as u64;
            for scalar_head in [false, true] {
                all.push(Gaussian {
                    clock,
                    scalar_head,
                    ..Gaussian::new(channels, height, width, seed)
                });
            }
        }
    }
    all
}

fn for_each(check: impl Fn(&dyn Subject, &Gaussian)) {
    for subject in all() {
        for gaussian in gaussians() {
            println!("{} {:?} {:?}", subject.name(), gaussian.shape, gaussian.clock);
            check(subject.as_ref(), &gaussian);
        }
    }
}

fn open(
    subject: &dyn Subject,
    gaussian: &Gaussian,
    steps: usize,
    floors: &[f64],
) -> Box<dyn Session> {
    subject.open(&gaussian.bytes(), steps, floors).unwrap()
}

/// Drawn images and some that the model has never seen the like of.
fn images(gaussian: &Gaussian) -> Vec<Vec<u8>> {
    let n = gaussian.shape.len();
    let ramp = (0..n).map(|i| (i * 255 / n) as u8).collect();
    let mut images = gaussian.images(100, 6);
    images.extend([vec![0; n], vec![255; n], ramp]);
    images
}

#[test]
fn every_engine_is_the_one_that_was_asked_for() {
    for_each(|subject, gaussian| {
        let engine = open(subject, gaussian, 1, &[1.0]).engine();
        assert_eq!(format!("rust {engine}"), subject.name(), "no silent fall back");
    });
}

#[test]
fn likelihoods_are_those_of_the_closed_form() {
    for_each(|subject, gaussian| {
        let images = images(gaussian);
        let dims = gaussian.shape.len() as f64 * std::f64::consts::LN_2;
        let need: Vec<f64> = images.iter().map(|i| gaussian.nll(i) / dims).collect();
        for steps in STEPS {
            let scored = open(subject, gaussian, steps, &[1.0]).score(&images);
            let bpd: Vec<f64> = scored.iter().map(|s| s.bpd).collect();
            assert_close(&format!("{steps} steps"), &bpd, &need, BITS_PER_DIM);
            let nats: Vec<f64> = scored.iter().map(|s| s.nll / dims).collect();
            assert_close("nats", &nats, &need, BITS_PER_DIM);
        }
    });
}

#[test]
fn maps_that_only_sample_are_inverted() {
    for subject in all() {
        for scalar_head in [false, true] {
            let gaussian = Gaussian { scalar_head, ..Gaussian::new(1, 4, 4, 3) };
            let mut manifest = gaussian.manifest();
            manifest["time"] = json!("step");
            manifest["golden"] = json!([gaussian.golden("normal", 2, &[0.0, 0.5, 1.0])]);
            let bytes = gaussian.proto_with(&manifest).encode_to_vec();
            let images = gaussian.images(100, 6);
            let dims = gaussian.shape.len() as f64 * std::f64::consts::LN_2;
            let need: Vec<f64> = images.iter().map(|i| gaussian.nll(i) / dims).collect();
            let scored = subject.open(&bytes, 8, &[1.0]).unwrap().score(&images);
            let bpd: Vec<f64> = scored.iter().map(|s| s.bpd).collect();
            assert_close(subject.name(), &bpd, &need, INVERTED_BITS_PER_DIM);
        }
    }
}

#[test]
fn noise_floors_give_the_likelihood_of_the_noised_image() {
    let floors = [1.0, 0.97, 0.8, 0.4];
    for_each(|subject, gaussian| {
        let scored = open(subject, gaussian, 2, &floors).score(&images(gaussian));
        for (image, scored) in images(gaussian).iter().zip(scored) {
            let values: Vec<f32> = gaussian.values(image).iter().map(|&v| v as f32).collect();
            for (position, t0) in floors.into_iter().enumerate().skip(1) {
                let noise = floor_noise(gaussian.noise_seed, position as u32, values.len());
                let noised: Vec<f32> = noisy(&values, &noise, t0).collect();
                let noised: Vec<f64> = noised.into_iter().map(f64::from).collect();
                let n = gaussian.shape.len() as f64;
                let need = gaussian.negative_log_density(&noised, t0) / n;
                assert_close("nll", &[scored.get(&format!("nll@{t0}"))], &[need], NATS_PER_DIM);
            }
        }
    });
}

#[test]
fn the_latent_of_every_grey_level_is_that_of_the_closed_form() {
    // One pixel: its squared latent is the statistic itself.
    let images: Vec<Vec<u8>> = (0..=255).map(|level| vec![level]).collect();
    for subject in all() {
        for clock in CLOCKS {
            let gaussian = Gaussian { clock, ..Gaussian::new(1, 1, 1, 4) };
            for steps in STEPS {
                let scored = open(subject.as_ref(), &gaussian, steps, &[1.0]).score(&images);
                let got: Vec<f64> = scored.iter().map(|s| s.get("latent_norm@1")).collect();
                let square = |image: &Vec<u8>| {
                    gaussian.transport(&gaussian.values(image), 1.0, 0.0).0[0].powi(2)
                };
                let need: Vec<f64> = images.iter().map(square).collect();
                assert_close(&format!("{steps} steps"), &got, &need, LATENT);
            }
        }
    }
}

#[test]
fn latents_of_the_models_own_data_have_unit_mean_square() {
    for_each(|subject, gaussian| {
        let n = 3000usize.div_ceil(gaussian.shape.len()) as u64;
        let scored = open(subject, gaussian, 4, &[1.0]).score(&gaussian.images(0, n));
        let mean = scored.iter().map(|s| s.get("latent_norm@1")).sum::<f64>() / n as f64;
        assert_close("mean square", &[mean], &[1.0], MEAN_SQUARE);
    });
}

#[test]
fn states_follow_the_closed_form_in_both_directions() {
    // The golden vectors hold every value of the state, so that the self-test of opening compares them all; the
    // closed form is its own inverse, so that both directions together are the round trip.
    for_each(|subject, gaussian| {
        let mut manifest = gaussian.manifest();
        let mut golden = Vec::new();
        for (seed, times) in
            [vec![1.0, 0.0], vec![1.0, 0.7, 0.2, 0.0], vec![0.6, 0.3]].into_iter().enumerate()
        {
            let back: Vec<f64> = times.iter().rev().copied().collect();
            for start in ["normal", "uniform"] {
                golden.push(gaussian.golden(start, seed as u64, &times));
                golden.push(gaussian.golden(start, seed as u64, &back));
            }
        }
        manifest["golden"] = json!(golden);
        subject.open(&gaussian.proto_with(&manifest).encode_to_vec(), 1, &[1.0]).unwrap();
    });
}

#[test]
fn sampling_gives_the_image_whose_latent_is_the_noise() {
    for_each(|subject, gaussian| {
        let (n, seed) = (5, 77);
        for steps in STEPS {
            let session = open(subject, gaussian, steps, &[1.0]);
            let samples = session.sample(n, steps, seed).unwrap();
            assert_eq!(samples.len(), n);
            for (i, sample) in samples.iter().enumerate() {
                let noise = noise::normal(seed, noise::SAMPLE + i as u32, gaussian.shape.len());
                let noise: Vec<f64> = noise.into_iter().map(f64::from).collect();
                let (y, _) = gaussian.transport(&noise, 0.0, 1.0);
                let plane = gaussian.shape.pixels();
                let level = |j: usize| {
                    let value =
                        y[j % gaussian.shape.channels * plane + j / gaussian.shape.channels];
                    ((value - gaussian.offset) / gaussian.scale).floor().clamp(0.0, 255.0)
                };
                let need: Vec<f64> = (0..gaussian.shape.len()).map(level).collect();
                let got: Vec<f64> = sample.iter().map(|&v| f64::from(v)).collect();
                assert_close(&format!("sample {i}"), &got, &need, GREY_LEVEL);
            }
        }
    });
}

#[test]
fn an_expanding_field_lowers_the_log_density() {
    // Data narrower than the noise: the field expands from data to noise, log_det > 0 for a falling time would be
    // the wrong sign in `-log p_1 = -log p_0 - log_det`.
    for_each(|subject, gaussian| {
        let image = gaussian.image(1);
        let scored = open(subject, gaussian, 1, &[1.0]).score(std::slice::from_ref(&image));
        let (_, log_det) = gaussian.transport(&gaussian.values(&image), 1.0, 0.0);
        assert!(log_det > 0.0, "the map to noise stretches");
        let per_dim = log_det / gaussian.shape.len() as f64;
        assert_close("divergence", &[scored[0].get("divergence@1")], &[-per_dim], NATS_PER_DIM);
        // The density of the data is higher than that of its latent by the stretch.
        let prior = 0.5 * scored[0].get("latent_norm@1") + 0.5 * std::f64::consts::TAU.ln();
        let bin = -gaussian.scale.ln();
        let need = [prior - per_dim + bin];
        assert_close("nll", &[scored[0].get("nll@1")], &need, NATS_PER_DIM);
        assert!(scored[0].get("nll@1") - bin < prior);
    });
}

#[test]
fn one_step_equals_many() {
    for_each(|subject, gaussian| {
        let images = images(gaussian);
        let score = |steps| open(subject, gaussian, steps, &[1.0, 0.9]).score(&images);
        let one = score(1);
        for steps in [2, 3, 8] {
            for (a, b) in one.iter().zip(score(steps)) {
                for name in
                    ["nll@1", "nll@0.9", "divergence@1", "latent_norm@1", "whiteness@1", "peak@1"]
                {
                    assert_close(name, &[b.get(name)], &[a.get(name)], NATS_PER_DIM);
                }
            }
        }
    });
}

#[test]
fn golden_values_that_differ_are_refused_with_the_engine_named() {
    for_each(|subject, gaussian| {
        // The tolerances of the self-test, tenfold: 2e-4 for states, 2e-5 nats per dimension for log-determinants.
        let n = gaussian.shape.len() as f64;
        for vector in [0, 1] {
            for (field, size) in [("log_det", 2e-4 * n), ("mean_square", 2e-3), ("samples", 2e-3)] {
                let mut manifest = gaussian.manifest();
                let golden = &mut manifest["golden"][vector];
                let value = match field {
                    "samples" => &mut golden["samples"][gaussian.shape.len() / 2],
                    _ => &mut golden[field],
                };
                let old = value.as_f64().unwrap();
                let unit = if field == "log_det" { n } else { 1.0 };
                *value = json!(old + size * (1.0 + old.abs() / unit));
                let bytes = gaussian.proto_with(&manifest).encode_to_vec();
                let error = subject.open(&bytes, 1, &[1.0]).err().expect(field);
                let Error::SelfTest { engine, what, got, need } = &error else {
                    panic!("{field}: {error}");
                };
                assert_eq!(*engine, open(subject, gaussian, 1, &[1.0]).engine());
                assert!(got != need && error.to_string().contains(&**what), "{error}");
            }
        }
        let mut manifest = gaussian.manifest();
        manifest["golden"][0]["log_det"] = json!(0.0);
        let bytes = gaussian.proto_with(&manifest).encode_to_vec();
        let code = subject.open(&bytes, 1, &[1.0]).err().map(|e| e.code());
        assert_eq!(code, Some(ErrorCode::SelfTest));
    });
}

#[test]
fn shipped_models_open_pass_their_self_test_and_match_their_reference() {
    for folder in shipped::folders() {
        let path = folder.join("model.onnx");
        let bytes = std::fs::read(&path).unwrap();
        let detector = f2d2::Detector::open(&path, f2d2::DetectorOptions::default()).unwrap();
        let shipped::Reference { images, bpd } = shipped::reference(&folder);
        for subject in all() {
            let session = subject.open(&bytes, detector.steps(), &[1.0]).unwrap();
            let scored = session.score(&images[..images.len().min(20)]);
            let differences = scored.iter().zip(&bpd).map(|(s, &need)| (s.bpd - need).abs());
            let mean = differences.sum::<f64>() / scored.len() as f64;
            assert_close(&path.display().to_string(), &[mean], &[0.0], REFERENCE_BITS_PER_DIM);
        }
    }
}
