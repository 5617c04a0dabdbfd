//! Nodes that move nothing, or only copy.

use super::super::formula::Expression;
use super::super::graph::Node;
use super::super::view::{Factor, View, axis_size};
use super::{Joined, Lowering, Result, Value};

impl<'a> Lowering<'a> {
    pub(super) fn identity(&mut self, node: &Node<'a>) -> Result<()> {
        let (_, value) = self.value(node, 0)?;
        self.values.insert(node.output(), value);
        Ok(())
    }

    pub(super) fn reshape(&mut self, node: &Node<'a>) -> Result<()> {
        let target = node.input(1).and_then(|name| self.integers(name));
        let target = target.ok_or_else(|| node.unsupported("its shape is not constant"))?;
        let dims = self.input_dims(node)?;
        let keep_zero = node.int("allowzero", 0) != 0;
        let mut sizes = Vec::with_capacity(target.len());
        for (i, &size) in target.iter().enumerate() {
            sizes.push(match size {
                0 if !keep_zero => dims.get(i).copied().unwrap_or(0),
                -1 => 0,
                _ => usize::try_from(size).unwrap_or(0),
            });
        }
        if let Some(free) = target.iter().position(|&size| size == -1) {
            sizes[free] = 1;
            let rest = sizes.iter().fold(1usize, |n, &d| n.saturating_mul(d));
            sizes[free] = dims.iter().product::<usize>() / rest.max(1);
        }
        self.reshape_to(node, &sizes)
    }

    pub(super) fn flatten(&mut self, node: &Node<'a>) -> Result<()> {
        let dims = self.input_dims(node)?;
        let axis = position(node.int("axis", 1), dims.len()).unwrap_or(dims.len());
        let sizes = [dims[..axis].iter().product(), dims[axis..].iter().product()];
        self.reshape_to(node, &sizes)
    }

    pub(super) fn squeeze(&mut self, node: &Node<'a>) -> Result<()> {
        let dims = self.input_dims(node)?;
        let axes = self.axes(node, dims.len())?;
        let gone = |i: usize| if axes.is_empty() { dims[i] == 1 } else { axes.contains(&i) };
        let sizes: Vec<usize> = (0..dims.len()).filter(|&i| !gone(i)).map(|i| dims[i]).collect();
        self.reshape_to(node, &sizes)
    }

    pub(super) fn unsqueeze(&mut self, node: &Node<'a>) -> Result<()> {
        let dims = self.input_dims(node)?;
        let given = node.input(1).and_then(|name| self.integers(name));
        let given = given.or_else(|| node.ints("axes").map(<[i64]>::to_vec)).unwrap_or_default();
        let rank = dims.len() + given.len();
        let axes: Option<Vec<usize>> = given.iter().map(|&a| position(a, rank)).collect();
        let axes = axes.ok_or_else(|| node.unsupported("its axes are out of range"))?;
        let mut rest = dims.iter();
        let sizes: Vec<usize> = (0..rank)
            .map(|i| if axes.contains(&i) { 1 } else { rest.next().copied().unwrap_or(1) })
            .collect();
        self.reshape_to(node, &sizes)
    }

    fn reshape_to(&mut self, node: &Node<'a>, sizes: &[usize]) -> Result<()> {
        self.rearrange(node, &|view| view.reshape(sizes))
    }

    pub(super) fn transpose(&mut self, node: &Node<'a>) -> Result<()> {
        let rank = self.input_dims(node)?.len();
        let given = node.ints("perm").map(|p| p.iter().map(|&a| a as usize).collect());
        let permutation: Vec<usize> = given.unwrap_or_else(|| (0..rank).rev().collect());
        if let (_, Value::Product(product)) = self.value(node, 0)? {
            let mut product = product;
            if product.transpose(&permutation) {
                self.values.insert(node.output(), Value::Product(product));
                return Ok(());
            }
        }
        self.rearrange(node, &|view| view.transpose(&permutation))
    }

