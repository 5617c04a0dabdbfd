//! Kernel calls → dispatches: shader text, parameters, buffers and the number of workgroups. Plain data.

use bytemuck::bytes_of;

use super::generate;
use super::layout::{Layout, tile};
use super::params::{
    ApplyOf, AttentionOf, ConvolutionOf, ImageAt, MergeOf, MomentsOf, PrologueOf, SOURCES, STEPS,
    TokensAt,
};
use super::shader::{Dispatch, Resource, Shader};
use crate::flow::plan::{
    Activation, Affine, Apply, Attention, Call, Convolution, Image, MatMul, Moments, Plan,
    Prologue, Reduce, Softmax, Source, Strided, Tokens,
};

/// Steps of a schedule whose sums the device holds before they are read.
pub(super) const RUN_STEPS: usize = 32;
const PROLOGUE: &str = include_str!("shaders/prologue.wgsl");

/// All dispatches of one network evaluation, the update of the state last.
pub(super) fn dispatches(
    plan: &Plan,
    layout: &Layout,
    image: (usize, usize, usize),
) -> Result<Vec<Dispatch>, String> {
    let kernels = Kernels { plan, layout };
    let last = kernels.last_formula();
    let calls = plan.calls.len() - usize::from(last.is_some());
    let calls: Vec<Call> = plan.calls[..calls].iter().map(|call| kernels.plain(call)).collect();
    let mut all = Vec::new();
    let mut i = 0;
    while let Some(call) = calls.get(i) {
        let together = kernels.formulas_together(&calls[i..]);
        let made = match call {
            Call::Convolution(c) => kernels.convolution(c),
            Call::Moments(m) => kernels.moments(m),
            Call::Apply(a) => kernels.apply(a).map(|d| vec![d]),
            Call::Attention(a) => kernels.attention(a).map(|d| vec![d]),
            Call::MatMul(m) => kernels.matmul(m).map(|d| vec![d]),
            Call::Softmax(s) => kernels.softmax(s).map(|d| vec![d]),
            Call::Pointwise(_) => kernels.pointwise(&together).map(|d| vec![d]),
            Call::Reduce(r) => kernels.reduce(r).map(|d| vec![d]),
        };
        let mut made = made.map_err(|why| format!("call {i} ({call}): {why}"))?;
        if let Some(first) = made.first_mut() {
            first.call = (call.to_string(), call.multiplications());
        }
        all.extend(made);
        i += together.len().max(1);
    }
    all.push(kernels.update(image, last)?);
    Ok(all)
}

pub(super) struct Kernels<'a> {
    pub(super) plan: &'a Plan,
    pub(super) layout: &'a Layout,
}

