//! Every kernel call in plain Rust, in f64, as its documentation states it: what an engine is held against.

use std::sync::Arc;

use f2d2::flow::plan::{
    Activation, Affine, Attention, Binary, Call, Convolution, Image, Instruction, MatMul, Plan,
    Pointwise, Prologue, Reduce, Softmax, Source, Strided, Tokens, Unary, Values, View,
};

/// The values of one image while a plan is carried out. What no call has written is NaN.
pub struct Twin<'a> {
    plan: &'a Plan,
    constants: Vec<Arc<[f32]>>,
    /// Values of every buffer.
    pub buffers: Vec<Vec<f64>>,
    /// Tables of one step.
    pub tables: Vec<Vec<f64>>,
    /// Mean and sum of squared deviations of every channel.
    pub moments: Vec<Vec<(f64, f64)>>,
}

/// What one step of the flow map reports.
pub struct Step {
    /// Log-determinant per pixel, [H, W]; empty for a scalar head.
    pub map: Vec<f64>,
    /// Sum of squared velocities.
    pub squares: f64,
    /// Sum of divergences.
    pub divergence: f64,
}

impl<'a> Twin<'a> {
    /// Nothing is written yet.
    pub fn new(plan: &'a Plan) -> Self {
        let buffers = plan.buffers.iter().map(|&size| vec![f64::NAN; size]).collect();
        let moments = plan.moments.iter().map(|&(c, _)| vec![(f64::NAN, f64::NAN); c]).collect();
        let constants = plan.constants.iter().map(Values::decode).collect();
        Self { plan, constants, buffers, tables: vec![], moments }
    }

    /// Carries out all calls.
    pub fn run(&mut self) {
        for call in &self.plan.calls {
            match call {
                Call::Convolution(c) => self.convolution(c),
                Call::Moments(m) => self.measure(&m.input, m.moments),
                Call::Apply(a) => {
                    let mapped = self.mapped(&a.input, Some(&a.prologue));
                    for (i, value) in mapped.into_iter().enumerate() {
                        let at = place(&a.output, i);
                        self.buffers[a.output.buffer][at] = value;
                    }
                }
                Call::Attention(a) => self.attention(a),
                Call::MatMul(m) => self.matmul(m),
                Call::Softmax(s) => self.softmax(s),
                Call::Pointwise(p) => self.pointwise(p),
                Call::Reduce(r) => self.reduce(r),
            }
        }
    }

    /// One step of the flow map from `t` to `s`: carries out all calls, and moves the state.
    ///
    /// # Panics
    /// If the tables cannot be computed.
    pub fn step(&mut self, t: f64, s: f64) -> Step {
        let tables = self.plan.tables.evaluate(t, s).unwrap();
        let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect();
        self.tables = tables.iter().map(|(_, values)| wide(values)).collect();
        self.run();
        let (velocity, divergence) = (&self.plan.velocity, &self.plan.divergence);
        let [_, channels, height, width] = velocity.dims()[..] else { panic!("{velocity:?}") };
        let mut step = Step { map: vec![], squares: 0.0, divergence: 0.0 };
        let mut moved = self.buffers[self.plan.input].clone();
        for (i, x) in moved.iter_mut().enumerate() {
            let (pixel, c) = (i / channels, i % channels);
            let u = self.at(velocity, &[0, c, pixel / width, pixel % width]);
            *x += (s - t) * u;
            step.squares += u * u;
        }
        if divergence.axes.len() == 4 {
            let pixels = 0..height * width;
            let all: Vec<f64> =
                pixels.map(|p| self.at(divergence, &[0, 0, p / width, p % width])).collect();
            step.divergence = all.iter().sum();
            step.map = all.into_iter().map(|d| (s - t) * d).collect();
        } else {
            step.divergence = self.at(divergence, &[0]);
        }
        self.buffers[self.plan.input] = moved;
        step
    }

    /// The value of a view at `index`.
    fn at(&self, view: &View, index: &[usize]) -> f64 {
        let mut at = view.offset;
        for (axis, &i) in view.axes.iter().zip(index) {
            let mut left = i;
            for factor in axis.iter().rev() {
                at += left % factor.size * factor.stride;
                left /= factor.size;
            }
        }
        self.value(view.source, at)
    }

    fn value(&self, source: Source, at: usize) -> f64 {
        match source {
            Source::Buffer(i) => self.buffers[i][at],
            Source::Constant(i) => f64::from(self.constants[i][at]),
            Source::Table(i) => self.tables[i][at],
        }
    }

    fn vector(&self, source: Source, channel: usize) -> f64 {
        let length = match source {
            Source::Buffer(i) => self.buffers[i].len(),
            Source::Constant(i) => self.constants[i].len(),
            Source::Table(i) => self.tables[i].len(),
        };
        self.value(source, if length == 1 { 0 } else { channel })
    }

