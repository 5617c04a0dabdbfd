//! A model with a known answer: the exact flow map of independent Gaussian pixels, as a tiny ONNX file.
//!
//! Pixel i of the data is `N(mu_i, sigma_i^2)`. On the path `x_t = (1 - t) n + t y` its variance is
//! `V(t) = t^2 sigma^2 + (1 - t)^2`, and the flow map from t to s is
//! `x_s = s mu + (x_t - t mu) sqrt(V(s) / V(t))`: affine, so its log-determinant is `ln(V(s) / V(t)) / 2` per pixel.

use std::sync::Arc;

use f2d2::flow::{Clock, Schedule};
use f2d2::model::Golden;
use f2d2::preprocess::{Dequantization, Shape, noise};
use f2d2::{Detector, DetectorOptions, Limits, Model};
use prost::Message;
use serde_json::{Value, json};
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
};

use crate::graph::{floats, indices, int, ints, node, value};

/// Key of the manifest among the metadata of the file.
pub const MANIFEST_KEY: &str = "f2d2.manifest";

/// Gaussian data and how its model file describes itself.
#[derive(Clone, Debug)]
pub struct Gaussian {
    /// Shape of one image.
    pub shape: Shape,
    /// Mean of every value, `[C, H, W]`, model range.
    pub mu: Vec<f64>,
    /// Variance of every value, `[C, H, W]`.
    pub variance: Vec<f64>,
    /// Whether the divergence comes as one number per image.
    pub scalar_head: bool,
    /// From 8-bit values to the model range.
    pub scale: f64,
    /// See `scale`.
    pub offset: f64,
    /// What is added to 8-bit values.
    pub dequantization: Dequantization,
    /// Clock of schedules.
    pub clock: Clock,
    /// Recommended noise floors.
    pub noise_floors: Vec<f64>,
    /// Seed of their noise.
    pub noise_seed: u64,
    /// Recommended number of steps.
    pub steps: usize,
}

impl Gaussian {
    /// Means within 0.2 of the middle and standard deviations of 0.1 to 0.25, drawn by `seed`.
    pub fn new(channels: usize, height: usize, width: usize, seed: u64) -> Self {
        let shape = Shape { channels, height, width };
        let draw = |stream, low: f64, high: f64| -> Vec<f64> {
            let u = noise::uniform(seed, stream, shape.len());
            // The file holds f32: the closed form has to mean the same numbers.
            u.iter().map(|&u| f64::from((low + (high - low) * f64::from(u)) as f32)).collect()
        };
        Self {
            shape,
            mu: draw(0x51, -0.2, 0.2),
            variance: draw(0x52, 0.1f64.powi(2), 0.25f64.powi(2)),
            scalar_head: false,
            scale: 1.0 / 128.0,
            offset: -1.0,
            dequantization: Dequantization::Uniform { seed: 11 },
            clock: Clock::Uniform,
            noise_floors: vec![1.0],
            noise_seed: 5,
            steps: 2,
        }
    }

    /// The map from time `t` to `s`: the moved values and the log-determinant in nats.
    pub fn transport(&self, x: &[f64], t: f64, s: f64) -> (Vec<f64>, f64) {
        let mut log_det = 0.0;
        let moved = x.iter().zip(&self.mu).zip(&self.variance).map(|((x, mu), variance)| {
            let ratio = variance_at(*variance, s) / variance_at(*variance, t);
            log_det += 0.5 * ratio.ln();
            s * mu + (x - t * mu) * ratio.sqrt()
        });
        let moved = moved.collect();
        (moved, log_det)
    }

    /// `-log p_t(x)` of the density of `x_t`, nats.
    pub fn negative_log_density(&self, x: &[f64], t: f64) -> f64 {
        let term = |((x, mu), variance): ((&f64, &f64), &f64)| {
            let v = variance_at(*variance, t);
            0.5 * ((x - t * mu).powi(2) / v + (std::f64::consts::TAU * v).ln())
        };
        x.iter().zip(&self.mu).zip(&self.variance).map(term).sum()
    }

    /// Negative log-likelihood of an 8-bit image, nats: the density of its dequantised values times the bin size.
    pub fn nll(&self, pixels: &[u8]) -> f64 {
        let bins = self.shape.len() as f64 * self.scale.ln();
        self.negative_log_density(&self.values(pixels), 1.0) - bins
    }

