//! Formulas → dispatches: neighbouring ones that do not depend on each other share one.

use std::fmt::Write as _;

use super::generate;
use super::kernels::Kernels;
use super::shader::{Dispatch, MOST_BUFFERS, Resource, Shader};
use crate::flow::plan::{
    Activation, Affine, Apply, Binary, Call, Image, Instruction, Pointwise, Source, Strided, Unary,
};

impl Kernels<'_> {
    /// A map without normalisation as the formula that it is; any other call as it is.
    pub(super) fn plain(&self, call: &Call) -> Call {
        match call {
            Call::Apply(a) if a.prologue.normalisation.is_none() => {
                Call::Pointwise(self.formula_of(a))
            }
            other => other.clone(),
        }
    }

    fn formula_of(&self, a: &Apply) -> Pointwise {
        let dims = vec![a.input.height, a.input.width, a.input.channels];
        // An axis of one value has no stride.
        let image = |i: &Image| {
            let strides = dims.iter().zip([i.row, i.pixel, 1]);
            let strides = strides.map(|(&dim, stride)| if dim > 1 { stride } else { 0 }).collect();
            Strided { source: Source::Buffer(i.buffer), offset: i.offset, strides }
        };
        let mut inputs = vec![image(&a.input)];
        let mut formula = vec![Instruction::Input(0)];
        for step in &a.prologue.affine {
            let (function, source) = match *step {
                Affine::Multiply(source) => (Binary::Multiply, source),
                Affine::Add(source) => (Binary::Add, source),
            };
            let length = match source {
                Source::Constant(c) => self.plan.constants[c].len(),
                Source::Table(t) => self.layout.tables[t].1,
                Source::Buffer(_) => a.input.channels,
            };
            let channel = usize::from(length > 1);
            inputs.push(Strided { source, offset: 0, strides: vec![0, 0, channel] });
            let before = formula.len() - 1;
            formula.push(Instruction::Input(inputs.len() - 1));
            formula.push(Instruction::Binary(function, before, before + 1));
        }
        if a.prologue.activation == Activation::Silu {
            formula.push(Instruction::Unary(Unary::Silu, formula.len() - 1));
        }
        let output = image(&a.output);
        Pointwise { dims, inputs, formula, output }
    }

    /// The formulas at the start of `calls` that one dispatch can carry out: none waits for another.
    pub(super) fn formulas_together<'c>(&self, calls: &'c [Call]) -> Vec<&'c Pointwise> {
        let mut together: Vec<&Pointwise> = Vec::new();
        for call in calls {
            let Call::Pointwise(next) = call else { break };
            let free = together.iter().all(|before| self.independent(before, next));
            let mut slots: Vec<usize> =
                together.iter().chain([&next]).flat_map(|p| self.slots(p)).collect();
            slots.sort_unstable();
            slots.dedup();
            if !together.is_empty() && (!free || slots.len() > MOST_BUFFERS) {
                break;
            }
            together.push(next);
        }
        together
    }

    fn slot(&self, view: &Strided) -> Option<usize> {
        match view.source {
            Source::Buffer(buffer) => Some(self.layout.memory.slot[buffer]),
            Source::Constant(_) | Source::Table(_) => None,
        }
    }

    fn slots(&self, p: &Pointwise) -> Vec<usize> {
        p.inputs.iter().chain([&p.output]).filter_map(|view| self.slot(view)).collect()
    }

    /// Whether neither reads what the other writes, and both write different values.
    fn independent(&self, a: &Pointwise, b: &Pointwise) -> bool {
        let reads = |p: &Pointwise, slot| p.inputs.iter().any(|view| self.slot(view) == slot);
        let (to_a, to_b) = (self.slot(&a.output), self.slot(&b.output));
        !reads(a, to_b) && !reads(b, to_a) && (to_a != to_b || disjoint(&a.output, &b.output))
    }

    /// One dispatch for `all`: its threads are shared out among them, one after the other.
    pub(super) fn pointwise(&self, all: &[&Pointwise]) -> Result<Dispatch, String> {
        let mut shader = Shader::new();
        shader.text += include_str!("shaders/functions.wgsl");
        let mut cases = String::new();
        let mut values = 0;
        for (i, p) in all.iter().enumerate() {
            let name = format!("formula_{i}");
            for (n, input) in p.inputs.iter().enumerate() {
                self.input(&mut shader, &format!("{name}_input_{n}"), input, &p.dims)?;
            }
            if let Some(slot) = self.slot(&p.output) {
                let variable = match shader.written(slot) {
                    Some(variable) => variable,
                    None => {
                        let Source::Buffer(buffer) = p.output.source else { continue };
                        let variable = format!("output_{i}");
                        let (element, to) = (self.layout.element(buffer), Resource::Slot(slot));
                        shader.bind(&variable, element, to, false);
                        variable
                    }
                };
                let store = format!("store_{i}");
                shader.text +=
                    &generate::writer(self.layout, &store, &variable, &p.output, &p.dims)?;
            }
            shader.text += &generate::formula(&name, &p.formula);
            let first = values;
            values += p.dims.iter().product::<usize>();
            let _ = writeln!(
                cases,
                "    if i < {values}u {{\n        \
                 let j = i - {first}u;\n        \
                 store_{i}(image, j, {name}(image, j));\n        \
                 return;\n    }}"
            );
        }
        shader.text += &format!("fn evaluate(image: u32, i: u32) {{\n{cases}}}\n");
        shader.number("VALUES", values);
        let groups = [values.div_ceil(256), 1, 1];
        shader.dispatch("pointwise", include_str!("shaders/pointwise.wgsl"), &[], groups, 0)
    }
}

/// Whether two views of one buffer have no value in common: all places of each leave one remainder, another one.
fn disjoint(a: &Strided, b: &Strided) -> bool {
    let strides = a.strides.iter().chain(&b.strides);
    let step = strides.fold(0, |all, &stride| greatest_common_divisor(all, stride));
    a.source == b.source && step > 0 && a.offset % step != b.offset % step
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(offset: usize, strides: &[usize]) -> Strided {
        Strided { source: Source::Buffer(0), offset, strides: strides.to_vec() }
    }

    #[test]
    fn channels_of_one_image_are_disjoint_and_overlapping_rows_are_not() {
        assert!(disjoint(&view(0, &[84, 3]), &view(1, &[84, 3])));
        assert!(disjoint(&view(1, &[12, 6]), &view(2, &[3])));
        assert!(!disjoint(&view(0, &[84, 3]), &view(3, &[84, 3])));
        assert!(!disjoint(&view(0, &[4, 1]), &view(1, &[4, 1])));
        assert!(!disjoint(&view(0, &[0]), &view(0, &[0])));
    }
}
