//! The `f2d2` command as scripts see it: exit codes, JSON fields, files that it writes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use f2d2_tests::device;
use f2d2_tests::gaussian::Gaussian;
use f2d2_tests::network::Network;
use f2d2_tests::programs::{Finished, run};
use f2d2_tests::tolerance::{BITS_PER_DIM, ENGINE_BITS_PER_DIM, assert_close};
use f2d2_tests::{shipped, skipped};
use ndarray::Array3;
use ndarray_npy::NpzWriter;
use prost::Message;
use serde_json::{Value, json};

const WIDTH: usize = 8;
const HEIGHT: usize = 6;
const FIELDS: [&str; 10] = [
    "input",
    "index",
    "nll_nats",
    "bpd",
    "statistics",
    "score",
    "p_value",
    "verdict",
    "engine",
    "steps",
];

/// A folder with a model in it.
struct Place {
    folder: tempfile::TempDir,
    gaussian: Gaussian,
}

impl Place {
    fn new() -> Self {
        let gaussian = Gaussian::new(1, HEIGHT, WIDTH, 31);
        let place = Self { folder: tempfile::tempdir().unwrap(), gaussian };
        std::fs::write(place.path("model.onnx"), place.gaussian.bytes()).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Runs `f2d2 COMMAND MODEL ...`; words that begin with `@` are files of this place.
    fn run(&self, command: &str, words: &[&str]) -> Finished {
        let word =
            |word: &&str| word.strip_prefix('@').map_or((*word).to_owned(), |w| self.text(w));
        let all: Vec<String> = [command.to_owned(), self.text("model.onnx")]
            .into_iter()
            .chain(words.iter().map(word))
            .collect();
        run("f2d2", &all)
    }

    fn write_image(&self, name: &str, image: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let head = format!("P5\n{WIDTH} {HEIGHT}\n255\n");
        std::fs::write(path, [head.as_bytes(), image].concat()).unwrap();
    }

    fn write_array(&self, name: &str, images: &[Vec<u8>]) {
        let shape = (images.len(), HEIGHT, WIDTH);
        let array = Array3::from_shape_vec(shape, images.concat()).unwrap();
        let mut file = NpzWriter::new_compressed(std::fs::File::create(self.path(name)).unwrap());
        file.add_array("images", &array).unwrap();
        file.finish().unwrap();
    }

    /// 300 normal images in `normal.npz`, calibrated in `calibration.json`.
    fn calibrate(&self) {
        self.write_array("normal.npz", &self.gaussian.images(0, 300));
        let said = self
            .run("calibrate", &["@normal.npz", "--out", "@calibration.json", "--alpha", "0.05"])
            .expect(0)
            .out();
        for text in [
            "images used          300",
            "threshold",
            "guaranteed band",
            "false-alarm rate     0.05",
        ] {
            assert!(said.contains(text), "{said}");
        }
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn one(text: &str) -> Value {
    let mut all = lines(text);
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0)
}

fn has(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(value.get(field).is_some(), "no {field} in {value}");
    }
}

#[test]
fn score_reports_every_input_and_the_exit_code_says_whether_all_were_valid() {
    let place = Place::new();
    let image = place.gaussian.image(1);
    place.write_image("in/good.pgm", &image);
    std::fs::write(place.path("in/x.png"), "a text").unwrap();
    place.write_array("two.npz", &place.gaussian.images(5, 2));

    let scored = place.run("score", &["@in", "@two.npz:images", "--json"]).expect(2);
    let lines = lines(&scored.out());
    assert_eq!(lines.len(), 4);
    for line in &lines {
        has(line, &FIELDS);
        assert_eq!((&line["engine"], &line["steps"]), (&json!("cpu"), &json!(2)));
        assert_eq!(line["p_value"], Value::Null);
    }
    let inputs: Vec<(&str, u64)> = lines
        .iter()
        .map(|l| (l["input"].as_str().unwrap(), l["index"].as_u64().unwrap()))
        .collect();
    let (good, bad, array) =
        (place.text("in/good.pgm"), place.text("in/x.png"), place.text("two.npz:images"));
    assert_eq!(inputs, [(&*good, 0), (&*bad, 0), (&*array, 0), (&*array, 1)]);
    assert_eq!((&lines[1]["verdict"], &lines[1]["bpd"]), (&json!("invalid"), &Value::Null));
    assert!(lines[1]["error"].as_str().unwrap().contains("cannot decode"));
    for (i, image) in [(0, image), (2, place.gaussian.image(5)), (3, place.gaussian.image(6))] {
        let nats = place.gaussian.nll(&image);
        let need = nats / (WIDTH * HEIGHT) as f64 / std::f64::consts::LN_2;
        assert_close("bpd", &[lines[i]["bpd"].as_f64().unwrap()], &[need], BITS_PER_DIM);
        assert_eq!(
            (&lines[i]["verdict"], &lines[i]["score"]),
            (&Value::Null, &lines[i]["nll_nats"])
        );
        assert!(lines[i]["statistics"]["nll@1"].is_f64());
    }
    place.run("score", &["@in/good.pgm", "@two.npz", "--json"]).expect(0);
    let table = place.run("score", &["@in"]).expect(2).out();
    assert!(table.contains("good.pgm") && table.contains("invalid: "), "{table}");
}

#[test]
fn usage_and_model_errors_end_with_one_and_say_why() {
    let place = Place::new();
    place.write_image("good.pgm", &place.gaussian.image(1));
    std::fs::write(place.path("text.onnx"), "no model").unwrap();
    let said = |words: &[&str]| {
        let words: Vec<String> = words
            .iter()
            .map(|w| w.strip_prefix('@').map_or((*w).into(), |w| place.text(w)))
            .collect();
        let finished = run("f2d2", &words).expect(1);
        assert!(finished.out().is_empty(), "{}", finished.out());
        finished.err()
    };
    assert!(said(&["score", "@none.onnx", "@good.pgm"]).contains("error: cannot read "));
    assert!(said(&["score", "@text.onnx", "@good.pgm"]).contains("is not usable"));
    assert!(said(&["score", "@model.onnx"]).contains("Usage"));
    assert!(said(&["score", "@model.onnx", "@good.pgm", "--steps", "0"]).contains("steps is 0"));
    assert!(said(&["score", "@model.onnx", "@good.pgm", "--engine", "abacus"]).contains("abacus"));
    assert!(
        said(&["calibrate", "@model.onnx", "@good.pgm", "--out", "@c.json", "--alpha", "2"])
            .contains("alpha")
    );
    assert!(
        said(&["calibrate", "@model.onnx", "@good.pgm", "--out", "@c.json"])
            .contains("need at least")
    );
    assert!(
        said(&["calibrate", "@model.onnx", "@good.pgm", "--out", "@none/c.json"])
            .contains("cannot write")
    );
    assert!(said(&["nonsense"]).contains("nonsense"));
    assert!(said(&[]).contains("Usage"));
    assert!(!place.path("c.json").exists());
    run("f2d2", &["--help"]).expect(0);
    assert!(run("f2d2", &["--version"]).expect(0).out().starts_with("f2d2 "));
}

#[test]
fn more_steps_than_memory_are_refused() {
    let place = Place::new();
    place.write_image("good.pgm", &place.gaussian.image(1));
    let steps = usize::MAX.to_string();
    for (command, words) in [("score", ["@good.pgm"].as_slice()), ("sample", &["--out", "@a.png"])]
    {
        let finished = place.run(command, &[words, &["--steps", &steps]].concat()).expect(1);
        assert!(finished.err().starts_with("error: "), "{}", finished.err());
    }
}

#[test]
fn an_empty_folder_and_a_missing_file_are_invalid_inputs() {
    let place = Place::new();
    std::fs::create_dir(place.path("empty")).unwrap();
    for input in ["@empty", "@none.png"] {
        let line = one(&place.run("score", &[input, "--json"]).expect(2).out());
        has(&line, &FIELDS);
        assert_eq!(line["verdict"], json!("invalid"));
        assert!(!line["error"].as_str().unwrap().is_empty());
    }
}

#[test]
fn a_calibration_gives_verdicts_and_one_of_another_model_is_refused() {
    let place = Place::new();
    place.calibrate();
    place.write_array("new.npz", &place.gaussian.images(5000, 200));
    place.write_image("black.pgm", &[0; WIDTH * HEIGHT]);
    let calibrated = |words: &[&str]| {
        let words = [words, &["--calibration", "@calibration.json", "--json"]].concat();
        place.run("score", &words)
    };
    let normal = lines(&calibrated(&["@new.npz"]).expect(0).out());
    let p_values = normal.iter().map(|line| line["p_value"].as_f64().unwrap());
    assert!(p_values.clone().all(|p| p > 0.0 && p <= 1.0));
    let flagged = normal.iter().filter(|line| line["verdict"] == json!("anomalous")).count();
    // At most 5 % in truth; of 200 images more than 20 would be 5 standard deviations.
    assert!(flagged <= 20, "{flagged} of 200 normal images are flagged");
    assert!(normal.iter().all(|l| matches!(l["verdict"].as_str(), Some("normal" | "anomalous"))));
    let black = one(&calibrated(&["@black.pgm"]).expect(0).out());
    assert_eq!(black["verdict"], json!("anomalous"));
    assert!(black["p_value"].as_f64().unwrap() < 0.05);

    for (words, part) in [(&["--steps", "4"][..], "schedules"), (&["--steps", "1"], "schedules")] {
        let finished = calibrated(&[&["@new.npz"], words].concat()).expect(1);
        assert!(
            finished.err().contains("calibration was made for ") && finished.err().contains(part)
        );
        assert!(finished.out().is_empty());
    }
    let other = Gaussian::new(1, HEIGHT, WIDTH, 32);
    std::fs::write(place.path("model.onnx"), other.bytes()).unwrap();
    let finished = calibrated(&["@black.pgm"]).expect(1);
    assert!(finished.err().contains("calibration was made for model"), "{}", finished.err());
    std::fs::write(place.path("calibration.json"), "{").unwrap();
    assert!(calibrated(&["@black.pgm"]).expect(1).err().contains("calibration is not usable"));
}

#[test]
fn sample_writes_a_png_and_evaluate_a_page_of_its_own() {
    let place = Place::new();
    place.calibrate();
    place.run("sample", &["--out", "@grid.png", "-n", "5", "--seed", "3"]).expect(0);
    let png = std::fs::read(place.path("grid.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.len() > 100);
    place.run("sample", &["--out", "@again.png", "-n", "5", "--seed", "3"]).expect(0);
    assert_eq!(std::fs::read(place.path("again.png")).unwrap(), png);
    place.run("sample", &["--out", "@none/grid.png"]).expect(1);

    let guided = |out: &str, rate: &str| {
        place.run("sample", &["--out", out, "-n", "5", "--seed", "3", "--guidance", rate])
    };
    assert!(guided("@none.png", "0.5").expect(1).err().contains("grad_d"), "the model has none");
    let plain = std::fs::read(place.path("model.onnx")).unwrap();
    std::fs::write(place.path("model.onnx"), place.gaussian.guided().encode_to_vec()).unwrap();
    assert!(guided("@guided.png", "0.5").expect(0).out().contains("guidance 0.5"));
    assert_ne!(std::fs::read(place.path("guided.png")).unwrap(), png);
    for rate in ["0", "nan", "inf", "much"] {
        assert!(guided("@none.png", rate).expect(1).err().contains("above 0"), "{rate}");
    }
    assert!(!place.path("none.png").exists());
    std::fs::write(place.path("model.onnx"), plain).unwrap();

    place.write_array("new.npz", &place.gaussian.images(5000, 60));
    let odd: Vec<Vec<u8>> = (0..40).map(|i| vec![i * 6; WIDTH * HEIGHT]).collect();
    place.write_array("odd.npz", &odd);
    let words = [
        "--normal",
        "@new.npz",
        "--anomalous",
        "@odd.npz",
        "--calibration",
        "@calibration.json",
        "--report",
        "@report.html",
        "--json",
    ];
    let figures = one(&place.run("evaluate", &words).expect(0).out());
    has(
        &figures,
        &["model", "model_sha256", "engine", "steps", "normal", "all", "anomalous", "calibration"],
    );
    assert!(figures["all"]["auroc"].as_f64().unwrap() > 0.9, "{figures}");
    let page = std::fs::read_to_string(place.path("report.html")).unwrap();
    assert!(page.contains("<html") && page.contains("</html>"));
    for link in
        ["src=\"http", "href=\"http", "url(http", "src=\"//", "@import", "<script src", "<link"]
    {
        assert!(!page.contains(link), "the report refers to {link}");
    }
    let local = place.folder.path().display().to_string();
    assert!(!page.contains(&format!("src=\"{local}")), "the report refers to files beside it");
}

#[test]
fn heat_maps_are_written_one_per_valid_image() {
    let place = Place::new();
    place.write_image("in/a.pgm", &place.gaussian.image(1));
    place.write_image("in/b.pgm", &place.gaussian.image(2));
    std::fs::write(place.path("in/x.png"), "a text").unwrap();
    let out = place.run("score", &["@in", "--json", "--heatmaps", "@maps"]).expect(2).out();
    let written: Vec<PathBuf> =
        lines(&out).iter().filter_map(|l| l["heatmap"].as_str().map(PathBuf::from)).collect();
    assert_eq!(written.len(), 2);
    for path in written {
        assert!(Path::new(&path).starts_with(place.path("maps")));
        assert!(std::fs::read(&path).unwrap().starts_with(b"\x89PNG"));
    }
}

#[test]
fn info_and_bench_describe_the_model_and_the_machine() {
    let place = Place::new();
    let info = one(&place.run("info", &["--json"]).expect(0).out());
    has(
        &info,
        &[
            "name",
            "licence",
            "schedules",
            "noise_floors",
            "preprocess",
            "sha256",
            "engines",
            "golden_vectors",
        ],
    );
    assert_eq!(
        info["preprocess"]["shape"],
        json!({ "channels": 1, "height": HEIGHT, "width": WIDTH })
    );
    let engines = info["engines"].as_array().unwrap();
    assert!(engines.iter().any(|e| e["engine"] == "tract" && e["self_test"] == "passed"), "{info}");
    assert!(place.run("info", &[]).expect(0).out().contains("self-test passed"));
    let cpu = engines.iter().find(|e| e["choice"] == "cpu").unwrap();
    assert_eq!(cpu["engine"], "cpu", "{cpu}");
    assert!(cpu["reason"].as_str().unwrap().starts_with("asked for; "), "{cpu}");

    let words = ["--json", "--batch", "3", "--seconds", "0", "--threads", "1"];
    let bench = one(&place.run("bench", &words).expect(0).out());
    has(
        &bench,
        &[
            "engine",
            "batch",
            "steps",
            "threads",
            "latency_p50_ms",
            "latency_p99_ms",
            "calls",
            "load_ms",
        ],
    );
    assert_eq!((&bench["batch"], &bench["threads"]), (&json!(3), &json!(1)));
    assert!(bench["latency_p50_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(bench["against"], json!(null));
    let words = [&words[..], &["--steps", "2", "--against", "64"]].concat();
    let against = &one(&place.run("bench", &words).expect(0).out())["against"];
    assert_eq!((&against["steps"], &against["evaluations_ratio"]), (&json!(64), &json!(32.0)));
    assert!(against["time_ratio"].as_f64().unwrap() > 0.0, "{against}");

    let mut wrong = place.gaussian.manifest();
    wrong["golden"][0]["log_det"] = json!(1000.0);
    use prost::Message;
    std::fs::write(place.path("model.onnx"), place.gaussian.proto_with(&wrong).encode_to_vec())
        .unwrap();
    let failed = place.run("info", &["--json"]).expect(1);
    assert_eq!(one(&failed.out())["engines"][0]["self_test"], json!("failed"));
    assert!(failed.err().contains("self-test on engine tract"), "{}", failed.err());
}

#[test]
fn info_names_the_node_for_which_the_cpu_has_no_kernel() {
    let mut network = Network::new(1, HEIGHT, WIDTH, 3);
    let mut h = network.convolution(&network.image(), 4, 3);
    let ones = network.constant(&[4], &[1.0; 4]);
    h.name = network.add("BatchNormalization", &[&h.name, &ones, &ones, &ones, &ones], vec![]);
    let place = Place::new();
    std::fs::write(place.path("model.onnx"), network.finish(&h).bytes()).unwrap();
    // Its golden vectors are those of another model.
    let said = place.run("info", &[]).expect(1).out();
    let line = said.lines().find(|line| line.starts_with("engine cpu")).unwrap();
    assert!(line.contains("on tract (asked for, but"), "{line}");
    assert!(line.contains("no kernel for node") && line.contains("BatchNormalization"), "{line}");
}

#[test]
fn the_environment_forces_an_instruction_set_or_is_refused() {
    let model = f2d2_tests::programs::root().join("models/fashion-mnist/model.onnx");
    let model = model.to_str().unwrap();
    let bench = |set: &str| {
        let mut command = std::process::Command::new(f2d2_tests::programs::program("f2d2"));
        let arguments =
            ["bench", model, "--batch", "1", "--steps", "1", "--seconds", "0", "--threads", "1"];
        command.args(arguments).env("F2D2_CPU", set).output().unwrap()
    };
    let portable = bench("portable");
    let text = String::from_utf8(portable.stdout).unwrap();
    assert!(portable.status.success() && text.contains("; portable)"), "{text}");
    let unknown = bench("mmx");
    let text = String::from_utf8(unknown.stderr).unwrap();
    assert!(!unknown.status.success() && text.contains("portable"), "{text}");
}

#[test]
fn a_shipped_model_gives_the_verdicts_of_the_cpu_on_a_named_adapter() {
    let Some(adapter) = device::options().and_then(|options| options.adapter) else { return };
    let folders = shipped::folders();
    let Some(folder) = folders.iter().find(|folder| folder.join("samples").is_dir()) else {
        return skipped("verdicts on a GPU: no shipped model has samples");
    };
    let text = |name: &str| folder.join(name).display().to_string();
    let (model, calibration) = (text("model.onnx"), text("calibration.json"));
    let all = std::fs::read_dir(folder.join("samples")).unwrap();
    let mut samples: Vec<String> =
        all.map(|entry| entry.unwrap().path().display().to_string()).collect();
    samples.sort();
    // A few of each kind: a driver that computes on the CPU is slow.
    let samples: Vec<&str> = samples.iter().step_by(4).map(String::as_str).collect();
    let score = |engine: &[&str]| {
        let words = ["score", &model, "--json", "--calibration", &calibration];
        lines(&run("f2d2", &[&words[..], &samples, engine].concat()).expect(0).out())
    };
    let got = score(&["--engine", "gpu", "--adapter", &adapter]);
    let need = score(&["--engine", "cpu"]);
    assert!(got.len() >= 4 && got.len() == need.len(), "{} {}", got.len(), need.len());
    for (got, need) in got.iter().zip(&need) {
        assert_eq!((&got["engine"], &need["engine"]), (&json!("gpu"), &json!("cpu")));
        assert_eq!((&got["input"], &got["verdict"]), (&need["input"], &need["verdict"]));
        let bpd = |line: &Value| [line["bpd"].as_f64().unwrap()];
        assert_close(&got["input"].to_string(), &bpd(got), &bpd(need), ENGINE_BITS_PER_DIM);
    }
    let verdicts: std::collections::BTreeSet<_> =
        need.iter().map(|l| l["verdict"].as_str()).collect();
    assert!(verdicts.contains(&Some("normal")) && verdicts.contains(&Some("anomalous")));

    let said = run("f2d2", &["info", &model]).expect(0).out();
    assert!(said.lines().any(|l| l.starts_with("adapter") && l.contains(&adapter)), "{said}");
    let listed = one(&run("f2d2", &["info", &model, "--json"]).expect(0).out());
    let names: Vec<_> = listed["adapters"].as_array().unwrap().iter().map(|a| &a["name"]).collect();
    assert!(names.contains(&&json!(adapter)), "{names:?}");
}
