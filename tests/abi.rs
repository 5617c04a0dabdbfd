//! The C ABI as C and C++ programs meet it: header, symbols, layouts, behaviour, faults, sanitizers.
//!
//! Which fault has which test stands in `include/README.md`.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use f2d2_tests::native::{Workplace, available, library};
use f2d2_tests::programs::{Finished, root};
use f2d2_tests::skipped;

const COMPILERS: [(&str, &str); 2] = [("gcc", "g++"), ("clang", "clang++")];
const C: [&str; 3] = ["c99", "c11", "c17"];
const CPP: [&str; 2] = ["c++17", "c++20"];

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn run(program: &str, arguments: &[&str], file: &Path) -> Finished {
    Command::new(program).args(arguments).arg(file).output().unwrap().into()
}

/// Functions of the header with the names of their pointer parameters.
fn functions() -> Vec<(String, Vec<String>)> {
    let header = without_comments(&text("include/f2d2.h"));
    let mut functions = Vec::new();
    for statement in header.split(';') {
        let Some((head, parameters)) = statement.split_once('(') else { continue };
        // The first function stands behind `extern "C" {`.
        let head = head.rsplit('{').next().unwrap_or(head);
        let name = head.split([' ', '*', '\n']).next_back().unwrap_or_default();
        if !name.starts_with("f2d2_") || head.contains("typedef") {
            continue;
        }
        let parameters = parameters.trim_end().trim_end_matches(')');
        let pointer =
            |parameter: &&str| parameter.contains('*') || parameter.contains("_callback ");
        let last = |parameter: &str| {
            parameter.split([' ', '*']).next_back().unwrap_or_default().to_owned()
        };
        functions
            .push((name.to_owned(), parameters.split(',').filter(pointer).map(last).collect()));
    }
    functions
}

fn without_comments(text: &str) -> String {
    let mut rest = text;
    let mut code = String::new();
    while let Some((before, comment)) = rest.split_once("/*") {
        code += before;
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    let code = code + rest;
    // Lines of the preprocessor, with those that continue them.
    let mut inside = false;
    let mut kept = Vec::new();
    for line in code.lines() {
        if !line.starts_with('#') && !inside {
            kept.push(line);
        }
        inside = (inside || line.starts_with('#')) && line.ends_with('\\');
    }
    kept.join("\n")
}

#[test]
fn the_header_compiles_in_every_standard() {
    let workplace = Workplace::default();
    for (c, cpp) in COMPILERS {
        if !available(c) || !available(cpp) {
            continue;
        }
        for standard in C {
            // _Static_assert of layout.c is an extension in C99.
            let source = if standard == "c99" { "empty.c" } else { "layout.c" };
            let flags = [&format!("-std={standard}")[..], "-Wstrict-prototypes"];
            let program = workplace.compile(c, &flags, source);
            Finished::from(Command::new(program).output().unwrap()).expect(0);
        }
        for standard in CPP {
            let program = workplace.compile(cpp, &[&format!("-std={standard}")], "layout.cpp");
            Finished::from(Command::new(program).output().unwrap()).expect(0);
        }
    }
}

#[test]
fn a_wrong_layout_does_not_compile() {
    let wrong = text("tests/abi/layout.def")
        .replace("FIELD(f2d2_frame, data, 8)", "FIELD(f2d2_frame, data, 16)");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("layout.def"), wrong).unwrap();
    std::fs::copy(root().join("tests/abi/layout.c"), folder.path().join("layout.c")).unwrap();
    let include = root().join("include").display().to_string();
    let said = run("gcc", &["-I", &include, "-fsyntax-only"], &folder.path().join("layout.c"));
    assert!(said.err().contains("f2d2_frame.data"), "{}", said.err());
    assert_eq!(said.code(), Some(1));
}

#[test]
fn exactly_the_listed_symbols_are_exported() {
    let said = run("nm", &["-D", "--defined-only", "--format=posix"], &library()).expect(0).out();
    let exported: BTreeSet<&str> = said.lines().filter_map(|line| line.split(' ').next()).collect();
    let list = text("tests/abi/symbols.txt");
    let listed: BTreeSet<&str> = list.lines().collect();
    assert_eq!(exported, listed);
    let functions = functions();
    let declared: BTreeSet<&str> = functions.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(declared, listed);
    assert!(listed.iter().all(|name| name.starts_with("f2d2_")));
}

