//! Checked graph → optimised tract plan at the fixed shape of one image.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{bail, format_err};

use crate::error::{Error, Result};
use crate::flow::{Engine, rounding};
use crate::model::Model;
use crate::preprocess::Shape;

/// Values of one intermediate tensor of one image: 1 GiB of f32.
const MAX_VALUES: usize = 1 << 28;

/// Loads and optimises `graph`, all of `model`'s or its gradient's, for `outputs` of single images.
pub(super) fn plan(
    model: &Model,
    graph: &pb::ModelProto,
    outputs: &[&str],
) -> Result<Arc<TypedRunnableModel>> {
    let Shape { channels, height, width } = model.manifest().preprocess.shape;
    let build = || -> TractResult<Arc<TypedRunnableModel>> {
        let mut graph = tract_onnx::onnx().model_for_proto_model(graph)?;
        let image = f32::fact([1, channels, height, width]);
        let time = f32::fact([1]);
        let outlet = |graph: &InferenceModel, name: &str| -> TractResult<OutletId> {
            let inputs = graph.input_outlets()?;
            let found = inputs.iter().find(|o| graph.node(o.node).name == name);
            found.copied().ok_or_else(|| format_err!("no input {name}"))
        };
        let inputs = ["x", "t", "s"];
        let outlets = inputs.iter().map(|n| outlet(&graph, n)).collect::<TractResult<Vec<_>>>()?;
        for (outlet, fact) in outlets.iter().zip([&image, &time, &time]) {
            graph.set_outlet_fact(*outlet, fact.clone().into())?;
        }
        graph.set_input_outlets(&outlets)?;
        graph.select_outputs_by_name(outputs)?;
        graph.analyse(false)?;
        check_sizes(&graph)?;
        graph.into_optimized()?.into_runnable()
    };
    without_panic(build).map_err(|why| Error::ModelCorrupt { model: model.name().into(), why })
}

/// Evaluates `plan` for one image `x` [C, H, W] between two times: the values of every output.
pub(super) fn run(
    plan: &Arc<TypedRunnableModel>,
    shape: Shape,
    x: &[f32],
    [t, s]: [f64; 2],
) -> Result<Vec<Vec<f32>>> {
    let Shape { channels, height, width } = shape;
    // Threads of the host may round otherwise than the one that asks.
    rounding::check().map_err(|why| Engine::Tract.failed(why))?;
    let run = || -> TractResult<Vec<Vec<f32>>> {
        let x = Tensor::from_shape(&[1, channels, height, width], x)?;
        let [t, s] = [t, s].map(|time| tensor1(&[time as f32]));
        let outputs = plan.run(tvec!(x.into(), t.into(), s.into()))?;
        let values = |tensor: &TValue| -> TractResult<Vec<f32>> {
            Ok(tensor.to_plain_array_view::<f32>()?.iter().copied().collect())
        };
        outputs.iter().map(values).collect()
    };
    without_panic(run).map_err(|why| Engine::Tract.failed(why))
}

/// Refuses a graph with an intermediate tensor beyond `MAX_VALUES`, before any memory is asked for.
fn check_sizes(graph: &InferenceModel) -> TractResult<()> {
    for node in graph.nodes() {
        for output in &node.outputs {
            let dims = output.fact.shape.as_concrete_finite()?.unwrap_or_default();
            let volume = dims.iter().fold(1usize, |n, &d| n.saturating_mul(d));
            if volume > MAX_VALUES {
                bail!("node {} makes {volume} values, the limit is {MAX_VALUES}", node.name);
            }
        }
    }
    Ok(())
}

/// Runs `work`; an error or a panic inside tract becomes its message.
pub(in crate::flow) fn without_panic<T>(
    work: impl FnOnce() -> TractResult<T>,
) -> std::result::Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| format!("{error:#}")),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(format!("tract panicked: {}", text.unwrap_or_default()))
        }
    }
}
