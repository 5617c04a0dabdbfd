//! The text of a shader and the buffers that it names, put together.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::layout::Layout;
use super::matrices::Matrices;
use crate::flow::plan::Source;

/// Workgroups per axis that every device takes.
pub(super) const MOST_GROUPS: usize = 65_535;
/// Buffers of one dispatch: of the eight that every device binds, the run has three.
pub(super) const MOST_BUFFERS: usize = 5;

const RUN: &str = include_str!("shaders/run.wgsl");
/// One dispatch.
#[derive(Debug)]
pub(super) struct Dispatch {
    /// Name of the kernel.
    pub(super) kernel: &'static str,
    /// The call, for people, and its multiplications per image.
    pub(super) call: (String, usize),
    /// Whole text of the shader.
    pub(super) shader: String,
    /// Bytes of its parameters.
    pub(super) params: Vec<u8>,
    /// Group 1, in order.
    pub(super) bindings: Vec<Binding>,
    /// Workgroups; the last number is multiplied by that of the images.
    pub(super) groups: [u32; 3],
    /// Bytes of workgroup memory.
    pub(super) workgroup_bytes: usize,
    /// Cooperative matrices that it is written in.
    pub(super) matrices: Option<Matrices>,
}

/// A buffer of group 1.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) variable: String,
    pub(super) element: &'static str,
    pub(super) resource: Resource,
    pub(super) read_only: bool,
}

/// What is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Slot(usize),
    Weights(usize),
    LogDetMap,
    Pixels,
    Floors,
    Results,
}

/// Shader text and bindings under construction.
pub(super) struct Shader {
    pub(super) constants: BTreeMap<&'static str, String>,
    pub(super) bindings: Vec<Binding>,
    pub(super) text: String,
    pub(super) matrices: Option<Matrices>,
}

impl Shader {
    pub(super) fn new() -> Self {
        let (constants, bindings) = (BTreeMap::new(), Vec::new());
        Self { constants, bindings, text: String::new(), matrices: None }
    }

    pub(super) fn number(&mut self, name: &'static str, value: usize) {
        self.constants.insert(name, format!("{value}u"));
    }

    pub(super) fn flag(&mut self, name: &'static str, value: bool) {
        self.constants.insert(name, value.to_string());
    }

    pub(super) fn bind(
        &mut self,
        variable: &str,
        element: &'static str,
        resource: Resource,
        read_only: bool,
    ) {
        let variable = variable.to_owned();
        self.bindings.push(Binding { variable, element, resource, read_only });
    }

    pub(super) fn slot(&mut self, layout: &Layout, variable: &str, buffer: usize, read_only: bool) {
        let element = layout.element(buffer);
        if !read_only {
            self.text += &format!("alias Output = {element};\n");
        }
        self.bind(variable, element, Resource::Slot(layout.memory.slot[buffer]), read_only);
    }

    /// The variable of a slot that is already bound to be written.
    pub(super) fn written(&self, slot: usize) -> Option<String> {
        let of = |b: &&Binding| b.resource == Resource::Slot(slot) && !b.read_only;
        self.bindings.iter().find(of).map(|b| b.variable.clone())
    }

    /// The variable of a view's buffer: one per slot that is read.
    pub(super) fn source(&mut self, layout: &Layout, source: Source) -> String {
        let Source::Buffer(buffer) = source else { return String::new() };
        let slot = Resource::Slot(layout.memory.slot[buffer]);
        let bound = self.bindings.iter().find(|b| b.resource == slot && b.read_only);
        if let Some(bound) = bound {
            return bound.variable.clone();
        }
        let variable = format!("source_{}", self.bindings.len());
        self.slot(layout, &variable, buffer, true);
        variable
    }

    pub(super) fn dispatch(
        mut self,
        kernel: &'static str,
        body: &str,
        params: &[u8],
        groups: [usize; 3],
        workgroup_bytes: usize,
    ) -> Result<Dispatch, String> {
        if groups.iter().any(|&n| n == 0 || n > MOST_GROUPS) {
            return Err(format!("{groups:?} workgroups, the limit is {MOST_GROUPS} per axis"));
        }
        let buffers = self.bindings.len();
        if buffers > MOST_BUFFERS {
            return Err(format!("{buffers} buffers in one call, the limit is {MOST_BUFFERS}"));
        }
        // A buffer that is also written may not be bound as read-only beside it.
        let written: Vec<Resource> =
            self.bindings.iter().filter(|b| !b.read_only).map(|b| b.resource).collect();
        for binding in &mut self.bindings {
            binding.read_only &= !written.contains(&binding.resource);
        }
        let mut shader = String::new();
        if self.bindings.iter().any(|b| b.element == "f16") {
            shader += "enable f16;\n";
        }
        if self.matrices.is_some() {
            shader += "enable wgpu_cooperative_matrix;\n";
        }
        for (name, value) in &self.constants {
            let _ = writeln!(shader, "const {name} = {value};");
        }
        for (i, Binding { variable, element, read_only, .. }) in self.bindings.iter().enumerate() {
            let access = if *read_only { "read" } else { "read_write" };
            let _ = writeln!(
                shader,
                "@group(1) @binding({i}) var<storage, {access}> {variable}: array<{element}>;"
            );
        }
        shader += &self.text;
        shader += RUN;
        match self.matrices {
            Some(matrices) => shader += &matrices.sized(body),
            None => shader += body,
        }
        let groups = groups.map(|n| n as u32);
        let (params, bindings, matrices) = (params.to_vec(), self.bindings, self.matrices);
        let call = (String::new(), 0);
        Ok(Dispatch { kernel, call, shader, params, bindings, groups, workgroup_bytes, matrices })
    }
}
