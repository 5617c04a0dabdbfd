//! Every kernel of the GPU engine against its twin in plain Rust, over sizes that fit no tile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use f2d2::flow::gpu::{Matrices, Point, Probe, lose_device_at, shader_texts};
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

#[test]
fn convolution_over_sizes_that_fit_no_tile() {
    for_each_precision(|options| {
        let sizes = [
            ([1, 1], 1, 1, [1, 1]),
            ([7, 7], 5, 3, [3, 3]),
            ([13, 11], 17, 37, [3, 3]),
            ([5, 29], 4, 33, [1, 1]),
            ([9, 8], 3, 7, [5, 2]),
            // Large enough for the tile of 64 x 64.
            ([33, 32], 6, 67, [3, 3]),
        ];
        for ([h, w], channels, out, kernel) in sizes {
            let mut b = Builder::new(1);
            let (input, output) = (b.image(h, w, channels), b.image(h, w, out));
            let mut c = b.convolution(input, output, kernel);
            c.output.height = h + 2 * c.padding[0] + 1 - kernel[0];
            c.output.width = w + 2 * c.padding[1] + 1 - kernel[1];
            c.output.row = c.output.width * out;
            b.plan.buffers[output.buffer] = c.output.pixels() * out;
            b.call(Call::Convolution(c));
            b.check(&format!("{h}x{w}x{channels} to {out}"), &[(input.buffer, 0.0)], options);
        }
    });
}

#[test]
fn convolution_with_strides_and_paddings() {
    for_each_precision(|options| {
        for (stride, padding, upsample) in
            [([2, 2], [1, 1], 1), ([2, 3], [0, 2], 1), ([1, 1], [1, 1], 2), ([2, 1], [1, 0], 3)]
        {
            let mut b = Builder::new(2);
            let (h, w) = (11, 9);
            let input = b.inside(h, w, 5);
            let out = |n: usize, i: usize| (n * upsample + 2 * padding[i] - 3) / stride[i] + 1;
            let output = b.inside(out(h, 0), out(w, 1), 19);
            let c = b.convolution(input, output, [3, 3]);
            b.call(Call::Convolution(Convolution { stride, padding, upsample, ..c }));
            let what = format!("stride {stride:?} padding {padding:?} up {upsample}");
            b.check(&what, &[(input.buffer, 0.0)], options);
        }
    });
}

#[test]
fn convolution_with_everything_fused() {
    for_each_precision(|options| {
        for flags in 0..16 {
            let mut b = Builder::new(3 + flags);
            let (input, output, residual) =
                (b.inside(7, 5, 12), b.inside(7, 5, 35), b.inside(7, 5, 35));
            let mut given = vec![(input.buffer, 2.0)];
            let mut c = b.convolution(input, output, [3, 3]);
            if flags & 1 != 0 {
                c.prologue = Some(b.normalised(input, 3));
            }
            if flags & 2 != 0 {
                c.bias = Some(b.constant(35, 1.0));
            }
            if flags & 4 != 0 {
                c.residual = Some(residual);
                given.push((residual.buffer, 0.0));
            }
            if flags & 8 != 0 {
                c.scale = 0.7;
            }
            b.call(Call::Convolution(c));
            b.check(&format!("flags {flags:04b}"), &given, options);
        }
    });
}

