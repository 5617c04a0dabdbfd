//! Products of two tensors that depend on the image, and the attention that they make up.

use super::super::Call;
use super::super::call::{Attention, Binary, MatMul, Softmax, Strided, Tokens};
use super::super::formula::{Expression, loops, number};
use super::super::graph::Node;
use super::super::values::Order;
use super::super::view::{Axis, Source, View};
use super::convolution::rows;
use super::{Lowering, Result, Value};

/// `scale * left right` with axes [.., m, k] and [.., k, n]; then a softmax along n if `weights`; then the last two
/// axes swapped if `transposed`.
#[derive(Clone, Debug)]
pub(super) struct Product {
    left: View,
    right: View,
    scale: f32,
    weights: bool,
    transposed: bool,
}

impl Product {
    pub(super) fn dims(&self) -> Vec<usize> {
        let mut dims = self.left.dims();
        let n = dims.len();
        let columns = self.right.dims().last().copied().unwrap_or(1);
        if let Some(last) = dims.last_mut() {
            *last = columns;
        }
        if self.transposed {
            dims.swap(n - 1, n - 2);
        }
        dims
    }

    /// Swaps the last two axes; false if `permutation` does anything else.
    pub(super) fn transpose(&mut self, permutation: &[usize]) -> bool {
        let n = permutation.len();
        let mut expected: Vec<usize> = (0..n).collect();
        if n < 2 {
            return false;
        }
        expected.swap(n - 1, n - 2);
        let swaps = expected == permutation;
        self.transposed ^= swaps;
        swaps
    }
}

impl<'a> Lowering<'a> {
    pub(super) fn matmul(&mut self, node: &Node<'a>) -> Result<()> {
        if self.linear_product(node)? {
            return Ok(());
        }
        let (left, right) = (self.value(node, 0)?.1, self.value(node, 1)?.1);
        match (&left, &right) {
            (Value::Product(p), _) if p.weights && !p.transposed => {
                let value = self.operand(node, 1)?.0;
                return self.attention(node, p, value, false);
            }
            (_, Value::Product(p)) if p.weights && p.transposed => {
                let value = swapped(self.operand(node, 0)?.0);
                return self.attention(node, p, value, true);
            }
            _ => {}
        }
        let ((left, a), (right, b)) = (self.operand(node, 0)?, self.operand(node, 1)?);
        self.product(node, left, right, a * b)
    }

    /// Two-operand Einstein sums that are a product: every label in the batch, in the rows, in the columns or summed.
    pub(super) fn einsum(&mut self, node: &Node<'a>) -> Result<()> {
        let equation: String =
            node.text("equation").chars().filter(|c| !c.is_whitespace()).collect();
        let other = || node.unsupported(format!("{equation:?} has no kernel"));
        let (inputs, output) = equation.split_once("->").ok_or_else(other)?;
        let (a, b) = inputs.split_once(',').ok_or_else(other)?;
        let labels = |wanted: &dyn Fn(char) -> bool| -> Vec<char> {
            let mut all: Vec<char> = a.chars().chain(b.chars()).filter(|&c| wanted(c)).collect();
            all.dedup();
            let mut seen = Vec::new();
            all.retain(|c| {
                !seen.contains(c) && {
                    seen.push(*c);
                    true
                }
            });
            all
        };
        let (in_a, in_b, out) =
            (|c: char| a.contains(c), |c: char| b.contains(c), |c: char| output.contains(c));
        let batch = labels(&|c| in_a(c) && in_b(c) && out(c));
        let row = labels(&|c| in_a(c) && !in_b(c) && out(c));
        let column = labels(&|c| !in_a(c) && in_b(c) && out(c));
        let summed = labels(&|c| in_a(c) && in_b(c) && !out(c));
        let ([_], [_], [_]) = (&row[..], &column[..], &summed[..]) else { return Err(other()) };
        let order = |labels: &str, wanted: Vec<char>| -> Option<Vec<usize>> {
            wanted.iter().map(|&c| labels.find(c)).collect()
        };
        let with = |x: &[char], y: &[char]| [&batch[..], x, y].concat();
        let left = order(a, with(&row, &summed)).ok_or_else(other)?;
        let right = order(b, with(&summed, &column)).ok_or_else(other)?;
        let natural: String = with(&row, &column).into_iter().collect();
        let back = order(&natural, output.chars().collect()).ok_or_else(other)?;
        let first = self.value(node, 0)?.1;
        if let Value::Product(p) = &first
            && p.weights
            && left == (0..left.len()).collect::<Vec<_>>()
            && !p.transposed
        {
            let value = self.operand(node, 1)?.0.transpose(&right).ok_or_else(other)?;
            let columns_first = back[..].iter().rev().take(2).is_sorted();
            return self.attention(node, p, value, columns_first);
        }
        if matches!(self.value(node, 1)?.1, Value::Product(_)) || matches!(first, Value::Product(_))
        {
            return Err(other());
        }
        let ((l, s), (r, t)) = (self.operand(node, 0)?, self.operand(node, 1)?);
        let (l, r) =
            (l.transpose(&left).ok_or_else(other)?, r.transpose(&right).ok_or_else(other)?);
        self.product(node, l, r, s * t)?;
        if let Some(Value::Product(p)) = self.values.get_mut(node.output())
            && !back.is_sorted()
            && !p.transpose(&back)
        {
            return Err(other());
        }
        Ok(())
    }

