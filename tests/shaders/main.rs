//! Every kernel of the GPU engine against its twin in plain Rust, over sizes that fit no tile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod convolution;
mod formulas;
mod matrices;
mod normalisation;
mod plans;
mod update;
mod upload;
mod validation;

use f2d2::flow::gpu::{
    Matrices, Point, Probe, Stepped, lose_device_at, matrix_modules, plan, shader_texts,
};
use f2d2::flow::plan::{
    Activation, Affine, Apply, Attention, Binary, Call, Convolution, Image, Instruction, MatMul,
    Moments, Normalisation, Plan, Pointwise, Prologue, Reduce, Softmax, Source, Strided, Tables,
    Tokens, Unary, Values, View,
};
use f2d2::flow::{GpuOptions, Precision, Schedule, Starts};
use f2d2::preprocess::{Dequantization, Pixels, Preprocess, ResizeFilter, Shape, noise};
use f2d2_tests::device;
use f2d2_tests::tolerance::{KERNEL, KERNEL_F16, Tolerance, compare};
use f2d2_tests::twin::Twin;

/// The state of the plans here: nothing depends on it.
const PIXEL: Shape = Shape { channels: 1, height: 1, width: 1 };

/// A plan under construction. Buffer 0 is the state, constant 0 the velocity and the divergence.
struct Builder {
    plan: Plan,
    seed: u64,
}

impl Builder {
    fn new(seed: u64) -> Self {
        let still = View::dense(Source::Constant(0), &[1, 1, 1, 1]);
        let plan = Plan {
            input: 0,
            velocity: still.clone(),
            divergence: still,
            buffers: vec![1],
            constants: vec![Values::from_iter([0.0])],
            moments: vec![],
            calls: vec![],
            tables: Tables::none(),
        };
        Self { plan, seed }
    }

    fn buffer(&mut self, values: usize) -> usize {
        self.plan.buffers.push(values);
        self.plan.buffers.len() - 1
    }

    fn image(&mut self, height: usize, width: usize, channels: usize) -> Image {
        let buffer = self.buffer(height * width * channels);
        Image::dense(buffer, height, width, channels)
    }

    /// An image that lies in a larger one: channels in the middle of others, a border on two sides.
    fn inside(&mut self, height: usize, width: usize, channels: usize) -> Image {
        let pixel = channels + 3;
        let row = (width + 2) * pixel;
        let buffer = self.buffer((height + 1) * row);
        Image { buffer, offset: row + pixel + 2, height, width, channels, row, pixel }
    }

    fn noise(&mut self, values: usize, size: f32) -> Vec<f32> {
        self.seed += 1;
        noise::normal(self.seed, 0x61, values).into_iter().map(|v| v * size).collect()
    }

    fn constant(&mut self, values: usize, size: f32) -> usize {
        let values = self.noise(values, size).into_iter().collect();
        self.plan.constants.push(values);
        self.plan.constants.len() - 1
    }

    fn moments(&mut self, image: &Image) -> usize {
        self.plan.moments.push((image.channels, image.pixels()));
        self.plan.moments.len() - 1
    }

    fn call(&mut self, call: Call) {
        self.plan.calls.push(call);
    }

    fn convolution(&mut self, input: Image, output: Image, kernel: [usize; 2]) -> Convolution {
        let inner = kernel[0] * kernel[1] * input.channels;
        let weights = self.constant(inner * output.channels, 1.0 / (inner as f32).sqrt());
        Convolution {
            node: "test".into(),
            input,
            upsample: 1,
            prologue: None,
            kernel,
            stride: [1, 1],
            padding: [kernel[0] / 2, kernel[1] / 2],
            weights,
            bias: None,
            residual: None,
            scale: 1.0,
            output,
            interleave: 1,
            moments: None,
        }
    }

    /// Group normalisation of `image` with everything that can follow; the moments are measured first.
    fn normalised(&mut self, image: Image, groups: usize) -> Prologue {
        let moments = self.moments(&image);
        self.call(Call::Moments(Moments { input: image, moments }));
        let (a, b) = (self.constant(image.channels, 1.0), self.constant(image.channels, 1.0));
        let one = self.constant(1, 1.0);
        Prologue {
            normalisation: Some(Normalisation {
                channels: vec![(moments, 0, image.channels)],
                groups,
                epsilon: 1e-5,
            }),
            affine: vec![
                Affine::Multiply(Source::Constant(a)),
                Affine::Add(Source::Constant(b)),
                Affine::Multiply(Source::Constant(one)),
            ],
            activation: Activation::Silu,
        }
    }

    /// Runs the plan on the device and in plain Rust for one and three images, and compares all buffers.
    fn check(self, what: &str, given: &[(usize, f32)], options: &GpuOptions) {
        let tolerance = match options.precision {
            Precision::F32 => KERNEL,
            Precision::F16 => KERNEL_F16,
        };
        self.check_within(what, given, options, tolerance);
    }