impl Kernels<'_> {
    fn image(&self, image: &Image) -> ImageAt {
        ImageAt {
            offset: image.offset as u32,
            row: image.row as u32,
            pixel: image.pixel as u32,
            image: self.layout.stride(image.buffer) as u32,
        }
    }

    fn constant(&self, number: usize) -> Result<usize, String> {
        let at = self.layout.constants.get(number).copied().flatten();
        at.ok_or_else(|| format!("constant {number} is kept as weights"))
    }

    /// Parameters and flags of a prologue; returns its bytes of workgroup memory.
    fn prologue(
        &self,
        shader: &mut Shader,
        prologue: Option<&Prologue>,
        input: &Image,
    ) -> Result<(PrologueOf, usize), String> {
        let mut of = PrologueOf {
            channels: input.channels as u32,
            pixels: input.pixels() as u32,
            moments_per_image: self.layout.moments_per_image as u32,
            groups: 1,
            ..PrologueOf::default()
        };
        let norm = prologue.and_then(|p| p.normalisation.as_ref());
        if let Some(norm) = norm {
            if norm.channels.len() > SOURCES {
                return Err(format!("{} sources of moments", norm.channels.len()));
            }
            of.groups = norm.groups as u32;
            of.epsilon = norm.epsilon;
            of.sources = norm.channels.len() as u32;
            for (i, &(number, first, channels)) in norm.channels.iter().enumerate() {
                let at = self.layout.moments[number];
                let (start, partials, per_partial, copies) = match at.merged {
                    Some(merged) => (merged, 1, at.pixels, 1),
                    None => (at.partial, at.partials(), at.per_partial, at.copies),
                };
                of.source[i] = [start + first, channels, partials, per_partial].map(|v| v as u32);
                of.stride[i] = at.channels as u32;
                of.copies[i] = copies as u32;
            }
        }
        let affine = prologue.map_or(&[][..], |p| &p.affine);
        if affine.len() > STEPS {
            return Err(format!("{} channel-wise steps, the limit is {STEPS}", affine.len()));
        }
        of.steps = affine.len() as u32;
        for (i, step) in affine.iter().enumerate() {
            let (add, source) = match *step {
                Affine::Multiply(source) => (0, source),
                Affine::Add(source) => (1, source),
            };
            let (table, at, length) = match source {
                Source::Constant(c) => (0, self.constant(c)?, self.plan.constants[c].len()),
                Source::Table(t) => {
                    let (at, length) = self.layout.tables[t];
                    (1, at, length)
                }
                Source::Buffer(_) => return Err(format!("a channel-wise step reads {source}")),
            };
            let single = u32::from(length == 1 && input.channels > 1);
            of.step[i] = [add, table, at as u32, single];
        }
        let used = |used: bool| if used { input.channels } else { 1 };
        shader.number("CHANNELS", used(prologue.is_some()));
        shader.number("MOMENT_CHANNELS", used(norm.is_some()));
        shader.flag("NORMALISE", norm.is_some());
        shader.flag("SILU", prologue.is_some_and(|p| p.activation == Activation::Silu));
        Ok((of, 8 * (used(prologue.is_some()) + used(norm.is_some()))))
    }

    fn convolution(&self, c: &Convolution) -> Result<Vec<Dispatch>, String> {
        let mut shader = Shader::new();
        let (prologue, bytes) = self.prologue(&mut shader, c.prologue.as_ref(), &c.input)?;
        let (tile, matrices) = (tile(c), self.layout.matrices(c));
        shader.flag("PROLOGUE", c.prologue.is_some());
        shader.flag("BIAS", c.bias.is_some());
        shader.flag("RESIDUAL", c.residual.is_some());
        shader.flag("MOMENTS", c.moments.is_some());
        match matrices {
            Some(matrices) => matrices.define(&mut shader),
            None => {
                shader.number("ROWS", tile);
                shader.number("COLUMNS", tile);
                shader.number("THREADS", 256);
            }
        }
        shader.slot(self.layout, "input", c.input.buffer, true);
        shader.bind("weights", self.layout.weights(), Resource::Weights(c.weights), true);
        let residual = c.residual.unwrap_or(c.input);
        shader.slot(self.layout, "residual", residual.buffer, true);
        shader.slot(self.layout, "output", c.output.buffer, false);
        let [grid_height, grid_width] = c.grid();
        let pixels = grid_height * grid_width;
        let params = ConvolutionOf {
            input: self.image(&c.input),
            residual: self.image(&residual),
            output: self.image(&c.output),
            prologue,
            height: c.input.height as u32,
            width: c.input.width as u32,
            channels: c.input.channels as u32,
            upsample: c.upsample as u32,
            stride_down: c.stride[0] as u32,
            stride_right: c.stride[1] as u32,
            padding_above: c.padding[0] as u32,
            padding_left: c.padding[1] as u32,
            kernel_width: c.kernel[1] as u32,
            inner: (c.kernel[0] * c.kernel[1] * c.input.channels) as u32,
            columns: c.columns() as u32,
            output_channels: c.output.channels as u32,
            interleave: c.interleave as u32,
            grid_width: grid_width as u32,
            grid_pixels: pixels as u32,
            bias: c.bias.map_or(Ok(0), |bias| self.constant(bias))? as u32,
            scale: c.scale,
            moments: c.moments.map_or(0, |m| self.layout.moments[m].partial) as u32,
            ..ConvolutionOf::default()
        };
        let (kernel, body, side, bytes) = match matrices {
            Some(matrices) => {
                let body = include_str!("shaders/matrix_convolution.wgsl");
                ("matrix_convolution", body, matrices.tile(), matrices.bytes(c))
            }
            None => {
                let bytes = bytes + 4 * 16 * (2 * 16 * tile + 1);
                ("convolution", include_str!("shaders/convolution.wgsl"), 16 * tile, bytes)
            }
        };
        let groups = [pixels.div_ceil(side), c.columns().div_ceil(side), 1];
        let body = [PROLOGUE, include_str!("shaders/convolution_call.wgsl"), body].concat();
        let mut all = vec![shader.dispatch(kernel, &body, bytes_of(&params), groups, bytes)?];
        if let Some(number) = c.moments {
            all.extend(self.merge(number)?);
        }
        Ok(all)
    }

    fn moments(&self, m: &Moments) -> Result<Vec<Dispatch>, String> {
        let at = self.layout.moments[m.moments];
        let mut shader = Shader::new();
        shader.slot(self.layout, "input", m.input.buffer, true);
        let params = MomentsOf {
            input: self.image(&m.input),
            width: m.input.width as u32,
            pixels: m.input.pixels() as u32,
            channels: m.input.channels as u32,
            moments: at.partial as u32,
            moments_per_image: self.layout.moments_per_image as u32,
            ..MomentsOf::default()
        };
        let body = include_str!("shaders/moments.wgsl");
        let groups = [m.input.pixels().div_ceil(64), m.input.channels.div_ceil(64), 1];
        let first = shader.dispatch("moments", body, bytes_of(&params), groups, 1024)?;
        let mut all = vec![first];
        all.extend(self.merge(m.moments)?);
        Ok(all)
    }

    fn merge(&self, number: usize) -> Result<Option<Dispatch>, String> {
        let at = self.layout.moments[number];
        let Some(merged) = at.merged else { return Ok(None) };
        let mut shader = Shader::new();
        shader.number("THREADS", 64);
        shader.number("CHANNELS", 1);
        shader.number("MOMENT_CHANNELS", 1);
        shader.flag("NORMALISE", false);
        shader.flag("SILU", false);
        let params = MergeOf {
            partial: at.partial as u32,
            to: merged as u32,
            channels: at.channels as u32,
            partials: at.partials() as u32,
            per_partial: at.per_partial as u32,
            pixels: at.pixels as u32,
            moments_per_image: self.layout.moments_per_image as u32,
            copies: at.copies as u32,
        };
        let body = [PROLOGUE, include_str!("shaders/merge.wgsl")].concat();
        let groups = [at.channels.div_ceil(64), 1, 1];
        shader.dispatch("merge", &body, bytes_of(&params), groups, 16).map(Some)
    }

    fn apply(&self, a: &Apply) -> Result<Dispatch, String> {
        let mut shader = Shader::new();
        let (prologue, bytes) = self.prologue(&mut shader, Some(&a.prologue), &a.input)?;
        shader.number("THREADS", 256);
        shader.slot(self.layout, "input", a.input.buffer, true);
        shader.slot(self.layout, "output", a.output.buffer, false);
        let params = ApplyOf {
            input: self.image(&a.input),
            output: self.image(&a.output),
            prologue,
            width: a.input.width as u32,
            pixels: a.input.pixels() as u32,
            ..ApplyOf::default()
        };
        let body = [PROLOGUE, include_str!("shaders/apply.wgsl")].concat();
        let groups = [(a.input.pixels() * a.input.channels).div_ceil(4096), 1, 1];
        shader.dispatch("apply", &body, bytes_of(&params), groups, bytes)
    }

    fn attention(&self, a: &Attention) -> Result<Dispatch, String> {
        let mut shader = Shader::new();
        shader.number("CHANNELS", a.query.channels);
        shader.number("KEYS", a.key.tokens);
        shader.slot(self.layout, "query", a.query.buffer, true);
        shader.slot(self.layout, "key", a.key.buffer, true);
        shader.slot(self.layout, "value", a.value.buffer, true);
        shader.slot(self.layout, "output", a.output.buffer, false);
        let at = |t: &Tokens| TokensAt {
            offset: t.offset as u32,
            head: t.head as u32,
            token: t.token as u32,
            channel: t.channel as u32,
        };
        let buffers = [&a.query, &a.key, &a.value, &a.output].map(|t| t.buffer);
        let params = AttentionOf {
            query: at(&a.query),
            key: at(&a.key),
            value: at(&a.value),
            output: at(&a.output),
            image: buffers.map(|buffer| self.layout.stride(buffer) as u32),
            channels: a.query.channels as u32,
            value_channels: a.value.channels as u32,
            keys: a.key.tokens as u32,
            scale: a.scale,
        };
        let body = include_str!("shaders/attention.wgsl");
        let bytes = 4 * (a.query.channels + a.key.tokens + 128);
        let groups = [a.query.tokens, a.query.heads, 1];
        shader.dispatch("attention", body, bytes_of(&params), groups, bytes)
    }

    /// Binds what a generated kernel writes, and defines `store_output`.
    fn output(&self, shader: &mut Shader, view: &Strided, dims: &[usize]) -> Result<(), String> {
        if let Source::Buffer(buffer) = view.source {
            shader.slot(self.layout, "output", buffer, false);
        }
        shader.text += &generate::writer(self.layout, "store_output", "output", view, dims)?;
        Ok(())
    }

    /// Binds what a generated kernel reads, and defines the function `name` for it.
    pub(super) fn input(
        &self,
        shader: &mut Shader,
        name: &str,
        view: &Strided,
        dims: &[usize],
    ) -> Result<(), String> {
        let variable = shader.source(self.layout, view.source);
        shader.text += &generate::reader(self.layout, name, &variable, view, dims)?;
        Ok(())
    }

    fn matmul(&self, m: &MatMul) -> Result<Dispatch, String> {
        let [matrices, height, inner, width] = m.sizes;
        let mut shader = Shader::new();
        shader.number("MATRICES", matrices);
        shader.number("HEIGHT", height);
        shader.number("INNER", inner);
        shader.number("WIDTH", width);
        self.input(&mut shader, "left_at", &m.left, &[matrices, height, inner])?;
        self.input(&mut shader, "right_at", &m.right, &[matrices, inner, width])?;
        self.output(&mut shader, &m.output, &[matrices, height, width])?;
        let groups = [height.div_ceil(16), width.div_ceil(16), matrices];
        shader.dispatch("matmul", include_str!("shaders/matmul.wgsl"), &[], groups, 2048)
    }

    fn softmax(&self, s: &Softmax) -> Result<Dispatch, String> {
        let (&length, rows) = s.dims.split_last().ok_or("softmax without an axis")?;
        let mut shader = Shader::new();
        shader.number("LENGTH", length);
        self.input(&mut shader, "input_at", &s.input, &s.dims)?;
        self.output(&mut shader, &s.output, &s.dims)?;
        let groups = [rows.iter().product(), 1, 1];
        shader.dispatch("softmax", include_str!("shaders/softmax.wgsl"), &[], groups, 256)
    }

    fn reduce(&self, r: &Reduce) -> Result<Dispatch, String> {
        let (results, summed): (usize, usize) =
            (r.dims.iter().product(), r.summed.iter().product());
        let lanes = if summed > 64 { 64 } else { 1 };
        let mut shader = Shader::new();
        shader.number("RESULTS", results);
        shader.number("SUMMED", summed);
        shader.number("LANES", lanes);
        shader.constants.insert("FACTOR", generate::number(r.factor));
        let all = [r.dims.as_slice(), &r.summed].concat();
        self.input(&mut shader, "input_at", &r.input, &all)?;
        self.output(&mut shader, &r.output, &r.dims)?;
        let groups = [results.div_ceil(64 / lanes), 1, 1];
        shader.dispatch("reduce", include_str!("shaders/reduce.wgsl"), &[], groups, 256)
    }
}
