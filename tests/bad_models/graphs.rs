//! Operator sets, tensors, operators, wiring.

use super::*;

#[test]
fn opsets_outside_the_supported_range_are_refused() {
    let import = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
    for opset_import in [
        vec![],
        vec![import("", 0)],
        vec![import("", -1)],
        vec![import("", 12)],
        vec![import("", 22)],
        vec![import("", 999)],
        vec![import("", i64::MAX)],
        vec![import("", 17), import("ai.onnx", 13)],
        vec![import("com.microsoft", 1)],
    ] {
        let name = format!("{opset_import:?}");
        let proto = ModelProto { opset_import, ..gaussian().proto() };
        refused(&name, &proto.encode_to_vec(), &[ModelCorrupt]);
    }
    let opset_import = vec![import("", 17), import("com.unused", 1)];
    let proto = ModelProto { opset_import, ..gaussian().proto() };
    outcome("unused domain", &proto.encode_to_vec()).unwrap();
}

#[test]
fn tensors_are_refused_by_type_size_and_content() {
    fn raw(graph: &mut GraphProto, values: &[f32]) {
        tensor(graph, "mu").raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    }
    fn with_first(graph: &mut GraphProto, first: f32) {
        tensor(graph, "mu").raw_data[..4].copy_from_slice(&first.to_le_bytes());
    }
    fn external(location: &str) -> Vec<StringStringEntryProto> {
        vec![StringStringEntryProto { key: "location".into(), value: location.into() }]
    }
    let cases: Vec<(&str, Change, ErrorCode)> = vec![
        ("data outside", |g| tensor(g, "mu").data_location = Some(1), ModelNotAllowed),
        ("unknown location", |g| tensor(g, "mu").data_location = Some(77), ModelNotAllowed),
        (
            "path up",
            |g| tensor(g, "mu").external_data = external("../../etc/passwd"),
            ModelNotAllowed,
        ),
        (
            "absolute path",
            |g| tensor(g, "mu").external_data = external("/etc/passwd"),
            ModelNotAllowed,
        ),
        (
            "segment",
            |g| tensor(g, "mu").segment = Some(Segment { begin: 0, end: 1 }),
            ModelNotAllowed,
        ),
        ("sparse", |g| g.sparse_initializer.push(SparseTensorProto::default()), ModelCorrupt),
        ("f64", |g| tensor(g, "mu").data_type = 11, ModelNotAllowed),
        ("string", |g| tensor(g, "mu").data_type = 8, ModelNotAllowed),
        ("bf16", |g| tensor(g, "mu").data_type = 16, ModelNotAllowed),
        ("complex", |g| tensor(g, "mu").data_type = 14, ModelNotAllowed),
        ("undefined type", |g| tensor(g, "mu").data_type = 0, ModelNotAllowed),
        ("unknown type", |g| tensor(g, "mu").data_type = 999, ModelNotAllowed),
        ("negative type", |g| tensor(g, "mu").data_type = -1, ModelNotAllowed),
        ("negative dimension", |g| tensor(g, "mu").dims[2] = -5, ModelNotAllowed),
        ("smallest dimension", |g| tensor(g, "mu").dims[2] = i64::MIN, ModelNotAllowed),
        ("dimension 2^31", |g| tensor(g, "mu").dims[2] = 1 << 31, ModelTooLarge),
        ("dimension 2^63 - 1", |g| tensor(g, "mu").dims[2] = i64::MAX, ModelTooLarge),
        ("product overflows", |g| tensor(g, "mu").dims = vec![1 << 20; 4], ModelTooLarge),
        ("rank 9", |g| tensor(g, "mu").dims = vec![1; 9], ModelTooLarge),
        ("zero dimension", |g| tensor(g, "mu").dims[2] = 0, ModelNotAllowed),
        ("too short", |g| raw(g, &[0.0; 34]), ModelNotAllowed),
        ("too long", |g| raw(g, &[0.0; 36]), ModelNotAllowed),
        ("no data", |g| raw(g, &[]), ModelNotAllowed),
        ("odd length", |g| tensor(g, "mu").raw_data.truncate(139), ModelNotAllowed),
        ("two kinds of data", |g| tensor(g, "mu").float_data = vec![0.0; 35], ModelNotAllowed),
        ("NaN", |g| with_first(g, f32::NAN), ModelNotAllowed),
        ("infinity", |g| with_first(g, f32::INFINITY), ModelNotAllowed),
        ("minus infinity", |g| with_first(g, f32::NEG_INFINITY), ModelNotAllowed),
        ("other weights", |g| with_first(g, 0.9), SelfTest),
        ("no name", |g| tensor(g, "mu").name.clear(), ModelCorrupt),
        ("long name", |g| tensor(g, "mu").name = "m".repeat(4097), ModelTooLarge),
        ("name twice", |g| tensor(g, "mu").name = "variance".into(), ModelCorrupt),
    ];
    for (name, change, code) in cases {
        refused(name, &changed(change), &[code]);
    }
    let broadcast = changed(|g| tensor(g, "mu").dims = vec![1, 1, 7, 5]);
    refused("wrong broadcast", &broadcast, &[ModelCorrupt, ErrorCode::Engine]);
    // Values that the arithmetic cannot bear are found by the self-test.
    for (name, value) in [("zero", 0.0f32), ("huge", 1e38), ("denormal", 1e-40), ("negative", -1.0)]
    {
        let bytes = changed(|g| {
            tensor(g, "variance").raw_data =
                [value; 35].iter().flat_map(|v| v.to_le_bytes()).collect();
        });
        refused(name, &bytes, &[SelfTest, ErrorCode::NonFinite]);
    }
}

