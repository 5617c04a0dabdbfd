//! All texts through the validator of naga.

use super::*;

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
