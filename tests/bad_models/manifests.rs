//! Manifests.

use super::*;

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
