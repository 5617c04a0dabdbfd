//! Formulas, sums along axes, and the products and softmaxes that are not part of an attention.

use pulp::{Simd, WithSimd};

use super::attention::softmax;
use super::simd::{sigmoid, silu, tanh};
use crate::flow::plan::{
    Binary, Instruction, MOST_LOOPS, MatMul, Pointwise, Reduce, Softmax, Strided, Unary,
};

/// Values that a formula is evaluated for at a time.
const CHUNK: usize = 64;

/// What a strided operand reads.
pub(super) type Values<'a> = &'a [f32];

/// A formula for every value of one image.
pub(super) struct Formula<'a> {
    pub(super) call: &'a Pointwise,
    pub(super) inputs: &'a [Values<'a>],
    pub(super) output: &'a mut [f32],
    pub(super) scratch: &'a mut Vec<[f32; CHUNK]>,
}

impl WithSimd for Formula<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { call, inputs, output, scratch } = self;
        scratch.resize(call.formula.len(), [0.0; CHUNK]);
        let inner = call.dims.len() - 1;
        let step = call.output.strides[inner];
        if let [Instruction::Input(0)] = call.formula[..]
            && [step, call.inputs[0].strides[inner]] == [1, 1]
        {
            let mut rows = Rows::new(&call.dims);
            while let Some(n) = rows.take(usize::MAX) {
                let from = &inputs[0][rows.at(&call.inputs[0])..][..n];
                output[rows.at(&call.output)..][..n].copy_from_slice(from);
                rows.pass(n);
            }
            return;
        }
        let mut chunk = Rows::new(&call.dims);
        while !chunk.done {
            let mut end = chunk;
            let mut n = 0;
            while let Some(run) = end.take(CHUNK - n) {
                n += run;
                end.pass(run);
            }
            for (i, instruction) in call.formula.iter().enumerate() {
                let (done, rest) = scratch.split_at_mut(i);
                let to = &mut rest[0][..n];
                if let Instruction::Input(k) = *instruction {
                    let (strided, mut rows, mut to) = (&call.inputs[k], chunk, to);
                    while let Some(run) = rows.take(to.len()) {
                        let (now, later) = to.split_at_mut(run);
                        load(&inputs[k][rows.at(strided)..], strided.strides[inner], now);
                        to = later;
                        rows.pass(run);
                    }
                } else {
                    evaluate(simd, instruction, done, to);
                }
            }
            let Some(result) = scratch.last() else { return };
            let mut result = &result[..n];
            while let Some(run) = chunk.take(result.len()) {
                store(&result[..run], step, &mut output[chunk.at(&call.output)..]);
                result = &result[run..];
                chunk.pass(run);
            }
        }
    }
}

/// A place on the way through all values in row-major order.
#[derive(Clone, Copy)]
struct Rows<'a> {
    dims: &'a [usize],
    index: Index,
    /// Position in the last axis.
    first: usize,
    done: bool,
}

impl<'a> Rows<'a> {
    fn new(dims: &'a [usize]) -> Self {
        let done = dims.contains(&0);
        Self { dims, index: vec_of_zeros(dims.len() - 1), first: 0, done }
    }

    /// How many values follow along the last axis, at most `most`; none after the last value or if `most` is 0.
    fn take(&self, most: usize) -> Option<usize> {
        let n = (self.dims[self.index.n] - self.first).min(most);
        (!self.done && n > 0).then_some(n)
    }

    /// Goes on by `n` values, which [`Self::take`] has given.
    fn pass(&mut self, n: usize) {
        self.first += n;
        if self.first == self.dims[self.index.n] {
            self.first = 0;
            let outer = &self.dims[..self.index.n];
            self.done = !advance(&mut self.index, outer);
        }
    }

    /// Where a strided operand has the value at this place.
    fn at(&self, s: &Strided) -> usize {
        self.index.place(s) + self.first * s.strides[self.index.n]
    }
}

/// Loop counters.
fn vec_of_zeros(n: usize) -> Index {
    Index { values: [0; MOST_LOOPS], n }
}

#[derive(Clone, Copy)]
struct Index {
    values: [usize; MOST_LOOPS],
    n: usize,
}

impl Index {
    /// Where a strided operand has the first value of this row.
    fn place(&self, s: &Strided) -> usize {
        s.offset + self.iter().zip(&s.strides).map(|(i, stride)| i * stride).sum::<usize>()
    }

    fn iter(&self) -> std::slice::Iter<'_, usize> {
        self.values[..self.n].iter()
    }
}

