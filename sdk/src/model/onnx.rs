//! Reading an ONNX file: parse, manifest, allow-list of operators, data types and sizes.

use bytes::Bytes;
use prost::Message;
pub(super) use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

use super::constants;
use super::gradient::{self, GradientPart};
use super::limits::Limits;
use super::manifest::{FORMAT_VERSION, Head, Manifest};
use super::stored::{self, Stored};
use crate::error::{Error, Result};

const MANIFEST_KEY: &str = "f2d2.manifest";
const OPSETS: std::ops::RangeInclusive<i64> = 13..=21;

/// Operators that flow maps are made of. No control flow, no custom domains, no random numbers, no strings, and
/// nothing that makes a tensor of a size that stands in the data (Expand, Range, ConstantOfShape).
const OPERATORS: &[&str] = &[
    "Abs",
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "Conv",
    "ConvTranspose",
    "Cos",
    "DepthToSpace",
    "Div",
    "Einsum",
    "Equal",
    "Erf",
    "Exp",
    "Flatten",
    "Floor",
    "Gather",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "Greater",
    "GroupNormalization",
    "Identity",
    "InstanceNormalization",
    "LayerNormalization",
    "Less",
    "Log",
    "MatMul",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Pad",
    "Pow",
    "Reciprocal",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Resize",
    "Shape",
    "Sigmoid",
    "Sin",
    "Slice",
    "Softmax",
    "SpaceToDepth",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
    "Unsqueeze",
    "Where",
];

/// A checked graph, kept as the parsed message that engines lower from.
#[derive(Debug)]
pub(crate) struct Graph {
    proto: pb::ModelProto,
    gradient: Option<GradientPart>,
    stored: Stored,
}

impl Graph {
    /// The parsed ONNX message, without what only the gradient needs and without the bytes of large initializers.
    pub(crate) fn proto(&self) -> &pb::ModelProto {
        &self.proto
    }

    /// The bytes of the initializer `name`, if the message lacks them.
    pub(crate) fn stored(&self, name: &str) -> Option<&Bytes> {
        self.stored.get(name)
    }

    /// `proto`, which is made of this graph, with those bytes, as tract takes it.
    pub(crate) fn complete(&self, mut proto: pb::ModelProto) -> pb::ModelProto {
        let tensors = proto.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
        tensors.for_each(|tensor| self.stored.restore(tensor));
        proto
    }

    /// The graph of the output `grad_d` alone, if the file has it.
    pub(crate) fn gradient_proto(&self) -> Option<pb::ModelProto> {
        Some(self.complete(self.gradient.as_ref()?.model(&self.proto)))
    }

    pub(super) fn has_gradient(&self) -> bool {
        self.gradient.is_some()
    }

    /// Checks that the graph takes (x, t, s) and gives u, d and perhaps grad_d in the shapes that the manifest promises.
    pub(super) fn check_signature(&self, model: &str, manifest: &Manifest) -> Result<()> {
        let shape = manifest.preprocess.shape;
        let [c, h, w] = [shape.channels, shape.height, shape.width].map(|n| n as i64);
        let image = vec![None, Some(c), Some(h), Some(w)];
        let d = match manifest.head {
            Head::PerPixel => vec![None, Some(1), Some(h), Some(w)],
            Head::Scalar => vec![None],
        };
        let graph = self.proto.graph.as_ref();
        let (inputs, outputs) = graph.map_or((&[][..], &[][..]), |g| (&g.input[..], &g.output[..]));
        let need_in = [("x", &image), ("t", &vec![None]), ("s", &vec![None])];
        let need_out = [("u", &image), ("d", &d)];
        let corrupt = |why| Error::ModelCorrupt { model: model.into(), why };
        let constants: Vec<&str> =
            graph.map_or(vec![], |g| g.initializer.iter().map(|t| t.name.as_str()).collect());
        let free: Vec<_> =
            inputs.iter().filter(|i| !constants.contains(&i.name.as_str())).collect();
        if free.len() != need_in.len() {
            return Err(corrupt(format!("it has {} inputs, need x, t and s", free.len())));
        }
        for (name, dims) in need_in {
            let found = free.iter().find(|i| i.name == name);
            check_value(found.copied(), "input", name, dims).map_err(corrupt)?;
        }
        for (name, dims) in need_out {
            let found = outputs.iter().find(|o| o.name == name);
            check_value(found, "output", name, dims).map_err(corrupt)?;
        }
        if let Some(part) = &self.gradient {
            check_value(Some(part.output()), "output", gradient::OUTPUT, &image)
                .map_err(corrupt)?;
        }
        Ok(())
    }
}

