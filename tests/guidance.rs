//! Guided sampling: closed forms, the shipped models, and files whose gradient is missing, wrong or hostile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use f2d2::preprocess::{Pixels, noise};
use f2d2::{
    Detector, DetectorOptions, EngineChoice, Error, ErrorCode, Frame, Limits, Model, PixelFormat,
    Sampler,
};
use f2d2_tests::gaussian::Gaussian;
use f2d2_tests::graph::{floats, node, value};
use f2d2_tests::tolerance::{GREY_LEVEL, assert_close, compare};
use f2d2_tests::{shipped, skipped};
use prost::Message;
use serde_json::{Value, json};
use tract_onnx::pb::ModelProto;

const ENGINES: [EngineChoice; 2] = [EngineChoice::Cpu, EngineChoice::Tract];
const SEED: u64 = 77;

/// The exact map of Gaussian pixels with `bend x²` added to every pixel's divergence: grad_d is `2 bend x`.
struct Bent {
    gaussian: Gaussian,
    bend: Vec<f32>,
}

impl Bent {
    fn new(scalar_head: bool, bend: impl Fn(usize) -> f32) -> Self {
        let gaussian = Gaussian { scalar_head, ..Gaussian::new(3, 4, 5, 8) };
        let bend = (0..gaussian.shape.len()).map(bend).collect();
        Self { gaussian, bend }
    }

    fn manifest(&self) -> Value {
        let mut manifest = self.gaussian.manifest();
        let mut golden = self.gaussian.golden("normal", 2, &[0.0, 1.0]);
        let n = self.bend.len();
        let x = noise::normal(2, noise::GOLDEN, n);
        let bends = x.iter().zip(&self.bend).map(|(x, b)| f64::from(b * x * x));
        golden["log_det"] = json!(golden["log_det"].as_f64().unwrap() + bends.sum::<f64>());
        manifest["golden"] = json!([golden]);
        let slope: Vec<f32> = x.iter().zip(&self.bend).map(|(x, b)| 2.0 * b * x).collect();
        let squares = slope.iter().map(|&v| f64::from(v).powi(2));
        manifest["golden_gradient"] = json!({ "seed": 2,
            "mean_square": squares.sum::<f64>() / n as f64, "samples": slope });
        manifest
    }

    /// The file, with the output only if `manifest` has its golden vector.
    fn proto(&self, manifest: &Value) -> ModelProto {
        let mut proto = self.gaussian.proto_with(manifest);
        let graph = proto.graph.as_mut().unwrap();
        let shape = self.gaussian.shape;
        let image = [shape.channels, shape.height, shape.width];
        graph.initializer.push(floats("bend", &[&[1], &image[..]].concat(), &self.bend));
        let sum = graph.node.iter().position(|n| n.output[0] == "d").unwrap();
        graph.node[sum].input[0] = "bent_rate".into();
        graph.node.splice(
            sum..sum,
            [
                node("Mul", &["bend", "x"], "bent"),
                node("Mul", &["bent", "x"], "bend_of_x"),
                node("Add", &["rate", "bend_of_x"], "bent_rate"),
            ],
        );
        if manifest.get("golden_gradient").is_some() {
            graph.node.push(node("Add", &["bent", "bent"], "grad_d"));
            graph.output.push(value("grad_d", &image));
        }
        proto
    }

    fn model(&self) -> Arc<Model> {
        model(&self.proto(&self.manifest()))
    }

    /// Grey levels of sample `i` by the closed form, for a step of `rate` on the noise.
    fn sample(&self, i: u32, rate: f64) -> Vec<f64> {
        let Gaussian { shape, offset, scale, .. } = self.gaussian;
        let noise = noise::normal(SEED, noise::SAMPLE + i, shape.len());
        let moved = noise.iter().zip(&self.bend).map(|(&x, &bend)| {
            let slope = f64::from(x) * (1.0 + 2.0 * f64::from(bend));
            f64::from(x) - rate * slope.signum()
        });
        let (y, _) = self.gaussian.transport(&moved.collect::<Vec<_>>(), 0.0, 1.0);
        let at = |j: usize| y[j % shape.channels * shape.pixels() + j / shape.channels];
        (0..shape.len()).map(|j| ((at(j) - offset) / scale).floor().clamp(0.0, 255.0)).collect()
    }
}

fn model(proto: &ModelProto) -> Arc<Model> {
    Arc::new(Model::from_bytes("bent", &proto.encode_to_vec(), &Limits::default()).unwrap())
}

fn sampler(model: &Arc<Model>, engine: EngineChoice) -> Sampler {
    Sampler::new(Arc::clone(model), engine, 1).unwrap()
}

