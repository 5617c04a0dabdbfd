//! Whether a plan stays inside its buffers: no engine has to find out on the way.

use super::{
    Affine, Call, Image, Instruction, Normalisation, Plan, Prologue, Source, Strided, Tokens, View,
};

/// What is wrong with the plan, with the number of the call.
///
/// # Errors
/// The first call that reads or writes outside of what it names, or whose operands do not fit each other.
pub(in crate::flow) fn check(plan: &Plan, tables: &[usize]) -> Result<(), String> {
    let sizes = Sizes { plan, tables };
    for (i, call) in plan.calls.iter().enumerate() {
        sizes.call(call).map_err(|why| format!("call {i} ({call}): {why}"))?;
    }
    sizes.view(&plan.velocity).map_err(|why| format!("velocity: {why}"))?;
    sizes.view(&plan.divergence).map_err(|why| format!("divergence: {why}"))
}

struct Sizes<'a> {
    plan: &'a Plan,
    tables: &'a [usize],
}

fn need(condition: bool, why: impl Fn() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(why()) }
}

impl Sizes<'_> {
    fn of(&self, source: Source) -> Result<usize, String> {
        let length = match source {
            Source::Buffer(i) => self.plan.buffers.get(i).copied(),
            Source::Constant(i) => self.plan.constants.get(i).map(|c| c.len()),
            Source::Table(i) => self.tables.get(i).copied(),
        };
        length.ok_or_else(|| format!("there is no {source}"))
    }

    /// `steps`: number of values of each axis and their distance.
    fn inside(
        &self,
        source: Source,
        offset: usize,
        steps: impl IntoIterator<Item = (usize, usize)>,
    ) -> Result<(), String> {
        let size = self.of(source)?;
        let mut last = Some(offset);
        for (count, stride) in steps {
            need(count > 0, || format!("an axis of {source} is empty"))?;
            last = last.and_then(|last| (count - 1).checked_mul(stride)?.checked_add(last));
        }
        need(last.is_some_and(|last| last < size), || {
            format!("it reaches value {last:?} of {source}, which has {size}")
        })
    }

    fn image(&self, i: &Image) -> Result<(), String> {
        let axes = [(i.height, i.row), (i.width, i.pixel), (i.channels, 1)];
        self.inside(Source::Buffer(i.buffer), i.offset, axes)
    }

    fn tokens(&self, t: &Tokens) -> Result<(), String> {
        let axes = [(t.heads, t.head), (t.tokens, t.token), (t.channels, t.channel)];
        self.inside(Source::Buffer(t.buffer), t.offset, axes)
    }

    fn strided(&self, s: &Strided, dims: &[usize]) -> Result<(), String> {
        need(s.strides.len() == dims.len(), || {
            format!("{} strides for {} axes", s.strides.len(), dims.len())
        })?;
        self.inside(s.source, s.offset, dims.iter().copied().zip(s.strides.iter().copied()))
    }

    fn written(&self, s: &Strided, dims: &[usize]) -> Result<(), String> {
        need(matches!(s.source, Source::Buffer(_)), || format!("it writes to {}", s.source))?;
        self.strided(s, dims)
    }

    fn view(&self, view: &View) -> Result<(), String> {
        let factors = view.axes.iter().flatten().map(|f| (f.size, f.stride));
        self.inside(view.source, view.offset, factors)
    }

    fn moments(&self, number: usize, channels: usize, pixels: usize) -> Result<(), String> {
        let have = self.plan.moments.get(number);
        need(have == Some(&(channels, pixels)), || {
            format!("moments m{number} are {have:?}, need {channels} channels of {pixels} pixels")
        })
    }

    fn prologue(&self, prologue: &Prologue, input: &Image) -> Result<(), String> {
        for step in &prologue.affine {
            let (Affine::Multiply(source) | Affine::Add(source)) = *step;
            let length = self.of(source)?;
            need(length == 1 || length == input.channels, || {
                format!("{source} has {length} values for {} channels", input.channels)
            })?;
        }
        let Some(norm) = &prologue.normalisation else { return Ok(()) };
        let Normalisation { channels, groups, .. } = norm;
        for &(number, first, count) in channels {
            let (have, pixels) = *self.plan.moments.get(number).unwrap_or(&(0, 0));
            need(count > 0 && first + count <= have && pixels == input.pixels(), || {
                format!("moments m{number} have {have} channels of {pixels} pixels")
            })?;
        }
        let sum: usize = channels.iter().map(|c| c.2).sum();
        need(sum == input.channels && *groups > 0 && sum.is_multiple_of(*groups), || {
            format!("{groups} groups of {sum} channels for an image of {}", input.channels)
        })
    }

    fn call(&self, call: &Call) -> Result<(), String> {
        match call {
            Call::Convolution(c) => {
                self.image(&c.input)?;
                self.image(&c.output)?;
                let i = c.interleave;
                let positive = [i, c.upsample, c.stride[0], c.stride[1]].iter().all(|&n| n > 0);
                let whole = positive
                    && c.output.height.is_multiple_of(i)
                    && c.output.width.is_multiple_of(i)
                    && (i == 1 || c.kernel == [1, 1]);
                need(whole, || format!("strides, upsampling or interleaving {i} do not fit"))?;
                let inner = c.kernel[0] * c.kernel[1] * c.input.channels;
                let weights = self.of(Source::Constant(c.weights))?;
                need(weights == inner * c.columns(), || {
                    format!("{weights} weights, need {inner} x {}", c.columns())
                })?;
                if let Some(bias) = c.bias {
                    let length = self.of(Source::Constant(bias))?;
                    need(length == c.output.channels, || format!("{length} biases"))?;
                }
                if let Some(r) = &c.residual {
                    self.image(r)?;
                    let of = |i: &Image| [i.height, i.width, i.channels];
                    need(of(r) == of(&c.output), || "the residual has another size".into())?;
                }
                if let Some(moments) = c.moments {
                    self.moments(moments, c.output.channels, c.output.pixels())?;
                }
                c.prologue.as_ref().map_or(Ok(()), |p| self.prologue(p, &c.input))
            }
            Call::Moments(m) => {
                self.image(&m.input)?;
                self.moments(m.moments, m.input.channels, m.input.pixels())
            }
            Call::Apply(a) => {
                self.image(&a.input)?;
                self.image(&a.output)?;
                let of = |i: &Image| [i.height, i.width, i.channels];
                need(of(&a.input) == of(&a.output), || "the sizes differ".into())?;
                self.prologue(&a.prologue, &a.input)
            }
            Call::Attention(a) => {
                for tokens in [&a.query, &a.key, &a.value, &a.output] {
                    self.tokens(tokens)?;
                }
                let (q, k, v, o) = (&a.query, &a.key, &a.value, &a.output);
                let same = [q, k, v, o].iter().all(|t| t.heads == q.heads)
                    && q.channels == k.channels
                    && k.tokens == v.tokens
                    && o.tokens == q.tokens
                    && o.channels == v.channels;
                need(same, || "heads, tokens or channels do not fit".into())
            }
            Call::MatMul(m) => {
                let [b, rows, inner, columns] = m.sizes;
                self.strided(&m.left, &[b, rows, inner])?;
                self.strided(&m.right, &[b, inner, columns])?;
                self.written(&m.output, &[b, rows, columns])
            }
            Call::Softmax(s) => {
                self.strided(&s.input, &s.dims)?;
                self.written(&s.output, &s.dims)
            }
            Call::Pointwise(p) => {
                p.inputs.iter().try_for_each(|input| self.strided(input, &p.dims))?;
                let fits = |(i, instruction): (usize, &Instruction)| match *instruction {
                    Instruction::Input(input) => input < p.inputs.len(),
                    Instruction::Number(_) => true,
                    Instruction::Unary(_, a) => a < i,
                    Instruction::Binary(_, a, b) => a.max(b) < i,
                    Instruction::Select(a, b, c) => a.max(b).max(c) < i,
                };
                let formula = !p.formula.is_empty() && p.formula.iter().enumerate().all(fits);
                need(formula, || "the formula names values that it does not have".into())?;
                self.written(&p.output, &p.dims)
            }
            Call::Reduce(r) => {
                self.strided(&r.input, &[r.dims.as_slice(), &r.summed].concat())?;
                self.written(&r.output, &r.dims)
            }
        }
    }
}
