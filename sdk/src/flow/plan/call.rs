//! The kernel calls of a plan: plain data that an engine carries out in order.

use std::fmt;

use super::view::{Image, Source};

/// One kernel call. Every call reads and writes the buffers of one image; images never mix.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// A convolution with everything that is fused into it.
    Convolution(Convolution),
    /// Mean and squared deviation of every channel of an image.
    Moments(Moments),
    /// A normalised or modulated image, written out.
    Apply(Apply),
    /// Self-attention.
    Attention(Attention),
    /// Product of two tensors that both depend on the image.
    MatMul(MatMul),
    /// Softmax along the last axis.
    Softmax(Softmax),
    /// A formula for every value.
    Pointwise(Pointwise),
    /// Sums or means along axes.
    Reduce(Reduce),
}

/// `output = scale * (conv(prologue(upsample(input))) + bias + residual)`.
///
/// The prologue is applied before padding: padding is always 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Convolution {
    /// Name of the node in the model file.
    pub node: String,
    /// What is convolved.
    pub input: Image,
    /// Every input pixel counts this many times in both directions (nearest neighbour); 1 for none.
    pub upsample: usize,
    /// Applied to the input on the way.
    pub prologue: Option<Prologue>,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Step down and to the right, of the upsampled input.
    pub stride: [usize; 2],
    /// Zeros above and left of the upsampled input; those below and right follow from the output's size.
    pub padding: [usize; 2],
    /// Constant [kernel height, kernel width, input channels, columns]; columns are the output channels, or with
    /// `interleave` i the products (row in i, column in i, output channel), outermost first.
    pub weights: usize,
    /// Constant of one value per output channel.
    pub bias: Option<usize>,
    /// Added to the result; of the output's size.
    pub residual: Option<Image>,
    /// Factor of the result.
    pub scale: f32,
    /// Where the result goes.
    pub output: Image,
    /// Above 1: a transposed convolution whose kernel and stride are both this. Every input pixel gives a square of
    /// output pixels, and `kernel` is [1, 1].
    pub interleave: usize,
    /// Moments of the output that are wanted later.
    pub moments: Option<usize>,
}

impl Convolution {
    /// Height and width of the grid over which the kernel is moved: that of the output, without interleaving.
    pub fn grid(&self) -> [usize; 2] {
        [self.output.height / self.interleave, self.output.width / self.interleave]
    }

    /// Number of columns of the weights.
    pub fn columns(&self) -> usize {
        self.output.channels * self.interleave * self.interleave
    }

    /// Multiplications per image.
    pub fn multiplications(&self) -> usize {
        let [h, w] = self.grid();
        h * w * self.kernel[0] * self.kernel[1] * self.input.channels * self.columns()
    }
}

/// A map of every value that depends on its channel: normalise, then multiply and add, then activate.
#[derive(Clone, Debug, PartialEq)]
pub struct Prologue {
    /// Group normalisation.
    pub normalisation: Option<Normalisation>,
    /// Channel-wise steps, in order.
    pub affine: Vec<Affine>,
    /// What comes last.
    pub activation: Activation,
}

/// `(x - mean) / sqrt(variance + epsilon)` over groups of channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalisation {
    /// Where the moments of the channels come from, in order: number of the moments, first channel in them, channels.
    pub channels: Vec<(usize, usize, usize)>,
    /// Number of groups of neighbouring channels.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f32,
}

/// One channel-wise step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Affine {
    /// Multiply by a vector of one value per channel, or by one value for all.
    Multiply(Source),
    /// Add such a vector.
    Add(Source),
}

/// What follows the affine steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// `x / (1 + exp(-x))`.
    Silu,
}

/// Mean and sum of squared deviations of every channel of `input`.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// The image.
    pub input: Image,
    /// Number of the moments, see [`super::Plan::moments`].
    pub moments: usize,
}

/// `output = prologue(input)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Apply {
    /// What is mapped.
    pub input: Image,
    /// The map.
    pub prologue: Prologue,
    /// Where it goes; of the input's size.
    pub output: Image,
}

/// `output = softmax(scale * query keyᵀ) value` for every head; f32 throughout.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Queries.
    pub query: Tokens,
    /// Keys; as many channels as the queries have.
    pub key: Tokens,
    /// Values; as many tokens as the keys have.
    pub value: Tokens,
    /// Factor of the scores.
    pub scale: f32,
    /// Result; tokens of the queries, channels of the values.
    pub output: Tokens,
}

