//! Checked graph → optimised tract plan at the fixed shape of one image.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{bail, format_err};

use crate::error::{Error, Result};
use crate::model::Model;
use crate::preprocess::Shape;

/// Values of one intermediate tensor of one image: 1 GiB of f32.
const MAX_VALUES: usize = 1 << 28;

/// Loads and optimises the model's graph for single images.
pub(super) fn plan(model: &Model) -> Result<Arc<TypedRunnableModel>> {
    let Shape { channels, height, width } = model.manifest().preprocess.shape;
    let build = || -> TractResult<Arc<TypedRunnableModel>> {
        let mut graph = tract_onnx::onnx().model_for_proto_model(model.graph().proto())?;
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
        graph.select_outputs_by_name(["u", "d"])?;
        graph.analyse(false)?;
        check_sizes(&graph)?;
        graph.into_optimized()?.into_runnable()
    };
    without_panic(build).map_err(|why| Error::ModelCorrupt { model: model.name().into(), why })
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
