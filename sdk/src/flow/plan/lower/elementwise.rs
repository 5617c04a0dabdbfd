//! Value-by-value nodes: fused into a neighbouring convolution where possible, else formulas; and sums along axes.

use std::rc::Rc;

use super::super::Call;
use super::super::call::{Activation, Affine, Binary, Prologue, Reduce, Strided, Unary};
use super::super::formula::{Expression, loops};
use super::super::graph::Node;
use super::super::times::Known;
use super::super::view::{Image, Source, View};
use super::{Lowering, Result, Value};

/// Sums over an axis of at most this many values become additions in the formula.
const SHORT_SUM: usize = 4;
/// Parts of a formula that waits to be computed.
const LONGEST: usize = 24;

impl<'a> Lowering<'a> {
    pub(super) fn silu(&mut self, node: &Node<'a>, x: &'a str) -> Result<()> {
        let waits =
            matches!(self.values.get(x), Some(Value::Formula { .. } | Value::Mapped { .. }));
        if waits && self.uses(x) > 1 {
            self.store(node, x)?;
        }
        let value = match self.values.get(x) {
            Some(Value::Mapped { image, prologue, view })
                if prologue.activation == Activation::None =>
            {
                let prologue = Prologue { activation: Activation::Silu, ..prologue.clone() };
                Value::Mapped { image: *image, prologue, view: view.clone() }
            }
            Some(Value::Tensor { view, .. }) if view.image().is_some_and(|i| i.view() == *view) => {
                let image = view.image().ok_or_else(|| node.unsupported("it is no image"))?;
                let prologue =
                    Prologue { normalisation: None, affine: vec![], activation: Activation::Silu };
                Value::Mapped { image, prologue, view: view.clone() }
            }
            _ => {
                let (e, dims) = self.expression(node, x)?;
                Value::Formula { expression: Expression::Unary(Unary::Silu, Rc::new(e)), dims }
            }
        };
        self.values.insert(node.output(), value);
        Ok(())
    }

    pub(super) fn unary(&mut self, node: &Node<'a>) -> Result<()> {
        let function = match node.operator() {
            "Abs" => Unary::Abs,
            "Cos" => Unary::Cos,
            "Erf" => Unary::Erf,
            "Exp" => Unary::Exp,
            "Floor" => Unary::Floor,
            "Log" => Unary::Log,
            "Neg" => Unary::Negate,
            "Reciprocal" => Unary::Reciprocal,
            "Relu" => Unary::Relu,
            "Sigmoid" => Unary::Sigmoid,
            "Sin" => Unary::Sin,
            "Sqrt" => Unary::Sqrt,
            "Tanh" => Unary::Tanh,
            _ => return Err(node.unsupported("this operator has no kernel")),
        };
        let (e, dims) = self.operand_expression(node, 0)?;
        self.formula(node, Expression::Unary(function, Rc::new(e)), dims)
    }

    pub(super) fn binary(&mut self, node: &Node<'a>) -> Result<()> {
        let (Some(a), Some(b)) = (node.input(0), node.input(1)) else {
            return Err(node.unsupported("it needs two inputs"));
        };
        if self.fused_scale(node, a, b)
            || self.channelwise(node, a, b)?
            || self.residual(node, a, b)?
        {
            return Ok(());
        }
        let ((x, dx), (y, dy)) =
            (self.operand_expression(node, 0)?, self.operand_expression(node, 1)?);
        let dims =
            broadcast(&dx, &dy).ok_or_else(|| node.unsupported(format!("{dx:?} meets {dy:?}")))?;
        let (x, y) = (widen(node, &x, &dims)?, widen(node, &y, &dims)?);
        let function = match node.operator() {
            "Add" => Binary::Add,
            "Sub" => Binary::Subtract,
            "Mul" => Binary::Multiply,
            "Div" => Binary::Divide,
            "Max" => Binary::Maximum,
            "Min" => Binary::Minimum,
            "Less" => Binary::Less,
            "Greater" => Binary::Greater,
            "Equal" => Binary::Equal,
            "Pow" => return self.power(node, x, y, dims),
            _ => return Err(node.unsupported("this operator has no kernel")),
        };
        self.formula(node, Expression::Binary(function, Rc::new(x), Rc::new(y)), dims)
    }

