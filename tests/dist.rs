//! What is shipped to C and C++ programmers, used as they use it: unpacked in an empty folder, built with CMake and with
//! pkg-config, against the shared and against the static library.
//!
//! The tests need CMake, pkg-config, gcc, clang, binutils, stb and OpenCV, and are run by `tests/run`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use f2d2_tests::compiler::compile;
use f2d2_tests::dist::{unpack, unpacked};
use f2d2_tests::programs::{Finished, root};
use serde_json::Value;

/// What the README of the packages says that the static library needs.
const NATIVE_LIBRARIES: &str = "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc";

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PKG_CONFIG_PATH", unpacked().tree.join("lib/pkgconfig"));
    command
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
#[ignore = "needs binutils"]
fn libraries_show_their_functions_and_nothing_else() {
    let lib = unpacked().tree.join("lib");
    let symbols = |arguments: &[&str], file: &str| -> Vec<String> {
        let out =
            Finished::of(Command::new("nm").args(arguments).arg(lib.join(file))).expect(0).out();
        // Name, type, value; lines with the name of an archive are something else.
        let name = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
            [name, kind, ..] if kind.len() == 1 => Some(name.to_owned()),
            _ => None,
        };
        out.lines().filter_map(name).collect()
    };
    let shared = symbols(&["-D", "--defined-only", "-P"], "libf2d2.so");
    let fixed = symbols(&["-g", "--defined-only", "-P"], "libf2d2.a");
    assert!(shared.len() > 20, "{shared:?}");
    assert!(shared.iter().all(|symbol| symbol.starts_with("f2d2_")), "{shared:?}");
    assert_eq!(shared, fixed);

    let header = text(&unpacked().tree.join("include/f2d2.h"));
    for symbol in &shared {
        assert!(header.contains(&format!("{symbol}(")), "{symbol} is not in the header");
    }
    let dynamic =
        Finished::of(Command::new("readelf").args(["-d", "-W"]).arg(lib.join("libf2d2.so")));
    let dynamic = dynamic.expect(0).out();
    assert!(dynamic.contains("soname: [libf2d2.so.0]"), "{dynamic}");
    let sections =
        Finished::of(Command::new("readelf").args(["-S", "-W"]).arg(lib.join("libf2d2.so")));
    let sections = sections.expect(0).out();
    assert!(!sections.contains(".symtab") && !sections.contains(".debug_info"), "{sections}");
    for library in ["libf2d2.so.0", "libf2d2.so"] {
        assert!(lib.join(library).is_symlink() && lib.join(library).is_file(), "{library}");
    }
}

#[test]
#[ignore = "needs binutils"]
fn the_archive_is_the_same_when_packed_again() {
    let again = tempfile::tempdir().unwrap();
    let xtask = f2d2_tests::programs::tool("xtask", "bindings/xtask/src");
    let packed =
        Command::new(xtask).args(["dist", "--no-build", "--out"]).arg(again.path()).output();
    assert!(packed.unwrap().status.success());
    let name = unpacked().archive.file_name().unwrap();
    let (one, other) = (std::fs::read(&unpacked().archive), std::fs::read(again.path().join(name)));
    assert!(one.unwrap() == other.unwrap(), "two archives of one build differ");
}