#[test]
fn the_library_has_its_major_version_in_its_name_and_stays_loaded() {
    let said = run("readelf", &["-d", "-W"], &library()).expect(0).out();
    assert!(said.contains("Library soname: [libf2d2.so.0]"), "{said}");
    assert!(said.contains("NODELETE"), "{said}");
    for needed in said.lines().filter(|line| line.contains("(NEEDED)")) {
        let system = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux"];
        assert!(system.iter().any(|name| needed.contains(name)), "{needed}");
    }
}

#[test]
fn every_way_through_the_interface_works_from_c_and_cpp() {
    let workplace = Workplace::default();
    for (c, cpp) in COMPILERS {
        if available(c) && available(cpp) {
            workplace.check(&workplace.compile(c, &["-std=c99"], "uses.c"), &[]);
            workplace.check(&workplace.compile(cpp, &["-std=c++17"], "uses.cpp"), &[]);
        }
    }
}

#[test]
fn a_program_of_the_first_header_runs_with_this_library() {
    let workplace = Workplace::default();
    let first = root().join("tests/abi/first").display().to_string();
    let program = workplace.compile("gcc", &["-std=c99", "-I", &first], "uses.c");
    workplace.check(&program, &[]);
}

#[test]
fn frames_31_to_43() {
    let workplace = Workplace::default();
    workplace.check(&workplace.program("frames.c"), &[]);
}

#[test]
fn misuse_44_to_47_and_49() {
    let workplace = Workplace::default();
    workplace.check(&workplace.program("misuse.c"), &[]);
}

#[test]
fn every_pointer_of_every_function_is_passed_as_null() {
    let source = text("tests/abi/misuse.c");
    let missing = |source: &str| -> Vec<String> {
        let all = functions().into_iter().flat_map(|(function, parameters)| {
            parameters.into_iter().map(move |parameter| format!("({function}, {parameter}, "))
        });
        all.filter(|case| {
            !["NULL_CASE", "NULL_FINE"].iter().any(|name| source.contains(&format!("{name}{case}")))
        })
        .collect()
    };
    assert_eq!(missing(&source), Vec::<String>::new());
    assert!(functions().iter().map(|(_, pointers)| pointers.len()).sum::<usize>() > 80);
    let without = source.replace("NULL_CASE(f2d2_session_score, frame, ", "(");
    assert_eq!(missing(&without), ["(f2d2_session_score, frame, "]);
}

#[test]
fn threads_41_48_and_49() {
    let workplace = Workplace::default();
    workplace.check(&workplace.program("threads.c"), &[]);
}

#[test]
fn threads_of_the_library_of_the_host_and_none() {
    let workplace = Workplace::default();
    workplace.check(&workplace.program("pool.c"), &[]);
}

#[test]
fn callbacks_50() {
    let workplace = Workplace::default();
    let program = workplace.program("callbacks.c");
    workplace.check(&program, &[]);
    workplace.check(&program, &["jump"]);
    let throwing = workplace.compile("g++", &["-std=c++17"], "throwing.cpp");
    let said = Finished::from(workplace.command(&throwing).output().unwrap());
    assert_eq!(said.code(), None, "{}", said.out());
    assert_eq!(said.out(), "about to throw\n");
    assert!(said.err().contains("foreign exception"), "{}", said.err());
}

#[test]
fn the_process_around_51_to_57() {
    let workplace = Workplace::default();
    let program = workplace.program("process.c");
    for what in ["fork", "fork-before", "stack", "floats"] {
        workplace.check(&program, &[what]);
    }
    let copy = workplace.path("copy.so");
    std::fs::copy(library(), &copy).unwrap();
    workplace.check(&program, &["twice", &copy.display().to_string()]);
    let mut command = workplace.command(&program);
    let folder = command.get_args().next().unwrap().to_owned();
    let output = command.arg("main").env("F2D2_TEST_BEFORE_MAIN", folder).output().unwrap();
    let said = Finished::from(output).expect(0).out();
    assert!(said.ends_with(" checks, 0 failed\n"), "{said}");
}

