//! Convolutions and linear layers.

use super::super::call::{Convolution, Prologue};
use super::super::graph::Node;
use super::super::values::Order;
use super::super::view::{Image, View, axis_size};
use super::super::{Call, Source};
use super::shape::enlargement;
use super::{Lowering, Result, Value};

/// What a convolution reads.
struct Input {
    image: Image,
    upsample: usize,
    prologue: Option<Prologue>,
}

impl<'a> Lowering<'a> {
    pub(super) fn convolution(&mut self, node: &Node<'a>) -> Result<()> {
        let (dims, weights) = self.weights(node, 1)?;
        let [outputs, inputs, kh, kw] = dims[..] else {
            return Err(node.unsupported(format!("its weights are {dims:?}, need four axes")));
        };
        self.check_plain(node)?;
        let Input { image, upsample, prologue } = self.convolution_input(node, 0)?;
        if image.channels != inputs {
            return Err(node.unsupported(format!("{} channels meet {inputs}", image.channels)));
        }
        let [sh, sw] = pair(node, "strides")?;
        let [top, left, bottom, right] = match node.ints("pads") {
            Some(&[t, l, b, r]) => [t, l, b, r].map(|v| v as usize),
            Some(other) => return Err(node.unsupported(format!("its pads are {other:?}"))),
            None => [0; 4],
        };
        let (h, w) =
            (image.height * upsample + top + bottom, image.width * upsample + left + right);
        if h < kh || w < kw {
            return Err(node.unsupported(format!("a {kh}x{kw} kernel meets {h}x{w} pixels")));
        }
        let (height, width) = ((h - kh) / sh + 1, (w - kw) / sw + 1);
        let weights =
            self.constant(|| weights.ordered(Order::columns_last(outputs, inputs, kh * kw)));
        let bias = self.bias(node, outputs)?;
        let sizes = [height, width, outputs];
        let output = self.allocate_apart(node.output(), sizes, &[image.buffer]);
        let call = Convolution {
            node: node.0.name.clone(),
            input: image,
            upsample,
            prologue,
            kernel: [kh, kw],
            stride: [sh, sw],
            padding: [top, left],
            weights,
            bias,
            residual: None,
            scale: 1.0,
            output,
            interleave: 1,
            moments: None,
        };
        self.convolved(node, call)
    }