    /// Constant exponents whose meaning does not depend on the sign of the base.
    fn power(
        &mut self,
        node: &Node<'a>,
        x: Expression,
        y: Expression,
        dims: Vec<usize>,
    ) -> Result<()> {
        let x = Rc::new(x);
        let expression = match y {
            Expression::Number(2.0) => Expression::Binary(Binary::Multiply, Rc::clone(&x), x),
            Expression::Number(0.5) => Expression::Unary(Unary::Sqrt, x),
            Expression::Number(-1.0) => Expression::Unary(Unary::Reciprocal, x),
            y => Expression::Binary(Binary::Power, x, Rc::new(y)),
        };
        self.formula(node, expression, dims)
    }

    pub(super) fn select(&mut self, node: &Node<'a>) -> Result<()> {
        let all = (0..3).map(|i| self.operand_expression(node, i)).collect::<Result<Vec<_>>>()?;
        let dims = all.iter().try_fold(vec![], |dims, (_, d)| broadcast(&dims, d));
        let dims = dims.ok_or_else(|| node.unsupported("its inputs cannot be lined up"))?;
        let wide = all
            .iter()
            .map(|(e, _)| widen(node, e, &dims).map(Rc::new))
            .collect::<Result<Vec<_>>>()?;
        let [c, a, b] = <[Rc<Expression>; 3]>::try_from(wide)
            .map_err(|_| node.unsupported("it needs three inputs"))?;
        self.formula(node, Expression::Select(c, a, b), dims)
    }

    pub(super) fn clip(&mut self, node: &Node<'a>) -> Result<()> {
        let (mut e, dims) = self.operand_expression(node, 0)?;
        for (i, function) in [(1, Binary::Maximum), (2, Binary::Minimum)] {
            if let Some(name) = node.input(i) {
                let bound = self
                    .number(name)
                    .ok_or_else(|| node.unsupported("its bounds are not constant"))?;
                e = Expression::Binary(function, Rc::new(e), Rc::new(Expression::Number(bound)));
            }
        }
        self.formula(node, e, dims)
    }

    /// `x (1 + erf(x / √2)) / 2`.
    pub(super) fn gelu(&mut self, node: &Node<'a>) -> Result<()> {
        if !matches!(node.text("approximate"), "" | "none") {
            return Err(node.unsupported("its approximation has no kernel"));
        }
        let (e, dims) = self.operand_expression(node, 0)?;
        let x = Rc::new(e);
        let number = |v| Rc::new(Expression::Number(v));
        let times = |a, b| Rc::new(Expression::Binary(Binary::Multiply, a, b));
        let erf = Rc::new(Expression::Unary(
            Unary::Erf,
            times(Rc::clone(&x), number(std::f32::consts::FRAC_1_SQRT_2)),
        ));
        let one = Rc::new(Expression::Binary(Binary::Add, erf, number(1.0)));
        let half = times(x, number(0.5));
        self.formula(node, Expression::Binary(Binary::Multiply, half, one), dims)
    }

    /// The formula is the value of `node`; a long one is computed at once.
    pub(super) fn formula(
        &mut self,
        node: &Node<'a>,
        expression: Expression,
        dims: Vec<usize>,
    ) -> Result<()> {
        let long = expression.is_longer_than(LONGEST);
        self.values.insert(node.output(), Value::Formula { expression, dims });
        if long { self.store(node, node.output()) } else { Ok(()) }
    }

    /// Numbers of another kind: only to f32, which all are already.
    pub(super) fn cast(&mut self, node: &Node<'a>) -> Result<()> {
        match node.int("to", 1) {
            1 => self.identity(node),
            kind => Err(node.unsupported(format!("kind {kind} has no kernel"))),
        }
    }

    fn operand_expression(
        &mut self,
        node: &Node<'a>,
        i: usize,
    ) -> Result<(Expression, Vec<usize>)> {
        let name = self.value(node, i)?.0;
        self.expression(node, name)
    }