#[test]
fn constants_in_attributes_are_checked_like_initializers() {
    let constant = |t: TensorProto| AttributeProto {
        name: "value".into(),
        r#type: 4,
        t: Some(t),
        ..AttributeProto::default()
    };
    let add = |attribute: AttributeProto| {
        changed(|graph| {
            let mut extra = node("Constant", &[], "extra");
            extra.attribute.push(attribute);
            graph.node.insert(0, extra);
        })
    };
    outcome("constant", &add(constant(floats("c", &[1], &[1.0])))).unwrap();
    let external = TensorProto { data_location: Some(1), ..floats("c", &[1], &[]) };
    refused("external constant", &add(constant(external)), &[ModelNotAllowed]);
    let short = TensorProto { dims: vec![5], ..floats("c", &[1], &[1.0]) };
    refused("short constant", &add(constant(short)), &[ModelNotAllowed]);
    refused("NaN constant", &add(constant(floats("c", &[1], &[f32::NAN]))), &[ModelNotAllowed]);
    let sparse = AttributeProto {
        name: "sparse_value".into(),
        sparse_tensor: Some(SparseTensorProto::default()),
        ..AttributeProto::default()
    };
    refused("sparse constant", &add(sparse), &[ModelNotAllowed]);
}

#[test]
fn graphs_are_refused_by_operator_and_wiring() {
    fn operator(graph: &mut GraphProto, operator: &str) {
        graph.node[7].op_type = operator.into();
    }
    fn branch(graph: &mut GraphProto) {
        graph.node[0].attribute.push(AttributeProto {
            name: "then_branch".into(),
            g: Some(GraphProto::default()),
            ..AttributeProto::default()
        });
    }
    let cases: Vec<(&str, Change, ErrorCode)> = vec![
        ("If", |g| operator(g, "If"), ModelNotAllowed),
        ("Loop", |g| operator(g, "Loop"), ModelNotAllowed),
        ("Scan", |g| operator(g, "Scan"), ModelNotAllowed),
        ("RandomNormal", |g| operator(g, "RandomNormal"), ModelNotAllowed),
        ("Expand", |g| operator(g, "Expand"), ModelNotAllowed),
        ("ConstantOfShape", |g| operator(g, "ConstantOfShape"), ModelNotAllowed),
        ("no operator", |g| operator(g, ""), ModelNotAllowed),
        ("lower case", |g| operator(g, "mul"), ModelNotAllowed),
        ("custom domain", |g| g.node[7].domain = "com.microsoft".into(), ModelNotAllowed),
        ("graph in attribute", branch, ModelNotAllowed),
        ("no output of a node", |g| g.node[7].output.clear(), ModelNotAllowed),
        ("empty output of a node", |g| g.node[7].output[0].clear(), ModelNotAllowed),
        ("output twice", |g| g.node[7].output[0] = "at_t".into(), ModelCorrupt),
        ("output is an input", |g| g.node[7].output[0] = "x".into(), ModelCorrupt),
        ("dangling edge", |g| g.node[7].input[0] = "nothing".into(), ModelNotAllowed),
        ("cycle", |g| g.node[7].input[0] = "u".into(), ModelNotAllowed),
        ("loop of one", |g| g.node[7].input[0] = g.node[7].output[0].clone(), ModelNotAllowed),
        ("order reversed", |g| g.node.reverse(), ModelNotAllowed),
        ("operand missing", |g| drop(g.node[1].input.pop()), ModelCorrupt),
        ("no operands", |g| g.node[1].input.clear(), ModelCorrupt),
        ("empty operand", |g| g.node[1].input[0].clear(), ModelCorrupt),
        ("operand too many", |g| g.node[1].input.push("x".into()), ModelCorrupt),
        ("input shadows a constant", |g| g.input.push(value("mu", &[1])), ModelCorrupt),
        ("long node name", |g| g.node[7].name = "n".repeat(4097), ModelTooLarge),
        ("no nodes", |g| g.node.clear(), ModelCorrupt),
        ("no outputs", |g| g.output.clear(), ModelCorrupt),
        ("no inputs", |g| g.input.clear(), ModelNotAllowed),
        ("output undefined", |g| g.output[0].name = "w".into(), ModelCorrupt),
        (
            "incompatible reshape",
            |g| *tensor(g, "per_image") = indices("per_image", &[-1, 2, 1, 1]),
            ModelCorrupt,
        ),
        (
            "reshape of two unknowns",
            |g| *tensor(g, "per_image") = indices("per_image", &[-1, -1, 1, 1]),
            ModelCorrupt,
        ),
        (
            "reshape to negative",
            |g| *tensor(g, "per_image") = indices("per_image", &[-7, 1, 1, 1]),
            ModelCorrupt,
        ),
        ("axis out of range", |g| *tensor(g, "axes") = indices("axes", &[9]), ModelCorrupt),
        (
            "axis far out of range",
            |g| *tensor(g, "axes") = indices("axes", &[i64::MIN]),
            ModelCorrupt,
        ),
    ];
    for (name, change, code) in cases {
        // Wiring that only the engine understands may also show at the first evaluation.
        let codes = if code == ModelCorrupt { &[code, ErrorCode::Engine][..] } else { &[code] };
        refused(name, &changed(change), codes);
    }
    let functions = vec![FunctionProto::default()];
    let proto = ModelProto { functions, ..gaussian().proto() };
    refused("functions", &proto.encode_to_vec(), &[ModelCorrupt]);
    let nan = changed(|g| {
        let f = f32::NAN;
        g.node[7].attribute.push(AttributeProto {
            name: "alpha".into(),
            f,
            ..AttributeProto::default()
        });
    });
    refused("attribute NaN", &nan, &[ModelNotAllowed]);
    let gather = changed(|g| {
        g.initializer.push(indices("far", &[1 << 40]));
        let at = g.node.iter().position(|n| n.output[0] == "centred").unwrap();
        g.node.insert(at, node("Gather", &["x", "far"], "gathered"));
        g.node[at + 1].input[0] = "gathered".into();
    });
    refused("gather out of range", &gather, &[ModelCorrupt, ErrorCode::Engine, SelfTest]);
    let division = changed(|g| {
        g.initializer.extend([indices("a", &[1]), indices("b", &[0])]);
        g.node.insert(0, node("Div", &["a", "b"], "by_zero"));
        g.initializer.retain(|t| t.name != "axes");
        g.node.insert(1, node("Identity", &["by_zero"], "axes"));
    });
    refused("whole number by zero", &division, &[ModelCorrupt, ErrorCode::Engine]);
}