    /// Model-range values of an interleaved 8-bit image, `[C, H, W]`.
    pub fn values(&self, pixels: &[u8]) -> Vec<f64> {
        let noise = match self.dequantization {
            Dequantization::Midpoint => vec![0.5; self.shape.len()],
            Dequantization::Uniform { seed } => {
                noise::uniform(seed, noise::DEQUANTIZATION, self.shape.len())
            }
        };
        let plane = self.shape.pixels();
        let level = |i: usize| f64::from(pixels[i % plane * self.shape.channels + i / plane]);
        let values = noise.iter().enumerate();
        values.map(|(i, &u)| (level(i) + f64::from(u)) * self.scale + self.offset).collect()
    }

    /// An 8-bit image drawn from the data, interleaved; a function of `seed`.
    pub fn image(&self, seed: u64) -> Vec<u8> {
        let noise = noise::normal(seed, 0x53, self.shape.len());
        let plane = self.shape.pixels();
        let pixel = |i: usize| {
            let i = i % self.shape.channels * plane + i / self.shape.channels;
            let y = self.mu[i] + self.variance[i].sqrt() * f64::from(noise[i]);
            ((y - self.offset) / self.scale).floor().clamp(0.0, 255.0) as u8
        };
        (0..self.shape.len()).map(pixel).collect()
    }

    /// `n` images, seeds `first` and up.
    pub fn images(&self, first: u64, n: u64) -> Vec<Vec<u8>> {
        (first..first + n).map(|seed| self.image(seed)).collect()
    }

    /// A golden vector with every value of the final state, from the closed form.
    pub fn golden(&self, start: &str, seed: u64, times: &[f64]) -> Value {
        let mut golden = json!({ "start": start, "seed": seed, "schedule": times,
            "log_det": 0.0, "mean_square": 0.0, "samples": [0.0] });
        let input: Golden = serde_json::from_value(golden.clone()).unwrap();
        let mut x: Vec<f64> = input.input(self.shape).into_iter().map(f64::from).collect();
        let mut total = 0.0;
        for pair in times.windows(2) {
            let (moved, log_det) = self.transport(&x, pair[0], pair[1]);
            x = moved;
            total += log_det;
        }
        golden["log_det"] = json!(total);
        golden["mean_square"] = json!(x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64);
        golden["samples"] = json!(x.iter().map(|&v| v as f32).collect::<Vec<_>>());
        golden
    }

    /// The manifest, with one golden vector per direction.
    pub fn manifest(&self) -> Value {
        let four = Schedule::spread(self.clock, 4, 1.0, 0.0).unwrap();
        json!({
            "format_version": 1,
            "name": "gaussian pixels",
            "licence": "MIT OR Apache-2.0",
            "provenance": { "data": "none", "recipe": "closed form", "seed": 0 },
            "preprocess": {
                "shape": self.shape,
                "resize": "bilinear",
                "dequantization": self.dequantization,
                "scale": self.scale,
                "offset": self.offset,
            },
            "head": if self.scalar_head { "scalar" } else { "per_pixel" },
            "directions": { "scoring": true, "sampling": true },
            "time": "pair",
            "clock": self.clock,
            "schedules": { "2": [1.0, 0.5, 0.0] },
            "noise_floors": self.noise_floors,
            "noise_seed": self.noise_seed,
            "default_steps": self.steps,
            "golden": [
                self.golden("uniform", 1, four.times()),
                self.golden("normal", 2, four.reversed().times()),
            ],
        })
    }