    pub(super) fn depth_to_space(&mut self, node: &Node<'a>) -> Result<()> {
        let block = self.block(node)?;
        let crd = node.text("mode") == "CRD";
        self.rearrange(node, &|view| {
            let [n, c, h, w] = view.dims()[..] else { return None };
            let depth = c / (block * block);
            if crd {
                let split = view.reshape(&[n, depth, block, block, h, w])?;
                split.transpose(&[0, 1, 4, 2, 5, 3])?.reshape(&[n, depth, h * block, w * block])
            } else {
                let split = view.reshape(&[n, block, block, depth, h, w])?;
                split.transpose(&[0, 3, 4, 1, 5, 2])?.reshape(&[n, depth, h * block, w * block])
            }
        })
    }

    pub(super) fn space_to_depth(&mut self, node: &Node<'a>) -> Result<()> {
        let block = self.block(node)?;
        self.rearrange(node, &|view| {
            let [n, c, h, w] = view.dims()[..] else { return None };
            let (rows, columns) = (h / block, w / block);
            let split = view.reshape(&[n, c, rows, block, columns, block])?;
            split.transpose(&[0, 3, 5, 1, 2, 4])?.reshape(&[n, c * block * block, rows, columns])
        })
    }

    fn block(&self, node: &Node<'a>) -> Result<usize> {
        match node.int("blocksize", 1) {
            block @ 1..=256 => Ok(block as usize),
            block => Err(node.unsupported(format!("its block size is {block}, need 1 to 256"))),
        }
    }

    /// Nearest-neighbour enlargement by whole numbers.
    pub(super) fn resize(&mut self, node: &Node<'a>) -> Result<()> {
        let dims = self.input_dims(node)?;
        let mode = node.text("coordinate_transformation_mode");
        let nearest = matches!(node.text("mode"), "" | "nearest");
        let exact = match mode {
            "asymmetric" => node.text("nearest_mode") == "floor",
            _ => matches!(mode, "" | "half_pixel" | "pytorch_half_pixel"),
        };
        if !nearest || !exact {
            return Err(node.unsupported("only nearest-neighbour enlargement has a kernel"));
        }
        let scales = node.input(2).and_then(|name| self.integers(name)).filter(|s| !s.is_empty());
        let sizes = node.input(3).and_then(|name| self.integers(name));
        let factors: Vec<usize> = match (scales, sizes) {
            (Some(scales), _) => {
                let (_, exact) = self.weights(node, 2)?;
                if exact.decode().iter().any(|s| s.fract() != 0.0) {
                    return Err(node.unsupported("its scales are not whole numbers"));
                }
                scales.iter().map(|&s| s as usize).collect()
            }
            (None, Some(sizes)) => {
                let whole =
                    sizes.iter().zip(&dims).all(|(&s, &d)| s > 0 && (s as usize).is_multiple_of(d));
                if !whole {
                    return Err(node.unsupported("its sizes are no multiples of the input's"));
                }
                sizes.iter().zip(&dims).map(|(&s, &d)| s as usize / d).collect()
            }
            (None, None) => return Err(node.unsupported("it has neither scales nor sizes")),
        };
        if factors.len() != dims.len() || factors.iter().any(|f| !(1..=256).contains(f)) {
            return Err(node.unsupported(format!("its factors are {factors:?}")));
        }
        self.rearrange(node, &|view| {
            let mut view = view.clone();
            for (axis, &factor) in view.axes.iter_mut().zip(&factors) {
                if factor > 1 {
                    axis.push(Factor { size: factor, stride: 0 });
                }
            }
            Some(view)
        })
    }

    pub(super) fn slice(&mut self, node: &Node<'a>) -> Result<()> {
        let dims = self.input_dims(node)?;
        let ints = |this: &Self, i: usize| node.input(i).and_then(|name| this.integers(name));
        let (Some(starts), Some(ends)) = (ints(self, 1), ints(self, 2)) else {
            return Err(node.unsupported("its range is not constant"));
        };
        let axes = ints(self, 3).unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = ints(self, 4).unwrap_or_else(|| vec![1; starts.len()]);
        if steps.iter().any(|&s| s != 1) {
            return Err(node.unsupported(format!("its steps are {steps:?}, need 1")));
        }
        let mut ranges = Vec::new();
        for ((&start, &end), &axis) in starts.iter().zip(&ends).zip(&axes) {
            let axis = position(axis, dims.len());
            let axis = axis.ok_or_else(|| node.unsupported("its axis is out of range"))?;
            let n = dims[axis] as i64;
            let at = |v: i64| (if v < 0 { v.saturating_add(n) } else { v }).clamp(0, n) as usize;
            let (start, end) = (at(start), at(end));
            ranges.push((axis, start, end.saturating_sub(start)));
        }
        self.rearrange(node, &|view| {
            ranges
                .iter()
                .try_fold(view.clone(), |view, &(axis, start, size)| view.slice(axis, start, size))
        })
    }