    fn product(&mut self, node: &Node<'a>, left: View, right: View, scale: f32) -> Result<()> {
        let (a, b) = (left.dims(), right.dims());
        let n = a.len();
        let fits = n >= 2 && b.len() == n && a[..n - 2] == b[..n - 2] && a[n - 1] == b[n - 2];
        if !fits {
            return Err(node.unsupported(format!("{a:?} meets {b:?}")));
        }
        let product = Product { left, right, scale, weights: false, transposed: false };
        self.values.insert(node.output(), Value::Product(product));
        Ok(())
    }

    pub(super) fn softmax(&mut self, node: &Node<'a>) -> Result<()> {
        let (name, value) = self.value(node, 0)?;
        let rank = self.dims(name).map_or(0, |d| d.len());
        let axis = super::shape::position(node.int("axis", -1), rank);
        if axis != rank.checked_sub(1) {
            return Err(node.unsupported("only the last axis has a kernel"));
        }
        if let Value::Product(product) = value
            && !product.weights
            && !product.transposed
        {
            let weights = Product { weights: true, ..product };
            self.values.insert(node.output(), Value::Product(weights));
            return Ok(());
        }
        let input = self.tensor(node, name)?;
        let output = self.softmax_of(node, &input)?;
        self.values.insert(node.output(), Value::Tensor { view: output, origin: None });
        Ok(())
    }

    fn softmax_of(&mut self, node: &Node<'_>, input: &View) -> Result<View> {
        let dims = input.dims();
        let buffer = self.buffer(input.len());
        let output = View::dense(Source::Buffer(buffer), &dims);
        let plain =
            |view: &View| plain(view).ok_or_else(|| node.unsupported("its axes are composite"));
        let (from, to) = (plain(input)?, plain(&output)?);
        self.calls.push(Some(Call::Softmax(Softmax { dims, input: from, output: to })));
        Ok(output)
    }

    /// `scale * factor` of the scores: Mul or Div of a product by one constant number.
    pub(super) fn scaled(&mut self, node: &Node<'a>, name: &'a str, factor: f32) -> bool {
        match self.values.get(name) {
            Some(Value::Product(p)) if !p.weights => {
                let product = Product { scale: p.scale * factor, ..p.clone() };
                self.values.insert(node.output(), Value::Product(product));
                true
            }
            _ => false,
        }
    }

    /// Input `i` as a view, and a number that it is still to be multiplied by.
    fn operand(&mut self, node: &Node<'a>, i: usize) -> Result<(View, f32)> {
        let (name, value) = self.value(node, i)?;
        if let Value::Formula { expression: Expression::Binary(Binary::Multiply, a, b), .. } =
            &value
            && let (Expression::Input(view), Expression::Number(v))
            | (Expression::Number(v), Expression::Input(view)) = (&**a, &**b)
        {
            return Ok((view.clone(), *v));
        }
        if !self.values.contains_key(name) {
            return Err(node.unsupported("one operand is constant and not [.., k, n]"));
        }
        Ok((self.tensor(node, name)?, 1.0))
    }

    fn attention(
        &mut self,
        node: &Node<'a>,
        p: &Product,
        value: View,
        columns_first: bool,
    ) -> Result<()> {
        let composite = || node.unsupported("its heads are not plain");
        let tokens = |view: &View| tokens(view).ok_or_else(composite);
        let query = tokens(&p.left)?;
        let key = tokens(&swapped(p.right.clone()))?;
        let value_tokens = tokens(&value)?;
        let mut dims = p.left.dims();
        let n = dims.len();
        dims[n - 1] = value_tokens.channels;
        // Tokens outermost: the layout of an image, whichever way the graph wants to see it.
        let buffer = self.buffer(dims.iter().product());
        let (heads, channels) = (query.heads, value_tokens.channels);
        let output = Tokens {
            buffer,
            offset: 0,
            heads,
            head: channels,
            tokens: query.tokens,
            token: heads * channels,
            channels,
            channel: 1,
        };
        let call = Attention { query, key, value: value_tokens, scale: p.scale, output };
        self.calls.push(Some(Call::Attention(call)));
        // [heads, tokens, channels] as the graph's [.., heads, m, n].
        let dense = View::dense(Source::Buffer(buffer), &[query.tokens, heads, channels]);
        let view =
            dense.transpose(&[1, 0, 2]).and_then(|v| v.reshape(&dims)).ok_or_else(composite)?;
        let view = if columns_first { swapped(view) } else { view };
        self.values.insert(node.output(), Value::Tensor { view, origin: None });
        Ok(())
    }