/// Parses `message` and refuses everything outside the allowed subset.
pub(super) fn parse(model: &str, bytes: &Bytes, limits: &Limits) -> Result<(Graph, Manifest)> {
    let corrupt = |why: String| Error::ModelCorrupt { model: model.into(), why };
    if bytes.is_empty() {
        return Err(corrupt("the file is empty".into()));
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(corrupt("this is a git-lfs pointer, not the model: run git lfs pull".into()));
    }
    if bytes.first() == Some(&b'<') {
        return Err(corrupt("this is a web page, not an ONNX file".into()));
    }
    let (message, large) = match stored::split(bytes) {
        Some((rest, large)) => (rest.into(), large),
        None => (bytes.clone(), vec![]),
    };
    let mut proto = pb::ModelProto::decode(message)
        .map_err(|error| corrupt(format!("it is no ONNX file: {error}")))?;
    let manifest = manifest(model, &proto)?;
    let Some(graph) = proto.graph.as_mut() else {
        return Err(corrupt("it holds no graph".into()));
    };
    if !proto.functions.is_empty() {
        return Err(corrupt("it defines functions of its own".into()));
    }
    // Exporters list domains that they do not use; a node of such a domain is refused below.
    let standard = |d: &&pb::OperatorSetIdProto| matches!(d.domain.as_str(), "" | "ai.onnx");
    let imports: Vec<_> = proto.opset_import.iter().filter(standard).collect();
    let [import] = imports[..] else {
        return Err(corrupt("it does not import the standard operators exactly once".into()));
    };
    if !OPSETS.contains(&import.version) {
        let need = format!("{} to {}", OPSETS.start(), OPSETS.end());
        return Err(corrupt(format!("opset is {}, need {need}", import.version)));
    }
    let stored = Stored::new(&graph.initializer, large);
    check_graph(model, graph, &stored, limits)?;
    constants::check(graph, limits)?;
    // Shape annotations of intermediate values are the exporter's belief, not part of the computation.
    graph.value_info.clear();
    let gradient = GradientPart::split_off(graph);
    Ok((Graph { proto, gradient, stored }, manifest))
}

fn manifest(model: &str, proto: &pb::ModelProto) -> Result<Manifest> {
    let corrupt = |why: String| Error::ModelCorrupt { model: model.into(), why };
    let mut found = proto.metadata_props.iter().filter(|p| p.key == MANIFEST_KEY);
    let (Some(entry), None) = (found.next(), found.next()) else {
        return Err(corrupt(format!("it needs one {MANIFEST_KEY:?} entry in its metadata")));
    };
    #[derive(serde::Deserialize)]
    struct Version {
        format_version: u32,
    }
    let bad = |error: serde_json::Error| corrupt(format!("its manifest is invalid: {error}"));
    let version: Version = serde_json::from_str(&entry.value).map_err(bad)?;
    if version.format_version != FORMAT_VERSION {
        let found = version.format_version;
        return Err(Error::ModelTooNew { found, supported: FORMAT_VERSION });
    }
    serde_json::from_str(&entry.value).map_err(bad)
}