    /// One constant index along one axis.
    pub(super) fn gather(&mut self, node: &Node<'a>) -> Result<()> {
        let mut dims = self.input_dims(node)?;
        let axis = position(node.int("axis", 0), dims.len());
        let index = node.input(1).and_then(|name| Some((self.dims(name)?, self.integers(name)?)));
        let (Some(axis), Some((shape, index))) = (axis, index) else {
            return Err(node.unsupported("its indices are not constant"));
        };
        let at = match index[..] {
            [one] => position(one, dims[axis]),
            _ => None,
        };
        let at =
            at.ok_or_else(|| node.unsupported(format!("its indices are {index:?}, need one")))?;
        dims.splice(axis..=axis, shape);
        self.rearrange(node, &|view| view.slice(axis, at, 1)?.reshape(&dims))
    }

    pub(super) fn split(&mut self, node: &Node<'a>) -> Result<()> {
        let dims = self.input_dims(node)?;
        let axis = position(node.int("axis", 0), dims.len());
        let axis = axis.ok_or_else(|| node.unsupported("its axis is out of range"))?;
        let parts = node.0.output.len();
        let given = node.input(1).and_then(|name| self.integers(name));
        let sizes: Vec<usize> = match given {
            Some(sizes) => sizes.iter().map(|&s| s as usize).collect(),
            None => {
                let most = dims[axis].div_ceil(parts);
                (0..parts).map(|i| most.min(dims[axis].saturating_sub(i * most))).collect()
            }
        };
        if sizes.len() != parts || sizes.iter().sum::<usize>() != dims[axis] {
            return Err(
                node.unsupported(format!("its parts {sizes:?} do not make up {}", dims[axis]))
            );
        }
        let mut start = 0;
        for (output, &size) in node.0.output.iter().zip(&sizes) {
            self.rearrange_as(node, output, &|view| view.slice(axis, start, size))?;
            start += size;
        }
        Ok(())
    }

    pub(super) fn concat(&mut self, node: &Node<'a>) -> Result<()> {
        let names: Vec<&str> = node.inputs().collect();
        let all: Option<Vec<Vec<usize>>> = names.iter().map(|name| self.dims(name)).collect();
        let all = all.ok_or_else(|| node.unsupported("an input is not known"))?;
        let axis = all.first().and_then(|dims| position(node.int("axis", 0), dims.len()));
        let axis = axis.ok_or_else(|| node.unsupported("its axis is out of range"))?;
        let mut dims = all[0].clone();
        dims[axis] = all.iter().map(|d| d.get(axis).copied().unwrap_or(0)).sum();
        let mut first = 0;
        let mut parts = Vec::new();
        for (name, own) in names.iter().zip(&all) {
            parts.push(((*name).to_owned(), first));
            first += own.get(axis).copied().unwrap_or(0);
        }
        let output = node.output();
        let whole = match dims[..] {
            [1, channels, height, width] if axis == 1 => {
                let taken = |name: &String| {
                    self.found.iter().any(|j| j.parts.iter().any(|(p, _)| p == name))
                };
                let kept = parts.iter().filter(|(name, _)| !taken(name)).cloned().collect();
                self.found.push(Joined { output: output.into(), parts: kept, dims: dims.clone() });
                self.joined_image(output, height, width, channels).view()
            }
            _ => self.allocate(output, &dims),
        };
        for (i, ((_, first), own)) in parts.iter().zip(&all).enumerate() {
            let place = whole.slice(axis, *first, own[axis]);
            let place = place.ok_or_else(|| node.unsupported("a part cannot be placed"))?;
            self.place(node, i, &place)?;
        }
        self.values.insert(output, Value::Tensor { origin: whole.image(), view: whole });
        Ok(())
    }

