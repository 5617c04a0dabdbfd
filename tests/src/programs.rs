//! The built programs: where they are, and running them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

/// The program `name` beside the test that is running.
///
/// # Panics
/// If it is not there or older than the sources: cargo builds the programs of other packages only when asked to.
pub fn program(name: &str) -> PathBuf {
    let own = match name {
        "f2d2" => "bindings/cli/src",
        "edge-frames" => "examples/edge-frames/src",
        _ => "examples/rust/src",
    };
    fresh(&format!("{name}{}", std::env::consts::EXE_SUFFIX), &["sdk/src", own])
}

/// The library file `name` beside the test that is running, built from the SDK and `folder`.
///
/// # Panics
/// As [`program`].
pub fn library(name: &str, folder: &str) -> PathBuf {
    fresh(name, &["sdk/src", folder])
}

/// The program `name` beside the test that is running, which uses nothing of the SDK, built from `folder`.
///
/// # Panics
/// As [`program`].
pub fn tool(name: &str, folder: &str) -> PathBuf {
    fresh(name, &[folder])
}

/// The file `name` of the C library beside the test that is running.
///
/// # Panics
/// As [`program`].
pub fn built(name: &str) -> PathBuf {
    library(name, "bindings/c/src")
}

fn fresh(name: &str, sources: &[&str]) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    let path = folder.join(name);
    let built = std::fs::metadata(&path).and_then(|meta| meta.modified());
    let newest = sources.iter().filter_map(|source| newest(&root().join(source))).max();
    assert!(
        built.as_ref().ok().is_some_and(|built| newest.is_none_or(|newest| *built >= newest)),
        "{name} is missing in {} or older than its sources: run `cargo build --workspace` first, in the profile of \
         this test",
        folder.display()
    );
    path
}

/// When the youngest file below `path` that is compiled was changed.
fn newest(path: &Path) -> Option<SystemTime> {
    match std::fs::read_dir(path) {
        Err(_) if path.extension().is_some_and(|extension| extension == "md") => None,
        Ok(entries) => entries.flatten().filter_map(|entry| newest(&entry.path())).max(),
        Err(_) => std::fs::metadata(path).and_then(|meta| meta.modified()).ok(),
    }
}

/// Runs a program to its end.
///
/// # Panics
/// If it cannot be started.
pub fn run<S: AsRef<std::ffi::OsStr>>(name: &str, arguments: &[S]) -> Finished {
    Finished::of(Command::new(program(name)).args(arguments))
}

/// What a program said.
pub struct Finished(Output);

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self(output)
    }
}

impl Finished {
    /// Runs `command` to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn of(command: &mut Command) -> Self {
        match command.output() {
            Ok(output) => Self(output),
            Err(error) => panic!("{}: {error}", command.get_program().display()),
        }
    }

    /// Exit code; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.0.status.code()
    }

    /// Standard output.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    /// Standard error.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// Fails the test unless the program ended with `code`.
    ///
    /// # Panics
    /// With everything that it said.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "out: {}\nerr: {}", self.out(), self.err());
        assert!(!self.err().contains("panicked"), "{}", self.err());
        self
    }
}

/// Root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}