fn check_graph(
    model: &str,
    graph: &pb::GraphProto,
    stored: &Stored,
    limits: &Limits,
) -> Result<()> {
    let corrupt = |why: String| Error::ModelCorrupt { model: model.into(), why };
    limits.check("number of nodes", graph.node.len() as u64, limits.nodes)?;
    limits.check("number of initializers", graph.initializer.len() as u64, limits.initializers)?;
    if !graph.sparse_initializer.is_empty() {
        return Err(corrupt("it holds sparse tensors".into()));
    }
    let mut defined = std::collections::HashSet::new();
    for tensor in &graph.initializer {
        let raw = stored.get(&tensor.name).map_or(&tensor.raw_data[..], |bytes| bytes);
        check_tensor(tensor, raw, limits)?;
        if tensor.name.is_empty() || !defined.insert(tensor.name.as_str()) {
            return Err(corrupt(format!("the name {:?} is empty or defined twice", tensor.name)));
        }
    }
    for input in &graph.input {
        limits.check("length of a name", input.name.len() as u64, limits.name_bytes)?;
        if !defined.insert(input.name.as_str()) {
            return Err(corrupt(format!("the name {:?} is defined twice", input.name)));
        }
    }
    // ONNX lists nodes in the order of evaluation: a use before its definition is a cycle or a dangling edge.
    for node in &graph.node {
        check_node(node, limits)?;
        for input in node.input.iter().filter(|name| !name.is_empty()) {
            if !defined.contains(input.as_str()) {
                let why = format!("its input {input:?} is not defined before it");
                return Err(Error::ModelNotAllowed { node: label(node), why });
            }
        }
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            if !defined.insert(output.as_str()) {
                return Err(corrupt(format!("the name {output:?} is defined twice")));
            }
        }
    }
    for output in &graph.output {
        if !defined.contains(output.name.as_str()) {
            return Err(corrupt(format!("its output {:?} is not defined", output.name)));
        }
    }
    Ok(())
}

fn check_node(node: &pb::NodeProto, limits: &Limits) -> Result<()> {
    let refuse = |why: String| Err(Error::ModelNotAllowed { node: label(node), why });
    for name in node.input.iter().chain(&node.output).chain([&node.name]) {
        limits.check("length of a name", name.len() as u64, limits.name_bytes)?;
    }
    if !matches!(node.domain.as_str(), "" | "ai.onnx") {
        return refuse(format!("its domain is {:?}, need the standard one", node.domain));
    }
    if !OPERATORS.contains(&node.op_type.as_str()) {
        return refuse(format!("operator {:?} is not in the allowed list", node.op_type));
    }
    if node.output.iter().all(String::is_empty) {
        return refuse("it has no output".into());
    }
    for attribute in &node.attribute {
        let name = &attribute.name;
        if attribute.g.is_some() || !attribute.graphs.is_empty() {
            return refuse(format!("attribute {name:?} holds a graph"));
        }
        if attribute.sparse_tensor.is_some() || !attribute.sparse_tensors.is_empty() {
            return refuse(format!("attribute {name:?} holds a sparse tensor"));
        }
        let mut tensors = attribute.t.iter().chain(&attribute.tensors);
        tensors.try_for_each(|t| check_tensor(t, &t.raw_data, limits))?;
        if attribute.floats.iter().chain([&attribute.f]).any(|v| !v.is_finite()) {
            return refuse(format!("attribute {name:?} is not finite"));
        }
        if matches!(name.as_str(), "strides" | "dilations" | "group" | "kernel_shape") {
            let single = (name == "group").then_some(&attribute.i);
            let bad = |&&v: &&i64| {
                !(1..=i64::try_from(limits.dimension).unwrap_or(i64::MAX)).contains(&v)
            };
            if let Some(v) = attribute.ints.iter().chain(single).find(bad) {
                return refuse(format!("attribute {name:?} holds {v}, need 1 or more"));
            }
        }
        if name == "pads"
            && let Some(v) = attribute.ints.iter().find(|&&v| !(0..=1 << 16).contains(&v))
        {
            return refuse(format!("attribute {name:?} holds {v}, need 0 or more"));
        }
    }
    Ok(())
}