    /// The value `name` as a formula, and its sizes.
    fn expression(&mut self, node: &Node<'a>, name: &'a str) -> Result<(Expression, Vec<usize>)> {
        if let Some(v) = self.number(name) {
            return Ok((Expression::Number(v), vec![]));
        }
        let (name, value) = match self.values.get(name) {
            Some(value) => (name, value.clone()),
            None => {
                let known = self
                    .known(name)
                    .ok_or_else(|| node.unsupported(format!("{name:?} cannot be read")))?;
                return Ok((Expression::Input(View::dense(known.source, &known.dims)), known.dims));
            }
        };
        match value {
            Value::Formula { expression, dims } => Ok((expression, dims)),
            Value::Mapped { image, prologue, view }
                if prologue.normalisation.is_none() && view == image.view() =>
            {
                Ok((mapped(&image, &prologue, &self.lengths()), view.dims()))
            }
            _ => {
                let view = self.tensor(node, name)?;
                let dims = view.dims();
                Ok((Expression::Input(view), dims))
            }
        }
    }

    fn vector(&mut self, values: impl Iterator<Item = f32>) -> Source {
        self.constants.push(values.collect());
        Source::Constant(self.constants.len() - 1)
    }

    /// Number of values of every constant and table.
    fn lengths(&self) -> impl Fn(Source) -> usize + use<'_, 'a> {
        |source| {
            let found = self.known.values().find(|k| k.source == source);
            let computed = found.map(|k| k.dims.iter().product());
            computed.unwrap_or_else(|| match source {
                Source::Constant(i) => self.constants[i].len(),
                _ => 1,
            })
        }
    }

    /// Multiplication or division by one constant number, taken over by the product or convolution before.
    fn fused_scale(&mut self, node: &Node<'a>, a: &'a str, b: &'a str) -> bool {
        let (x, factor) = match (node.operator(), self.number(a), self.number(b)) {
            ("Mul", None, Some(v)) => (a, v),
            ("Mul", Some(v), None) => (b, v),
            ("Div", None, Some(v)) => (a, 1.0 / v),
            _ => return false,
        };
        if self.scaled(node, x, factor) {
            return true;
        }
        let Some(Value::Tensor { view, .. }) = self.values.get(x) else { return false };
        let Some(at) = view.image().and_then(|image| self.writer(&image)) else { return false };
        let free = matches!(&self.calls[at], Some(Call::Convolution(c)) if c.moments.is_none());
        let whole = view.axes.len() == 4 && self.uses(x) == 1 && free;
        if whole {
            self.retarget(at, node.output(), |c| c.scale *= factor);
        }
        whole
    }

    /// A step that depends on the channel only: kept for the convolution that reads the result.
    fn channelwise(&mut self, node: &Node<'a>, a: &'a str, b: &'a str) -> Result<bool> {
        let on_image = |this: &Self, name: &str| this.values.contains_key(name);
        let (vector, swapped) = match (on_image(self, a), on_image(self, b)) {
            (true, false) => (b, false),
            (false, true) => (a, true),
            _ => return Ok(false),
        };
        let i = usize::from(swapped);
        let (image, prologue, view) = match self.value(node, i)?.1 {
            Value::Mapped { image, prologue, view } if prologue.activation == Activation::None => {
                (image, prologue, view)
            }
            Value::Tensor { view, .. } => match view.image() {
                Some(image) if view.axes.len() == 4 => {
                    let prologue = Prologue {
                        normalisation: None,
                        affine: vec![],
                        activation: Activation::None,
                    };
                    (image, prologue, view)
                }
                _ => return Ok(false),
            },
            _ => return Ok(false),
        };
        if view != image.view() {
            return Ok(false);
        }
        let Some(known) = self.known(vector) else { return Ok(false) };
        if !is_channel_vector(&known, image.channels) {
            return Ok(false);
        }
        let step = match (node.operator(), swapped, &known.values) {
            ("Add", ..) => Affine::Add(known.source),
            ("Mul", ..) => Affine::Multiply(known.source),
            ("Sub", false, Some(values)) => Affine::Add(self.vector(values.iter().map(|v| -v))),
            ("Div", false, Some(values)) => {
                Affine::Multiply(self.vector(values.iter().map(|v| 1.0 / v)))
            }
            _ => return Ok(false),
        };
        let mut prologue = prologue;
        prologue.affine.push(step);
        self.values.insert(node.output(), Value::Mapped { image, prologue, view });
        Ok(true)
    }