    /// Pixels with their channels side by side, after the prologue.
    fn mapped(&self, image: &Image, prologue: Option<&Prologue>) -> Vec<f64> {
        let values = (0..image.pixels() * image.channels)
            .map(|i| self.buffers[image.buffer][place(image, i)])
            .collect::<Vec<_>>();
        let Some(prologue) = prologue else { return values };
        let channels = image.channels;
        let mut maps = vec![(0.0, 1.0); channels];
        if let Some(norm) = &prologue.normalisation {
            let of = |&(number, first, count): &(usize, usize, usize)| {
                self.moments[number][first..first + count].to_vec()
            };
            let all: Vec<(f64, f64)> = norm.channels.iter().flat_map(of).collect();
            let (size, pixels) = (channels / norm.groups, image.pixels() as f64);
            for (c, map) in maps.iter_mut().enumerate() {
                let group = &all[c / size * size..][..size];
                let mean = group.iter().map(|m| m.0).sum::<f64>() / size as f64;
                let squares: f64 = group.iter().map(|m| m.1 + pixels * (m.0 - mean).powi(2)).sum();
                let variance = squares / (size as f64 * pixels);
                *map = (mean, 1.0 / (variance + f64::from(norm.epsilon)).sqrt());
            }
        }
        let value = |(i, x): (usize, f64)| {
            let (mean, factor) = maps[i % channels];
            let mut x = (x - mean) * factor;
            for step in &prologue.affine {
                x = match *step {
                    Affine::Multiply(v) => x * self.vector(v, i % channels),
                    Affine::Add(v) => x + self.vector(v, i % channels),
                };
            }
            match prologue.activation {
                Activation::None => x,
                Activation::Silu => x / (1.0 + (-x).exp()),
            }
        };
        values.into_iter().enumerate().map(value).collect()
    }

    fn convolution(&mut self, c: &Convolution) {
        let input = self.mapped(&c.input, c.prologue.as_ref());
        let weights = Arc::clone(&self.constants[c.weights]);
        let (channels, columns) = (c.input.channels, c.columns());
        let [grid_height, grid_width] = c.grid();
        let mut written = Vec::new();
        for (y, x) in (0..grid_height).flat_map(|y| (0..grid_width).map(move |x| (y, x))) {
            for column in 0..columns {
                let mut sum = 0.0;
                for (ky, kx) in
                    (0..c.kernel[0]).flat_map(|ky| (0..c.kernel[1]).map(move |kx| (ky, kx)))
                {
                    let down = (y * c.stride[0] + ky).checked_sub(c.padding[0]);
                    let right = (x * c.stride[1] + kx).checked_sub(c.padding[1]);
                    let (Some(down), Some(right)) = (down, right) else { continue };
                    let (down, right) = (down / c.upsample, right / c.upsample);
                    if down >= c.input.height || right >= c.input.width {
                        continue;
                    }
                    for k in 0..channels {
                        let weight =
                            weights[((ky * c.kernel[1] + kx) * channels + k) * columns + column];
                        let at = (down * c.input.width + right) * channels + k;
                        sum += f64::from(weight) * input[at];
                    }
                }
                let (inside, channel) = (column / c.output.channels, column % c.output.channels);
                let row = y * c.interleave + inside / c.interleave;
                let pixel = row * c.output.width + x * c.interleave + inside % c.interleave;
                let i = pixel * c.output.channels + channel;
                if let Some(bias) = c.bias {
                    sum += f64::from(self.constants[bias][channel]);
                }
                if let Some(r) = &c.residual {
                    sum += self.buffers[r.buffer][place(r, i)];
                }
                written.push((place(&c.output, i), sum * f64::from(c.scale)));
            }
        }
        for (at, value) in written {
            self.buffers[c.output.buffer][at] = value;
        }
        if let Some(moments) = c.moments {
            self.measure(&c.output, moments);
        }
    }

    fn measure(&mut self, image: &Image, number: usize) {
        let n = image.pixels();
        let channel = |c: usize| {
            let values: Vec<f64> = (0..n)
                .map(|p| self.buffers[image.buffer][place(image, p * image.channels + c)])
                .collect();
            let mean = values.iter().sum::<f64>() / n as f64;
            (mean, values.iter().map(|v| (v - mean).powi(2)).sum())
        };
        self.moments[number] = (0..image.channels).map(channel).collect();
    }

    fn attention(&mut self, a: &Attention) {
        let at = |t: &Tokens, head: usize, token: usize, c: usize| {
            t.offset + head * t.head + token * t.token + c * t.channel
        };
        let read = |t: &Tokens, head, token, c| self.buffers[t.buffer][at(t, head, token, c)];
        let mut written = Vec::new();
        for head in 0..a.query.heads {
            for token in 0..a.query.tokens {
                let score = |key: usize| {
                    let pairs = (0..a.query.channels)
                        .map(|c| read(&a.query, head, token, c) * read(&a.key, head, key, c));
                    f64::from(a.scale) * pairs.sum::<f64>()
                };
                let weights = soft((0..a.key.tokens).map(score).collect());
                for c in 0..a.value.channels {
                    let terms = weights.iter().enumerate();
                    let sum = terms.map(|(key, w)| w * read(&a.value, head, key, c)).sum();
                    written.push((at(&a.output, head, token, c), sum));
                }
            }
        }
        for (at, value) in written {
            self.buffers[a.output.buffer][at] = value;
        }
    }