fn levels(image: &Pixels) -> Vec<f64> {
    image.data.iter().map(|&v| f64::from(v)).collect()
}

#[test]
fn guided_samples_are_those_of_the_closed_form() {
    // Of a Gaussian the divergence has no slope, and the noise only shrinks; where it is bent down, the noise grows.
    let bends: [fn(usize) -> f32; 2] = [|_| 0.0, |i| [-2.0, 1.0, -0.4][i % 3]];
    for (engine, scalar_head) in ENGINES.into_iter().flat_map(|e| [(e, false), (e, true)]) {
        for bend in bends {
            let bent = Bent::new(scalar_head, bend);
            let model = bent.model();
            assert!(model.guides());
            let sampler = sampler(&model, engine);
            for (rate, steps) in [(0.5, 1), (1.0, 3)] {
                let images = sampler.draw_guided(4, steps, SEED, rate).unwrap();
                assert_eq!(images.len(), 4);
                for (i, image) in (0..).zip(&images) {
                    assert_close("guided", &levels(image), &bent.sample(i, rate), GREY_LEVEL);
                    compare(&levels(image), &bent.sample(i, -rate), GREY_LEVEL).unwrap_err();
                    compare(&levels(image), &bent.sample(i, 0.0), GREY_LEVEL).unwrap_err();
                }
                let plain = sampler.draw(2, steps, SEED).unwrap();
                assert_close("plain", &levels(&plain[1]), &bent.sample(1, 0.0), GREY_LEVEL);
                assert_eq!(sampler.draw_guided(2, steps, SEED, rate).unwrap(), images[..2]);
            }
        }
    }
}

#[test]
fn a_model_without_the_gradient_says_what_is_missing() {
    let model = Gaussian::new(1, 4, 4, 1).model();
    assert!(!model.guides());
    for engine in ENGINES {
        let error = sampler(&model, engine).draw_guided(1, 1, SEED, 0.1).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidOption);
        assert_eq!(
            error.to_string(),
            "model outputs is u and d, need grad_d too for guided samples"
        );
    }
}

#[test]
fn learning_rates_are_finite_and_above_0() {
    let model = Bent::new(false, |_| 0.0).model();
    let sampler = sampler(&model, EngineChoice::Cpu);
    for rate in [0.0, -0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let error = sampler.draw_guided(1, 1, SEED, rate).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { option: "learning rate", .. }), "{error}");
    }
    // In f32 this is infinite: the noise that it gives is refused.
    let error = sampler.draw_guided(1, 1, SEED, 1e300).unwrap_err();
    assert!(matches!(error, Error::NonFinite { .. }), "{error}");
    assert_eq!(sampler.draw_guided(0, 1, SEED, 0.1).unwrap(), []);
}

#[test]
fn a_wrong_gradient_is_found_before_it_guides_and_disturbs_nothing_else() {
    let bent = Bent::new(false, |i| 0.1 + i as f32);
    let manifest = bent.manifest();
    let changed = |output| {
        let mut proto = bent.proto(&manifest);
        let graph = proto.graph.as_mut().unwrap();
        graph.initializer.push(floats("factor", &[1], &[2.002]));
        graph.node.pop();
        graph.node.push(node("Sub", &["bent", "bent"], "nothing"));
        graph.node.push(output);
        proto
    };
    let twice = model(&changed(node("Mul", &["bent", "factor"], "grad_d")));
    let error = sampler(&twice, EngineChoice::Cpu).draw_guided(1, 1, SEED, 0.1).unwrap_err();
    let Error::SelfTest { what, .. } = &error else { panic!("{error}") };
    assert!(what.contains("grad_d"), "{error}");

    let nan = model(&changed(node("Div", &["nothing", "nothing"], "grad_d")));
    let error = sampler(&nan, EngineChoice::Cpu).draw_guided(1, 1, SEED, 0.1).unwrap_err();
    let Error::NonFinite { what } = &error else { panic!("{error}") };
    assert_eq!(*what, "gradient of the divergence");

    let good = bent.model();
    for model in [twice, nan] {
        let draw = |model| sampler(model, EngineChoice::Cpu).draw(2, 2, SEED).unwrap();
        assert_eq!(draw(&model), draw(&good));
    }
}

