//! Reading access to the checked ONNX graph: nodes, attributes, constants.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

use super::Unsupported;
use super::values::{self, Order, Values};
use crate::model::Graph;

/// A constant of the file.
#[derive(Clone, Debug)]
pub(super) enum Constant<'a> {
    Floats(Vec<usize>, Floats<'a>),
    Integers(Vec<usize>, Vec<i64>),
}

/// Constant numbers. Those of the file are most of its bytes: decoded when they are needed.
#[derive(Clone, Debug)]
pub(super) enum Floats<'a> {
    Raw(&'a [u8]),
    Stored(Bytes),
    Values(&'a [f32]),
    Computed(Arc<[f32]>),
}

impl Floats<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Raw(bytes) => bytes.len() / 4,
            Self::Stored(bytes) => bytes.len() / 4,
            Self::Values(values) => values.len(),
            Self::Computed(values) => values.len(),
        }
    }

    pub(super) fn decode(&self) -> Arc<[f32]> {
        match self {
            Self::Raw(bytes) => values::decode(bytes, None),
            Self::Stored(bytes) => values::decode(bytes, None),
            Self::Values(values) => Arc::from(*values),
            Self::Computed(values) => Arc::clone(values),
        }
    }

    /// As a constant of a plan.
    pub(super) fn values(&self) -> Values {
        match self {
            Self::Stored(bytes) => Values::stored(bytes.clone(), None),
            _ => self.decode().into(),
        }
    }

    /// The same, rearranged.
    pub(super) fn ordered(&self, order: Order) -> Values {
        match self {
            Self::Raw(bytes) => values::decode(bytes, Some(order)).into(),
            Self::Stored(bytes) => Values::stored(bytes.clone(), Some(order)),
            Self::Values(values) => order.applied(values, |v| v).into(),
            Self::Computed(values) => order.applied(values, |v| v).into(),
        }
    }
}

/// Reads a tensor, whose bytes may be `stored`; sizes were checked when the file was read.
pub(super) fn constant<'a>(
    tensor: &'a pb::TensorProto,
    stored: Option<&'a Bytes>,
) -> Option<Constant<'a>> {
    let dims: Vec<usize> =
        tensor.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<_>>()?;
    let raw = stored.map_or(&tensor.raw_data[..], |bytes| bytes);
    match DataType::try_from(tensor.data_type).ok()? {
        DataType::Float => {
            let values = match stored {
                Some(bytes) => Floats::Stored(bytes.clone()),
                None if raw.is_empty() => Floats::Values(&tensor.float_data),
                None => Floats::Raw(raw),
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
pub(super) fn constants<'a>(
    model: &'a Graph,
    graph: &'a pb::GraphProto,
) -> HashMap<&'a str, Constant<'a>> {
    let initializers =
        graph.initializer.iter().map(|t| (t.name.as_str(), t, model.stored(&t.name)));
    let nodes = graph.node.iter().filter(|n| n.op_type == "Constant").filter_map(|n| {
        let value = n.attribute.iter().find(|a| a.name == "value")?.t.as_ref()?;
        Some((n.output.first()?.as_str(), value, None))
    });
    let all = initializers.chain(nodes);
    all.filter_map(|(name, t, stored)| Some((name, constant(t, stored)?))).collect()
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
