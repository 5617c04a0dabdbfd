//! Normalisation in the forms in which exporters write it.
//!
//! Over groups of channels of an image it waits for the convolution that reads it; over anything else it is computed
//! from means and formulas.

use std::rc::Rc;

use super::super::call::{Activation, Affine, Apply, Binary, Normalisation, Prologue, Unary};
use super::super::formula::Expression;
use super::super::graph::Node;
use super::super::view::{Image, View};
use super::super::{Call, Source};
use super::shape::position;
use super::{Lowering, Result, Value};

impl<'a> Lowering<'a> {
    /// Over all axes but the first two; exporters write group normalisation as this, reshaped.
    pub(super) fn instance_normalisation(&mut self, node: &Node<'a>) -> Result<()> {
        let name = self.value(node, 0)?.0;
        let dims = self.dims(name).unwrap_or_default();
        let axes: Vec<usize> = (2..dims.len()).collect();
        let epsilon = node.float("epsilon", 1e-5);
        self.store(node, name)?;
        if let Some((image, view, groups)) = self.groups(name, &axes) {
            return self.normalise(node, image, view, groups, epsilon);
        }
        let mut aligned = vec![1; dims.len()];
        aligned[1] = dims[1];
        let e = self.normalised(node, name, &axes, epsilon)?;
        self.affine(node, e, &dims, &aligned)
    }

    pub(super) fn group_normalisation(&mut self, node: &Node<'a>) -> Result<()> {
        let name = node.input(0).ok_or_else(|| node.unsupported("it has no input"))?;
        let image = self.image(node, name)?;
        let groups = usize::try_from(node.int("num_groups", 1)).unwrap_or(0);
        self.normalise(node, image, image.view(), groups, node.float("epsilon", 1e-5))
    }

    /// Over the axes from one on.
    pub(super) fn layer_normalisation(&mut self, node: &Node<'a>) -> Result<()> {
        if node.0.output.iter().skip(1).any(|name| !name.is_empty()) {
            return Err(node.unsupported("only its first result has a kernel"));
        }
        let name = self.value(node, 0)?.0;
        let dims = self.dims(name).unwrap_or_default();
        let first = position(node.int("axis", -1), dims.len());
        let first = first.ok_or_else(|| node.unsupported("its axis is out of range"))?;
        let axes: Vec<usize> = (first..dims.len()).collect();
        let e = self.normalised(node, name, &axes, node.float("epsilon", 1e-5))?;
        let aligned: Vec<usize> =
            dims.iter().enumerate().map(|(i, &d)| if i < first { 1 } else { d }).collect();
        self.affine(node, e, &dims, &aligned)
    }

    /// The value `name` normalised along `axes`, without factors.
    pub(super) fn normalise_along(
        &mut self,
        node: &Node<'a>,
        name: &'a str,
        axes: &[usize],
        epsilon: f32,
    ) -> Result<()> {
        self.named(node, name)?;
        self.store(node, name)?;
        let value = match self.groups(name, axes) {
            Some((image, view, groups)) => {
                let prologue = self.prologue(&image, groups, epsilon);
                Value::Mapped { image, prologue, view }
            }
            None => {
                let dims = self.dims(name).unwrap_or_default();
                let expression = self.normalised(node, name, axes, epsilon)?;
                Value::Formula { expression, dims }
            }
        };
        self.values.insert(node.output(), value);
        Ok(())
    }

    /// If the stored value `name` is an image and `axes` make up groups of its channels: how many there are.
    fn groups(&self, name: &str, axes: &[usize]) -> Option<(Image, View, usize)> {
        let Some(Value::Tensor { view, origin }) = self.values.get(name) else { return None };
        let image = view.image().or(*origin)?;
        let dims = view.dims();
        let trailing = axes.iter().copied().eq(dims.len() - axes.len()..dims.len());
        let groups: usize = dims[..dims.len() - axes.len()].iter().product();
        let grouped = trailing
            && image.channels.is_multiple_of(groups)
            && image.view().reshape(&dims).as_ref() == Some(view);
        grouped.then_some((image, view.clone(), groups))
    }

    fn prologue(&mut self, image: &Image, groups: usize, epsilon: f32) -> Prologue {
        let channels = self.moments(image);
        let normalisation = Some(Normalisation { channels, groups, epsilon });
        Prologue { normalisation, affine: vec![], activation: Activation::None }
    }

