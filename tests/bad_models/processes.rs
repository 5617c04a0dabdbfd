//! Files that would end the process: each is used by a process of its own.

use super::*;

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
        match child("processes::child_uses_the_file_it_is_given", CHILD_FILE, file.as_os_str()) {
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
    let text = child("processes::child_uses_flipped_files", CHILD_FLIPS, "300".as_ref());
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
