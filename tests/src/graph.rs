//! Small pieces of ONNX messages, for building models by hand.

use tract_onnx::pb::{
    AttributeProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_shape_proto::{Dimension, dimension::Value::DimParam, dimension::Value::DimValue},
    type_proto::{Tensor, Value::TensorType},
};

/// ONNX number of the data type f32.
pub const FLOAT: i32 = 1;
/// ONNX number of the data type i64.
pub const INT64: i32 = 7;

/// A node with one output; its name is that of the output.
pub fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: operator.into(),
        input: inputs.iter().map(|&name| name.into()).collect(),
        output: vec![output.into()],
        name: output.into(),
        ..NodeProto::default()
    }
}

/// A list of whole numbers as attribute.
pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: 7,
        ints: values.to_vec(),
        ..AttributeProto::default()
    }
}

/// A whole number as attribute.
pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: 2, i: value, ..AttributeProto::default() }
}

/// A constant f32 tensor.
pub fn floats(name: &str, dims: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.iter().map(|&d| d as i64).collect(),
        data_type: FLOAT,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

/// A constant i64 vector.
pub fn indices(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: vec![values.len() as i64],
        data_type: INT64,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

/// An input or output of the graph: f32, the batch dimension symbolic, then `dims`.
pub fn value(name: &str, dims: &[usize]) -> ValueInfoProto {
    let batch = Dimension { value: Some(DimParam("N".into())), ..Dimension::default() };
    let sides =
        dims.iter().map(|&d| Dimension { value: Some(DimValue(d as i64)), ..Dimension::default() });
    let dim = std::iter::once(batch).chain(sides).collect();
    let tensor = Tensor { elem_type: FLOAT, shape: Some(TensorShapeProto { dim }) };
    let value = Some(TensorType(tensor));
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value, ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}
