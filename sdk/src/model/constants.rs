//! How large the constants of a graph can become, before anything computes them.
//!
//! Engines evaluate nodes whose inputs are all constant while they load a model. Broadcasting and products make at most
//! the product of the inputs' sizes; operators that size their output by their attributes or values are refused there.

use std::collections::HashMap;

use super::limits::Limits;
use super::onnx::{label, pb};
use crate::error::{Error, Result};

/// Operators whose output size does not follow from the sizes of their inputs.
const SIZED_BY_VALUE: &[&str] = &["AveragePool", "Conv", "ConvTranspose", "Pad", "Resize"];

/// Checks every node that depends on constants alone.
pub(super) fn check(graph: &pb::GraphProto, limits: &Limits) -> Result<()> {
    let elements = |t: &pb::TensorProto| {
        t.dims.iter().fold(1u64, |n, &d| n.saturating_mul(u64::try_from(d).unwrap_or(u64::MAX)))
    };
    let mut sizes: HashMap<&str, u64> =
        graph.initializer.iter().map(|t| (t.name.as_str(), elements(t))).collect();
    for node in &graph.node {
        let attribute = node.attribute.iter().filter_map(|a| a.t.as_ref()).map(elements).max();
        let inputs = node.input.iter().filter(|name| !name.is_empty());
        let known: Option<Vec<u64>> = match node.op_type.as_str() {
            "Shape" => Some(vec![limits.rank]),
            _ => inputs.map(|name| sizes.get(name.as_str()).copied()).collect(),
        };
        let Some(known) = known else { continue };
        if SIZED_BY_VALUE.contains(&node.op_type.as_str()) {
            let why = format!("operator {:?} is applied to constants", node.op_type);
            return Err(Error::ModelNotAllowed { node: label(node), why });
        }
        let size = known.iter().fold(attribute.unwrap_or(1).max(1), |n, &k| n.saturating_mul(k));
        limits.check("size of a constant in bytes", size.saturating_mul(8), limits.tensor_bytes)?;
        sizes.extend(node.output.iter().map(|name| (name.as_str(), size)));
    }
    Ok(())
}