#[test]
fn convolution_in_cooperative_matrices() {
    let Some(options) = device::options() else { return };
    let options = GpuOptions { precision: Precision::F16, ..options };
    let sizes = [
        ([3, 3], [1, 1], 16, 16, [1, 1]),
        ([13, 11], [1, 1], 17, 37, [3, 3]),
        ([9, 8], [2, 1], 24, 70, [3, 3]),
        ([5, 29], [1, 1], 33, 64, [1, 1]),
        // More partial moments than are merged on the way.
        ([61, 37], [1, 1], 16, 32, [1, 1]),
    ];
    for (i, ([h, w], stride, channels, out, kernel)) in sizes.into_iter().enumerate() {
        for flags in 0..8 {
            let mut b = Builder::new((200 + 10 * i + flags) as u64);
            let size = |n: usize, axis: usize| {
                (n + kernel[axis] / 2 * 2 - kernel[axis]) / stride[axis] + 1
            };
            let (oh, ow) = (size(h, 0), size(w, 1));
            let (input, output) = (b.inside(h, w, channels), b.inside(oh, ow, out));
            let mut given = vec![(input.buffer, 0.5)];
            let mut c = b.convolution(input, output, kernel);
            c.stride = stride;
            c.bias = Some(b.constant(out, 1.0));
            if flags & 1 != 0 {
                c.prologue = Some(b.normalised(input, 1));
            }
            if flags & 2 != 0 {
                let residual = b.inside(oh, ow, out);
                given.push((residual.buffer, 0.0));
                c.residual = Some(residual);
                c.scale = 0.7;
            }
            let moments = (flags & 4 != 0).then(|| b.moments(&output));
            c.moments = moments;
            b.call(Call::Convolution(c));
            if let Some(moments) = moments {
                let mapped = b.image(oh, ow, out);
                let normalisation =
                    Normalisation { channels: vec![(moments, 0, out)], groups: 1, epsilon: 1e-5 };
                let prologue = Prologue {
                    normalisation: Some(normalisation),
                    affine: vec![],
                    activation: Activation::None,
                };
                b.call(Call::Apply(Apply { input: output, prologue, output: mapped }));
            }
            let what = format!("{h}x{w}x{channels} to {out}, flags {flags:03b}");
            let kernels = |options| Probe::new(copy(&b.plan), PIXEL, options).unwrap().kernels();
            let plain = GpuOptions { matrices: false, ..options.clone() };
            assert!(!kernels(&plain).contains(&"matrix_convolution"), "{what}");
            if !kernels(&options).contains(&"matrix_convolution") {
                let why =
                    Probe::new(copy(&b.plan), PIXEL, &options).unwrap().matrices().unwrap_err();
                return f2d2_tests::skipped(&format!("cooperative matrices: {why}"));
            }
            b.check(&what, &given, &options);
        }
    }
}

#[test]
fn matrices_that_fail_their_test_are_not_used() {
    let Some(options) = device::options() else { return };
    let open = |folder: &str| {
        let cache = options.cache.as_ref().map(|cache| cache.join(folder));
        let options = GpuOptions { precision: Precision::F16, cache, ..options.clone() };
        let mut b = Builder::new(300);
        let (input, output) = (b.image(4, 4, 16), b.image(4, 4, 16));
        let c = b.convolution(input, output, [3, 3]);
        b.call(Call::Convolution(c));
        let probe = Probe::new(copy(&b.plan), PIXEL, &options).unwrap();
        (probe.matrices(), probe.kernels()[0], b, input, options)
    };
    let (offered, ..) = open("sound");
    if let Err(why) = offered {
        return f2d2_tests::skipped(&format!("cooperative matrices: {why}"));
    }
    lose_device_at(Point::Product, 1);
    let (refused, kernel, b, input, options) = open("unsound");
    lose_device_at(Point::Product, 0);
    assert!(refused.unwrap_err().contains("known product"));
    assert_eq!(kernel, "convolution");
    b.check("without matrices", &[(input.buffer, 0.0)], &options);
}

#[test]
fn a_convolution_may_read_and_write_parts_of_one_buffer() {
    for_each_precision(|options| {
        let mut b = Builder::new(40);
        let buffer = b.buffer(6 * 5 * 11);
        let part = |offset, channels| Image {
            buffer,
            offset,
            height: 6,
            width: 5,
            channels,
            row: 55,
            pixel: 11,
        };
        let source = b.image(6, 5, 4);
        let first = b.convolution(source, part(0, 4), [1, 1]);
        b.call(Call::Convolution(first));
        let mut second = b.convolution(part(0, 4), part(4, 7), [3, 3]);
        second.prologue =
            Some(Prologue { normalisation: None, affine: vec![], activation: Activation::Silu });
        b.call(Call::Convolution(second));
        b.check("one buffer", &[(source.buffer, 0.0)], options);
    });
}