#[test]
#[ignore = "needs binutils"]
fn the_tree_names_no_folder_of_the_machine_that_packed_it() {
    let repository = root().canonicalize().unwrap();
    let home = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME")).unwrap();
    let fresh = tempfile::tempdir().unwrap();
    unpack(&unpacked().archive, fresh.path());
    let mut files = 0;
    for path in files_below(fresh.path()) {
        let bytes = std::fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("libf2d2.") {
            // Paths of sources in panic messages are names for a report, not places that are looked into.
            continue;
        }
        files += 1;
        for folder in [repository.to_str().unwrap(), &home] {
            let found = bytes.windows(folder.len()).any(|window| window == folder.as_bytes());
            assert!(!found, "{} names {folder}", path.display());
        }
    }
    assert!(files > 30, "{files}");
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
#[ignore = "needs pkg-config"]
fn private_libraries_are_those_that_rustc_names() {
    let package = text(&unpacked().tree.join("lib/pkgconfig/f2d2.pc"));
    assert!(package.contains(&format!("\nLibs.private: {NATIVE_LIBRARIES}\n")), "{package}");
    let said = Finished::of(command("pkg-config").args(["--libs", "f2d2-static"])).expect(0).out();
    for library in NATIVE_LIBRARIES.split(' ') {
        assert!(said.contains(library), "{said}");
    }
    let said = Finished::of(command("pkg-config").args(["--modversion", "f2d2"])).expect(0).out();
    assert_eq!(said.trim(), env!("CARGO_PKG_VERSION"));
    let recipe = text(&root().join("bindings/packaging/conan/conanfile.py"));
    let names: Vec<_> = NATIVE_LIBRARIES.split(' ').map(|l| format!("\"{}\"", &l[2..])).collect();
    assert!(recipe.contains(&format!("[{}]", names.join(", "))), "{names:?}");
}

#[test]
#[ignore = "needs binutils"]
fn the_bill_of_materials_is_the_lock_file_of_what_is_linked() {
    let documents = unpacked().tree.join("share/doc/f2d2");
    let bill: Value = serde_json::from_str(&text(&documents.join("f2d2.cdx.json"))).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let own = &bill["metadata"]["component"];
    assert_eq!(
        (&own["name"], &own["version"]),
        (&"f2d2-c".into(), &env!("CARGO_PKG_VERSION").into())
    );

    let locked = locked();
    let licences = text(&documents.join("THIRD-PARTY.txt"));
    let components = bill["components"].as_array().unwrap();
    assert!(components.len() > 50, "{}", components.len());
    let mut references: Vec<&str> = vec![own["bom-ref"].as_str().unwrap()];
    for component in components {
        let field = |name: &str| component[name].as_str().unwrap_or_else(|| panic!("{component}"));
        let (name, version) = (field("name"), field("version"));
        let checksum = locked.get(&(name.to_owned(), version.to_owned()));
        let checksum = checksum.unwrap_or_else(|| panic!("{name} {version} is not locked"));
        assert_eq!(component["hashes"][0]["content"].as_str(), checksum.as_deref(), "{name}");
        let licence = component["licenses"][0]["expression"].as_str().unwrap();
        assert!(!licence.is_empty() && !licence.contains('/'), "{name}: {licence:?}");
        assert!(licences.contains(&format!("  {name} {version}: {licence}\n")), "{name}");
        references.push(field("bom-ref"));
    }
    for (name, needed) in
        [("tract-core", true), ("rayon", true), ("clap", false), ("cbindgen", false)]
    {
        let found = components.iter().any(|c| c["name"] == name);
        assert_eq!(found, needed, "{name}");
    }
    // Every edge ends at a listed component.
    let edges = bill["dependencies"].as_array().unwrap();
    assert_eq!(edges.len(), references.len());
    for edge in edges {
        for end in edge["dependsOn"].as_array().unwrap().iter().chain([&edge["ref"]]) {
            assert!(references.contains(&end.as_str().unwrap()), "{end}");
        }
    }
    assert!(licences.contains("Permission is hereby granted"), "licence texts");
}

/// Name and version to checksum, from the lock file.
fn locked() -> BTreeMap<(String, String), Option<String>> {
    let lock = text(&root().join("Cargo.lock"));
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(&format!("{name} = \"")));
        line.map(|value| value.trim_end_matches('"').to_owned())
    };
    let packages = lock.split("[[package]]").skip(1).map(|block| {
        (
            (field(block, "name").unwrap(), field(block, "version").unwrap()),
            field(block, "checksum"),
        )
    });
    packages.collect()
}

/// Follows the README of an example in the unpacked tree: every block of shell commands, in order, from its folder.
/// What each printed: CMake with the shared and the static library, pkg-config with both.
fn follow(tree: &Path, example: &str, program: &str) -> [String; 4] {
    let folder = tree.join("examples").join(example);
    let readme = text(&folder.join("README.md"));
    let blocks = readme.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let run = |block: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-euc", block]).current_dir(&folder).env_remove("PKG_CONFIG_PATH");
        Finished::of(&mut shell).expect(0).out()
    };
    let said: Vec<String> = blocks.map(run).collect();
    let shared = |path: String| {
        let mut readelf = Command::new("readelf");
        let said = Finished::of(readelf.args(["-d", "-W"]).arg(folder.join(path))).expect(0).out();
        said.contains("[libf2d2.so.0]")
    };
    assert!(shared(format!("build/{program}")) && shared(program.to_owned()));
    assert!(!shared(format!("build-static/{program}")) && !shared(format!("{program}-static")));
    said.try_into().unwrap_or_else(|said: Vec<_>| panic!("{} blocks in {example}", said.len()))
}