    /// A transposed convolution whose squares do not overlap.
    pub(super) fn transposed_convolution(&mut self, node: &Node<'a>) -> Result<()> {
        let (dims, weights) = self.weights(node, 1)?;
        let [inputs, outputs, kh, kw] = dims[..] else {
            return Err(node.unsupported(format!("its weights are {dims:?}, need four axes")));
        };
        self.check_plain(node)?;
        let zeros = |name| node.ints(name).is_none_or(|v: &[i64]| v.iter().all(|&p| p == 0));
        let apart = pair(node, "strides")? == [kh, kw] && kh == kw;
        if !apart
            || !zeros("pads")
            || !zeros("output_padding")
            || node.ints("output_shape").is_some()
        {
            return Err(node.unsupported("only squares that do not overlap have a kernel"));
        }
        let Input { image, upsample, prologue } = self.convolution_input(node, 0)?;
        if image.channels != inputs {
            return Err(node.unsupported(format!("{} channels meet {inputs}", image.channels)));
        }
        let taps = kh * kw;
        let weights =
            self.constant(|| weights.ordered(Order::taps_before_outputs(inputs, outputs, taps)));
        let bias = self.bias(node, outputs)?;
        let (height, width) = (image.height * upsample * kh, image.width * upsample * kw);
        let sizes = [height, width, outputs];
        let output = self.allocate_apart(node.output(), sizes, &[image.buffer]);
        let call = Convolution {
            node: node.0.name.clone(),
            input: image,
            upsample,
            prologue,
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0, 0],
            weights,
            bias,
            residual: None,
            scale: 1.0,
            output,
            interleave: kh,
            moments: None,
        };
        self.convolved(node, call)
    }

    /// `x Wᵀ + b` of every row of x.
    pub(super) fn gemm(&mut self, node: &Node<'a>) -> Result<()> {
        let plain = node.float("alpha", 1.0) == 1.0
            && node.float("beta", 1.0) == 1.0
            && node.int("transA", 0) == 0;
        if !plain {
            return Err(node.unsupported("only alpha = beta = 1 without transA has a kernel"));
        }
        let (dims, weights) = self.weights(node, 1)?;
        let [a, b] = dims[..] else {
            return Err(node.unsupported(format!("its weights are {dims:?}, need two axes")));
        };
        let transposed = node.int("transB", 0) != 0;
        let (inputs, outputs) = if transposed { (b, a) } else { (a, b) };
        let bias = self.bias(node, outputs)?;
        let weights = self.constant(|| {
            if transposed {
                weights.ordered(Order::columns_last(outputs, inputs, 1))
            } else {
                weights.values()
            }
        });
        let name = node.input(0).ok_or_else(|| node.unsupported("it has no input"))?;
        let view = self.tensor(node, name)?;
        let [rows, depth] = view.dims()[..] else {
            return Err(node.unsupported(format!("{:?} are no two axes", view.dims())));
        };
        if depth != inputs {
            return Err(node.unsupported(format!("{depth} values meet {inputs}")));
        }
        self.linear(node, &view, rows, weights, bias, [inputs, outputs])
    }

    /// Every vector of `view` (along its last axis) times constant weights [inputs, outputs]. `rows` is the product of
    /// the axes before.
    pub(super) fn linear(
        &mut self,
        node: &Node<'a>,
        view: &View,
        rows: usize,
        weights: usize,
        bias: Option<usize>,
        [inputs, outputs]: [usize; 2],
    ) -> Result<()> {
        let image = view
            .reshape(&[1, rows, inputs])
            .and_then(|v| v.transpose(&[2, 0, 1]))
            .and_then(|v| v.image());
        let image = match image {
            Some(image) => image,
            None => {
                let mut dims = view.dims();
                let buffer = self.buffer(rows * inputs);
                let dense = View::dense(Source::Buffer(buffer), &dims);
                self.compute(node, &super::Expression::Input(view.clone()), &dense)?;
                dims.clear();
                Image::dense(buffer, 1, rows, inputs)
            }
        };
        let mut dims = view.dims();
        if let Some(last) = dims.last_mut() {
            *last = outputs;
        }
        let buffer = self.buffer(rows * outputs);
        let output = Image::dense(buffer, 1, rows, outputs);
        let call = Convolution {
            node: node.0.name.clone(),
            input: image,
            upsample: 1,
            prologue: None,
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0, 0],
            weights,
            bias,
            residual: None,
            scale: 1.0,
            output,
            interleave: 1,
            moments: None,
        };
        self.write(output, Call::Convolution(call));
        let view = View::dense(Source::Buffer(buffer), &dims);
        self.values.insert(node.output(), Value::Tensor { view, origin: None });
        Ok(())
    }

    fn convolved(&mut self, node: &Node<'a>, call: Convolution) -> Result<()> {
        let output = call.output;
        self.write(output, Call::Convolution(call));
        self.values
            .insert(node.output(), Value::Tensor { view: output.view(), origin: Some(output) });
        Ok(())
    }

    fn check_plain(&self, node: &Node<'a>) -> Result<()> {
        if node.int("group", 1) != 1 {
            return Err(node.unsupported(format!("{} groups have no kernel", node.int("group", 1))));
        }
        if pair(node, "dilations")? != [1, 1] {
            return Err(node.unsupported("dilations have no kernel"));
        }
        if !matches!(node.text("auto_pad"), "" | "NOTSET" | "VALID") {
            return Err(node.unsupported("automatic padding has no kernel"));
        }
        Ok(())
    }

    fn bias(&mut self, node: &Node<'a>, outputs: usize) -> Result<Option<usize>> {
        if node.input(2).is_none() {
            return Ok(None);
        }
        let (dims, values) = self.weights(node, 2)?;
        let per_output = dims.last() == Some(&outputs) && values.len() == outputs;
        if !per_output && values.len() != 1 {
            return Err(node.unsupported(format!("{} biases meet {outputs} outputs", values.len())));
        }
        let full = || {
            let values = values.decode();
            match *values {
                [one] => std::iter::repeat_n(one, outputs).collect(),
                _ => values.into(),
            }
        };
        Ok(Some(self.constant(full)))
    }

    fn convolution_input(&mut self, node: &Node<'a>, i: usize) -> Result<Input> {
        let (name, value) = self.value(node, i)?;
        if let Value::Mapped { image, prologue, view } = &value
            && let Some(upsample) = enlargement(view, image)
        {
            return Ok(Input { image: *image, upsample, prologue: Some(prologue.clone()) });
        }
        if let Value::Tensor { view, origin: Some(origin) } = &value
            && let Some(upsample) = enlargement(view, origin)
        {
            return Ok(Input { image: *origin, upsample, prologue: None });
        }
        Ok(Input { image: self.image(node, name)?, upsample: 1, prologue: None })
    }

    /// Whether the value `name` is the whole result of a convolution that nobody else reads and that nothing was
    /// fused into that a residual would have to come before; the number of its call.
    pub(super) fn fusible(&self, name: &str) -> Option<usize> {
        let Some(Value::Tensor { view, .. }) = self.values.get(name) else { return None };
        let at = self.writer(&view.image()?)?;
        let Some(Call::Convolution(c)) = &self.calls[at] else { return None };
        let free =
            c.residual.is_none() && c.scale == 1.0 && c.moments.is_none() && c.interleave == 1;
        (self.uses(name) == 1 && free && view.axes.len() == 4).then_some(at)
    }

    /// Moves call `at` to the end, with its result now the value `name`.
    pub(super) fn retarget(
        &mut self,
        at: usize,
        name: &'a str,
        change: impl FnOnce(&mut Convolution),
    ) {
        let Some(Call::Convolution(mut call)) = self.calls[at].take() else { return };
        self.writers.retain(|(_, writer)| *writer != at);
        change(&mut call);
        let Image { height, width, channels, .. } = call.output;
        let residual = call.residual.map(|r| r.buffer);
        let read: Vec<usize> = [call.input.buffer].into_iter().chain(residual).collect();
        call.output = self.allocate_apart(name, [height, width, channels], &read);
        let output = call.output;
        self.write(output, Call::Convolution(call));
        self.values.insert(name, Value::Tensor { view: output.view(), origin: Some(output) });
    }
}

/// The two numbers of an attribute, 1 each if it is missing.
fn pair(node: &Node<'_>, name: &str) -> Result<[usize; 2]> {
    match node.ints(name) {
        None => Ok([1; 2]),
        Some(&[a, b]) => Ok([a as usize, b as usize]),
        Some(other) => Err(node.unsupported(format!("its {name} are {other:?}"))),
    }
}

/// Product of all axes but the last.
pub(super) fn rows(view: &View) -> usize {
    view.axes.split_last().map_or(1, |(_, before)| before.iter().map(|a| axis_size(a)).product())
}