#[test]
fn transposed_convolution() {
    for_each_precision(|options| {
        // The last one has more partial moments than are merged on the way.
        for (interleave, height) in [(2, 5), (3, 5), (3, 17)] {
            let mut b = Builder::new(50);
            let input = b.image(height, 7, 9);
            let output = b.inside(height * interleave, 7 * interleave, 11);
            let mut c = b.convolution(input, output, [1, 1]);
            c.weights = b.constant(9 * 11 * interleave * interleave, 0.3);
            c.bias = Some(b.constant(11, 1.0));
            c.interleave = interleave;
            // Moments of the output, read by a map of the whole.
            let moments = b.moments(&output);
            c.moments = Some(moments);
            b.call(Call::Convolution(c));
            let mapped = b.image(output.height, output.width, 11);
            let prologue = Prologue {
                normalisation: Some(Normalisation {
                    channels: vec![(moments, 0, 11)],
                    groups: 1,
                    epsilon: 1e-5,
                }),
                affine: vec![],
                activation: Activation::None,
            };
            b.call(Call::Apply(Apply { input: output, prologue, output: mapped }));
            b.check(&format!("interleave {interleave}"), &[(input.buffer, 0.0)], options);
        }
    });
}

#[test]
fn moments_of_a_convolution_are_those_of_what_it_wrote() {
    // The mean is a hundred times the deviation: squares minus the squared mean would lose it.
    let Some(options) = device::options() else { return };
    for (h, w, channels) in [(1, 1, 3), (7, 5, 34), (13, 11, 8), (37, 31, 70), (67, 64, 5)] {
        let mut b = Builder::new(60);
        let (input, output) = (b.image(h, w, 3), b.image(h, w, channels));
        let mut c = b.convolution(input, output, [1, 1]);
        let bias = (0..channels).map(|i| 100.0 + i as f32).collect();
        b.plan.constants.push(bias);
        c.bias = Some(b.plan.constants.len() - 1);
        let moments = b.moments(&output);
        c.moments = Some(moments);
        b.call(Call::Convolution(c));
        let normalised = b.image(h, w, channels);
        let prologue = Prologue {
            normalisation: Some(Normalisation {
                channels: vec![(moments, 0, channels)],
                groups: channels,
                epsilon: 1e-2,
            }),
            affine: vec![],
            activation: Activation::None,
        };
        b.call(Call::Apply(Apply { input: output, prologue, output: normalised }));
        let wide = Tolerance { absolute: 3e-4, relative: 3e-5 };
        b.check_within(&format!("{h}x{w}x{channels}"), &[(input.buffer, 0.0)], &options, wide);
    }
}

#[test]
fn normalisation_over_joined_images() {
    for_each_precision(|options| {
        let mut b = Builder::new(70);
        let (h, w) = (9, 7);
        let joined = b.image(h, w, 10);
        let part = |offset, channels| Image { offset, channels, ..joined };
        let mut sources = Vec::new();
        let mut given = Vec::new();
        for (offset, channels) in [(0, 3), (3, 7)] {
            let input = b.image(h, w, 2);
            given.push((input.buffer, 1.0));
            let mut c = b.convolution(input, part(offset, channels), [3, 3]);
            let moments = b.moments(&part(offset, channels));
            c.moments = Some(moments);
            sources.push((moments, 0, channels));
            b.call(Call::Convolution(c));
        }
        let output = b.inside(h, w, 10);
        let prologue = Prologue {
            normalisation: Some(Normalisation { channels: sources, groups: 2, epsilon: 1e-5 }),
            affine: vec![],
            activation: Activation::Silu,
        };
        b.call(Call::Apply(Apply { input: joined, prologue, output }));
        b.check("joined", &given, options);
    });
}

#[test]
fn moments_and_apply_alone() {
    for_each_precision(|options| {
        for (h, w, channels, groups) in [(1, 1, 4, 2), (5, 3, 6, 6), (67, 31, 66, 3), (3, 2, 1, 1)]
        {
            let mut b = Builder::new(80);
            let (input, output) = (b.inside(h, w, channels), b.inside(h, w, channels));
            let prologue = b.normalised(input, groups);
            b.call(Call::Apply(Apply { input, prologue, output }));
            b.check(&format!("{h}x{w}x{channels}/{groups}"), &[(input.buffer, 3.0)], options);
        }
    });
}

