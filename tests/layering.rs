//! The import table of the library, and what its sources may name at all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use f2d2_tests::programs::root;

/// Stages in the order of the data. One may import from those before it; `flow` and `model` know each other's data.
const STAGES: [&str; 12] = [
    "error",
    "file",
    "frame",
    "preprocess",
    "model",
    "flow",
    "likelihood",
    "statistics",
    "calibration",
    "heatmap",
    "verdict",
    "detector",
];
/// Beside the detector, at the end of the chain.
const LAST: [&str; 2] = ["detector", "sampler"];
const LINES: usize = 500;

/// Position of a stage; `None` for a module that the table does not have.
fn rank(stage: &str) -> Option<usize> {
    if LAST.contains(&stage) {
        return Some(STAGES.len());
    }
    STAGES.iter().position(|s| *s == stage)
}

/// What is wrong with one file of the library; `path` is relative to its `src`.
fn faults(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let code = code(text);
    let first = path.split('/').next().unwrap_or(path);
    let stage = first.strip_suffix(".rs").unwrap_or(first);
    if stage != "lib" {
        let Some(own) = rank(stage) else {
            return vec![format!("{path}: module {stage} is not in the table")];
        };
        for (line, import) in imports(&code) {
            let allowed = match rank(&import) {
                _ if import == stage => true,
                // Re-exports at the root of the crate that stages may name.
                None => matches!(import.as_str(), "Result" | "Error"),
                Some(_) if stage == "model" && import == "flow" => true,
                // The detector and the sampler do not know each other.
                Some(other) => other < own,
            };
            if !allowed {
                faults.push(format!("{path}:{line}: {stage} imports {import}"));
            }
        }
    }
    let only = |word: &str, homes: &[&str]| {
        let home = homes.iter().any(|home| path.starts_with(home));
        let found = code.lines().position(|line| names(line, word));
        found.filter(|_| !home).map(|i| format!("{path}:{}: names {word}", i + 1))
    };
    faults.extend(only("tract_onnx", &["flow/tract", "flow/plan", "model/onnx.rs"]));
    faults.extend(only("prost", &["model/onnx.rs"]));
    faults.extend(only("wgpu", &["flow/gpu/"]));
    faults.extend(only("pulp", &["flow/native"]));
    faults.extend(only("unsafe", &["flow/native/simd", "flow/gpu/pipelines.rs"]));
    for part in path.split(['/', '.']) {
        if matches!(part, "utils" | "util" | "common" | "helpers" | "core" | "misc") {
            faults.push(format!("{path}: a module named {part} says nothing"));
        }
    }
    let lines = text.lines().count();
    if lines > LINES && !path.ends_with("tests.rs") {
        faults.push(format!("{path}: {lines} lines, need at most {LINES}"));
    }
    faults
}