/// Vectors in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The buffer.
    pub buffer: usize,
    /// Position of the first value.
    pub offset: usize,
    /// Number of heads.
    pub heads: usize,
    /// Distance between heads, values.
    pub head: usize,
    /// Vectors of a head.
    pub tokens: usize,
    /// Distance between vectors, values.
    pub token: usize,
    /// Values of a vector.
    pub channels: usize,
    /// Distance between values of a vector.
    pub channel: usize,
}

/// `output[b, m, n] = Σ_k left[b, m, k] right[b, k, n]`; views of three plain axes each.
#[derive(Clone, Debug, PartialEq)]
pub struct MatMul {
    /// [b, m, k].
    pub left: Strided,
    /// [b, k, n].
    pub right: Strided,
    /// [b, m, n].
    pub output: Strided,
    /// b, m, k, n.
    pub sizes: [usize; 4],
}

/// Softmax along the last axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Softmax {
    /// Sizes of the axes; the last one is summed over.
    pub dims: Vec<usize>,
    /// What it reads.
    pub input: Strided,
    /// What it writes.
    pub output: Strided,
}

/// Values at `offset + Σ index * stride` of a source, one stride per axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strided {
    /// What is read or written; a buffer if written.
    pub source: Source,
    /// Position of the first value.
    pub offset: usize,
    /// Stride of every axis.
    pub strides: Vec<usize>,
}

/// A formula evaluated for every index of `dims`.
#[derive(Clone, Debug, PartialEq)]
pub struct Pointwise {
    /// Sizes of the axes, the innermost last.
    pub dims: Vec<usize>,
    /// What the formula reads.
    pub inputs: Vec<Strided>,
    /// The formula: instruction i defines value i, the last value is the result.
    pub formula: Vec<Instruction>,
    /// Where the result goes.
    pub output: Strided,
}

/// One step of a formula; operands are numbers of earlier instructions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Instruction {
    /// The value of an input.
    Input(usize),
    /// A number.
    Number(f32),
    /// A function of one value.
    Unary(Unary, usize),
    /// A function of two values.
    Binary(Binary, usize, usize),
    /// The second value where the first is not 0, else the third.
    Select(usize, usize, usize),
}

/// Functions of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Unary {
    Abs,
    Cos,
    Erf,
    Exp,
    Floor,
    Log,
    Negate,
    Reciprocal,
    Relu,
    Sigmoid,
    Silu,
    Sin,
    Sqrt,
    Tanh,
}

/// Functions of two values; comparisons give 1 or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    Divide,
    Equal,
    Greater,
    Less,
    Maximum,
    Minimum,
    Multiply,
    Power,
    Subtract,
}

/// `output[i] = factor * Σ_j input[i, j]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduce {
    /// Sizes of the axes that stay.
    pub dims: Vec<usize>,
    /// Sizes of the axes that are summed over.
    pub summed: Vec<usize>,
    /// Strides of the axes that stay, then of those summed over.
    pub input: Strided,
    /// What the sum is multiplied by: 1 for a sum, 1/n for a mean.
    pub factor: f32,
    /// Where it goes.
    pub output: Strided,
}

impl Call {
    /// Multiplications of convolutions and products, per image.
    pub fn multiplications(&self) -> usize {
        match self {
            Self::Convolution(c) => c.multiplications(),
            Self::Attention(a) => {
                let pairs = a.query.heads * a.query.tokens * a.key.tokens;
                pairs * (a.query.channels + a.value.channels)
            }
            Self::MatMul(m) => m.sizes.iter().product(),
            _ => 0,
        }
    }

    /// The buffer that the call writes; none if it measures moments.
    fn written(&self) -> Option<usize> {
        let buffer = |strided: &Strided| match strided.source {
            Source::Buffer(buffer) => Some(buffer),
            Source::Constant(_) | Source::Table(_) => None,
        };
        match self {
            Self::Convolution(c) => Some(c.output.buffer),
            Self::Moments(_) => None,
            Self::Apply(a) => Some(a.output.buffer),
            Self::Attention(a) => Some(a.output.buffer),
            Self::MatMul(m) => buffer(&m.output),
            Self::Softmax(s) => buffer(&s.output),
            Self::Pointwise(p) => buffer(&p.output),
            Self::Reduce(r) => buffer(&r.output),
        }
    }

    /// Whether the call reads the buffer that it writes.
    pub(in crate::flow) fn overwrites(&self) -> bool {
        let (written, mut times) = (self.written(), 0);
        self.clone().each_buffer(&mut |buffer| times += usize::from(Some(*buffer) == written));
        times > 1
    }