    /// Group normalisation with one factor and shift per channel or per group.
    fn normalise(
        &mut self,
        node: &Node<'a>,
        image: Image,
        view: View,
        groups: usize,
        epsilon: f32,
    ) -> Result<()> {
        if groups == 0 || !image.channels.is_multiple_of(groups) {
            let why = format!("{} channels do not make {groups} groups", image.channels);
            return Err(node.unsupported(why));
        }
        let mut prologue = self.prologue(&image, groups, epsilon);
        for (i, neutral) in [(1, 1.0), (2, 0.0)] {
            let (_, values) = self.weights(node, i)?;
            let values = values.decode();
            if values.iter().all(|&v| v == neutral) {
                continue;
            }
            let each = image.channels.checked_div(values.len()).unwrap_or(0);
            if each * values.len() != image.channels {
                return Err(node.unsupported(format!(
                    "{} factors meet {} channels",
                    values.len(),
                    image.channels
                )));
            }
            let full = values.iter().flat_map(|&v| std::iter::repeat_n(v, each)).collect();
            let source = Source::Constant(self.constant(|| full));
            let step = if i == 1 { Affine::Multiply(source) } else { Affine::Add(source) };
            prologue.affine.push(step);
        }
        self.values.insert(node.output(), Value::Mapped { image, prologue, view });
        Ok(())
    }

    /// The value `name` normalised along `axes`, as a formula of what is stored by then.
    fn normalised(
        &mut self,
        node: &Node<'a>,
        name: &'a str,
        axes: &[usize],
        epsilon: f32,
    ) -> Result<Expression> {
        let x = self.tensor(node, name)?;
        let dims = x.dims();
        if let Some((image, view, groups)) = self.groups(name, axes)
            && view == image.view()
        {
            let prologue = self.prologue(&image, groups, epsilon);
            let buffer = self.buffer(image.pixels() * image.channels);
            let output = Image::dense(buffer, image.height, image.width, image.channels);
            self.write(output, Call::Apply(Apply { input: image, prologue, output }));
            return Ok(Expression::Input(output.view()));
        }
        let lined_up = || node.unsupported("its values cannot be lined up");
        let wide = |view: &View| view.broadcast(&dims).map(Expression::Input).ok_or_else(lined_up);
        let two = |f, a, b| Expression::Binary(f, Rc::new(a), Rc::new(b));

        let mean = self.mean(node, &x, axes)?;
        let deviation = two(Binary::Subtract, Expression::Input(x), wide(&mean)?);
        let centred = self.room(&dims);
        self.compute(node, &deviation, &centred)?;
        let centred = Expression::Input(centred);
        let squares = self.room(&dims);
        self.compute(node, &two(Binary::Multiply, centred.clone(), centred.clone()), &squares)?;
        let variance = self.mean(node, &squares, axes)?;
        let inverse = self.room(&variance.dims());
        let sum = two(Binary::Add, Expression::Input(variance), Expression::Number(epsilon));
        let root = Expression::Unary(Unary::Sqrt, Rc::new(sum));
        self.compute(node, &Expression::Unary(Unary::Reciprocal, Rc::new(root)), &inverse)?;
        Ok(two(Binary::Multiply, centred, wide(&inverse)?))
    }

    /// Mean of `x` along `axes`, which stay with size 1.
    fn mean(&mut self, node: &Node<'a>, x: &View, axes: &[usize]) -> Result<View> {
        let mut dims = x.dims();
        let count: usize = axes.iter().map(|&a| dims[a]).product();
        axes.iter().for_each(|&a| dims[a] = 1);
        let output = self.room(&dims);
        self.sum(node, x, axes, 1.0 / count as f32, &output)?;
        Ok(output)
    }

    /// `e * scale + bias`, where inputs 1 and 2 are constants that fill `aligned`; the bias may be missing.
    fn affine(
        &mut self,
        node: &Node<'a>,
        mut e: Expression,
        dims: &[usize],
        aligned: &[usize],
    ) -> Result<()> {
        for (i, function) in [(1, Binary::Multiply), (2, Binary::Add)] {
            if i == 2 && node.input(2).is_none() {
                continue;
            }
            let (_, values) = self.weights(node, i)?;
            let source = Source::Constant(self.constant(|| values.decode().into()));
            let fits = values.len() == aligned.iter().product::<usize>();
            let vector = fits.then(|| View::dense(source, aligned).broadcast(dims)).flatten();
            let vector = vector.ok_or_else(|| {
                node.unsupported(format!("{} factors meet {dims:?}", values.len()))
            })?;
            e = Expression::Binary(function, Rc::new(e), Rc::new(Expression::Input(vector)));
        }
        self.formula(node, e, dims.to_vec())
    }
}
