//! Files that are no models, or no files.

use super::*;

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