    /// The sum of two images of which one is a convolution's result: its residual.
    fn residual(&mut self, node: &Node<'a>, a: &'a str, b: &'a str) -> Result<bool> {
        if node.operator() != "Add" || a == b || self.dims(a) != self.dims(b) {
            return Ok(false);
        }
        if !self.values.contains_key(a) || !self.values.contains_key(b) {
            return Ok(false);
        }
        let candidates = [(a, b), (b, a)];
        let later = candidates
            .iter()
            .filter_map(|&(x, other)| Some((self.fusible(x)?, other)))
            .max_by_key(|c| c.0);
        let Some((at, other)) = later else { return Ok(false) };
        let i = usize::from(node.input(1) == Some(other));
        self.value(node, i)?;
        let residual = self.image(node, other)?;
        self.retarget(at, node.output(), |c| c.residual = Some(residual));
        Ok(true)
    }

    pub(super) fn average_pool(&mut self, node: &Node<'a>) -> Result<()> {
        let two = |name| node.ints(name).and_then(|v| <[i64; 2]>::try_from(v).ok());
        let kernel = two("kernel_shape").map(|k| k.map(|v| v as usize));
        let plain = two("strides") == two("kernel_shape")
            && node.ints("pads").is_none_or(|p| p.iter().all(|&v| v == 0))
            && two("dilations").is_none_or(|d| d == [1, 1])
            && node.int("ceil_mode", 0) == 0;
        let name = node.input(0).unwrap_or_default();
        let dims = self.dims(name).unwrap_or_default();
        let (Some([kh, kw]), true, &[1, c, h, w]) = (kernel, plain, &dims[..]) else {
            return Err(node.unsupported("only squares side by side have a kernel"));
        };
        if !h.is_multiple_of(kh) || !w.is_multiple_of(kw) {
            return Err(node.unsupported(format!("{h}x{w} pixels are no multiple of {kh}x{kw}")));
        }
        self.value(node, 0)?;
        let view = self.tensor(node, name)?;
        let split = view.reshape(&[1, c, h / kh, kh, w / kw, kw]);
        let split = split.ok_or_else(|| node.unsupported("its input cannot be divided"))?;
        let output = self.allocate(node.output(), &[1, c, h / kh, w / kw]);
        self.sum(node, &split, &[3, 5], 1.0 / (kh * kw) as f32, &output)
    }

    pub(super) fn global_average_pool(&mut self, node: &Node<'a>) -> Result<()> {
        let name = self.value(node, 0)?.0;
        let view = self.tensor(node, name)?;
        let dims = view.dims();
        let axes: Vec<usize> = (2..dims.len()).collect();
        let count: usize = dims[2.min(dims.len())..].iter().product();
        let mut out = dims;
        axes.iter().for_each(|&a| out[a] = 1);
        let output = self.allocate(node.output(), &out);
        self.sum(node, &view, &axes, 1.0 / count as f32, &output)
    }

