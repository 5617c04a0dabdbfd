//! Damaged, hostile and merely wrong model files: each is refused with a typed error, none panics or aborts.
//!
//! Cases whose failure would end the process (an allocation of a size that stands in the file) run in a child
//! process, which is this test program again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use f2d2::preprocess::noise;
use f2d2::{Detector, DetectorOptions, Error, ErrorCode, Limits, Model};
use f2d2_tests::gaussian::{Gaussian, MANIFEST_KEY, with_convolution};
use f2d2_tests::graph::{floats, indices, int, ints, node, value};
use f2d2_tests::grey;
use prost::Message;
use serde_json::{Value, json};
use tract_onnx::pb::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, OperatorSetIdProto, SparseTensorProto,
    StringStringEntryProto, TensorProto, tensor_proto::Segment,
    tensor_shape_proto::dimension::Value::DimValue,
};

use ErrorCode::{
    InvalidOption, Io, ModelCorrupt, ModelNotAllowed, ModelTooLarge, ModelTooNew, SelfTest,
};

fn gaussian() -> Gaussian {
    Gaussian::new(1, 5, 7, 3)
}

/// Everything that is done with a file: check, load, self-test, one frame.
fn use_file(bytes: &[u8], limits: &Limits) -> Result<(), Error> {
    let model = Model::from_bytes("bad", bytes, limits)?;
    let options = DetectorOptions { threads: 1, ..DetectorOptions::default() };
    let detector = Detector::from_model(Arc::new(model), options)?;
    let inspection = detector.inspect(&grey(&[7; 35], 7, 5));
    assert_eq!(inspection.measurement.is_none(), inspection.verdict.is_some());
    Ok(())
}

fn outcome(name: &str, bytes: &[u8]) -> Result<(), Error> {
    let used = catch_unwind(AssertUnwindSafe(|| use_file(bytes, &Limits::default())));
    used.unwrap_or_else(|_| panic!("{name}: panicked"))
}

#[track_caller]
fn refused(name: &str, bytes: &[u8], codes: &[ErrorCode]) {
    match outcome(name, bytes) {
        Ok(()) => panic!("{name}: accepted, need {codes:?}"),
        Err(error) => {
            assert!(
                codes.contains(&error.code()),
                "{name}: {:?}, need {codes:?}: {error}",
                error.code()
            );
        }
    }
}

type Change = fn(&mut GraphProto);
type Bound = fn(&mut Limits);

fn changed(change: impl FnOnce(&mut GraphProto)) -> Vec<u8> {
    let mut proto = gaussian().proto();
    change(proto.graph.as_mut().unwrap());
    proto.encode_to_vec()
}

fn tensor<'a>(graph: &'a mut GraphProto, name: &str) -> &'a mut TensorProto {
    graph.initializer.iter_mut().find(|t| t.name == name).unwrap()
}