#[test]
#[ignore = "needs CMake and pkg-config"]
fn the_example_in_c_builds_and_judges_a_frame() {
    for said in follow(&unpacked().tree, "c", "score") {
        let p = said.lines().last().unwrap().strip_prefix("anomalous, p = ");
        let p: f64 = p.unwrap_or_else(|| panic!("{said}")).parse().unwrap();
        assert!(p > 0.0 && p < 0.01, "{p}");
        let readme = text(&unpacked().tree.join("examples/c/README.md"));
        assert!(readme.contains(&format!("`{}`", said.lines().last().unwrap())), "{said}");
    }
    let program = unpacked().tree.join("examples/c/build/score");
    let said = Finished::of(Command::new(program).args(["none.onnx", "none.json"])).expect(1).err();
    assert!(said.contains("cannot read none.onnx") && said.contains("check the path"), "{said}");
}

#[test]
#[ignore = "needs CMake, pkg-config and stb"]
fn the_example_in_cpp_says_what_the_command_line_says() {
    let model = unpacked().tree.join("models/fashion-mnist");
    let mut command = Command::new(f2d2_tests::programs::program("f2d2"));
    command.arg("score").arg(model.join("model.onnx")).arg(model.join("samples")).arg("--json");
    let said = Finished::of(command.arg("--calibration").arg(model.join("calibration.json")));
    let mut need = String::new();
    let mut counts = BTreeMap::<String, usize>::new();
    for line in said.expect(0).out().lines() {
        let answer: Value = serde_json::from_str(line).unwrap();
        let file = Path::new(answer["input"].as_str().unwrap()).file_name().unwrap();
        let verdict = answer["verdict"].as_str().unwrap();
        let p = answer["p_value"].as_f64().unwrap();
        writeln!(need, "{}: {verdict}, p = {p:.4}", file.display()).unwrap();
        *counts.entry(verdict.to_owned()).or_default() += 1;
    }
    assert_eq!(counts.values().sum::<usize>(), 16, "{need}");
    assert!(counts["normal"] > 0 && counts["anomalous"] > 0, "{counts:?}");
    writeln!(need, "{} normal, {} anomalous, 0 invalid", counts["normal"], counts["anomalous"])
        .unwrap();
    let readme = text(&unpacked().tree.join("examples/cpp/README.md"));
    assert!(need.lines().any(|line| readme.contains(&format!("`{line}`"))), "{need}");
    for said in follow(&unpacked().tree, "cpp", "folder") {
        assert!(said.ends_with(&need), "got {said}\nneed {need}");
    }
}

#[test]
#[ignore = "needs CMake and pkg-config"]
fn the_example_with_threads_scores_every_frame() {
    for said in follow(&unpacked().tree, "threads", "threads") {
        let line = said.lines().last().unwrap();
        assert!(line.starts_with("40 frames on 2 threads, 0 invalid, "), "{said}");
        let rate: f64 = line.split(' ').nth(7).unwrap().parse().unwrap();
        assert!(rate > 1.0, "{line}");
    }
}

#[test]
#[ignore = "needs CMake, pkg-config and OpenCV"]
fn the_example_with_opencv_annotates_a_video() {
    // All of the video, and what the other commands ask for.
    let frames = [795, 240, 240, 240];
    let folder = unpacked().tree.join("examples/cpp-opencv");
    let said = follow(&unpacked().tree, "cpp-opencv", "video");
    let mut last = Vec::new();
    for (said, frames) in said.into_iter().zip(frames) {
        let lines: Vec<&str> = said.lines().rev().take(3).collect();
        let calibrated = format!("calibrated on {} frames, at most 5 % false alarms", frames / 2);
        assert_eq!(lines[2], calibrated);
        let digits = lines[1].split(|c: char| !c.is_ascii_digit());
        last = digits.filter_map(|n| n.parse::<usize>().ok()).collect();
        let counted = (last[0], last[1] + last[2], last[3]);
        assert_eq!(counted, (frames - frames / 2, last[0], 0), "{said}");
        let numbers: Vec<f64> = lines[0].split(' ').filter_map(|word| word.parse().ok()).collect();
        let [rate, p50, p99] = numbers[..] else { panic!("{said}") };
        assert!(rate > 0.0 && p50 > 0.0 && p99 >= p50, "{said}");
    }
    let table = text(&folder.join("video.csv"));
    let rows: Vec<Vec<&str>> =
        table.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let of = |verdict| rows.iter().filter(|row| row[1] == verdict).count();
    assert_eq!(vec![rows.len(), of("normal"), of("anomalous"), of("invalid")], last);
    for row in &rows {
        let p: f64 = row[3].parse().unwrap();
        assert!(row.len() == 5 && p > 0.0 && p <= 1.0, "{row:?}");
    }
    assert!(std::fs::metadata(folder.join("video.avi")).unwrap().len() > 1 << 20);
}