#[test]
fn scoring_does_not_see_the_gradient() {
    let bent = Bent::new(false, |i| i as f32 / 30.0);
    let mut without = bent.manifest();
    without.as_object_mut().unwrap().remove("golden_gradient");
    let image = bent.gaussian.image(5);
    for engine in ENGINES {
        let score = |model: Arc<Model>| {
            let options = DetectorOptions { engine, threads: 1, ..DetectorOptions::default() };
            let detector = Detector::from_model(model, options).unwrap();
            let frame = Frame::packed(&image, PixelFormat::Rgb8, 5, 4).unwrap();
            let measurement = detector.inspect(&frame).measurement.unwrap();
            (measurement.nll.0.to_bits(), detector.engine())
        };
        assert_eq!(score(bent.model()), score(model(&bent.proto(&without))));
    }
}

#[test]
fn files_with_half_a_gradient_or_a_forbidden_one_are_refused() {
    let bent = Bent::new(false, |_| 1.0);
    let (manifest, whole) = (bent.manifest(), bent.proto(&bent.manifest()));
    let mut without = manifest.clone();
    without.as_object_mut().unwrap().remove("golden_gradient");
    let with = |manifest: &Value, change: &dyn Fn(&mut ModelProto)| {
        let mut proto = whole.clone();
        proto.metadata_props[0].value = manifest.to_string();
        change(&mut proto);
        proto.encode_to_vec()
    };
    let graph = |proto: &mut ModelProto| proto.graph.take().unwrap();
    let cases: Vec<(&str, Vec<u8>, ErrorCode)> = vec![
        ("no golden vector", with(&without, &|_| {}), ErrorCode::ModelCorrupt),
        (
            "no output",
            with(&manifest, &|proto| {
                let mut graph = graph(proto);
                graph.output.pop();
                proto.graph = Some(graph);
            }),
            ErrorCode::ModelCorrupt,
        ),
        (
            "another shape",
            with(&manifest, &|proto| {
                let mut graph = graph(proto);
                *graph.output.last_mut().unwrap() = value("grad_d", &[3, 4, 6]);
                proto.graph = Some(graph);
            }),
            ErrorCode::ModelCorrupt,
        ),
        (
            "a size that stands in the data",
            with(&manifest, &|proto| {
                let mut graph = graph(proto);
                *graph.node.last_mut().unwrap() = node("Expand", &["bent", "axes"], "grad_d");
                proto.graph = Some(graph);
            }),
            ErrorCode::ModelNotAllowed,
        ),
    ];
    for (name, bytes, code) in cases {
        let error = Model::from_bytes("bad", &bytes, &Limits::default()).unwrap_err();
        assert_eq!(error.code(), code, "{name}: {error}");
    }
    for (field, wrong) in [
        ("samples", json!([])),
        ("samples", json!(vec![0.0; 61])),
        ("mean_square", json!(-1.0)),
        ("surprise", json!(1)),
    ] {
        let mut manifest = manifest.clone();
        manifest["golden_gradient"][field] = wrong.clone();
        let bytes = with(&manifest, &|_| {});
        let error = Model::from_bytes("bad", &bytes, &Limits::default()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::ModelCorrupt, "{field} = {wrong}: {error}");
    }
}

#[test]
fn guided_samples_of_shipped_models_are_likelier() {
    const IMAGES: usize = 24;
    let mut guided = 0;
    for folder in shipped::folders() {
        let path = folder.join("model.onnx");
        let model = Arc::new(Model::open(&path, &Limits::default()).unwrap());
        if !model.guides() {
            continue;
        }
        guided += 1;
        let shape = model.manifest().preprocess.shape;
        let format = if shape.channels == 3 { PixelFormat::Rgb8 } else { PixelFormat::Gray8 };
        let options = DetectorOptions { steps: Some(8), ..DetectorOptions::default() };
        let detector = Detector::from_model(Arc::clone(&model), options).unwrap();
        let mean_bpd = |images: Vec<Pixels>| {
            let bpd = images.iter().map(|image| {
                let size = (shape.width as u32, shape.height as u32);
                let frame = Frame::packed(&image.data, format, size.0, size.1).unwrap();
                detector.inspect(&frame).measurement.unwrap().bpd.0
            });
            bpd.sum::<f64>() / IMAGES as f64
        };
        let sampler = Sampler::new(Arc::clone(&model), EngineChoice::Auto, 0).unwrap();
        let plain = mean_bpd(sampler.draw(IMAGES, 2, 0).unwrap());
        let moved = mean_bpd(sampler.draw_guided(IMAGES, 2, 0, 0.03).unwrap());
        println!("{}: {plain:.4} bits per dimension, guided {moved:.4}", path.display());
        assert!(moved < plain - 0.05, "{plain} {moved}");
    }
    if guided == 0 {
        skipped("no shipped model has the output grad_d");
    }
}
