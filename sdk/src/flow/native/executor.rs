//! Carries out a plan for a group of images.

use std::sync::{Arc, Mutex};

use pulp::{Simd, WithSimd};

use super::attention::{self, Heads};
use super::convolution::{self, Layer, Operands};
use super::moments::{self, Numbers};
use super::pointwise::{Formula, Normalised, Sum, matmul};
use super::simd::{Aligned, InstructionSet, Pages};
use super::strip::{self, Map};
use crate::flow::Precision;
use crate::flow::plan::{
    Apply, Call, Image, MOST_INPUTS, Memory, Plan, Pointwise, Source, Strided, Tensors, Values,
};

/// A call with whatever was prepared for it.
enum Step {
    Convolution(Box<Layer>),
    Other(Box<Call>),
}

/// A plan with its weights packed for one instruction set. Shared between sessions.
pub(super) struct Program {
    pub(super) set: InstructionSet,
    /// Without its constants.
    pub(super) plan: Plan,
    /// Those that are not packed.
    pub(super) constants: Vec<Arc<[f32]>>,
    pub(super) memory: Memory,
    steps: Vec<Step>,
}

/// Memory of one evaluation at a time, for up to `images` images.
pub(super) struct Session {
    images: usize,
    slots: Vec<Aligned>,
    moments: Vec<Vec<f32>>,
    partials: Vec<f32>,
    map: Vec<f32>,
    convolution: Vec<Mutex<convolution::Scratch>>,
    attention: attention::Scratch,
    formula: Vec<[f32; 64]>,
    row: Vec<f32>,
    summed: Vec<usize>,
}

impl Session {
    /// Images that it has room for.
    pub(super) fn images(&self) -> usize {
        self.images
    }

    /// Bytes of all that it holds.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let slots: usize = self.slots.iter().map(|slot| slot.values().len()).sum();
        let moments: usize = self.moments.iter().map(Vec::len).sum();
        let scratch: usize = self.convolution.iter().map(convolution::memory::len).sum();
        let other = self.attention.len() + 64 * self.formula.len() + self.row.len();
        4 * (slots + moments + self.partials.capacity() + self.map.capacity() + scratch + other)
    }
}

impl Program {
    /// `plan` with its weights packed, stored in `precision`.
    ///
    /// # Errors
    /// Why that cannot be.
    pub(super) fn new(
        set: InstructionSet,
        mut plan: Plan,
        precision: Precision,
    ) -> Result<Self, String> {
        let memory = Memory::new(&plan);
        let step = |call: &Call| match call {
            Call::Convolution(c) => Step::Convolution(Box::new(Layer::new(set, c, precision))),
            Call::Pointwise(p) => Step::Other(Box::new(Call::Pointwise(long_rows(p)))),
            other => Step::Other(Box::new(other.clone())),
        };
        let mut steps: Vec<Step> = plan.calls.iter().map(step).collect();
        // The weights of all layers side by side.
        let stored = |step: &Step| match step {
            Step::Convolution(layer) => layer.stored(),
            Step::Other(_) => 0,
        };
        let weights = steps.iter().map(stored).sum();
        let no_memory = |error| format!("no memory for the weights: {error}");
        let mut pages = Pages::zeros(weights).map_err(no_memory)?;
        let mut rest = pages.values_mut();
        // In pages, too: the heap of a process may keep what it once had for large blocks.
        let largest = plan.constants.iter().map(Values::len).max().unwrap_or(0);
        let mut decoded = Pages::zeros(largest).map_err(no_memory)?;
        let mut staging = Aligned::default();
        for (i, step) in steps.iter_mut().enumerate() {
            let Step::Convolution(layer) = step else { continue };
            let call = &layer.call;
            let constant = &plan.constants[call.weights];
            let weights = &mut decoded.values_mut()[..constant.len()];
            constant.decode_to(weights);
            rest = layer.pack(weights, rest, &mut staging).map_err(|weight| {
                format!("f16 cannot hold a weight of {}, which is {weight}", call.node)
            })?;
            let again =
                |later: &Call| matches!(later, Call::Convolution(l) if l.weights == call.weights);
            if !plan.calls[i + 1..].iter().any(again) {
                // Packed weights replace those of the file.
                plan.constants[call.weights] = Values::from_iter([]);
            }
            let bias = call.bias.map(|b| plan.constants[b].decode());
            layer.set_bias(bias.as_deref());
        }
        let pages = Arc::new(pages);
        let mut at = 0;
        for step in &mut steps {
            if let Step::Convolution(layer) = step {
                at = layer.found_at(&pages, at);
            }
        }
        let constants = plan.constants.drain(..).map(|values| values.decode()).collect();
        Ok(Self { set, plan, constants, memory, steps })
    }

    /// Number of steps.
    pub(super) fn steps(&self) -> usize {
        self.steps.len()
    }

    /// What every step is, for people, and its multiplications per image.
    pub(super) fn describe(&self) -> Vec<(String, usize)> {
        let text = |step: &Step| match step {
            Step::Convolution(layer) => {
                let call = Call::Convolution(layer.call.clone());
                (format!("{call} {:?}", layer.algorithm), call.multiplications())
            }
            Step::Other(call) => (call.to_string(), call.multiplications()),
        };
        self.steps.iter().map(text).collect()
    }

