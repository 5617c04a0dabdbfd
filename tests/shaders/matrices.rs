//! Attention, products of matrices, softmax, sums.

use super::*;

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
fn more_matrices_than_there_are_workgroups_are_refused_or_cut_the_batch() {
    let Some(options) = device::options() else { return };
    // 65,535 workgroups along an axis, and 64, 8 or 1 images beside each other.
    for (matrices, most) in [(1023, 64), (1024, 8), (8191, 8), (8192, 1), (65_535, 1), (65_536, 0)]
    {
        let mut b = Builder::new(105);
        let (left, output) = (b.buffer(2 * matrices), b.buffer(matrices));
        let right = b.constant(2, 1.0);
        let zeros = vec![0, 1, 1];
        b.call(Call::MatMul(MatMul {
            left: dense(Source::Buffer(left), &[matrices, 1, 2]),
            right: Strided { source: Source::Constant(right), offset: 0, strides: zeros },
            output: dense(Source::Buffer(output), &[matrices, 1, 1]),
            sizes: [matrices, 1, 2, 1],
        }));
        match Probe::new(copy(&b.plan), PIXEL, &options) {
            Ok(probe) => {
                assert_eq!(probe.most(), most, "{matrices} matrices");
                let images = [(0, vec![0.0; 9]), (left, vec![0.0; 18 * matrices])];
                let nine = probe.evaluate(9, &images, (1.0, 0.0));
                assert_eq!(nine.is_ok(), most == 64, "nine images of {matrices} matrices");
            }
            Err(error) => {
                assert_eq!(most, 0, "{error}");
                assert!(error.to_string().contains("workgroups"), "{error}");
            }
        }
        if most == 8 {
            b.check(&format!("{matrices} matrices"), &[(left, 0.0)], &options);
        }
    }
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
