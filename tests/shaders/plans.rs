//! Plans that must not run.

use super::*;

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
    // Of the eight storage buffers that every device binds, the run has three.
    for (inputs, fits) in [(4, true), (5, false)] {
        let mut b = Builder::new(142);
        let output = b.buffer(4);
        let input = |_| dense(Source::Buffer(b.buffer(4)), &[4]);
        let inputs: Vec<Strided> = (0..inputs).map(input).collect();
        let mut formula = vec![Instruction::Input(0)];
        for i in 1..inputs.len() {
            formula.push(Instruction::Input(i));
            formula.push(Instruction::Binary(Binary::Add, formula.len() - 2, formula.len() - 1));
        }
        let output = dense(Source::Buffer(output), &[4]);
        b.call(Call::Pointwise(Pointwise { dims: vec![4], inputs, formula, output }));
        let got = texts(&b.plan);
        assert_eq!(got.is_ok(), fits, "{got:?}");
        assert!(fits || got.unwrap_err().contains("6 buffers in one call, the limit is 5"));
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