    pub(super) fn reduce(&mut self, node: &Node<'a>) -> Result<()> {
        let (name, value) = self.value(node, 0)?;
        let dims = self.dims(name).unwrap_or_default();
        let given = self.axes(node, dims.len())?;
        if given.is_empty() && node.int("noop_with_empty_axes", 0) != 0 {
            return self.identity(node);
        }
        let axes: Vec<usize> = if given.is_empty() { (0..dims.len()).collect() } else { given };
        let count: usize = axes.iter().map(|&a| dims[a]).product();
        let factor = if node.operator() == "ReduceMean" { 1.0 / count as f32 } else { 1.0 };
        let keep = node.int("keepdims", 1) != 0;
        let kept: Vec<usize> = (0..dims.len()).filter(|a| keep || !axes.contains(a)).collect();
        let out: Vec<usize> =
            kept.iter().map(|&a| if axes.contains(&a) { 1 } else { dims[a] }).collect();
        if let (&[axis], Value::Formula { expression, .. }, true) =
            (&axes[..], &value, factor == 1.0)
            && dims[axis] <= SHORT_SUM
        {
            let part = |i: usize| {
                expression
                    .map(&|view| view.slice(axis, i, 1).and_then(|v| v.reshape(&out)))
                    .map(Rc::new)
            };
            let parts: Option<Vec<Rc<Expression>>> = (0..dims[axis]).map(part).collect();
            let sum = parts.and_then(|parts| {
                parts.into_iter().reduce(|a, b| Rc::new(Expression::Binary(Binary::Add, a, b)))
            });
            if let Some(sum) = sum {
                return self.formula(node, (*sum).clone(), out);
            }
        }
        let view = self.tensor(node, name)?;
        let output = self.allocate(node.output(), &out);
        self.sum(node, &view, &axes, factor, &output)
    }

    pub(super) fn sum(
        &mut self,
        node: &Node<'a>,
        view: &View,
        axes: &[usize],
        factor: f32,
        output: &View,
    ) -> Result<()> {
        let pick = |wanted: bool| -> View {
            let chosen = view.axes.iter().enumerate().filter(|(i, _)| axes.contains(i) == wanted);
            View { axes: chosen.map(|(_, a)| a.clone()).collect(), ..view.clone() }
        };
        let (stays, summed) = (pick(false), pick(true));
        let apart = || node.unsupported("its values cannot be lined up");
        if view.source == output.source {
            return Err(node.unsupported("it would read the buffer that it writes"));
        }
        let flat = output.reshape(&stays.dims()).ok_or_else(apart)?;
        let (dims, kept) = loops(&[&stays, &flat]).ok_or_else(apart)?;
        let (sizes, inner) = loops(&[&summed]).ok_or_else(apart)?;
        let [from, to] = <[Strided; 2]>::try_from(kept).map_err(|_| apart())?;
        let strides = from.strides.iter().chain(&inner[0].strides).copied().collect();
        let input = Strided { strides, ..from };
        let call = Call::Reduce(Reduce { dims, summed: sizes, input, factor, output: to });
        match output.image() {
            Some(image) => self.write(image, call),
            None => self.calls.push(Some(call)),
        }
        self.values
            .insert(node.output(), Value::Tensor { view: output.clone(), origin: output.image() });
        Ok(())
    }
}

/// A value per channel of an image with axes [1, C, H, W], or one for all.
fn is_channel_vector(known: &Known, channels: usize) -> bool {
    match known.dims[..] {
        [1, c, 1, 1] | [c, 1, 1] => c == channels || c == 1,
        _ => known.dims.iter().all(|&d| d == 1),
    }
}

/// A channel-wise map without normalisation as a formula.
fn mapped(image: &Image, prologue: &Prologue, length: &impl Fn(Source) -> usize) -> Expression {
    let view = image.view();
    let dims = view.dims();
    let vector = |source: Source| {
        let n = length(source);
        let own = View::dense(source, &[1, n, 1, 1]);
        Rc::new(Expression::Input(own.broadcast(&dims).unwrap_or(own)))
    };
    let mut e = Expression::Input(view);
    for step in &prologue.affine {
        e = match *step {
            Affine::Multiply(v) => Expression::Binary(Binary::Multiply, Rc::new(e), vector(v)),
            Affine::Add(v) => Expression::Binary(Binary::Add, Rc::new(e), vector(v)),
        };
    }
    match prologue.activation {
        Activation::None => e,
        Activation::Silu => Expression::Unary(Unary::Silu, Rc::new(e)),
    }
}

fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let n = a.len().max(b.len());
    let at = |d: &[usize], i: usize| (i + d.len()).checked_sub(n).map_or(1, |j| d[j]);
    (0..n)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

fn widen(node: &Node<'_>, expression: &Expression, dims: &[usize]) -> Result<Expression> {
    let wide = expression.map(&|view| view.broadcast(dims));
    wide.ok_or_else(|| node.unsupported("its inputs cannot be lined up"))
}