/// The next index in row-major order; false after the last.
fn advance(index: &mut Index, dims: &[usize]) -> bool {
    for axis in (0..index.n).rev() {
        index.values[axis] += 1;
        if index.values[axis] < dims[axis] {
            return true;
        }
        index.values[axis] = 0;
    }
    false
}

#[inline(always)]
fn load(values: &[f32], stride: usize, to: &mut [f32]) {
    match stride {
        0 => to.fill(values[0]),
        1 => to.copy_from_slice(&values[..to.len()]),
        _ => to.iter_mut().enumerate().for_each(|(i, v)| *v = values[i * stride]),
    }
}

#[inline(always)]
fn store(values: &[f32], stride: usize, to: &mut [f32]) {
    match stride {
        1 => to[..values.len()].copy_from_slice(values),
        _ => values.iter().enumerate().for_each(|(i, &v)| to[i * stride] = v),
    }
}

#[inline(always)]
fn evaluate<S: Simd>(simd: S, instruction: &Instruction, done: &[[f32; CHUNK]], to: &mut [f32]) {
    let n = to.len();
    match *instruction {
        Instruction::Input(_) => {}
        Instruction::Number(v) => to.fill(v),
        Instruction::Unary(function, a) => {
            let a = &done[a][..n];
            match function {
                Unary::Sigmoid => vectors(simd, a, to, sigmoid::<S>),
                Unary::Silu => vectors(simd, a, to, silu::<S>),
                Unary::Abs => each(a, to, f32::abs),
                Unary::Cos => each(a, to, f32::cos),
                Unary::Erf => each(a, to, |v| statrs::function::erf::erf(f64::from(v)) as f32),
                Unary::Exp => each(a, to, f32::exp),
                Unary::Floor => each(a, to, f32::floor),
                Unary::Log => each(a, to, f32::ln),
                Unary::Negate => each(a, to, |v| -v),
                Unary::Reciprocal => each(a, to, f32::recip),
                // `max` would turn not-a-number into 0.
                Unary::Relu => each(a, to, |v| if v < 0.0 { 0.0 } else { v }),
                Unary::Sin => each(a, to, f32::sin),
                Unary::Sqrt => each(a, to, f32::sqrt),
                Unary::Tanh => vectors(simd, a, to, tanh::<S>),
            }
        }
        Instruction::Binary(function, a, b) => {
            let (a, b) = (&done[a][..n], &done[b][..n]);
            let truth = |v: bool| f32::from(u8::from(v));
            match function {
                Binary::Add => both(a, b, to, |a, b| a + b),
                Binary::Divide => both(a, b, to, |a, b| a / b),
                Binary::Equal => both(a, b, to, |a, b| truth(a == b)),
                Binary::Greater => both(a, b, to, |a, b| truth(a > b)),
                Binary::Less => both(a, b, to, |a, b| truth(a < b)),
                // Not-a-number in either operand stays visible.
                Binary::Maximum => both(a, b, to, |a, b| if a > b || a.is_nan() { a } else { b }),
                Binary::Minimum => both(a, b, to, |a, b| if a < b || a.is_nan() { a } else { b }),
                Binary::Multiply => both(a, b, to, |a, b| a * b),
                Binary::Power => both(a, b, to, f32::powf),
                Binary::Subtract => both(a, b, to, |a, b| a - b),
            }
        }
        Instruction::Select(c, a, b) => {
            for (i, to) in to.iter_mut().enumerate() {
                *to = if done[c][i] != 0.0 { done[a][i] } else { done[b][i] };
            }
        }
    }
}

#[inline(always)]
fn vectors<S: Simd>(simd: S, a: &[f32], to: &mut [f32], f: impl Fn(S, S::f32s) -> S::f32s) {
    for (a, to) in a.chunks(S::F32_LANES).zip(to.chunks_mut(S::F32_LANES)) {
        simd.partial_store_f32s(to, f(simd, simd.partial_load_f32s(a)));
    }
}

#[inline(always)]
fn each(a: &[f32], to: &mut [f32], f: impl Fn(f32) -> f32) {
    a.iter().zip(to).for_each(|(&a, to)| *to = f(a));
}

#[inline(always)]
fn both(a: &[f32], b: &[f32], to: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    a.iter().zip(b).zip(to).for_each(|((&a, &b), to)| *to = f(a, b));
}

/// A sum along axes of one image.
pub(super) struct Sum<'a> {
    pub(super) call: &'a Reduce,
    pub(super) input: Values<'a>,
    pub(super) output: &'a mut [f32],
    /// Room for the places of what is summed.
    pub(super) summed: &'a mut Vec<usize>,
}