/// Data type, sizes and values of a constant with the bytes `raw`; all size arithmetic on the file's numbers is here and checked.
fn check_tensor(tensor: &pb::TensorProto, raw: &[u8], limits: &Limits) -> Result<()> {
    let refuse = |why: String| Err(Error::ModelNotAllowed { node: tensor.name.clone(), why });
    limits.check("length of a name", tensor.name.len() as u64, limits.name_bytes)?;
    if tensor.data_location.unwrap_or(0) != 0 || !tensor.external_data.is_empty() {
        return refuse("its data lies outside the file".into());
    }
    if tensor.segment.is_some() {
        return refuse("it is split into segments".into());
    }
    limits.check("rank of a tensor", tensor.dims.len() as u64, limits.rank)?;
    let size = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float | DataType::Int32) => 4u64,
        Ok(DataType::Int64) => 8,
        Ok(DataType::Bool) => 1,
        _ => {
            return refuse(format!(
                "its data type is {}, need f32, i32, i64 or bool",
                tensor.data_type
            ));
        }
    };
    let mut elements = 1u64;
    for &dim in &tensor.dims {
        let Ok(dim) = u64::try_from(dim) else {
            return refuse(format!("it has the dimension {dim}"));
        };
        limits.check("dimension of a tensor", dim, limits.dimension)?;
        elements = elements.saturating_mul(dim);
    }
    let bytes = elements.saturating_mul(size);
    limits.check("size of a tensor in bytes", bytes, limits.tensor_bytes)?;
    let typed = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => tensor.float_data.len(),
        Ok(DataType::Int64) => tensor.int64_data.len(),
        _ => tensor.int32_data.len(),
    } as u64;
    let held = raw.len() as u64;
    if !(held == bytes && typed == 0 || held == 0 && typed == elements) {
        return refuse(format!(
            "it holds {held} bytes and {typed} values, its shape needs {elements} values"
        ));
    }
    let finite = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => {
            tensor.float_data.iter().all(|v| v.is_finite())
                && raw.as_chunks().0.iter().all(|&b| f32::from_le_bytes(b).is_finite())
        }
        _ => true,
    };
    if !finite {
        return refuse("it holds values that are not finite".into());
    }
    Ok(())
}

fn check_value(
    value: Option<&pb::ValueInfoProto>,
    kind: &str,
    name: &str,
    dims: &[Option<i64>],
) -> std::result::Result<(), String> {
    use pb::tensor_shape_proto::dimension::Value::DimValue;
    let Some(value) = value else {
        return Err(format!("it has no {kind} {name:?}"));
    };
    let tensor = value.r#type.as_ref().and_then(|t| t.value.as_ref()).map(|v| {
        let pb::type_proto::Value::TensorType(tensor) = v;
        tensor
    });
    let shape = tensor.and_then(|t| t.shape.as_ref());
    let (Some(tensor), Some(shape)) = (tensor, shape) else {
        return Err(format!("{kind} {name:?} has no type or shape"));
    };
    if tensor.elem_type != DataType::Float as i32 {
        return Err(format!("{kind} {name:?} has data type {}, need f32", tensor.elem_type));
    }
    let fits = shape.dim.len() == dims.len()
        && shape.dim.iter().zip(dims).all(|(found, need)| match (&found.value, need) {
            (Some(DimValue(found)), Some(need)) => found == need,
            (Some(DimValue(_)), None) => false,
            (_, Some(_)) => false,
            (_, None) => true,
        });
    if !fits {
        let need: Vec<String> =
            dims.iter().map(|d| d.map_or("N".into(), |d| d.to_string())).collect();
        return Err(format!("{kind} {name:?} does not have the shape [{}]", need.join(", ")));
    }
    Ok(())
}

pub(super) fn label(node: &pb::NodeProto) -> String {
    let first = node.output.first().cloned().unwrap_or_default();
    if node.name.is_empty() { first } else { node.name.clone() }
}
