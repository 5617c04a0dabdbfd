//! All texts through the validator of naga.

use f2d2::{Limits, Model};
use f2d2_tests::network::Network;
use f2d2_tests::shipped;

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
        "product",
        "reduce",
        "softmax",
        "update",
        "upload",
    ];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), all);
    assert!(validate("fn f() -> f32 { return 1u; }").is_err());
}

#[test]
fn every_shader_of_the_shipped_models_is_valid_and_binds_what_every_device_binds() {
    let matrices = |edge| Some(Matrices { edge, subgroup: 32, memory: 48 << 10 });
    for folder in shipped::folders() {
        let model = Model::open(folder.join("model.onnx"), &Limits::default()).unwrap();
        let (plan, shape) = (plan(&model).unwrap(), model.manifest().preprocess.shape);
        for (precision, matrices) in [
            (Precision::F32, None),
            (Precision::F16, None),
            (Precision::F16, matrices(8)),
            (Precision::F16, matrices(16)),
        ] {
            for (name, text) in shader_texts(&plan, shape, precision, matrices).unwrap() {
                let what = format!("{}, {name}", folder.display());
                validate(&text).unwrap_or_else(|why| panic!("{what}: {why}\n{text}"));
                let buffers = text.matches("var<storage").count();
                assert!((3..=8).contains(&buffers), "{what}: {buffers} storage buffers");
            }
        }
    }
}

#[test]
fn an_update_with_a_scalar_head_or_a_formula_of_its_own_is_valid() {
    for scalar_head in [false, true] {
        let mut n = Network::new(3, 5, 7, 160);
        let h = n.convolution(&n.image(), 4, 3);
        let model = n.finish_apart(&h, scalar_head).model();
        let shape = model.manifest().preprocess.shape;
        let texts = shader_texts(&plan(&model).unwrap(), shape, Precision::F32, None).unwrap();
        let (_, update) = texts.iter().find(|(name, _)| *name == "update").unwrap();
        validate(update).unwrap_or_else(|why| panic!("{why}\n{update}"));
        assert_eq!(update.contains("const PER_PIXEL = true"), !scalar_head);
        assert_eq!(update.contains("fn last("), !scalar_head);
    }
}

#[test]
fn kernels_in_matrices_compile_to_modules_of_the_vulkan_memory_model() {
    let Some(folder) = shipped::folders().into_iter().next() else { return };
    let model = Model::open(folder.join("model.onnx"), &Limits::default()).unwrap();
    let (plan, shape) = (plan(&model).unwrap(), model.manifest().preprocess.shape);
    for edge in [8, 16] {
        let matrices = Matrices { edge, subgroup: 32, memory: 48 << 10 };
        let modules = matrix_modules(&plan, shape, matrices).unwrap();
        let names: Vec<_> = modules.iter().map(|(name, _)| *name).collect();
        assert!(names.contains(&"matrix_convolution") && names.contains(&"product"), "{names:?}");
        for (name, words) in modules {
            assert_eq!(words[0], 0x0723_0203, "{name}");
            let codes = codes(&words);
            let count = |code: u32| codes.iter().filter(|i| i[0] & 0xffff == code).count();
            // Loads and stores of matrices, their products, barriers.
            for code in [4457, 4458, 4459, 224] {
                assert!(count(code) > 0, "{name} in {edge}: no instruction {code}");
            }
            let model = codes.iter().find(|i| i[0] & 0xffff == 14).unwrap();
            assert_eq!(model[2], 3, "{name}: the memory model");
        }
    }
}

/// The instructions of a SPIR-V module, all their words each.
fn codes(words: &[u32]) -> Vec<&[u32]> {
    let (mut all, mut rest) = (vec![], &words[5..]);
    while let Some(first) = rest.first() {
        let (instruction, after) = rest.split_at((first >> 16) as usize);
        all.push(instruction);
        rest = after;
    }
    all
}

fn validate(text: &str) -> Result<(), String> {
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    use naga::valid::Capabilities;
    let capabilities = Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX;
    let mut validator =
        naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities);
    validator.validate(&module).map(|_| ()).map_err(|e| e.emit_to_string(text))
}