/// All that can be wrong before the graph is looked at.
#[test]
fn files_that_are_no_models_are_refused() {
    let whole = gaussian().bytes();
    let after = |more: &[u8]| [&whole[..], more].concat();
    let mut nested = Vec::new();
    for _ in 0..1000 {
        // attribute.g { node { attribute { ... } } }
        for tag in [0x2a, 0x0a, 0x32] {
            let mut outer = vec![tag];
            prost::encoding::encode_varint(nested.len() as u64, &mut outer);
            outer.extend(&nested);
            nested = outer;
        }
    }
    let mut deep = vec![0x3a];
    prost::encoding::encode_varint(nested.len() as u64, &mut deep);
    deep.extend(nested);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("one byte", vec![8]),
        ("zeros", vec![0; 4096]),
        ("web page", b"<!DOCTYPE html><title>404</title>".to_vec()),
        ("git-lfs pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec()),
        ("png", b"\x89PNG\r\n\x1a\n".to_vec()),
        ("zip", b"PK\x03\x04".to_vec()),
        ("text", b"not a model".to_vec()),
        ("trailing zeros", after(&[0; 16])),
        ("trailing ones", after(&[0xff; 16])),
        ("second graph of other kind", after(&[0x38, 1])),
        ("length beyond the end", vec![0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("length of 2^63", vec![0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("varint of eleven bytes", vec![0xff; 11]),
        ("depth 3000", deep),
        ("no graph", ModelProto { graph: None, ..gaussian().proto() }.encode_to_vec()),
    ];
    for (name, bytes) in cases {
        refused(name, &bytes, &[ModelCorrupt]);
    }
    let pointer = b"version https://git-lfs.github.com/spec/v1\n";
    assert!(outcome("lfs", pointer).unwrap_err().to_string().contains("git lfs pull"));
}

#[test]
fn truncation_anywhere_is_refused() {
    let whole = gaussian().bytes();
    let n = whole.len();
    let lengths = (0..n).filter(|i| *i < 300 || n - i <= 300 || i % 37 == 0);
    for length in lengths {
        match outcome(&format!("{length} of {n} bytes"), &whole[..length]) {
            Ok(()) => panic!("{length} of {n} bytes are accepted"),
            Err(error) => assert!(
                matches!(error.code(), ModelCorrupt | ModelNotAllowed),
                "{length} of {n} bytes: {error}"
            ),
        }
    }
}

#[test]
fn paths_that_are_no_regular_files_are_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.onnx");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let long = "x".repeat(32 << 10);
    let missing = folder.path().join("none.onnx");
    for path in
        [&pipe, folder.path(), &missing, "/dev/null".as_ref(), long.as_ref(), "a\0b".as_ref()]
            as [&std::path::Path; 6]
    {
        let start = Instant::now();
        let error = Model::open(path, &Limits::default()).unwrap_err();
        assert_eq!(error.code(), Io, "{error}");
        assert!(error.to_string().starts_with("cannot read "), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    let status = Model::open("/proc/self/status", &Limits::default()).unwrap_err();
    assert_eq!(status.code(), ModelCorrupt);
    let file = folder.path().join("model.onnx");
    std::fs::write(&file, gaussian().bytes()).unwrap();
    let link = folder.path().join("link.onnx");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let linked = Model::open(&link, &Limits::default()).unwrap();
    assert_eq!(linked.hash(), Model::open(&file, &Limits::default()).unwrap().hash());
}

#[test]
fn manifests_are_refused_by_what_is_wrong() {
    let model = gaussian();
    let cases: Vec<(&str, Value, ErrorCode)> = vec![
        ("/format_version", json!(2), ModelTooNew),
        ("/format_version", json!(0), ModelTooNew),
        ("/format_version", json!("1"), ModelCorrupt),
        ("/format_version", json!(-1), ModelCorrupt),
        ("/name", json!(7), ModelCorrupt),
        ("/time", json!("stride"), ModelCorrupt),
        ("/head", json!("scalar"), ModelCorrupt),
        ("/head", json!("other"), ModelCorrupt),
        ("/clock", json!({ "kind": "log_snr", "epsilon": 0.0 }), ModelCorrupt),
        ("/clock", json!({ "kind": "log_snr", "epsilon": -1.0 }), ModelCorrupt),
        ("/clock", json!({ "kind": "sundial" }), ModelCorrupt),
        ("/schedules", json!({ "3": [1.0, 0.5, 0.0] }), ModelCorrupt),
        ("/schedules", json!({ "2": [1.0, 0.5, 0.1] }), ModelCorrupt),
        ("/schedules", json!({ "2": [0.0, 0.5, 1.0] }), ModelCorrupt),
        ("/schedules", json!({ "two": [1.0, 0.0] }), ModelCorrupt),
        ("/noise_floors", json!([]), ModelCorrupt),
        ("/noise_floors", json!([0.0]), ModelCorrupt),
        ("/noise_floors", json!([1.5]), ModelCorrupt),
        ("/noise_floors", json!([1.0, Value::Null]), ModelCorrupt),
        ("/default_steps", json!(0), ModelCorrupt),
        ("/default_steps", json!(-1), ModelCorrupt),
        ("/golden", json!([]), ModelCorrupt),
        ("/golden/0/samples", json!([]), ModelCorrupt),
        ("/golden/0/samples", json!(vec![0.0; 36]), ModelCorrupt),
        ("/golden/0/schedule", json!([0.5, 0.5]), ModelCorrupt),
        ("/golden/0/schedule", json!([1.0, 0.5, 0.7]), ModelCorrupt),
        ("/golden/0/log_det", json!(1e30), SelfTest),
        ("/golden/0/seed", json!(999), SelfTest),
        ("/golden/0/start", json!("normal"), SelfTest),
        ("/directions/scoring", json!(false), InvalidOption),
        ("/preprocess/shape/channels", json!(2), ModelCorrupt),
        ("/preprocess/shape/channels", json!(3), ModelCorrupt),
        ("/preprocess/shape/width", json!(0), ModelCorrupt),
        ("/preprocess/shape/width", json!(8), ModelCorrupt),
        ("/preprocess/scale", json!(0.0), ModelCorrupt),
        ("/preprocess/scale", json!(-1.0), ModelCorrupt),
        ("/preprocess/offset", Value::Null, ModelCorrupt),
        ("/preprocess/resize", json!("seam carving"), ModelCorrupt),
    ];
    for (place, value, code) in cases {
        let mut manifest = model.manifest();
        *manifest.pointer_mut(place).unwrap() = value.clone();
        let bytes = model.proto_with(&manifest).encode_to_vec();
        refused(&format!("{place} = {value}"), &bytes, &[code]);
    }
    let mut scoring_only = model.manifest();
    scoring_only["time"] = json!("step");
    scoring_only["directions"]["sampling"] = json!(false);
    let bytes = model.proto_with(&scoring_only).encode_to_vec();
    refused("a step map that does not sample", &bytes, &[ModelCorrupt]);
    for place in [
        "",
        "/provenance",
        "/directions",
        "/preprocess",
        "/preprocess/shape",
        "/golden/0",
        "/clock",
    ] {
        let mut manifest = model.manifest();
        manifest["clock"] = json!({ "kind": "log_snr", "epsilon": 1e-3 });
        manifest.pointer_mut(place).unwrap()["surprise"] = json!(1);
        let bytes = model.proto_with(&manifest).encode_to_vec();
        refused(&format!("unknown field in {place}"), &bytes, &[ModelCorrupt]);
    }
    for field in ["format_version", "preprocess", "head", "golden", "noise_seed", "time"] {
        let mut manifest = model.manifest();
        manifest.as_object_mut().unwrap().remove(field);
        refused(field, &model.proto_with(&manifest).encode_to_vec(), &[ModelCorrupt]);
    }
}

#[test]
fn manifests_that_are_missing_doubled_or_no_json_are_refused() {
    let entry =
        |value: &str| StringStringEntryProto { key: MANIFEST_KEY.into(), value: value.into() };
    let good = gaussian().manifest().to_string();
    let deep = "[".repeat(100_000);
    let cases: Vec<(&str, Vec<StringStringEntryProto>)> = vec![
        ("missing", vec![]),
        ("doubled", vec![entry(&good), entry(&good)]),
        ("empty", vec![entry("")]),
        ("half", vec![entry(&good[..good.len() / 2])]),
        ("deep", vec![entry(&deep)]),
        ("list", vec![entry("[]")]),
        ("twice in one", vec![entry(&format!("{good}{good}"))]),
        ("not a number", vec![entry(&good.replacen("\"noise_seed\":5", "\"noise_seed\":NaN", 1))]),
    ];
    for (name, metadata_props) in cases {
        let proto = ModelProto { metadata_props, ..gaussian().proto() };
        refused(name, &proto.encode_to_vec(), &[ModelCorrupt]);
    }
    let other = StringStringEntryProto { key: "author".into(), value: "somebody".into() };
    let proto = ModelProto { metadata_props: vec![other, entry(&good)], ..gaussian().proto() };
    outcome("other metadata", &proto.encode_to_vec()).unwrap();
}

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

#[test]
fn every_limit_is_enforced_and_can_be_raised() {
    let bytes = gaussian().bytes();
    let with = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        use_file(&bytes, &limits)
    };
    let lowered: [(&str, Bound); 8] = [
        ("file", |l| l.file_bytes = 100),
        ("nodes", |l| l.nodes = 10),
        ("initializers", |l| l.initializers = 2),
        ("rank", |l| l.rank = 3),
        ("dimension", |l| l.dimension = 6),
        ("tensor", |l| l.tensor_bytes = 100),
        ("name", |l| l.name_bytes = 3),
        ("image", |l| l.image_values = 34),
    ];
    let mut wrong = Vec::new();
    for (name, change) in lowered {
        match with(change) {
            Err(Error::ModelTooLarge { got, limit, .. }) => assert!(got > limit, "{name}"),
            other => wrong.push(format!("{name} lowered: {other:?}")),
        }
    }
    let raised: [fn(&mut Limits); 8] = [
        |l| l.file_bytes = u64::MAX,
        |l| l.nodes = u64::MAX,
        |l| l.initializers = u64::MAX,
        |l| l.rank = u64::MAX,
        |l| l.dimension = u64::MAX,
        |l| l.tensor_bytes = u64::MAX,
        |l| l.name_bytes = u64::MAX,
        |l| l.image_values = u64::MAX,
    ];
    for (i, change) in raised.into_iter().enumerate() {
        if let Err(error) = with(change) {
            wrong.push(format!("limit {i} raised: {error}"));
        }
    }
    let limits = Limits { dimension: u64::MAX, ..Limits::default() };
    let convolution = with_convolution(&gaussian(), &[("strides", &[1, 1])]).encode_to_vec();
    match use_file(&convolution, &limits) {
        Err(error) if error.code() == SelfTest => {}
        other => wrong.push(format!("stride 1 with the dimension's limit raised: {other:?}")),
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn too_many_nodes_are_refused_before_they_are_loaded() {
    let bytes = changed(|graph| {
        let extra = (0..50_001).map(|i| node("Identity", &["x"], &format!("{i}")));
        graph.node.extend(extra);
    });
    refused("nodes", &bytes, &[ModelTooLarge]);
    let bytes = changed(|graph| {
        graph.initializer.extend((0..20_001).map(|i| floats(&format!("{i}"), &[1], &[0.0])));
    });
    refused("initializers", &bytes, &[ModelTooLarge]);
}

/// Sizes that stand in the file and are multiplied or allocated later than the checks of single tensors.
fn explosive() -> Vec<(&'static str, Vec<u8>)> {
    const FAR: i64 = 1 << 44;
    let before_u = |graph: &mut GraphProto, mut extra: tract_onnx::pb::NodeProto| {
        let at = graph.node.iter().position(|n| n.output[0] == "centred").unwrap();
        extra.output[0] = "exploded".into();
        graph.node.insert(at, extra);
        graph.node[at + 1].input[0] = "exploded".into();
    };
    let manifest = |place: &str, value: Value| {
        let mut manifest = gaussian().manifest();
        *manifest.pointer_mut(place).unwrap() = value;
        manifest
    };
    let sized = |height: u64, width: u64| {
        let mut shaped = manifest("/preprocess/shape/height", json!(height));
        shaped["preprocess"]["shape"]["width"] = json!(width);
        let mut proto = gaussian().proto_with(&shaped);
        let graph = proto.graph.as_mut().unwrap();
        let sides = [1, height as usize, width as usize];
        graph.input[0] = value("x", &sides);
        graph.output = vec![value("u", &sides), value("d", &sides)];
        proto.encode_to_vec()
    };
    vec![
        (
            "default_steps 2^64 - 1",
            gaussian().proto_with(&manifest("/default_steps", json!(u64::MAX))).encode_to_vec(),
        ),
        (
            "default_steps 2^44",
            gaussian().proto_with(&manifest("/default_steps", json!(FAR))).encode_to_vec(),
        ),
        ("image of 2^40 pixels", sized(1 << 20, 1 << 20)),
        ("image of 2^64 + 35 pixels", sized(1 << 32, 1 << 32)),
        ("width 2^62", sized(1, 1 << 62)),
        (
            "padded by 2^44",
            changed(|g| {
                g.initializer.push(indices("pads", &[0, 0, 0, 0, 0, 0, 0, FAR]));
                before_u(g, node("Pad", &["x", "pads"], ""));
            }),
        ),
        (
            "resized by 2^22 twice",
            changed(|g| {
                g.initializer.push(floats("scales", &[4], &[1.0, 1.0, 4_194_304.0, 4_194_304.0]));
                before_u(g, node("Resize", &["x", "", "scales"], ""));
            }),
        ),
        (
            "output_padding 2^44",
            changed(|g| {
                g.initializer.push(floats("kernel", &[1, 1, 1, 1], &[1.0]));
                let mut convolution = node("ConvTranspose", &["x", "kernel"], "");
                convolution.attribute.push(ints("output_padding", &[FAR, FAR]));
                before_u(g, convolution);
            }),
        ),
        (
            "broadcast to 2^40",
            changed(|g| {
                let long = vec![1.0; 1 << 20];
                g.initializer.push(floats("column", &[1 << 20, 1], &long));
                g.initializer.push(floats("row", &[1, 1 << 20], &long));
                g.node.insert(0, node("Mul", &["column", "row"], "square"));
                before_u(g, node("Add", &["x", "square"], ""));
            }),
        ),
        (
            "flattened at a far axis",
            changed(|g| {
                let mut flatten = node("Flatten", &["x"], "");
                flatten.attribute.push(int("axis", i64::MIN));
                before_u(g, flatten);
            }),
        ),
        (
            "blocks of 2^44",
            changed(|g| {
                let mut depth = node("DepthToSpace", &["x"], "");
                depth.attribute.push(int("blocksize", FAR));
                before_u(g, depth);
            }),
        ),
    ]
}

const CHILD_FILE: &str = "F2D2_TEST_FILE";
const CHILD_FLIPS: &str = "F2D2_TEST_FLIPS";
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the test `name` of this program in a process of its own; what it printed, or how it ended.
fn child(name: &str, variable: &str, value: &std::ffi::OsStr) -> Result<String, String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(variable, value)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if start.elapsed() > PATIENCE => break None,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    if status.is_none() {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().rfind(|l| l.starts_with("now ")).unwrap_or("").to_owned();
    match status {
        None => Err(format!("took longer than {PATIENCE:?} {last}")),
        Some(status) if !status.success() => Err(format!("ended with {status} {last}")),
        Some(_) => Ok(text),
    }
}

#[test]
fn sizes_that_explode_later_are_refused_without_ending_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for (name, bytes) in explosive() {
        let file = folder.path().join("model.onnx");
        std::fs::write(&file, bytes).unwrap();
        match child("child_uses_the_file_it_is_given", CHILD_FILE, file.as_os_str()) {
            Ok(text) if text.contains("refused: ") => {}
            Ok(text) if text.contains("accepted") => wrong.push(format!("{name}: accepted")),
            Ok(text) => wrong.push(format!("{name}: {text}")),
            Err(end) => wrong.push(format!("{name}: {end}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn child_uses_the_file_it_is_given() {
    let Some(path) = std::env::var_os(CHILD_FILE) else { return };
    let bytes = std::fs::read(path).unwrap();
    match use_file(&bytes, &Limits::default()) {
        Ok(()) => println!("accepted"),
        Err(error) => println!("refused: {error}"),
    }
}

#[test]
fn flipped_bytes_never_panic() {
    let text = child("child_uses_flipped_files", CHILD_FLIPS, "300".as_ref());
    match text {
        Ok(text) => assert!(text.contains("all 300 done"), "{text}"),
        Err(end) => panic!("{end}"),
    }
}

/// A file with a few bytes changed is refused, or it computes what its golden vectors say.
#[test]
fn child_uses_flipped_files() {
    let Some(number) = std::env::var(CHILD_FLIPS).ok().and_then(|n| n.parse::<u64>().ok()) else {
        return;
    };
    let whole = gaussian().bytes();
    for seed in 0..number {
        println!("now seed {seed}");
        let draws = noise::uniform(seed, 0xf1, 8);
        let mut bytes = whole.clone();
        for pair in draws.chunks(2).take(1 + seed as usize % 4) {
            let at = (pair[0] * whole.len() as f32) as usize % whole.len();
            bytes[at] ^= 1 << ((pair[1] * 8.0) as u32 % 8);
        }
        // Accepted means that the self-test inside passed.
        if let Err(error) = outcome(&format!("seed {seed}"), &bytes) {
            assert!(!error.to_string().is_empty());
        }
    }
    println!("all {number} done");
}