impl WithSimd for Sum<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { call, input, output, summed } = self;
        let kept = call.dims.len();
        let inner = kept - 1;
        let (size, from, to) =
            (call.dims[inner], call.input.strides[inner], call.output.strides[inner]);
        // Where the values of one sum lie.
        summed.clear();
        let mut along = vec_of_zeros(call.summed.len());
        loop {
            let steps = along.iter().zip(&call.input.strides[kept..]);
            summed.push(steps.map(|(i, stride)| i * stride).sum::<usize>());
            if !advance(&mut along, &call.summed) {
                break;
            }
        }
        let factor = f64::from(call.factor);
        let mut index = vec_of_zeros(inner);
        loop {
            let (source, target) = (index.place(&call.input), index.place(&call.output));
            if summed.len() <= FEW && [from, to] == [1, 1] {
                let output = &mut output[target..][..size];
                sum_few(simd, &input[source..], summed, call.factor, output);
                if advance(&mut index, &call.dims[..inner]) {
                    continue;
                }
                return;
            }
            for first in (0..size).step_by(CHUNK) {
                let n = CHUNK.min(size - first);
                let mut sums = [0f64; CHUNK];
                let sums = &mut sums[..n];
                for at in summed.iter() {
                    let values = &input[source + first * from + at..];
                    if from == 1 {
                        for (sum, &v) in sums.iter_mut().zip(&values[..n]) {
                            *sum += f64::from(v);
                        }
                    } else {
                        for (i, sum) in sums.iter_mut().enumerate() {
                            *sum += f64::from(values[i * from]);
                        }
                    }
                }
                let mut results = [0f32; CHUNK];
                for (result, &sum) in results.iter_mut().zip(&*sums) {
                    *result = (sum * factor) as f32;
                }
                store(&results[..n], to, &mut output[target + first * to..]);
            }
            if !advance(&mut index, &call.dims[..inner]) {
                return;
            }
        }
    }
}

/// As many terms as a sum in f32 may have.
const FEW: usize = 16;

/// Sums of the values at `summed` and as many behind each as there are outputs, times `factor`.
#[inline(always)]
fn sum_few<S: Simd>(simd: S, values: &[f32], summed: &[usize], factor: f32, output: &mut [f32]) {
    for (i, to) in output.chunks_mut(S::F32_LANES).enumerate() {
        let mut sum = simd.splat_f32s(0.0);
        for at in summed {
            let values = &values[at + i * S::F32_LANES..];
            sum = simd.add_f32s(sum, super::simd::load(simd, values, to.len()));
        }
        simd.partial_store_f32s(to, simd.mul_f32s(sum, simd.splat_f32s(factor)));
    }
}

/// Products of tensors that both depend on the image; sums in f64.
pub(super) fn matmul(call: &MatMul, left: Values<'_>, right: Values<'_>, output: &mut [f32]) {
    let [b, m, k, n] = call.sizes;
    let at = |s: &Strided, i: usize, j: usize, l: usize| {
        s.offset + i * s.strides[0] + j * s.strides[1] + l * s.strides[2]
    };
    for batch in 0..b {
        for row in 0..m {
            for column in 0..n {
                let term = |i| {
                    let a = left[at(&call.left, batch, row, i)];
                    f64::from(a) * f64::from(right[at(&call.right, batch, i, column)])
                };
                output[at(&call.output, batch, row, column)] = (0..k).map(term).sum::<f64>() as f32;
            }
        }
    }
}

/// A softmax along the last axis of one image.
pub(super) struct Normalised<'a> {
    pub(super) call: &'a Softmax,
    pub(super) input: Values<'a>,
    pub(super) output: &'a mut [f32],
    pub(super) row: &'a mut Vec<f32>,
}

impl WithSimd for Normalised<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { call, input, output, row } = self;
        let last = call.dims.len() - 1;
        let n = call.dims[last];
        row.resize(n.next_multiple_of(S::F32_LANES), 0.0);
        let mut index = vec_of_zeros(last);
        loop {
            let (from, to) = (index.place(&call.input), index.place(&call.output));
            for (i, v) in row[..n].iter_mut().enumerate() {
                *v = input[from + i * call.input.strides[last]];
            }
            softmax(simd, row, n, 1.0);
            for (i, &v) in row[..n].iter().enumerate() {
                output[to + i * call.output.strides[last]] = v;
            }
            if !advance(&mut index, &call.dims[..last]) {
                return;
            }
        }
    }
}