    fn check_within(
        mut self,
        what: &str,
        given: &[(usize, f32)],
        options: &GpuOptions,
        tolerance: Tolerance,
    ) {
        let sizes = self.plan.buffers.clone();
        let batches: Vec<_> = [1, 3]
            .into_iter()
            .map(|images| {
                let mut buffers = vec![(0, vec![0.5f32; images])];
                for &(buffer, offset) in given {
                    let mut values = self.noise(images * sizes[buffer], 1.0);
                    values.iter_mut().for_each(|v| *v += offset);
                    if options.precision == Precision::F16 {
                        values.iter_mut().for_each(|v| *v = half(*v));
                    }
                    buffers.push((buffer, values));
                }
                (images, buffers)
            })
            .collect();
        let mut twin_plan = self.plan;
        let plan = copy(&twin_plan);
        if options.precision == Precision::F16 {
            // The device rounds weights, and only those.
            for call in &twin_plan.calls {
                if let Call::Convolution(c) = call {
                    let rounded =
                        twin_plan.constants[c.weights].decode().iter().map(|&v| half(v)).collect();
                    twin_plan.constants[c.weights] = rounded;
                }
            }
        }
        let probe = Probe::new(plan, PIXEL, options).unwrap_or_else(|e| panic!("{what}: {e}"));
        for (images, buffers) in batches {
            let got = probe.evaluate(images, &buffers, (1.0, 0.0)).unwrap();
            let again = probe.evaluate(images, &buffers, (1.0, 0.0)).unwrap();
            let bits = |all: &[Vec<f32>]| -> Vec<u32> {
                all.iter().flatten().map(|v| if v.is_nan() { 0 } else { v.to_bits() }).collect()
            };
            assert_eq!(bits(&got), bits(&again), "{what}: another result the second time");
            for image in 0..images {
                let mut twin = Twin::new(&twin_plan);
                for (buffer, values) in &buffers {
                    let size = sizes[*buffer];
                    let own = &values[image * size..(image + 1) * size];
                    twin.buffers[*buffer] = own.iter().map(|&v| f64::from(v)).collect();
                }
                twin.run();
                for buffer in 1..sizes.len() {
                    let size = sizes[buffer];
                    let own = &got[buffer][image * size..(image + 1) * size];
                    let what = format!("{what}, image {image} of {images}, buffer {buffer}");
                    same(&what, own, &twin.buffers[buffer], tolerance);
                }
            }
        }
    }
}

/// Close where the twin has a value, untouched where it has none.
#[track_caller]
fn same(what: &str, got: &[f32], need: &[f64], tolerance: Tolerance) {
    let untouched = |(g, n): (&f32, &f64)| n.is_nan() && !g.is_nan();
    let stray = got.iter().zip(need).position(untouched);
    assert_eq!(stray, None, "{what}: a value was written that no call writes");
    let kept = |v: &[f64]| -> Vec<f64> {
        v.iter().zip(need).filter(|(_, n)| !n.is_nan()).map(|(v, _)| *v).collect()
    };
    let wide: Vec<f64> = got.iter().map(|&v| f64::from(v)).collect();
    if let Err(why) = compare(&kept(&wide), &kept(need), tolerance) {
        panic!("{what}: {why}");
    }
}

fn half(value: f32) -> f32 {
    // To 11 significant bits, ties to even; the values here are normal numbers of f16, or far too small to matter.
    let bits = value.to_bits();
    let round = 0xfff + (bits >> 13 & 1);
    f32::from_bits((bits + round) & !0x1fff)
}

fn copy(plan: &Plan) -> Plan {
    Plan {
        input: plan.input,
        velocity: plan.velocity.clone(),
        divergence: plan.divergence.clone(),
        buffers: plan.buffers.clone(),
        constants: plan.constants.clone(),
        moments: plan.moments.clone(),
        calls: plan.calls.clone(),
        tables: Tables::none(),
    }
}

fn for_each_precision(check: impl Fn(&GpuOptions)) {
    let Some(options) = device::options() else { return };
    check(&options);
    let narrow = GpuOptions { precision: Precision::F16, ..options };
    let name = narrow.adapter.clone().unwrap_or_default();
    if f2d2::adapters().iter().any(|a| a.name == name && a.f16) {
        check(&narrow);
    } else {
        f2d2_tests::skipped(&format!("f16: {name} cannot store it"));
    }
}

fn dense(source: Source, dims: &[usize]) -> Strided {
    let strides = (0..dims.len()).map(|i| dims[i + 1..].iter().product()).collect();
    Strided { source, offset: 0, strides }
}