    /// The ONNX message, with `manifest` as its metadata.
    pub fn proto_with(&self, manifest: &Value) -> ModelProto {
        let Shape { channels, height, width } = self.shape;
        let dims = [1, channels, height, width];
        let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<_>>();
        let d = if self.scalar_head { value("d", &[]) } else { value("d", &[1, height, width]) };
        let graph = GraphProto {
            name: "gaussian".into(),
            node: self.nodes(),
            initializer: vec![
                floats("mu", &dims, &narrow(&self.mu)),
                floats("variance", &dims, &narrow(&self.variance)),
                floats("one", &[1], &[1.0]),
                floats("half", &[1], &[0.5]),
                indices("per_image", &[-1, 1, 1, 1]),
                indices("axes", if self.scalar_head { &[1, 2, 3] } else { &[1] }),
            ],
            input: vec![value("x", &[channels, height, width]), value("t", &[]), value("s", &[])],
            output: vec![value("u", &[channels, height, width]), d],
            ..GraphProto::default()
        };
        let entry =
            StringStringEntryProto { key: MANIFEST_KEY.into(), value: manifest.to_string() };
        ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
            graph: Some(graph),
            metadata_props: vec![entry],
            ..ModelProto::default()
        }
    }

    /// The ONNX message with the output `grad_d`, which is zero: the divergence of a Gaussian is the same everywhere.
    pub fn guided(&self) -> ModelProto {
        let mut manifest = self.manifest();
        manifest["golden_gradient"] = json!({ "seed": 1, "mean_square": 0.0, "samples": [0.0] });
        let mut proto = self.proto_with(&manifest);
        if let Some(graph) = &mut proto.graph {
            let Shape { channels, height, width } = self.shape;
            graph.initializer.push(floats("zero", &[1], &[0.0]));
            graph.node.push(node("Mul", &["x", "zero"], "grad_d"));
            graph.output.push(value("grad_d", &[channels, height, width]));
        }
        proto
    }

    /// The ONNX message.
    pub fn proto(&self) -> ModelProto {
        self.proto_with(&self.manifest())
    }

    /// The model file.
    pub fn bytes(&self) -> Vec<u8> {
        self.proto().encode_to_vec()
    }

    /// The model.
    pub fn model(&self) -> Arc<Model> {
        Arc::new(Model::from_bytes("gaussian", &self.bytes(), &Limits::default()).unwrap())
    }

    /// A detector with one thread.
    pub fn detector(&self) -> Detector {
        let options = DetectorOptions { threads: 1, ..DetectorOptions::default() };
        Detector::from_model(self.model(), options).unwrap()
    }

    fn nodes(&self) -> Vec<NodeProto> {
        let mut sum = node("ReduceSum", &["rate", "axes"], "d");
        sum.attribute.push(int("keepdims", i64::from(!self.scalar_head)));
        let mut nodes = Vec::new();
        for time in ["t", "s"] {
            let name = |part: &str| format!("{part}_{time}");
            nodes.extend([
                node("Reshape", &[time, "per_image"], &name("at")),
                node("Mul", &[&name("at"), &name("at")], &name("square")),
                node("Mul", &[&name("square"), "variance"], &name("data")),
                node("Sub", &["one", &name("at")], &name("rest")),
                node("Mul", &[&name("rest"), &name("rest")], &name("noise")),
                node("Add", &[&name("data"), &name("noise")], &name("v")),
                node("Mul", &[&name("at"), "mu"], &name("mean")),
            ]);
        }
        nodes.extend([
            node("Div", &["v_s", "v_t"], "ratio"),
            node("Sqrt", &["ratio"], "stretch"),
            node("Sub", &["x", "mean_t"], "centred"),
            node("Mul", &["centred", "stretch"], "stretched"),
            node("Add", &["stretched", "mean_s"], "moved"),
            node("Sub", &["moved", "x"], "move"),
            node("Sub", &["at_s", "at_t"], "span"),
            node("Div", &["move", "span"], "u"),
            node("Log", &["ratio"], "log_ratio"),
            node("Mul", &["half", "log_ratio"], "log_stretch"),
            node("Div", &["log_stretch", "span"], "rate"),
            sum,
        ]);
        nodes
    }
}

fn variance_at(variance: f64, t: f64) -> f64 {
    t * t * variance + (1.0 - t) * (1.0 - t)
}

/// A convolution of `x` in place of the velocity, for what the exact map has no operator for.
pub fn with_convolution(gaussian: &Gaussian, attributes: &[(&str, &[i64])]) -> ModelProto {
    let mut proto = gaussian.proto();
    let graph = proto.graph.as_mut().unwrap();
    let channels = gaussian.shape.channels;
    graph.initializer.push(floats(
        "kernel",
        &[channels, channels, 1, 1],
        &vec![0.1; channels * channels],
    ));
    let mut convolution = node("Conv", &["x", "kernel"], "u");
    for (name, values) in attributes {
        convolution.attribute.push(match *name {
            "group" => int(name, values[0]),
            _ => ints(name, values),
        });
    }
    let place = graph.node.iter().position(|n| n.output[0] == "u").unwrap();
    graph.node[place] = convolution;
    proto
}
