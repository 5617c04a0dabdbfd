//! Splits the graph: what depends on the image is lowered; the rest is evaluated by tract, constants now and what
//! depends on the times once per step.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tract_onnx::pb;

use super::graph::{Constant, Node};
use super::tables::Tables;
use super::{Source, Unsupported, Values};
use crate::model::Graph;

/// A value that does not depend on the image.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) source: Source,
    pub(super) dims: Vec<usize>,
    /// Its values, if they do not depend on the times.
    pub(super) values: Option<Arc<[f32]>>,
}

/// The part of the graph that does not depend on the image, evaluated.
pub(super) struct Times<'a> {
    /// Nodes that depend on the image, in order.
    pub(super) nodes: Vec<Node<'a>>,
    /// Computed values that those nodes read.
    pub(super) known: HashMap<&'a str, Known>,
    pub(super) constants: Vec<Values>,
    pub(super) tables: Tables,
}

impl<'a> Times<'a> {
    pub(super) fn new(
        model: &'a Graph,
        graph: &'a pb::GraphProto,
        image_dims: &[usize],
    ) -> Result<Self, Unsupported> {
        let mut on_image: HashSet<&str> = HashSet::from(["x"]);
        let mut on_time: HashSet<&str> = HashSet::from(["t", "s"]);
        let (mut nodes, mut host) = (Vec::new(), Vec::new());
        let mut shapes_of_x = Vec::new();
        for node in graph.node.iter().map(Node) {
            if node.operator() == "Shape" && node.input(0) == Some("x") {
                shapes_of_x.push(shape_constant(&node, image_dims));
                continue;
            }
            let depends = node.inputs().any(|name| on_image.contains(name));
            if depends {
                nodes.push(node);
                on_image.extend(node.0.output.iter().map(String::as_str));
            } else {
                if node.inputs().any(|name| on_time.contains(name)) {
                    on_time.extend(node.0.output.iter().map(String::as_str));
                }
                host.push(node);
            }
        }
        let computed: HashSet<&str> = host
            .iter()
            .filter(|n| n.operator() != "Constant")
            .flat_map(|n| n.0.output.iter().map(String::as_str))
            .chain(shapes_of_x.iter().map(|t| t.0))
            .collect();
        let results = ["u", "d"].into_iter();
        let read = nodes.iter().flat_map(|n| n.inputs()).chain(results);
        let mut wanted: Vec<&str> =
            read.filter(|name| computed.contains(name) || *name == "t" || *name == "s").collect();
        wanted.sort_unstable();
        wanted.dedup();
        let (timed, fixed): (Vec<&str>, Vec<&str>) =
            wanted.into_iter().partition(|name| on_time.contains(name));
        let shapes: Vec<pb::TensorProto> = shapes_of_x.iter().map(|(_, t)| t.clone()).collect();
        let part = |outputs: &[&str]| -> Result<Tables, Unsupported> {
            let outputs: Vec<String> = outputs.iter().map(|&o| o.to_owned()).collect();
            let part = subgraph(model.proto(), graph, &host, &shapes, &outputs);
            Tables::new(&model.complete(part), &outputs).map_err(time_part)
        };
        let mut known = HashMap::new();
        let mut constants = Vec::new();
        for (&name, (dims, values)) in
            fixed.iter().zip(part(&fixed)?.evaluate(1.0, 0.5).map_err(time_part)?)
        {
            let source = Source::Constant(constants.len());
            constants.push(Arc::clone(&values).into());
            known.insert(name, Known { source, dims, values: Some(values) });
        }
        let tables = part(&timed)?;
        let tensors = tables.evaluate(1.0, 0.5).map_err(time_part)?;
        for (i, (&name, (dims, _))) in timed.iter().zip(tensors).enumerate() {
            known.insert(name, Known { source: Source::Table(i), dims, values: None });
        }
        Ok(Self { nodes, known, constants, tables })
    }

    /// Number of values of every table.
    pub(super) fn lengths(&self) -> Vec<usize> {
        let table = |known: &Known| match known.source {
            Source::Table(i) => Some((i, known.dims.iter().product())),
            Source::Buffer(_) | Source::Constant(_) => None,
        };
        let mut all: Vec<(usize, usize)> = self.known.values().filter_map(table).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, length)| length).collect()
    }
}

fn time_part(why: String) -> Unsupported {
    Unsupported { node: "the part that depends on the times".into(), why }
}

/// The value of `Shape(x)`, whose only unknown, the batch, is 1 in a plan.
fn shape_constant<'a>(node: &Node<'a>, dims: &[usize]) -> (&'a str, pb::TensorProto) {
    let dims: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
    let values = super::integers::shape(node, &dims);
    let tensor = pb::TensorProto {
        name: node.output().into(),
        dims: vec![values.len() as i64],
        data_type: pb::tensor_proto::DataType::Int64 as i32,
        int64_data: values,
        ..pb::TensorProto::default()
    };
    (node.output(), tensor)
}

/// The nodes of `host` that `outputs` need, as a model of its own.
fn subgraph(
    proto: &pb::ModelProto,
    graph: &pb::GraphProto,
    host: &[Node<'_>],
    shapes: &[pb::TensorProto],
    outputs: &[String],
) -> pb::ModelProto {
    let mut needed: HashSet<&str> = outputs.iter().map(String::as_str).collect();
    let mut nodes: Vec<pb::NodeProto> = Vec::new();
    for node in host.iter().rev() {
        if node.0.output.iter().any(|o| needed.contains(o.as_str())) {
            needed.extend(node.inputs());
            nodes.push(node.0.clone());
        }
    }
    nodes.reverse();
    // An input that is itself a result gets a node, which tract can name as an output.
    let kept = |t: &&pb::TensorProto| needed.contains(t.name.as_str());
    let initializer = graph.initializer.iter().chain(shapes).filter(kept).cloned().collect();
    let times = |i: &&pb::ValueInfoProto| {
        ["t", "s"].contains(&i.name.as_str()) && needed.contains(i.name.as_str())
    };
    let input = graph.input.iter().filter(times).cloned().collect();
    let part = pb::GraphProto {
        name: "times".into(),
        node: nodes,
        initializer,
        input,
        output: outputs.iter().map(|name| untyped(name)).collect(),
        ..pb::GraphProto::default()
    };
    pb::ModelProto {
        ir_version: proto.ir_version,
        opset_import: proto.opset_import.clone(),
        graph: Some(part),
        ..pb::ModelProto::default()
    }
}

fn untyped(name: &str) -> pb::ValueInfoProto {
    pb::ValueInfoProto { name: name.into(), ..pb::ValueInfoProto::default() }
}

/// A constant of the file as a known value.
pub(super) fn known(constant: &Constant<'_>, number: usize) -> Option<Known> {
    match constant {
        Constant::Floats(dims, values) => Some(Known {
            source: Source::Constant(number),
            dims: dims.clone(),
            values: Some(values.decode()),
        }),
        Constant::Integers(..) => None,
    }
}