#[test]
#[ignore = "needs CMake and pkg-config"]
fn the_tree_works_wherever_it_is_moved() {
    let folder = tempfile::tempdir().unwrap();
    unpack(&unpacked().archive, &folder.path().join("first"));
    let moved = folder.path().join("moved elsewhere");
    std::fs::rename(folder.path().join("first").join(&unpacked().name), &moved).unwrap();
    assert!(follow(&moved, "c", "score").iter().all(|said| said.contains("anomalous")));
}

#[test]
#[ignore = "needs gcc and clang"]
fn the_headers_compile_without_a_warning() {
    let sources = root().join("tests/cpp");
    let tree = &unpacked().tree;
    let lib = tree.join("lib").display().to_string();
    for compiler in ["g++", "clang++"] {
        for standard in ["c++17", "c++20"] {
            for (source, flags, needs) in [
                ("exceptions.cpp", &[][..], 0),
                ("no_exceptions.cpp", &["-fno-exceptions"][..], 0),
                ("no_exceptions.cpp", &["-DF2D2_NO_EXCEPTIONS"][..], 0),
            ] {
                let program = compile(compiler)
                    .args([
                        &format!("-std={standard}"),
                        "-Wall",
                        "-Wextra",
                        "-Wpedantic",
                        "-Wshadow",
                        "-Werror",
                    ])
                    .args(flags)
                    .arg(format!("-I{}", tree.join("include").display()))
                    .arg(sources.join(source))
                    .args([format!("-L{lib}"), "-lf2d2".into(), format!("-Wl,-rpath,{lib}")])
                    .program();
                let model = tree.join("models/fashion-mnist/model.onnx");
                let said = program.run(&[model]).expect(needs).out();
                assert_eq!(said, "ok\n", "{compiler} {standard} {source}");
            }
        }
    }
}

#[test]
#[ignore = "needs OpenCV"]
fn matrices_become_frames() {
    let tree = &unpacked().tree;
    let lib = tree.join("lib").display().to_string();
    let program = compile("g++")
        .args([
            "-std=c++17",
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Werror",
            "-isystem/usr/include/opencv4",
        ])
        .arg(format!("-I{}", tree.join("include").display()))
        .arg(root().join("tests/cpp/opencv.cpp"))
        .args([
            format!("-L{lib}"),
            "-lf2d2".into(),
            format!("-Wl,-rpath,{lib}"),
            "-lopencv_core".into(),
        ])
        .program();
    assert_eq!(
        program.run(&[tree.join("models/fashion-mnist/model.onnx")]).expect(0).out(),
        "ok\n"
    );
}

#[test]
#[ignore = "needs binutils"]
fn two_static_libraries_in_rust_fit_into_one_program() {
    let bridge = f2d2_tests::programs::library("libf2d2_cxx.a", "bindings/cxx/src");
    let tree = &unpacked().tree;
    let program = compile("c++")
        .args(["-std=c++17", "-Wall", "-Wextra"])
        .arg(format!("-I{}", tree.join("include").display()))
        .arg(format!("-isystem{}", bridge.ancestors().nth(2).unwrap().join("cxxbridge").display()))
        .arg(root().join("tests/cpp/two_libraries.cpp"))
        .args([&tree.join("lib/libf2d2.a"), &bridge])
        .args(NATIVE_LIBRARIES.split(' '))
        .program();
    assert_eq!(program.run(&["no such file"]).expect(0).out(), "ok\n");
}

