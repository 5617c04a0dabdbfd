//! The last dispatch of an evaluation: the step of the state.

use super::generate::{self, PIXEL};
use super::kernels::Kernels;
use super::shader::{Binding, Dispatch, Resource, Shader};
use crate::flow::plan::{Call, Instruction, Source, Strided, View};

/// Workgroups of the update along an image, and so entries of its results.
pub(super) fn update_groups(pixels: usize) -> usize {
    pixels.div_ceil(256)
}

/// The divergence as a formula of what the last call read.
pub(super) struct LastFormula<'a> {
    formula: &'a [Instruction],
    inputs: Vec<Operand>,
}

/// What a formula of one value per pixel reads: a value that lies as the result would, or one number for all.
enum Operand {
    Pixel(View),
    Number(Source, usize),
}

impl Kernels<'_> {
    /// The last call, if it makes the divergence of numbers and of values that lie as its result does: the update can
    /// do that on the way.
    pub(super) fn last_formula(&self) -> Option<LastFormula<'_>> {
        let Some(Call::Pointwise(last)) = self.plan.calls.last() else { return None };
        let (view, to) = (&self.plan.divergence, &last.output);
        if view.source != to.source || self.plan.velocity.source == to.source {
            return None;
        }
        let operand = |input: &Strided| {
            let axes = last.dims.iter().zip(&input.strides).zip(&to.strides);
            let mut axes = axes.filter(|((dim, _), _)| **dim > 1);
            match input.source {
                Source::Buffer(_) => {
                    let alike = axes.all(|((_, from), to)| from == to);
                    let offset = (view.offset + input.offset).checked_sub(to.offset)?;
                    let moved = View { source: input.source, offset, axes: view.axes.clone() };
                    alike.then_some(Operand::Pixel(moved))
                }
                source => {
                    let single = axes.all(|((_, from), _)| *from == 0);
                    single.then_some(Operand::Number(source, input.offset))
                }
            }
        };
        let inputs = last.inputs.iter().map(operand).collect::<Option<_>>()?;
        Some(LastFormula { formula: &last.formula, inputs })
    }

    /// The step. `last` stands for the plan's last call where that is left out.
    pub(super) fn update(
        &self,
        (channels, height, width): (usize, usize, usize),
        last: Option<&LastFormula<'_>>,
    ) -> Result<Dispatch, String> {
        let (plan, layout) = (self.plan, self.layout);
        let pixels = height * width;
        let mut shader = Shader::new();
        shader.number("CHANNELS", channels);
        shader.number("HEIGHT", height);
        shader.number("WIDTH", width);
        shader.number("STATE_IMAGE", layout.stride(plan.input));
        shader.number("GROUPS", update_groups(pixels));
        shader.flag("PER_PIXEL", plan.divergence.axes.len() == 4);
        let state = Resource::Slot(layout.memory.slot[plan.input]);
        shader.bind("state", "f32", state, false);
        let pixels_of = |shader: &mut Shader, name: &str, view: &View| -> Result<(), String> {
            let variable = shader.source(layout, view.source);
            shader.text += &generate::pixel_reader(layout, name, &variable, view)?;
            Ok(())
        };
        pixels_of(&mut shader, "velocity_at", &plan.velocity)?;
        match last {
            None => pixels_of(&mut shader, "divergence_at", &plan.divergence)?,
            Some(LastFormula { formula, inputs }) => {
                for (n, input) in inputs.iter().enumerate() {
                    let name = format!("divergence_at_input_{n}");
                    match input {
                        Operand::Pixel(view) => pixels_of(&mut shader, &name, view)?,
                        Operand::Number(source, at) => {
                            shader.text += &generate::number_reader(layout, &name, *source, *at)?;
                        }
                    }
                }
                shader.text += include_str!("shaders/functions.wgsl");
                shader.text += &generate::formula("divergence_at", PIXEL, formula);
            }
        }
        shader.bind("log_det_map", "f32", Resource::LogDetMap, false);
        shader.bindings.push(Binding {
            variable: "results".into(),
            element: "vec4<u32>",
            resource: Resource::Results,
            read_only: false,
        });
        let groups = [update_groups(pixels), 1, 1];
        shader.dispatch("update", include_str!("shaders/update.wgsl"), &[], groups, 2048)
    }
}