    pub(super) fn store_product(
        &mut self,
        node: &Node<'_>,
        name: &'a str,
        p: &Product,
    ) -> Result<()> {
        let mut untransposed = p.clone();
        untransposed.transposed = false;
        let dims = untransposed.dims();
        let buffer = self.buffer(dims.iter().product());
        let output = View::dense(Source::Buffer(buffer), &dims);
        let n = dims.len();
        let three = |view: &View| {
            let d = view.dims();
            view.reshape(&[d[..n - 2].iter().product(), d[n - 2], d[n - 1]])
        };
        let composite = || node.unsupported("its axes are composite");
        let strided = |view: &View| three(view).as_ref().and_then(plain).ok_or_else(composite);
        let k = p.left.dims()[n - 1];
        let sizes = [dims[..n - 2].iter().product(), dims[n - 2], k, dims[n - 1]];
        let (left, right) = (strided(&p.left)?, strided(&p.right)?);
        let call = MatMul { left, right, output: strided(&output)?, sizes };
        self.calls.push(Some(Call::MatMul(call)));
        let mut view = output;
        if p.scale != 1.0 {
            let scaled = Expression::Binary(
                Binary::Multiply,
                Expression::Input(view.clone()).into(),
                Expression::Number(p.scale).into(),
            );
            let to = View::dense(Source::Buffer(self.buffers.len()), &dims);
            self.buffer(view.len());
            self.compute(node, &scaled, &to)?;
            view = to;
        }
        if p.weights {
            view = self.softmax_of(node, &view)?;
        }
        let view = if p.transposed { swapped(view) } else { view };
        self.values.insert(name, Value::Tensor { view, origin: None });
        Ok(())
    }

    /// A product with constant weights is a linear layer, from either side; false if it is none.
    fn linear_product(&mut self, node: &Node<'a>) -> Result<bool> {
        let on_image =
            |this: &Self, i: usize| node.input(i).is_some_and(|n| this.values.contains_key(n));
        match (on_image(self, 0), on_image(self, 1)) {
            (true, false) => {
                let (dims, weights) = self.weights(node, 1)?;
                let name = node.input(0).unwrap_or_default();
                let view = self.tensor(node, name)?;
                let [inputs, outputs] = dims[..] else {
                    return Err(
                        node.unsupported(format!("its weights are {dims:?}, need two axes"))
                    );
                };
                if view.dims().last() != Some(&inputs) {
                    return Err(node.unsupported(format!("{:?} meets {dims:?}", view.dims())));
                }
                let weights = self.constant(|| weights.values());
                self.linear(node, &view, rows(&view), weights, None, [inputs, outputs])?;
                Ok(true)
            }
            (false, true) => {
                // W [o, k] times x [1, k, n]: every column of x is a vector.
                let (dims, weights) = self.weights(node, 0)?;
                let name = node.input(1).unwrap_or_default();
                let view = swapped(self.tensor(node, name)?);
                let &[outputs, inputs] = &dims[..] else {
                    return Err(
                        node.unsupported(format!("its weights are {dims:?}, need two axes"))
                    );
                };
                if view.dims().last() != Some(&inputs) {
                    return Err(node.unsupported(format!("{dims:?} meets {:?}", view.dims())));
                }
                let transposed = || weights.ordered(Order::columns_last(outputs, inputs, 1));
                let weights = self.constant(transposed);
                self.linear(node, &view, rows(&view), weights, None, [inputs, outputs])?;
                if let Some(Value::Tensor { view, .. }) = self.values.get_mut(node.output()) {
                    *view = swapped(view.clone());
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// The one number of a constant input.
    pub(super) fn number(&mut self, name: &'a str) -> Option<f32> {
        if self.values.contains_key(name) {
            return None;
        }
        number(self.known(name)?.values.as_deref())
    }
}

fn swapped(mut view: View) -> View {
    let n = view.axes.len();
    if n >= 2 {
        view.axes.swap(n - 1, n - 2);
    }
    view
}

/// A view whose axes have one stride each.
fn plain(view: &View) -> Option<Strided> {
    let stride = |axis: &Axis| match axis.as_slice() {
        [] => Some(0),
        [one] => Some(one.stride),
        _ => None,
    };
    let strides: Option<Vec<usize>> = view.axes.iter().map(stride).collect();
    Some(Strided { source: view.source, offset: view.offset, strides: strides? })
}

/// A view with axes [.., tokens, channels] as tokens; the axes before are the heads.
fn tokens(view: &View) -> Option<Tokens> {
    let Source::Buffer(buffer) = view.source else { return None };
    let dims = view.dims();
    let n = dims.len();
    let heads = dims[..n.checked_sub(2)?].iter().product();
    let view = view.reshape(&[heads, dims[n - 2], dims[n - 1]])?;
    // Tokens of several rows that lie apart are no plain axis.
    let (sizes, strided) = (view.dims(), plain(&view)?);
    loops(&[&view])?;
    Some(Tokens {
        buffer,
        offset: view.offset,
        heads: sizes[0],
        head: strided.strides[0],
        tokens: sizes[1],
        token: strided.strides[1],
        channels: sizes[2],
        channel: strided.strides[2],
    })
}