#[test]
fn attention_of_several_heads_in_both_layouts() {
    for_each_precision(|options| {
        for (heads, tokens, keys, channels, values) in
            [(1, 1, 1, 1, 1), (2, 7, 7, 5, 3), (3, 13, 11, 8, 17), (1, 49, 200, 33, 130)]
        {
            let mut b = Builder::new(90);
            let mut side_by_side = |tokens, channels| Tokens {
                buffer: b.buffer(tokens * heads * channels),
                offset: 0,
                heads,
                head: channels,
                tokens,
                token: heads * channels,
                channels,
                channel: 1,
            };
            let (query, key) = (side_by_side(tokens, channels), side_by_side(keys, channels));
            let output = side_by_side(tokens, values);
            // Values lie channel by channel.
            let value = Tokens {
                buffer: b.buffer(keys * heads * values + 5),
                offset: 5,
                heads,
                head: values * keys,
                tokens: keys,
                token: 1,
                channels: values,
                channel: keys,
            };
            let scale = 1.0 / (channels as f32).sqrt();
            b.call(Call::Attention(Attention { query, key, value, scale, output }));
            let given = [(query.buffer, 0.0), (key.buffer, 0.0), (value.buffer, 0.0)];
            b.check(&format!("{heads}x{tokens}x{keys}x{channels}"), &given, options);
        }
    });
}

fn dense(source: Source, dims: &[usize]) -> Strided {
    let strides = (0..dims.len()).map(|i| dims[i + 1..].iter().product()).collect();
    Strided { source, offset: 0, strides }
}

#[test]
fn products_of_matrices() {
    for_each_precision(|options| {
        for sizes in [[1, 1, 1, 1], [2, 5, 7, 3], [3, 17, 33, 19]] {
            let [matrices, rows, inner, columns] = sizes;
            let mut b = Builder::new(100);
            let left = b.buffer(matrices * rows * inner);
            let output = b.buffer(matrices * rows * columns);
            // The right side is constant, transposed and the same for all matrices.
            let right = b.constant(inner * columns, 1.0);
            b.call(Call::MatMul(MatMul {
                left: dense(Source::Buffer(left), &[matrices, rows, inner]),
                right: Strided {
                    source: Source::Constant(right),
                    offset: 0,
                    strides: vec![0, 1, inner],
                },
                output: dense(Source::Buffer(output), &[matrices, rows, columns]),
                sizes,
            }));
            b.check(&format!("{sizes:?}"), &[(left, 0.0)], options);
        }
    });
}

#[test]
fn softmax_along_the_last_axis() {
    for_each_precision(|options| {
        for dims in [vec![1], vec![3, 7], vec![2, 5, 131]] {
            let mut b = Builder::new(110);
            let n = dims.iter().product();
            let (input, output) = (b.buffer(n), b.buffer(n));
            b.call(Call::Softmax(Softmax {
                input: dense(Source::Buffer(input), &dims),
                output: dense(Source::Buffer(output), &dims),
                dims: dims.clone(),
            }));
            // Far from 0: exponentials would overflow.
            b.check(&format!("{dims:?}"), &[(input, 200.0)], options);
        }
    });
}

#[test]
fn sums_along_axes() {
    for_each_precision(|options| {
        for (dims, summed, factor) in
            [(vec![1], vec![1], 1.0), (vec![7, 3], vec![5], 0.2), (vec![2], vec![13, 17], 0.01)]
        {
            let mut b = Builder::new(120);
            let all: Vec<usize> = dims.iter().chain(&summed).copied().collect();
            let input = b.buffer(all.iter().product());
            let output = b.buffer(dims.iter().product());
            b.call(Call::Reduce(Reduce {
                input: dense(Source::Buffer(input), &all),
                output: dense(Source::Buffer(output), &dims),
                dims: dims.clone(),
                summed: summed.clone(),
                factor,
            }));
            b.check(&format!("{dims:?} over {summed:?}"), &[(input, 0.0)], options);
        }
    });
}