    /// Visits the number of every buffer that the call reads or writes.
    pub(in crate::flow) fn each_buffer(&mut self, visit: &mut impl FnMut(&mut usize)) {
        match self {
            Self::Convolution(c) => {
                visit(&mut c.input.buffer);
                c.residual.iter_mut().for_each(|r| visit(&mut r.buffer));
                visit(&mut c.output.buffer);
            }
            Self::Moments(m) => visit(&mut m.input.buffer),
            Self::Apply(a) => {
                visit(&mut a.input.buffer);
                visit(&mut a.output.buffer);
            }
            Self::Attention(a) => {
                let all = [&mut a.query, &mut a.key, &mut a.value, &mut a.output];
                all.into_iter().for_each(|t| visit(&mut t.buffer));
            }
            Self::MatMul(m) => strided([&mut m.left, &mut m.right, &mut m.output], visit),
            Self::Softmax(s) => strided([&mut s.input, &mut s.output], visit),
            Self::Pointwise(p) => strided(p.inputs.iter_mut().chain([&mut p.output]), visit),
            Self::Reduce(r) => strided([&mut r.input, &mut r.output], visit),
        }
    }
}

fn strided<'a>(all: impl IntoIterator<Item = &'a mut Strided>, visit: &mut impl FnMut(&mut usize)) {
    for strided in all {
        if let Source::Buffer(buffer) = &mut strided.source {
            visit(buffer);
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Convolution(c) => {
                let [kh, kw] = c.kernel;
                write!(f, "conv {kh}x{kw}")?;
                if c.stride != [1, 1] {
                    write!(f, " stride {}x{}", c.stride[0], c.stride[1])?;
                }
                if c.upsample > 1 {
                    write!(f, " up {}", c.upsample)?;
                }
                if c.interleave > 1 {
                    write!(f, " transposed {}", c.interleave)?;
                }
                write!(f, " {} -> {}", c.input, c.output)?;
                if let Some(prologue) = &c.prologue {
                    write!(f, " after {prologue}")?;
                }
                if let Some(residual) = &c.residual {
                    write!(f, " plus {residual}")?;
                }
                if c.scale != 1.0 {
                    write!(f, " times {}", c.scale)?;
                }
                if let Some(moments) = c.moments {
                    write!(f, " moments m{moments}")?;
                }
                write!(f, "  ({})", c.node)
            }
            Self::Moments(m) => write!(f, "moments {} -> m{}", m.input, m.moments),
            Self::Apply(a) => write!(f, "apply {} -> {} {}", a.input, a.output, a.prologue),
            Self::Attention(a) => {
                let Tokens { heads, tokens, channels, .. } = a.query;
                write!(
                    f,
                    "attention {heads}x{tokens}x{channels} b{} -> b{}",
                    a.query.buffer, a.output.buffer
                )
            }
            Self::MatMul(m) => {
                let [b, rows, inner, columns] = m.sizes;
                write!(
                    f,
                    "matmul {b}x{rows}x{inner}x{columns} {} {} -> {}",
                    m.left, m.right, m.output
                )
            }
            Self::Softmax(s) => write!(f, "softmax {:?} {} -> {}", s.dims, s.input, s.output),
            Self::Pointwise(p) => {
                let inputs: Vec<_> = p.inputs.iter().map(ToString::to_string).collect();
                let (n, inputs) = (p.formula.len(), inputs.join(" "));
                write!(f, "pointwise {:?} {inputs} -> {} ({n} instructions)", p.dims, p.output)
            }
            Self::Reduce(r) => {
                write!(f, "reduce {:?} over {:?} {} -> {}", r.dims, r.summed, r.input, r.output)
            }
        }
    }
}

impl fmt::Display for Prologue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(norm) = &self.normalisation {
            let sources: Vec<_> = norm.channels.iter().map(|(m, ..)| format!("m{m}")).collect();
            parts.push(format!("norm/{} {}", norm.groups, sources.join(" ")));
        }
        parts.extend(self.affine.iter().map(|step| match step {
            Affine::Multiply(v) => format!("*{v}"),
            Affine::Add(v) => format!("+{v}"),
        }));
        if self.activation == Activation::Silu {
            parts.push("silu".into());
        }
        write!(f, "({})", parts.join(" "))
    }
}

impl fmt::Display for Strided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        if self.offset > 0 {
            write!(f, "+{}", self.offset)?;
        }
        write!(f, "{:?}", self.strides)
    }
}
