//! The part of a graph that only `grad_d` = ∂(Σ d)/∂x needs: set aside, so that scoring and plain sampling never see it.

use std::collections::HashSet;

use super::onnx::pb;

/// Name of the optional output.
pub(super) const OUTPUT: &str = "grad_d";

/// Nodes and constants that neither u nor d needs.
#[derive(Debug)]
pub(super) struct GradientPart {
    nodes: Vec<pb::NodeProto>,
    initializers: Vec<pb::TensorProto>,
    output: pb::ValueInfoProto,
}

impl GradientPart {
    /// Takes the part out of a checked graph; `None` if it has no such output.
    pub(super) fn split_off(graph: &mut pb::GraphProto) -> Option<Self> {
        let place = graph.output.iter().position(|o| o.name == OUTPUT)?;
        let output = graph.output.remove(place);
        let others = needed(&graph.node, graph.output.iter().map(|o| o.name.as_str()));
        let gradient = needed(&graph.node, [OUTPUT]);
        let only = |name: &String| gradient.contains(name) && !others.contains(name);
        let nodes = graph.node.extract_if(.., |node| node.output.iter().any(only)).collect();
        let initializers = graph.initializer.extract_if(.., |t| only(&t.name)).collect();
        Some(Self { nodes, initializers, output })
    }

    /// A model of its own with the one output, from this part and the nodes of `forward` that it reads.
    pub(super) fn model(&self, forward: &pb::ModelProto) -> pb::ModelProto {
        let mut model = forward.clone();
        if let Some(graph) = &mut model.graph {
            graph.node.extend(self.nodes.iter().cloned());
            graph.initializer.extend(self.initializers.iter().cloned());
            let needed = needed(&graph.node, [OUTPUT]);
            graph.node.retain(|node| node.output.iter().any(|name| needed.contains(name)));
            graph.initializer.retain(|tensor| needed.contains(&tensor.name));
            graph.output = vec![self.output.clone()];
        }
        model
    }

    /// The output's declared type and shape.
    pub(super) fn output(&self) -> &pb::ValueInfoProto {
        &self.output
    }
}

/// `results` and all values that they are computed from; `nodes` are in order of evaluation.
fn needed<'a>(
    nodes: &[pb::NodeProto],
    results: impl IntoIterator<Item = &'a str>,
) -> HashSet<String> {
    let mut needed: HashSet<String> = results.into_iter().map(str::to_owned).collect();
    for node in nodes.iter().rev() {
        if node.output.iter().any(|name| needed.contains(name)) {
            needed.extend(node.input.iter().cloned());
        }
    }
    needed
}