#[test]
fn formulas() {
    use Binary::{Add, Divide, Equal, Greater, Less, Maximum, Minimum, Multiply, Power, Subtract};
    use Instruction::{Binary as Two, Input, Number, Select, Unary as One};
    use Unary::{
        Abs, Cos, Erf, Exp, Floor, Log, Negate, Reciprocal, Relu, Sigmoid, Silu, Sin, Sqrt, Tanh,
    };
    for_each_precision(|options| {
        let unary = [
            Abs, Cos, Erf, Exp, Floor, Log, Negate, Reciprocal, Relu, Sigmoid, Silu, Sin, Sqrt,
            Tanh,
        ];
        let mut all: Vec<Vec<Instruction>> = unary
            .into_iter()
            .map(|f| {
                // Positive where it has to be.
                let positive = matches!(f, Log | Sqrt | Reciprocal);
                let first = if positive { One(Abs, 0) } else { Two(Add, 0, 0) };
                vec![Input(0), first, Number(0.25), Two(Add, 1, 2), One(f, 3)]
            })
            .collect();
        for f in [Add, Divide, Equal, Greater, Less, Maximum, Minimum, Multiply, Subtract] {
            let floor = [Input(0), Input(1), One(Floor, 0), One(Floor, 1)];
            all.push([floor.as_slice(), &[Number(0.5), Two(Add, 3, 4), Two(f, 2, 5)]].concat());
        }
        for exponent in [2.0, 3.0, -1.0, 0.5] {
            let base = if exponent == 0.5 { One(Abs, 0) } else { Two(Add, 0, 0) };
            all.push(vec![Input(0), base, Number(exponent), Two(Power, 1, 2)]);
        }
        all.push(vec![Input(0), Input(1), Two(Greater, 0, 1), Number(-7.5), Select(2, 0, 3)]);
        for formula in all {
            let mut b = Builder::new(130);
            let dims = vec![5, 7, 11];
            let (first, output) = (b.buffer(5 * 7 * 11), b.buffer(5 * 7 * 11 + 2));
            let vector = b.constant(7, 1.0);
            b.call(Call::Pointwise(Pointwise {
                inputs: vec![
                    // Transposed, and a vector for every row of the middle axis.
                    Strided { source: Source::Buffer(first), offset: 0, strides: vec![1, 5, 35] },
                    Strided { source: Source::Constant(vector), offset: 0, strides: vec![0, 1, 0] },
                ],
                output: Strided { offset: 2, ..dense(Source::Buffer(output), &dims) },
                formula: formula.clone(),
                dims,
            }));
            // Quotients near 0 amplify what f16 rounds: the inputs stay away from it.
            b.check(&format!("{formula:?}"), &[(first, 0.0)], options);
        }
    });
}

#[test]
fn eight_bit_images_become_the_states_of_the_cpu_bit_by_bit() {
    let Some(options) = device::options() else { return };
    let uniform = |seed| Dequantization::Uniform { seed };
    let cases = [
        (1, [1, 1], 1.0 / 128.0, -1.0, uniform(1)),
        (1, [28, 27], 1.0 / 128.0, -1.0, uniform(0xfeed_0000_0007)),
        (3, [61, 67], 1.0 / 128.0, -1.0, uniform(3)),
        (3, [5, 7], 1.0 / 256.0, 0.0, uniform(4)),
        (1, [5, 7], 1.0, -200.0, uniform(5)),
        (3, [5, 7], 0.25, -3.5, Dequantization::Midpoint),
    ];
    for (channels, [height, width], scale, offset, dequantization) in cases {
        let shape = Shape { channels, height, width };
        let resize = ResizeFilter::Box;
        let preprocess = Preprocess { shape, resize, dequantization, scale, offset };
        let mut plan = Builder::new(1).plan;
        plan.buffers[0] = shape.len();
        let probe = Probe::with_preprocess(plan, &preprocess, &options).unwrap();
        let image = |seed| -> Pixels {
            let levels = noise::uniform(seed, 0x62, shape.len()).into_iter();
            let data = levels.map(|u| (u * 256.0) as u8).collect();
            Pixels { channels, height, width, data }
        };
        let images: Vec<Pixels> = (0..3).map(image).collect();
        let images: Vec<&Pixels> = images.iter().collect();
        let schedule = Schedule::new(vec![1.0, 0.0]).unwrap();
        let starts = |seed| {
            let floors = vec![1.0, 0.97, 0.3];
            let schedules = floors.iter().map(|_| schedule.clone()).collect();
            Starts::new(&preprocess, seed, floors, schedules)
        };
        let got = probe.states(&images, &starts(9)).unwrap().unwrap();
        let bits = |starts: &Starts| -> Vec<u32> {
            let batches = starts.batches(&images).unwrap();
            let images = batches.iter().flat_map(|batch| batch.images());
            let pixels = |image: &[f32]| -> Vec<u32> {
                let at = |i: usize| image[i % channels * shape.pixels() + i / channels];
                (0..shape.len()).map(|i| at(i).to_bits()).collect()
            };
            images.flat_map(pixels).collect()
        };
        let got: Vec<u32> = got.iter().map(|v| v.to_bits()).collect();
        let wrong = got.iter().zip(&bits(&starts(9))).filter(|(g, n)| g != n).count();
        assert_eq!((wrong, got.len()), (0, 9 * shape.len()), "{shape:?} {scale} {offset}");
        assert_ne!(got, bits(&starts(10)), "another seed gives other noise");
    }
    // No whole numbers: the CPU makes these.
    for (scale, offset) in [(1.0 / 127.5, -1.0), (1.0 / 128.0, 0.5), (1.0 / 128.0, -0.1)] {
        let dequantization = Dequantization::Midpoint;
        let resize = ResizeFilter::Box;
        let preprocess = Preprocess { shape: PIXEL, resize, dequantization, scale, offset };
        let starts = Starts::new(&preprocess, 1, vec![], vec![]);
        let probe = Probe::with_preprocess(Builder::new(1).plan, &preprocess, &options).unwrap();
        assert_eq!(probe.states(&[], &starts).unwrap(), None, "{scale} {offset}");
    }
}