    /// Makes sure that input `i` lies at `place`.
    fn place(&mut self, node: &Node<'a>, i: usize, place: &View) -> Result<()> {
        let (name, value) = self.value(node, i)?;
        if place.image().is_some()
            && self.values.contains_key(name)
            && !matches!(value, Value::Tensor { .. })
        {
            self.store(node, name)?;
        }
        // What is no image yet becomes one at its destination.
        let (_, value) = self.value(node, i)?;
        let view = match value {
            Value::Tensor { view, .. } => view,
            _ => self.tensor(node, name)?,
        };
        if view == *place {
            return Ok(());
        }
        self.compute(node, &Expression::Input(view), place)?;
        if self.values.contains_key(name)
            && self.joins.iter().any(|j| j.parts.iter().any(|(p, _)| p == name))
        {
            self.values.insert(name, Value::Tensor { view: place.clone(), origin: place.image() });
        }
        Ok(())
    }

    fn input_dims(&self, node: &Node<'a>) -> Result<Vec<usize>> {
        let dims = node.input(0).and_then(|name| self.dims(name));
        dims.ok_or_else(|| node.unsupported("its input is not known"))
    }

    /// The axes of input 1 or of the attribute, counted from 0.
    pub(super) fn axes(&self, node: &Node<'a>, rank: usize) -> Result<Vec<usize>> {
        let given = node.input(1).and_then(|name| self.integers(name));
        let given = given.or_else(|| node.ints("axes").map(<[i64]>::to_vec)).unwrap_or_default();
        self.positions(node, &given, rank)
    }

    /// `axes` counted from 0.
    pub(super) fn positions(
        &self,
        node: &Node<'a>,
        axes: &[i64],
        rank: usize,
    ) -> Result<Vec<usize>> {
        let found: Option<Vec<usize>> = axes.iter().map(|&a| position(a, rank)).collect();
        found.ok_or_else(|| node.unsupported(format!("its axes {axes:?} are out of range")))
    }

    pub(super) fn rearrange(
        &mut self,
        node: &Node<'a>,
        change: &impl Fn(&View) -> Option<View>,
    ) -> Result<()> {
        self.rearrange_as(node, node.output(), change)
    }

    /// Input 0 seen through `change`, as `output`; copied first where a view cannot show it.
    fn rearrange_as(
        &mut self,
        node: &Node<'a>,
        output: &'a str,
        change: &impl Fn(&View) -> Option<View>,
    ) -> Result<()> {
        let (name, value) = self.value(node, 0)?;
        let changed = match value {
            Value::Tensor { view, origin } => {
                change(&view).map(|view| Value::Tensor { origin: view.image().or(origin), view })
            }
            Value::Mapped { image, prologue, view } => {
                change(&view).map(|view| Value::Mapped { image, prologue, view })
            }
            Value::Formula { expression, .. } => expression.map(change).and_then(|expression| {
                let dims =
                    change(&View::dense(super::Source::Buffer(0), &self.dims(name)?))?.dims();
                Some(Value::Formula { expression, dims })
            }),
            Value::Product(_) | Value::Integers(_) => None,
        };
        let value = match changed {
            Some(value) => value,
            None => {
                let view = self.tensor(node, name)?;
                let dense = View::dense(super::Source::Buffer(self.buffers.len()), &view.dims());
                self.buffer(view.len());
                self.compute(node, &Expression::Input(view), &dense)?;
                let view = change(&dense);
                let view =
                    view.ok_or_else(|| node.unsupported("its values cannot be rearranged"))?;
                Value::Tensor { origin: None, view }
            }
        };
        self.values.insert(output, value);
        Ok(())
    }
}

/// An axis counted from the front.
pub(super) fn position(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).ok().filter(|&a| a < rank)
}

/// By how much `view` repeats the pixels of `image` in both directions, if it does nothing else.
pub(super) fn enlargement(view: &View, image: &super::Image) -> Option<usize> {
    let [_, _, h, _] = view.axes.as_slice() else { return None };
    let factor = axis_size(h).checked_div(image.height)?;
    let mut enlarged = image.view();
    for axis in enlarged.axes.iter_mut().skip(2) {
        if factor > 1 {
            axis.push(Factor { size: factor, stride: 0 });
        }
    }
    (enlarged == *view).then_some(factor)
}