    /// Memory for groups of up to `images` images, with intermediate results for `threads` threads.
    pub(super) fn session(&self, images: usize, threads: usize) -> Session {
        let moments =
            self.plan.moments.iter().map(|&(channels, _)| vec![0.0; images * 2 * channels]);
        Session {
            images,
            slots: self.memory.sizes.iter().map(|&n| Aligned::zeros(images * n)).collect(),
            moments: moments.collect(),
            partials: vec![],
            map: vec![],
            convolution: (0..threads.max(1)).map(|_| Mutex::default()).collect(),
            attention: attention::Scratch::new(threads),
            formula: vec![],
            row: vec![],
            summed: vec![],
        }
    }

    /// Evaluates the network for the images in `session`, each at the times of its own tables; `observe` is called after
    /// every step.
    pub(super) fn evaluate(
        &self,
        session: &mut Session,
        tables: &[Arc<Tensors>],
        pool: Option<&rayon::ThreadPool>,
        mut observe: impl FnMut(usize),
    ) {
        for (i, step) in self.steps.iter().enumerate() {
            match step {
                Step::Convolution(layer) => self.convolution(session, layer, tables, pool),
                Step::Other(call) => {
                    let split = pool.is_some() && tables.len() == 1;
                    self.other(session, call, tables, split);
                }
            }
            observe(i);
        }
    }

    /// The values of `buffer` for the first `images` images, one slot size apart.
    fn values<'a>(&self, session: &'a Session, buffer: usize, images: usize) -> &'a [f32] {
        let slot = self.memory.slot[buffer];
        &session.slots[slot].values()[..images * self.memory.sizes[slot]]
    }

    /// The input buffer of image `i`.
    pub(super) fn input<'a>(&self, session: &'a mut Session, i: usize) -> &'a mut [f32] {
        let slot = self.memory.slot[self.plan.input];
        let n = self.memory.sizes[slot];
        &mut session.slots[slot].values_mut()[i * n..(i + 1) * n]
    }

    /// The buffer of image `i` that `source` names.
    pub(super) fn source<'a>(
        &'a self,
        session: &'a Session,
        source: Source,
        tables: &'a Tensors,
        i: usize,
    ) -> &'a [f32] {
        match source {
            Source::Buffer(buffer) => {
                let slot = self.memory.slot[buffer];
                let n = self.memory.sizes[slot];
                &session.slots[slot].values()[i * n..(i + 1) * n]
            }
            Source::Constant(c) => &self.constants[c],
            Source::Table(t) => &tables[t].1,
        }
    }

    /// Takes the slot of `buffer` out of the session, to be written; nothing that the call reads lies there.
    fn take(&self, session: &mut Session, buffer: usize) -> Aligned {
        std::mem::take(&mut session.slots[self.memory.slot[buffer]])
    }

    fn put(&self, session: &mut Session, buffer: usize, slot: Aligned) {
        session.slots[self.memory.slot[buffer]] = slot;
    }

    /// Scales and shifts of a prologue for all images, in `session.map`.
    fn map(
        &self,
        session: &mut Session,
        prologue: &crate::flow::plan::Prologue,
        channels: usize,
        tables: &[Arc<Tensors>],
    ) {
        session.map.resize(tables.len() * 2 * channels, 0.0);
        let maps = session.map.chunks_exact_mut(2 * channels);
        for ((image, tables), to) in tables.iter().enumerate().zip(maps) {
            let numbers = Numbers {
                moments: &session.moments,
                pixels: &self.plan.moments,
                image,
                constants: &self.constants,
                tables,
            };
            moments::coefficients(prologue, &numbers, to);
        }
    }

    fn convolution(
        &self,
        session: &mut Session,
        layer: &Layer,
        tables: &[Arc<Tensors>],
        pool: Option<&rayon::ThreadPool>,
    ) {
        let call = &layer.call;
        let images = tables.len();
        if let Some(prologue) = &call.prologue {
            self.map(session, prologue, call.input.channels, tables);
        }
        let buffer = call.output.buffer;
        let mut slot = self.take(session, buffer);
        let mut partials = std::mem::take(&mut session.partials);
        partials.resize(images * layer.partials(), 0.0);
        let n = images * self.memory.sizes[self.memory.slot[buffer]];
        let operands = Operands {
            images,
            input: self.values(session, call.input.buffer, images),
            residual: call.residual.map(|r| self.values(session, r.buffer, images)),
            map: call.prologue.as_ref().map(|_| &session.map[..]),
            output: &mut slot.values_mut()[..n],
            partials: &mut partials,
        };
        // One thread takes the same scratch always, so that a session does not come to hold those of all threads.
        let scratch =
            if pool.is_some() { &session.convolution[..] } else { &session.convolution[..1] };
        layer.run(self.set, operands, scratch, pool);
        if let Some(number) = call.moments {
            let size = 2 * call.output.channels;
            let pieces = partials.chunks_exact(layer.partials());
            let all = session.moments[number].chunks_exact_mut(size);
            pieces.zip(all).for_each(|(pieces, to)| moments::merge(&layer.partial(), pieces, to));
        }
        session.partials = partials;
        self.put(session, buffer, slot);
    }

    /// Any other call; `split` over the threads of the pool that this runs on.
    fn other(&self, session: &mut Session, call: &Call, tables: &[Arc<Tensors>], split: bool) {
        if let Call::Moments(m) = call {
            let size = 2 * m.input.channels;
            let mut all = std::mem::take(&mut session.moments[m.moments]);
            for (i, (tables, to)) in tables.iter().zip(all.chunks_exact_mut(size)).enumerate() {
                let values = self.source(session, Source::Buffer(m.input.buffer), tables, i);
                self.set.run(Measure { image: &m.input, values, to });
            }
            session.moments[m.moments] = all;
            return;
        }
        let written = match call {
            Call::Apply(a) => a.output.buffer,
            Call::Attention(a) => a.output.buffer,
            Call::MatMul(m) => buffer(&m.output),
            Call::Softmax(s) => buffer(&s.output),
            Call::Pointwise(p) => buffer(&p.output),
            Call::Reduce(r) => buffer(&r.output),
            Call::Convolution(_) | Call::Moments(_) => return,
        };
        if let Call::Apply(a) = call {
            self.map(session, &a.prologue, a.input.channels, tables);
        }
        let mut slot = self.take(session, written);
        let n = self.memory.sizes[self.memory.slot[written]];
        let mut attention = std::mem::take(&mut session.attention);
        let mut formula = std::mem::take(&mut session.formula);
        let mut row = std::mem::take(&mut session.row);
        let mut summed = std::mem::take(&mut session.summed);
        let outputs = slot.values_mut().chunks_exact_mut(n);
        for (i, (tables, output)) in tables.iter().zip(outputs).enumerate() {
            let read = |source| self.source(session, source, tables, i);
            match call {
                Call::Apply(call) => {
                    let map = &session.map[i * 2 * call.input.channels..];
                    let values = read(Source::Buffer(call.input.buffer));
                    self.set.run(Mapped { call, map, values, output });
                }
                Call::Attention(call) => {
                    let [query, key, value] =
                        [call.query, call.key, call.value].map(|t| read(Source::Buffer(t.buffer)));
                    let scratch = &mut attention;
                    Heads { call, query, key, value, output, scratch }.run(self.set, split);
                }
                Call::MatMul(call) => {
                    matmul(call, read(call.left.source), read(call.right.source), output);
                }
                Call::Softmax(call) => {
                    let input = read(call.input.source);
                    self.set.run(Normalised { call, input, output, row: &mut row });
                }
                Call::Pointwise(call) => {
                    let mut inputs: [&[f32]; MOST_INPUTS] = [&[]; MOST_INPUTS];
                    for (to, strided) in inputs.iter_mut().zip(&call.inputs) {
                        *to = read(strided.source);
                    }
                    let scratch = &mut formula;
                    self.set.run(Formula { call, inputs: &inputs, output, scratch });
                }
                Call::Reduce(call) => {
                    let (input, summed) = (read(call.input.source), &mut summed);
                    self.set.run(Sum { call, input, output, summed });
                }
                Call::Convolution(_) | Call::Moments(_) => {}
            }
        }
        session.attention = attention;
        session.formula = formula;
        session.row = row;
        session.summed = summed;
        self.put(session, written, slot);
    }
}