#[test]
fn formulas_that_do_not_wait_for_each_other_share_a_dispatch() {
    let Some(options) = device::options() else { return };
    let mut b = Builder::new(135);
    let (input, joined, other) = (b.buffer(30), b.buffer(90), b.buffer(7));
    let formula = |constant| {
        vec![
            Instruction::Input(0),
            Instruction::Number(constant),
            Instruction::Binary(Binary::Add, 0, 1),
        ]
    };
    let call = |from: usize, to: usize, offset, stride, dim, constant| {
        Call::Pointwise(Pointwise {
            dims: vec![dim],
            inputs: vec![dense(Source::Buffer(from), &[dim])],
            formula: formula(constant),
            output: Strided { source: Source::Buffer(to), offset, strides: vec![stride] },
        })
    };
    // Three channels of one image and something else; then what reads it.
    (0..3).for_each(|c| b.call(call(input, joined, c, 3, 30, c as f32)));
    b.call(call(input, other, 0, 1, 7, 5.0));
    let last = b.buffer(90);
    b.call(call(joined, last, 0, 1, 90, -1.0));
    let plan = copy(&b.plan);
    let probe = Probe::new(plan, PIXEL, &options).unwrap();
    assert_eq!(probe.kernels(), ["pointwise", "pointwise", "update"]);
    b.check("joined", &[(input, 0.0)], &options);
}

#[test]
fn a_plan_that_reaches_outside_of_its_buffers_is_refused() {
    let texts = |plan: &Plan| shader_texts(plan, PIXEL, Precision::F32, None);
    let make = |change: &dyn Fn(&mut Convolution)| {
        let mut b = Builder::new(140);
        let (input, output) = (b.image(4, 4, 3), b.image(4, 4, 5));
        let mut c = b.convolution(input, output, [3, 3]);
        change(&mut c);
        b.call(Call::Convolution(c));
        b.plan
    };
    texts(&make(&|_| {})).unwrap();
    let changes: [&dyn Fn(&mut Convolution); 9] = [
        &|c| c.input.offset = 1,
        &|c| c.output.row += 1,
        &|c| c.output.buffer = 9,
        &|c| c.input.offset = usize::MAX,
        &|c| c.weights = 0,
        &|c| c.bias = Some(1),
        &|c| c.residual = Some(c.input),
        &|c| c.moments = Some(0),
        &|c| c.stride = [0, 1],
    ];
    for (i, change) in changes.iter().enumerate() {
        let why = texts(&make(change)).unwrap_err();
        assert!(why.contains("call 0 (conv 3x3"), "change {i}: {why}");
    }
    let mut b = Builder::new(141);
    let buffer = b.buffer(4);
    b.call(Call::Pointwise(Pointwise {
        dims: vec![4],
        inputs: vec![],
        formula: vec![Instruction::Unary(Unary::Exp, 0)],
        output: dense(Source::Buffer(buffer), &[4]),
    }));
    assert!(texts(&b.plan).unwrap_err().contains("formula"));
}

