//! Convolutions, with everything that is fused into them.

use super::*;

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
        for (flags, upsample) in (0..64).flat_map(|flags| [(flags, 1), (flags, 2)]) {
            let mut b = Builder::new(3 + flags);
            let (h, w) = (7 * upsample, 5 * upsample);
            let (input, output, residual) =
                (b.inside(7, 5, 12), b.inside(h, w, 35), b.inside(h, w, 35));
            let mut given = vec![(input.buffer, 2.0)];
            let mut c = b.convolution(input, output, [3, 3]);
            c.upsample = upsample;
            if flags & 7 != 0 {
                let mut prologue = b.normalised(input, 3);
                if flags & 1 == 0 {
                    // Its moments are measured in vain.
                    prologue.normalisation = None;
                }
                if flags & 2 == 0 {
                    prologue.affine.clear();
                }
                if flags & 4 == 0 {
                    prologue.activation = Activation::None;
                }
                c.prologue = Some(prologue);
            }
            if flags & 8 != 0 {
                c.bias = Some(b.constant(35, 1.0));
            }
            if flags & 16 != 0 {
                c.residual = Some(residual);
                c.scale = 0.7;
                given.push((residual.buffer, 0.0));
            }
            let moments = (flags & 32 != 0).then(|| b.moments(&output));
            c.moments = moments;
            b.call(Call::Convolution(c));
            if let Some(moments) = moments {
                // Seen in a map that reads them.
                let mapped = b.image(h, w, 35);
                let channels = vec![(moments, 0, 35)];
                let normalisation = Some(Normalisation { channels, groups: 5, epsilon: 1e-5 });
                let (affine, activation) = (vec![], Activation::None);
                let prologue = Prologue { normalisation, affine, activation };
                b.call(Call::Apply(Apply { input: output, prologue, output: mapped }));
            }
            b.check(&format!("flags {flags:06b} up {upsample}"), &given, options);
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
        assert!(!device::required() || !why.contains("known product"), "{why}");
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
