//! The last dispatch of an evaluation: the step of the state.

use super::generate;
use super::kernels::Kernels;
use super::shader::{Binding, Dispatch, Resource, Shader};
use crate::flow::plan::{Call, Pointwise, Source, View};

/// Workgroups of the update along an image, and so entries of its results.
pub(super) fn update_groups(pixels: usize) -> usize {
    pixels.div_ceil(256)
}

impl Kernels<'_> {
    /// The last call, if it is the formula of the divergence, row-major: the update can evaluate it on the way.
    pub(super) fn last_formula(&self) -> Option<&Pointwise> {
        let Some(Call::Pointwise(last)) = self.plan.calls.last() else { return None };
        let to = &last.output;
        let own =
            self.plan.divergence.source == to.source && self.plan.velocity.source != to.source;
        // The update writes the state, and binds as many buffers as every device takes with one more.
        let mut read: Vec<Source> = last.inputs.iter().map(|input| input.source).collect();
        read.retain(|source| matches!(source, Source::Buffer(_)));
        read.dedup();
        let few = read.len() <= 1 && !read.contains(&Source::Buffer(self.plan.input));
        let mut inner = 1;
        let dense = last.dims.iter().zip(&to.strides).rev().all(|(&dim, &stride)| {
            let follows = dim == 1 || stride == inner;
            inner *= dim;
            follows
        });
        (own && few && dense).then_some(last)
    }

    /// The step. `last` stands for the plan's last call where that is left out.
    pub(super) fn update(
        &self,
        (channels, height, width): (usize, usize, usize),
        last: Option<&Pointwise>,
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
        let mut pixels_of = |name: &str, view: &View| -> Result<(), String> {
            let variable = shader.source(layout, view.source);
            shader.text += &generate::pixel_reader(layout, name, &variable, view)?;
            Ok(())
        };
        pixels_of("velocity_at", &plan.velocity)?;
        match last {
            None => pixels_of("divergence_at", &plan.divergence)?,
            Some(last) => {
                for (n, input) in last.inputs.iter().enumerate() {
                    self.input(&mut shader, &format!("last_input_{n}"), input, &last.dims)?;
                }
                shader.text += include_str!("shaders/functions.wgsl");
                shader.text += &generate::formula("last", &last.formula);
                let first = last.output.offset;
                shader.text +=
                    &generate::pixel_formula("divergence_at", "last", first, &plan.divergence);
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