#[test]
fn divisors_in_convolutions_are_refused() {
    outcome("convolution", &with_convolution(&gaussian(), &[]).encode_to_vec()).map_or_else(
        |e| assert_eq!(e.code(), SelfTest),
        |()| panic!("a wrong velocity is accepted"),
    );
    let cases: [(&str, &[i64]); 9] = [
        ("strides", &[0, 1]),
        ("strides", &[-1, 1]),
        ("strides", &[i64::MAX, 1]),
        ("dilations", &[1, 0]),
        ("group", &[0]),
        ("group", &[-1]),
        ("kernel_shape", &[0, 0]),
        ("pads", &[-1, 0, 0, 0]),
        ("pads", &[i64::MAX, 0, 0, 0]),
    ];
    for (name, values) in cases {
        let bytes = with_convolution(&gaussian(), &[(name, values)]).encode_to_vec();
        refused(&format!("{name} {values:?}"), &bytes, &[ModelNotAllowed]);
    }
    for (name, values) in [("strides", &[2i64, 2][..]), ("group", &[5]), ("kernel_shape", &[3, 3])]
    {
        let bytes = with_convolution(&gaussian(), &[(name, values)]).encode_to_vec();
        refused(
            &format!("{name} {values:?}"),
            &bytes,
            &[ModelCorrupt, ErrorCode::Engine, SelfTest],
        );
    }
}