#[test]
#[ignore = "needs CMake"]
fn the_vcpkg_port_installs_what_find_package_finds() {
    let port = root().join("bindings/packaging/vcpkg/f2d2");
    for (linkage, target, library) in
        [("dynamic", "f2d2::f2d2", "libf2d2.so"), ("static", "f2d2::static", "libf2d2.a")]
    {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("package");
        let mut cmake = Command::new("cmake");
        cmake.arg(format!("-DPORT_FOLDER={}", port.canonicalize().unwrap().display()));
        cmake.arg(format!("-DTREE={}", unpacked().tree.display()));
        cmake.arg(format!("-DPACKAGE={}", package.display()));
        cmake.arg(format!("-DVCPKG_LIBRARY_LINKAGE={linkage}")).arg("-P");
        Finished::of(cmake.arg(root().join("tests/vcpkg.cmake"))).expect(0);
        let both = ["libf2d2.so", "libf2d2.a"].map(|file| package.join("lib").join(file).exists());
        assert_eq!(both, ["libf2d2.so", "libf2d2.a"].map(|file| file == library), "{linkage}");
        assert!(text(&package.join("share/f2d2/copyright")).contains("f2d2 is built from"));
        let consumer = root().join("bindings/packaging/conan/test_package");
        let said = consume(&consumer, &package, &folder.path().join("build"));
        assert_eq!(said, format!("f2d2 {}\n", env!("CARGO_PKG_VERSION")), "{target}");
    }
}

/// Builds the program of `source` with the package at `prefix` and runs it.
fn consume(source: &Path, prefix: &Path, build: &Path) -> String {
    let mut cmake = Command::new("cmake");
    cmake.arg("-S").arg(source).arg("-B").arg(build);
    Finished::of(cmake.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()))).expect(0);
    Finished::of(Command::new("cmake").arg("--build").arg(build)).expect(0);
    Finished::of(&mut Command::new(build.join("version"))).expect(0).out()
}

#[test]
#[ignore = "needs CMake"]
fn the_version_of_the_package_is_checked() {
    let finds = |version: &str| {
        let folder = tempfile::tempdir().unwrap();
        let list = format!(
            "cmake_minimum_required(VERSION 3.16)\nproject(p LANGUAGES C)\nfind_package(f2d2 {version} REQUIRED)\n"
        );
        std::fs::write(folder.path().join("CMakeLists.txt"), list).unwrap();
        let mut cmake = Command::new("cmake");
        cmake.arg("-S").arg(folder.path()).arg("-B").arg(folder.path().join("build"));
        cmake.arg(format!("-DCMAKE_PREFIX_PATH={}", unpacked().tree.display()));
        Finished::of(&mut cmake).code() == Some(0)
    };
    assert!(finds("") && finds("0.1") && finds("0.1.0 EXACT"));
    assert!(!finds("1.0") && !finds("0.99"));
}

#[test]
#[ignore = "needs Conan 2 and CMake"]
fn the_conan_recipe_makes_a_package_that_its_test_can_use() {
    let conan = std::env::var("F2D2_CONAN").unwrap_or_else(|_| "conan".into());
    let home = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&conan);
        command.args(arguments).current_dir(root()).env("CONAN_HOME", home.path());
        command.env("F2D2_DIST", unpacked().tree.parent().unwrap());
        let finished = Finished::of(&mut command).expect(0);
        finished.out() + &finished.err()
    };
    run(&["profile", "detect"]);
    let recipe = "bindings/packaging/conan";
    for shared in ["True", "False"] {
        let option = format!("f2d2/*:shared={shared}");
        let generated = home.path().join("generated").display().to_string();
        run(&["export-pkg", recipe, "-o", &option, "--test-folder=", "-of", &generated]);
        let work = home.path().join(format!("test-{shared}"));
        let test = work.join("test_package");
        std::fs::create_dir_all(&test).unwrap();
        for file in ["conanfile.py", "CMakeLists.txt", "version.cpp"] {
            std::fs::copy(root().join(recipe).join("test_package").join(file), test.join(file))
                .unwrap();
        }
        let version = format!("f2d2/{}", env!("CARGO_PKG_VERSION"));
        let said = run(&["test", test.to_str().unwrap(), &version, "-o", &option]);
        assert!(said.contains(&format!("f2d2 {}", env!("CARGO_PKG_VERSION"))), "{said}");
    }
}
