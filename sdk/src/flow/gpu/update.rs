//! The last dispatch of an evaluation: the step of the state.

use super::generate;
use super::kernels::Kernels;
use super::shader::{Binding, Dispatch, Resource, Shader};
use crate::flow::plan::{Activation, Affine, Call, Source, View};

/// Workgroups of the update along an image, and so entries of its results.
pub(super) fn update_groups(pixels: usize) -> usize {
    pixels.div_ceil(256)
}

/// A divergence that is read through numbers which the last call would have applied to it.
pub(super) struct Mapped {
    view: View,
    /// Whether a number is added, else multiplied, and the number.
    steps: Vec<(bool, Source)>,
}

impl Kernels<'_> {
    /// The divergence before the last call, if that only multiplies it by and adds to it single numbers.
    pub(super) fn mapped_divergence(&self) -> Option<Mapped> {
        let Some(Call::Apply(last)) = self.plan.calls.last() else { return None };
        let (from, to) = (&last.input, &last.output);
        let view = &self.plan.divergence;
        let alike = (from.row, from.pixel) == (to.row, to.pixel);
        let plain =
            last.prologue.normalisation.is_none() && last.prologue.activation == Activation::None;
        let written = Source::Buffer(to.buffer);
        let own = view.source == written && self.plan.velocity.source != written;
        if !own || !alike || !plain {
            return None;
        }
        let step = |step: &Affine| {
            let (add, source) = match *step {
                Affine::Multiply(source) => (false, source),
                Affine::Add(source) => (true, source),
            };
            (self.length(source) == Some(1)).then_some((add, source))
        };
        let steps = last.prologue.affine.iter().map(step).collect::<Option<_>>()?;
        let offset = (view.offset + from.offset).checked_sub(to.offset)?;
        let source = Source::Buffer(from.buffer);
        Some(Mapped { view: View { source, offset, axes: view.axes.clone() }, steps })
    }

    fn length(&self, source: Source) -> Option<usize> {
        match source {
            Source::Constant(c) => self.plan.constants.get(c).map(|values| values.len()),
            Source::Table(t) => self.layout.tables.get(t).map(|table| table.1),
            Source::Buffer(_) => None,
        }
    }

    /// The step. `mapped` stands for the plan's divergence where its last call is left out.
    pub(super) fn update(
        &self,
        (channels, height, width): (usize, usize, usize),
        mapped: Option<&Mapped>,
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
        let divergence = mapped.map_or(&plan.divergence, |m| &m.view);
        for (name, view) in [("velocity_at", &plan.velocity), ("raw_divergence_at", divergence)] {
            let variable = shader.source(layout, view.source);
            shader.text += &generate::pixel_reader(layout, name, &variable, view)?;
        }
        let steps = mapped.map_or(&[][..], |m| &m.steps);
        shader.text += &generate::mapped(layout, "divergence_at", "raw_divergence_at", steps)?;
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
