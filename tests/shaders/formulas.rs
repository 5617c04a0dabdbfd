//! Formulas over many values, one by one and together.

use super::*;

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
