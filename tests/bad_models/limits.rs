//! Limits, and what goes beyond them.

use super::*;

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
