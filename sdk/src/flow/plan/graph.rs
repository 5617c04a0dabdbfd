//! Reading access to the checked ONNX graph: nodes, attributes, constants.

use std::collections::HashMap;
use std::sync::Arc;

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

use super::Unsupported;

/// A constant of the file.
#[derive(Clone, Debug)]
pub(super) enum Constant<'a> {
    Floats(Vec<usize>, Floats<'a>),
    Integers(Vec<usize>, Vec<i64>),
}

/// Constant numbers. Those of the file are most of its bytes: decoded when they are needed, so that they are in memory
/// twice for one tensor at a time.
#[derive(Clone, Debug)]
pub(super) enum Floats<'a> {
    Raw(&'a [[u8; 4]]),
    Values(&'a [f32]),
    Computed(Arc<[f32]>),
}

impl Floats<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Raw(values) => values.len(),
            Self::Values(values) => values.len(),
            Self::Computed(values) => values.len(),
        }
    }

    pub(super) fn decode(&self) -> Arc<[f32]> {
        match self {
            Self::Raw(values) => values.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            Self::Values(values) => Arc::from(*values),
            Self::Computed(values) => Arc::clone(values),
        }
    }
}

/// Reads a tensor; sizes were checked when the file was read.
pub(super) fn constant(tensor: &pb::TensorProto) -> Option<Constant<'_>> {
    let dims: Vec<usize> =
        tensor.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<_>>()?;
    let raw = &tensor.raw_data;
    match DataType::try_from(tensor.data_type).ok()? {
        DataType::Float => {
            let values = if raw.is_empty() {
                Floats::Values(&tensor.float_data)
            } else {
                Floats::Raw(raw.as_chunks().0)
            };
            Some(Constant::Floats(dims, values))
        }
        DataType::Int64 => {
            let values = if raw.is_empty() {
                tensor.int64_data.clone()
            } else {
                raw.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()
            };
            Some(Constant::Integers(dims, values))
        }
        DataType::Int32 | DataType::Bool if raw.is_empty() => {
            Some(Constant::Integers(dims, tensor.int32_data.iter().map(|&v| v.into()).collect()))
        }
        DataType::Int32 => {
            let values = raw.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b).into());
            Some(Constant::Integers(dims, values.collect()))
        }
        DataType::Bool => Some(Constant::Integers(dims, raw.iter().map(|&b| b.into()).collect())),
        _ => None,
    }
}

/// All named constants: initializers, and the outputs of Constant nodes.
pub(super) fn constants(graph: &pb::GraphProto) -> HashMap<&str, Constant<'_>> {
    let initializers = graph.initializer.iter().map(|t| (t.name.as_str(), t));
    let nodes = graph.node.iter().filter(|n| n.op_type == "Constant").filter_map(|n| {
        let value = n.attribute.iter().find(|a| a.name == "value")?.t.as_ref()?;
        Some((n.output.first()?.as_str(), value))
    });
    initializers.chain(nodes).filter_map(|(name, t)| Some((name, constant(t)?))).collect()
}

/// A node with short ways to its parts.
#[derive(Clone, Copy)]
pub(super) struct Node<'a>(pub(super) &'a pb::NodeProto);

impl<'a> Node<'a> {
    pub(super) fn operator(&self) -> &'a str {
        &self.0.op_type
    }

    /// Name of input `i`; `None` if it is left out.
    pub(super) fn input(&self, i: usize) -> Option<&'a str> {
        self.0.input.get(i).map(String::as_str).filter(|name| !name.is_empty())
    }

    pub(super) fn inputs(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.0.input.iter().map(String::as_str).filter(|name| !name.is_empty())
    }

    pub(super) fn output(&self) -> &'a str {
        self.0.output.first().map_or("", String::as_str)
    }

    fn attribute(&self, name: &str) -> Option<&'a pb::AttributeProto> {
        self.0.attribute.iter().find(|a| a.name == name)
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |a| a.i)
    }

    pub(super) fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |a| a.f)
    }

    pub(super) fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.attribute(name).map(|a| a.ints.as_slice())
    }

    pub(super) fn text(&self, name: &str) -> &'a str {
        self.attribute(name).and_then(|a| std::str::from_utf8(&a.s).ok()).unwrap_or("")
    }

    pub(super) fn unsupported(&self, why: impl Into<String>) -> Unsupported {
        let name = if self.0.name.is_empty() { self.output() } else { &self.0.name };
        Unsupported { node: name.into(), why: format!("{}: {}", self.operator(), why.into()) }
    }
}