/// The same formula with its longest loop innermost, if the innermost one is too short to be worth one.
fn long_rows(call: &Pointwise) -> Pointwise {
    let mut call = call.clone();
    let last = call.dims.len() - 1;
    let longest = (0..=last).max_by_key(|&i| call.dims[i]).unwrap_or(last);
    if call.dims[last] < 8 {
        call.dims.swap(longest, last);
        for strided in call.inputs.iter_mut().chain([&mut call.output]) {
            strided.strides.swap(longest, last);
        }
    }
    call
}

fn buffer(strided: &Strided) -> usize {
    match strided.source {
        Source::Buffer(buffer) => buffer,
        Source::Constant(i) | Source::Table(i) => i,
    }
}

struct Measure<'a> {
    image: &'a Image,
    values: &'a [f32],
    to: &'a mut [f32],
}

impl WithSimd for Measure<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let values = &self.values[self.image.offset..];
        moments::measure(simd, values, self.image, self.image.height, self.to);
    }
}

struct Mapped<'a> {
    call: &'a Apply,
    map: &'a [f32],
    values: &'a [f32],
    output: &'a mut [f32],
}

impl WithSimd for Mapped<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Apply { input, prologue, output } = self.call;
        let (scale, shift) = self.map.split_at(input.channels);
        let map = Map { scale, shift: &shift[..input.channels], activation: prologue.activation };
        for y in 0..output.height {
            let values = &self.values[input.offset + y * input.row..];
            let to = &mut self.output[output.offset + y * output.row..];
            strip::map_row(simd, map, input.width, (values, input.pixel), (to, output.pixel));
        }
    }
}