    fn read(&self, s: &Strided, index: &[usize]) -> f64 {
        self.value(s.source, strided(s, index))
    }

    fn write(&mut self, s: &Strided, index: &[usize], value: f64) {
        let Source::Buffer(buffer) = s.source else { panic!("writes to {}", s.source) };
        self.buffers[buffer][strided(s, index)] = value;
    }

    fn matmul(&mut self, m: &MatMul) {
        let [b, rows, inner, columns] = m.sizes;
        for index in indices(&[b, rows, columns]) {
            let [b, row, column] = [index[0], index[1], index[2]];
            let terms = (0..inner)
                .map(|k| self.read(&m.left, &[b, row, k]) * self.read(&m.right, &[b, k, column]));
            let sum = terms.sum();
            self.write(&m.output, &index, sum);
        }
    }

    fn softmax(&mut self, s: &Softmax) {
        let (&length, rows) = s.dims.split_last().unwrap();
        for row in indices(rows) {
            let at = |i: usize| [row.as_slice(), &[i]].concat();
            let values = soft((0..length).map(|i| self.read(&s.input, &at(i))).collect());
            for (i, value) in values.into_iter().enumerate() {
                self.write(&s.output, &at(i), value);
            }
        }
    }

    fn pointwise(&mut self, p: &Pointwise) {
        for index in indices(&p.dims) {
            let mut values: Vec<f64> = Vec::new();
            for instruction in &p.formula {
                let value = match *instruction {
                    Instruction::Input(i) => self.read(&p.inputs[i], &index),
                    Instruction::Number(v) => f64::from(v),
                    Instruction::Unary(f, a) => unary(f, values[a]),
                    Instruction::Binary(f, a, b) => binary(f, values[a], values[b]),
                    Instruction::Select(a, b, c) => values[if values[a] != 0.0 { b } else { c }],
                };
                values.push(value);
            }
            self.write(&p.output, &index, *values.last().unwrap());
        }
    }

    fn reduce(&mut self, r: &Reduce) {
        for index in indices(&r.dims) {
            let terms = indices(&r.summed);
            let sum: f64 =
                terms.iter().map(|s| self.read(&r.input, &[index.as_slice(), s].concat())).sum();
            self.write(&r.output, &index, f64::from(r.factor) * sum);
        }
    }
}

/// Position in the buffer of value i of an image, `[H, W, C]`.
fn place(image: &Image, i: usize) -> usize {
    let (pixel, channel) = (i / image.channels, i % image.channels);
    let (y, x) = (pixel / image.width, pixel % image.width);
    image.offset + y * image.row + x * image.pixel + channel
}

fn strided(s: &Strided, index: &[usize]) -> usize {
    s.offset + index.iter().zip(&s.strides).map(|(i, stride)| i * stride).sum::<usize>()
}

/// All indices of a tensor of `dims`, the last axis fastest.
fn indices(dims: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![vec![]];
    for &dim in dims {
        let longer = |index: Vec<usize>| (0..dim).map(move |i| [index.as_slice(), &[i]].concat());
        all = all.into_iter().flat_map(longer).collect();
    }
    all
}

fn soft(values: Vec<f64>) -> Vec<f64> {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = values.iter().map(|v| (v - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}

fn unary(f: Unary, a: f64) -> f64 {
    match f {
        Unary::Abs => a.abs(),
        Unary::Cos => a.cos(),
        Unary::Erf => error_function(a),
        Unary::Exp => a.exp(),
        Unary::Floor => a.floor(),
        Unary::Log => a.ln(),
        Unary::Negate => -a,
        Unary::Reciprocal => 1.0 / a,
        Unary::Relu => a.max(0.0),
        Unary::Sigmoid => 1.0 / (1.0 + (-a).exp()),
        Unary::Silu => a / (1.0 + (-a).exp()),
        Unary::Sin => a.sin(),
        Unary::Sqrt => a.sqrt(),
        Unary::Tanh => a.tanh(),
    }
}

fn binary(f: Binary, a: f64, b: f64) -> f64 {
    match f {
        Binary::Add => a + b,
        Binary::Divide => a / b,
        Binary::Equal => f64::from(u8::from(a == b)),
        Binary::Greater => f64::from(u8::from(a > b)),
        Binary::Less => f64::from(u8::from(a < b)),
        Binary::Maximum => a.max(b),
        Binary::Minimum => a.min(b),
        Binary::Multiply => a * b,
        Binary::Power => a.powf(b),
        Binary::Subtract => a - b,
    }
}

/// By its Taylor series, which converges everywhere: `2/√π Σ (-1)^n x^(2n+1) / (n! (2n+1))`.
fn error_function(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_function_is_that_of_the_tables() {
        // Abramowitz and Stegun, table 7.1.
        for (x, need) in [(0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265)] {
            assert!((error_function(x) - need).abs() < 1e-9, "{x}");
            assert!((error_function(-x) + need).abs() < 1e-9, "{x}");
        }
    }
}
