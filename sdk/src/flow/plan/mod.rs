//! The network as a list of kernel calls over numbered buffers: plain data, lowered from the ONNX graph.
//!
//! A plan describes the evaluation for one image; engines run as many images side by side as they like. Activations
//! lie channels-last. Everything that depends on the two times only is kept apart as [`Tables`], computed once per
//! step of a schedule. A graph with an operator that has no kernel has no plan; the error names the node.

mod call;
mod check;
mod formula;
mod graph;
mod integers;
mod lower;
mod memory;
mod tables;
mod times;
mod values;
mod view;

use std::fmt;

pub use call::{
    Activation, Affine, Apply, Attention, Binary, Call, Convolution, Instruction, MatMul, Moments,
    Normalisation, Pointwise, Prologue, Reduce, Softmax, Strided, Tokens, Unary,
};
#[cfg(feature = "gpu")]
pub(super) use check::check;
pub(super) use formula::{MOST_INPUTS, MOST_LOOPS};
pub(super) use lower::lower;
pub use memory::Memory;
pub use tables::{Tables, Tensors};
pub use values::Values;
pub use view::{Axis, Factor, Image, Source, View};

/// Why a graph has no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Name of the node.
    pub node: String,
    /// What it lacks.
    pub why: String,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {:?}: {}", self.node, self.why)
    }
}

/// A network as kernel calls.
#[derive(Debug)]
pub struct Plan {
    /// Buffer of the image at time t: channels-last, [H, W, C] dense. Never written by a call.
    pub input: usize,
    /// Average velocity, axes [1, C, H, W].
    pub velocity: View,
    /// Average divergence: axes [1, 1, H, W], or `[1]` for a scalar head.
    pub divergence: View,
    /// Values of every buffer, per image.
    pub buffers: Vec<usize>,
    /// Constants of the model.
    pub constants: Vec<Values>,
    /// Channels and pixels of every set of moments.
    pub moments: Vec<(usize, usize)>,
    /// The calls, in order.
    pub calls: Vec<Call>,
    /// What depends on the times only.
    pub tables: Tables,
}

impl Plan {
    /// Multiplications of all convolutions and products, per image and evaluation.
    pub fn multiplications(&self) -> usize {
        self.calls.iter().map(Call::multiplications).sum()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { input, velocity, divergence, calls, .. } = self;
        writeln!(f, "input b{input}, velocity {velocity}, divergence {divergence}")?;
        for (i, call) in calls.iter().enumerate() {
            writeln!(f, "{i:3} {call}")?;
        }
        Ok(())
    }
}
