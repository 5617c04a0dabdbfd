//! What the network computes from the two times alone: evaluated once per step of a schedule, not once per image.

use std::fmt;
use std::sync::Arc;

use tract_onnx::pb;
use tract_onnx::prelude::*;

use crate::flow::tract::without_panic;

/// The part of the graph that depends on nothing but t and s, carried out by tract.
pub struct Tables {
    graph: Option<Arc<TypedRunnableModel>>,
}

/// Values of one evaluation, with the sizes of their axes.
pub type Tensors = Vec<(Vec<usize>, Arc<[f32]>)>;

impl Tables {
    /// The tables of a network that does not depend on the times.
    pub fn none() -> Self {
        Self { graph: None }
    }

    /// Loads `proto`, whose inputs are any of `t` and `s`, each `[1]`, and whose outputs are the tables.
    pub(super) fn new(proto: &pb::ModelProto, outputs: &[String]) -> Result<Self, String> {
        if outputs.is_empty() {
            return Ok(Self::none());
        }
        let graph = without_panic(|| {
            let mut graph = tract_onnx::onnx().model_for_proto_model(proto)?;
            let inputs = graph.input_outlets()?.to_vec();
            for outlet in inputs {
                graph.set_outlet_fact(outlet, f32::fact([1]).into())?;
            }
            graph.select_outputs_by_name(outputs)?;
            graph.into_optimized()?.into_runnable()
        })?;
        Ok(Self { graph: Some(graph) })
    }

    /// All tables for one step from `t` to `s`.
    ///
    /// # Errors
    /// What tract says, or which table is not finite.
    pub fn evaluate(&self, t: f64, s: f64) -> Result<Tensors, String> {
        let Some(graph) = &self.graph else { return Ok(vec![]) };
        let tensors = without_panic(|| {
            let inputs = graph.model().input_outlets()?;
            let mut values = tvec!();
            for outlet in inputs {
                let time = if graph.model().node(outlet.node).name == "t" { t } else { s };
                values.push(tensor1(&[time as f32]).into());
            }
            let tensor = |value: TValue| -> TractResult<(Vec<usize>, Arc<[f32]>)> {
                let value = value.cast_to::<f32>()?.into_owned();
                let view = value.to_plain_array_view::<f32>()?;
                Ok((value.shape().to_vec(), view.iter().copied().collect()))
            };
            graph.run(values)?.into_iter().map(tensor).collect::<TractResult<Tensors>>()
        })?;
        match tensors.iter().position(|(_, values)| values.iter().any(|v| !v.is_finite())) {
            Some(i) => Err(format!("table {i} is not finite at t = {t}, s = {s}")),
            None => Ok(tensors),
        }
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}