#[test]
fn locale_55() {
    let workplace = Workplace::default();
    let program = workplace.program("process.c");
    let locales = workplace.path("locales");
    std::fs::create_dir(&locales).unwrap();
    let made = Command::new("localedef")
        .args(["-i", "de_DE", "-f", "UTF-8"])
        .arg(locales.join("de_DE.UTF-8"))
        .output();
    if !made.is_ok_and(|output| output.status.success()) {
        return skipped("no locale with decimal commas can be made here");
    }
    let mut command = workplace.command(&program);
    let output = command.args(["locale", "de_DE.UTF-8"]).env("LOCPATH", &locales).output().unwrap();
    assert!(Finished::from(output).expect(0).out().ends_with(" checks, 0 failed\n"));
}

#[test]
fn environment_57() {
    let workplace = Workplace::default();
    let program = workplace.program("process.c");
    let plain = workplace.check(&program, &["environment"]).out();
    assert!(plain.contains(" threads\n"), "{plain}");
    let long = "trace,".repeat(10_000);
    let hostile = [
        ("RUST_LOG", long.as_str()),
        ("RUST_BACKTRACE", "full"),
        ("RAYON_NUM_THREADS", "99999"),
        ("WGPU_BACKEND", "nonsense"),
        ("VK_ICD_FILENAMES", "/dev/null"),
        ("LC_ALL", "tr_TR.UTF-8"),
        ("TZ", ":/dev/full"),
        ("TMPDIR", "/nowhere"),
        ("HOME", ""),
    ];
    let output = workplace.command(&program).arg("environment").envs(hostile).output().unwrap();
    assert_eq!(Finished::from(output).expect(0).out(), plain);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn nothing_that_the_first_library_had_is_gone_or_changed() {
    if !available("abidiff") {
        return;
    }
    let first = root().join("tests/abi/first/f2d2.abi");
    let compare = |first: &Path| -> Finished {
        let mut command = Command::new("abidiff");
        command.args(["--no-added-syms", "--fail-no-debug-info", "--suppressions"]);
        command.arg(root().join("tests/abi/grown.abignore"));
        command.arg(first).arg(library()).output().unwrap().into()
    };
    compare(&first).expect(0);

    // It notices a function, a size and an offset that are not the first ones.
    let text = std::fs::read_to_string(&first).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let changed = folder.path().join("changed.abi");
    let said = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        std::fs::write(&changed, text.replacen(from, to, usize::MAX)).unwrap();
        compare(&changed).code()
    };
    assert_eq!(said("f2d2_session_score_batch", "f2d2_session_score_gone"), Some(12));
    let frame = "name='f2d2_frame' size-in-bits='448'";
    assert_eq!(said(frame, "name='f2d2_frame' size-in-bits='512'"), Some(4));
    let at =
        |bits: u32| format!("layout-offset-in-bits='{bits}'>\n            <var-decl name='stride'");
    assert_eq!(said(&at(192), &at(224)), Some(4));
}

/// Programs of the suite that end by themselves.
const SUITE: [&str; 6] = ["uses.c", "frames.c", "misuse.c", "callbacks.c", "threads.c", "pool.c"];

#[test]
fn the_suite_runs_under_address_and_undefined_behaviour_sanitizers() {
    let workplace = Workplace::default();
    let flags = [
        "-std=gnu11",
        "-O1",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-fno-omit-frame-pointer",
    ];
    for source in SUITE {
        let program = workplace.compile("gcc", &flags, source);
        for symbol in ["__asan_init", "__ubsan_handle"] {
            assert!(
                run("nm", &["-D"], &program).expect(0).out().contains(symbol),
                "{source}: no {symbol}"
            );
        }
        workplace.check(&program, &[]);
    }
    // Each of the two notices the same wrong write.
    for (flag, name) in [("address", "heap-buffer-overflow"), ("undefined", "insufficient space")] {
        let flags = ["-O1", &format!("-fsanitize={flag}"), "-fno-sanitize-recover=all"];
        let overflow = workplace.compile("gcc", &flags, "overflow.c");
        let said = Finished::from(workplace.command(&overflow).output().unwrap());
        assert!(said.err().contains(name), "{}", said.err());
        assert_ne!(said.code(), Some(0));
    }
}