#[test]
fn inputs_are_taken_by_name_and_must_have_the_promised_shape() {
    outcome("inputs in another order", &changed(|g| g.input.reverse())).unwrap();
    outcome("outputs in another order", &changed(|g| g.output.reverse())).unwrap();
    let cases: Vec<(&str, Change, ErrorCode)> = vec![
        ("no x", |g| g.input[0].name = "image".into(), ModelNotAllowed),
        ("no d", |g| drop(g.output.pop()), ModelCorrupt),
        ("fourth input", |g| g.input.push(value("guide", &[1])), ModelCorrupt),
        ("x is NHWC", |g| g.input[0] = value("x", &[5, 7, 1]), ModelCorrupt),
        ("x has no channels", |g| g.input[0] = value("x", &[5, 7]), ModelCorrupt),
        ("x has no type", |g| g.input[0].r#type = None, ModelCorrupt),
        ("t per pixel", |g| g.input[1] = value("t", &[1, 1, 1]), ModelCorrupt),
        ("u is NHWC", |g| g.output[0] = value("u", &[5, 7, 1]), ModelCorrupt),
        ("d is scalar", |g| g.output[1] = value("d", &[]), ModelCorrupt),
    ];
    for (name, change, code) in cases {
        refused(name, &changed(change), &[code]);
    }
    let swap = |g: &mut GraphProto, a: &str, b: &str| {
        for name in g.node.iter_mut().flat_map(|n| n.input.iter_mut()) {
            let swapped = if name == a {
                b
            } else if name == b {
                a
            } else {
                continue;
            };
            *name = swapped.into();
        }
    };
    refused("t and s exchanged", &changed(|g| swap(g, "t", "s")), &[SelfTest]);
    let whole = changed(|g| {
        let types = g.input[0].r#type.as_mut().and_then(|t| t.value.as_mut());
        let Some(tract_onnx::pb::type_proto::Value::TensorType(tensor)) = types else { return };
        tensor.elem_type = 7;
    });
    refused("x of whole numbers", &whole, &[ModelCorrupt]);
    let fixed = changed(|g| {
        let types = g.input[0].r#type.as_mut().and_then(|t| t.value.as_mut());
        let Some(tract_onnx::pb::type_proto::Value::TensorType(tensor)) = types else { return };
        tensor.shape.as_mut().unwrap().dim[0].value = Some(DimValue(1));
    });
    refused("batch fixed", &fixed, &[ModelCorrupt]);
}