/// The source without comments and without what only tests see; line numbers stay.
fn code(text: &str) -> String {
    let text = text.find("#[cfg(test)]\nmod tests {").map_or(text, |end| &text[..end]);
    let line = |line: &str| match line.find("//") {
        Some(at) => line[..at].to_owned(),
        None => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// First names after `crate::`, with their lines, of plain paths and of `use crate::{a, b::c}`.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let line = code[..at].lines().count().max(1);
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => found.push((line, word(rest))),
            Some(list) => {
                let mut depth = 0;
                let mut start = true;
                for (i, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && !c.is_whitespace() => {
                            found.push((line, word(&list[i..])));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn names(line: &str, name: &str) -> bool {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == name)
}

/// What is wrong with a file outside the library that shall use its public paths only.
fn outside_faults(path: &str, text: &str) -> Vec<String> {
    let inside = ["sdk/src", "sdk::", "tract_onnx", "wgpu"];
    let found = |word: &&str| {
        code(text).lines().any(|line| {
            if word.contains(['/', ':']) { line.contains(word) } else { names(line, word) }
        })
    };
    inside.iter().filter(|w| found(w)).map(|word| format!("{path}: names {word}")).collect()
}

fn machine_paths(path: &str, text: &str) -> Vec<String> {
    // In pieces, so that this file does not hold them.
    let places = [
        ["/ho", "me/"],
        ["/ro", "ot/"],
        ["/Us", "ers/"],
        ["/wo", "rk/"],
        ["/t", "mp/"],
        ["C:", "\\"],
    ];
    let held = |place: &String| text.contains(place.as_str());
    let places = places.iter().map(|place| place.concat());
    places
        .filter(held)
        .map(|place| format!("{path}: holds a path of one machine, {place}"))
        .collect()
}

fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if name.starts_with('.') || matches!(name.as_str(), "target" | "runs" | "__pycache__") {
            continue;
        }
        if path.is_dir() {
            all.extend(files(&path, endings));
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            all.push(path);
        }
    }
    all.sort();
    all
}

fn check(folder: &str, endings: &[&str], faults: impl Fn(&str, &str) -> Vec<String>) {
    let folder = root().join(folder);
    let found = files(&folder, endings);
    assert!(!found.is_empty(), "nothing to check in {}", folder.display());
    let fault = |path: &PathBuf| {
        let name = path.strip_prefix(&folder).unwrap().to_string_lossy().replace('\\', "/");
        faults(&name, &std::fs::read_to_string(path).unwrap())
    };
    let all: Vec<String> = found.iter().flat_map(fault).collect();
    assert!(all.is_empty(), "{all:#?}");
}

#[test]
fn the_library_keeps_its_import_table() {
    check("sdk/src", &[".rs"], faults);
}

#[test]
fn programs_use_the_public_interface() {
    check("bindings", &[".rs"], outside_faults);
    check("examples", &[".rs"], outside_faults);
}

#[test]
fn no_file_holds_a_path_of_one_machine() {
    check("", &[".rs", ".toml", ".md", ".py", ".sh", ".json", ".css"], machine_paths);
}

#[test]
fn public_modules_stand_in_the_order_of_the_table() {
    let lib = std::fs::read_to_string(root().join("sdk/src/lib.rs")).unwrap();
    let ranks: Vec<usize> = lib
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "))
        .filter_map(|rest| rest.strip_suffix(';'))
        .map(|name| rank(name).unwrap_or_else(|| panic!("{name} is not in the table")))
        .collect();
    assert!(ranks.len() >= STAGES.len() && ranks.is_sorted(), "{ranks:?}");
}

#[test]
fn the_checker_finds_violations() {
    let refused = |path: &str, text: &str, why: &str| {
        let found = faults(path, text);
        assert!(found.iter().any(|f| f.contains(why)), "{path} {text:?}: {found:?}, need {why}");
    };
    refused("frame/view.rs", "use crate::model::Model;", "frame/view.rs:1: frame imports model");
    refused("error.rs", "use crate::frame::Frame;", "error imports frame");
    refused(
        "flow/mod.rs",
        "\n\nuse crate::{\n    error::Error,\n    verdict::{A, B}, statistics::C,\n};",
        "flow imports verdict",
    );
    refused("flow/mod.rs", "use crate::{error::Error, statistics::C};", "flow imports statistics");
    refused(
        "likelihood/mod.rs",
        "fn f() {\n    let a = crate::detector::X;\n}",
        "likelihood/mod.rs:2: likelihood imports detector",
    );
    refused("verdict.rs", "use crate::Detector;", "verdict imports Detector");
    refused("sampler.rs", "use crate::detector::Detector;", "sampler imports detector");
    refused("detector.rs", "use crate::sampler::Sampler;", "detector imports sampler");
    refused(
        "statistics/mod.rs",
        "use crate::calibration::Score;",
        "statistics imports calibration",
    );
    refused("model/limits.rs", "use tract_onnx::pb;", "names tract_onnx");
    refused("detector.rs", "fn f() { tract_onnx::onnx(); }", "names tract_onnx");
    refused("model/manifest.rs", "use prost::Message;", "names prost");
    refused("flow/mod.rs", "unsafe { f() }", "names unsafe");
    refused("flow/mod.rs", &"\n".repeat(501), "501 lines");
    refused("frame/utils.rs", "", "says nothing");
    refused("helpers/mod.rs", "", "not in the table");
    let fine = |path: &str, text: &str| assert_eq!(faults(path, text), Vec::<String>::new());
    fine(
        "flow/mod.rs",
        "use crate::model::Model;\nuse crate::{error::{Error, Result}, preprocess::Shape};",
    );
    fine("model/manifest.rs", "use crate::flow::Clock; // not crate::verdict\n");
    fine(
        "frame/view.rs",
        "//! unsafe crate::detector\nfn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::model::M;\n}",
    );
    fine("flow/tract/load.rs", "use tract_onnx::prelude::*;");
    fine("detector.rs", "use crate::verdict::Verdict;");
    assert_eq!(outside_faults("a.rs", "use f2d2::Detector;"), Vec::<String>::new());
    assert_eq!(outside_faults("a.rs", "use tract_onnx::onnx;").len(), 1);
    assert_eq!(outside_faults("a.rs", "#[path = \"../../sdk/src/error.rs\"] mod e;").len(), 1);
    assert_eq!(machine_paths("a.md", &["see /ho", "me/somebody/models"].concat()).len(), 1);
    assert_eq!(machine_paths("a.md", "see models/train").len(), 0);
}