#[test]
fn threads_run_under_the_thread_sanitizer() {
    let workplace = Workplace::default();
    let flags = ["-std=gnu11", "-O1", "-fsanitize=thread"];
    // The library is not compiled for it: its own locks are invisible, its calls of malloc and free are not.
    let uninstrumented = workplace.path("suppressions");
    std::fs::write(&uninstrumented, "called_from_lib:libf2d2.so.0\n").unwrap();
    let options = format!("suppressions={}", uninstrumented.display());
    let under_sanitizer = |program: &Path| -> Finished {
        workplace.command(program).env("TSAN_OPTIONS", &options).output().unwrap().into()
    };
    for source in ["threads.c", "pool.c"] {
        let program = workplace.compile("gcc", &flags, source);
        assert!(run("nm", &["-D"], &program).expect(0).out().contains("__tsan_init"));
        let said = under_sanitizer(&program).expect(0);
        assert!(said.out().ends_with(" checks, 0 failed\n"), "{}", said.out());
        assert_eq!(said.err(), "");
    }
    let race = under_sanitizer(&workplace.compile("gcc", &flags, "race.c"));
    assert!(race.err().contains("data race"), "{}", race.err());
    assert_ne!(race.code(), Some(0));
}

/// `program` on the folder under valgrind, which ends with 9 if it finds something.
fn valgrind(workplace: &Workplace, program: &Path) -> Command {
    let known = root().join("tests/abi/valgrind.supp");
    let mut command = Command::new("valgrind");
    command.args(["--leak-check=full", "--errors-for-leak-kinds=definite,indirect,possible"]);
    command.args(["--error-exitcode=9", "--fair-sched=yes"]);
    command.arg(format!("--suppressions={}", known.display()));
    command.arg(program).arg(workplace.path(""));
    command
}

#[test]
#[ignore = "slow: valgrind"]
fn cycles_leave_nothing_behind() {
    let workplace = Workplace::default();
    let cycles = workplace.program("cycles.c");
    // Model, detector and session each time; under valgrind only every hundredth time.
    workplace.check(&cycles, &["10000", "1"]);
    if !available("valgrind") {
        return;
    }
    let under_valgrind = |program: &Path, arguments: &[&str]| -> Finished {
        valgrind(&workplace, program).args(arguments).output().unwrap().into()
    };
    let clean = |said: Finished| {
        let said = said.expect(0);
        assert!(said.out().ends_with(" checks, 0 failed\n"), "{}", said.out());
        assert!(said.err().contains("ERROR SUMMARY: 0 errors"), "{}", said.err());
        said
    };
    clean(under_valgrind(&cycles, &["10000", "100"]));
    clean(under_valgrind(&workplace.program("frames.c"), &[]));
    // The CPU engine on a real network, without vectors and with the best that valgrind has, which is not AVX-512.
    let network = workplace.program("network.c");
    std::os::unix::fs::symlink(
        root().join("models/fashion-mnist/model.onnx"),
        workplace.path("network.onnx"),
    )
    .unwrap();
    let best = clean(under_valgrind(&network, &[])).out();
    println!("under valgrind: {best}");
    let mut portable = valgrind(&workplace, &network);
    let said = clean(portable.env("F2D2_CPU", "portable").output().unwrap().into());
    assert!(said.out().contains("; portable\n"), "{}", said.out());
    // It would notice a wrong write and a lost block.
    let overflow = under_valgrind(&workplace.program("overflow.c"), &[]);
    assert!(overflow.err().contains("Invalid write"), "{}", overflow.err());
    assert!(overflow.err().contains("definitely lost: 24 bytes"), "{}", overflow.err());
    assert_eq!(overflow.code(), Some(9));
}