#[test]
fn every_shader_is_valid() {
    let mut b = Builder::new(150);
    let (input, output, residual) = (b.image(6, 6, 8), b.image(6, 6, 8), b.image(6, 6, 8));
    let mut c = b.convolution(input, output, [3, 3]);
    c.prologue = Some(b.normalised(input, 2));
    c.bias = Some(b.constant(8, 1.0));
    c.residual = Some(residual);
    c.moments = Some(b.moments(&output));
    b.call(Call::Convolution(c));
    // Wide enough for cooperative matrices.
    let wide = b.image(6, 6, 16);
    let c = b.convolution(output, wide, [3, 3]);
    b.call(Call::Convolution(c));
    let big = b.image(40, 40, 2);
    let prologue = b.normalised(big, 1);
    let mapped = b.image(40, 40, 2);
    b.call(Call::Apply(Apply { input: big, prologue, output: mapped }));
    let tokens = |buffer| Tokens {
        buffer,
        offset: 0,
        heads: 1,
        head: 0,
        tokens: 36,
        token: 8,
        channels: 8,
        channel: 1,
    };
    let [query, key, value] = [input, output, residual].map(|i| tokens(i.buffer));
    let result = tokens(b.buffer(36 * 8));
    b.call(Call::Attention(Attention { query, key, value, scale: 1.0, output: result }));
    let dims = [4, 9, 8];
    let view = |buffer: usize| dense(Source::Buffer(buffer), &dims);
    let out = b.buffer(4 * 9 * 9);
    b.call(Call::MatMul(MatMul {
        left: view(query.buffer),
        right: Strided { source: Source::Buffer(key.buffer), offset: 0, strides: vec![72, 1, 8] },
        output: dense(Source::Buffer(out), &[4, 9, 9]),
        sizes: [4, 9, 8, 9],
    }));
    let soft = b.buffer(4 * 9 * 8);
    b.call(Call::Softmax(Softmax {
        dims: dims.to_vec(),
        input: view(value.buffer),
        output: view(soft),
    }));
    let sums = b.buffer(4);
    b.call(Call::Reduce(Reduce {
        dims: vec![4],
        summed: vec![9, 8],
        input: view(soft),
        factor: 0.5,
        output: dense(Source::Buffer(sums), &[4]),
    }));
    let last = b.buffer(4);
    b.call(Call::Pointwise(Pointwise {
        dims: vec![4],
        inputs: vec![dense(Source::Buffer(sums), &[4])],
        formula: vec![
            Instruction::Input(0),
            Instruction::Unary(Unary::Erf, 0),
            Instruction::Number(f32::INFINITY),
            Instruction::Binary(Binary::Minimum, 1, 2),
        ],
        output: dense(Source::Buffer(last), &[4]),
    }));
    let mut names = std::collections::BTreeSet::new();
    let matrices = |edge| Some(Matrices { edge, subgroup: 32, memory: 48 << 10 });
    for (precision, matrices) in [
        (Precision::F32, None),
        (Precision::F16, None),
        (Precision::F16, matrices(8)),
        (Precision::F16, matrices(16)),
    ] {
        for (name, text) in shader_texts(&b.plan, PIXEL, precision, matrices).unwrap() {
            validate(&text).unwrap_or_else(|why| panic!("{name}: {why}\n{text}"));
            names.insert(name);
        }
    }
    let all = [
        "apply",
        "attention",
        "convolution",
        "matmul",
        "matrix_convolution",
        "merge",
        "moments",
        "pointwise",
        "reduce",
        "softmax",
        "update",
        "upload",
    ];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), all);
    assert!(validate("fn f() -> f32 { return 1u; }").is_err());
}

fn validate(text: &str) -> Result<(), String> {
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    use naga::valid::Capabilities;
    let capabilities = Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX;
    let mut validator =
        naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities);
    validator.validate(&module).map(|_| ()).map_err(|e| e.emit_to_string(text))
}
