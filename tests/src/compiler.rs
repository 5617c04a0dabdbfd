//! C and C++ programs: compiling and running them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::programs::Finished;

/// A compilation, by the compiler of that name.
pub fn compile(compiler: &str) -> Compilation {
    Compilation { command: Command::new(compiler), folder: tempfile::tempdir().unwrap() }
}

/// A command line that grows.
pub struct Compilation {
    command: Command,
    folder: tempfile::TempDir,
}

impl Compilation {
    /// One more argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// More arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Compiles and links.
    ///
    /// # Panics
    /// With what the compiler said, if it fails.
    #[track_caller]
    pub fn program(mut self) -> Program {
        let path = self.folder.path().join("program");
        self.command.arg("-o").arg(&path);
        Finished::of(&mut self.command).expect(0);
        Program { path, _folder: self.folder }
    }
}

/// A compiled program, deleted with this value.
pub struct Program {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Program {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Finished {
        Finished::of(Command::new(&self.path).args(arguments))
    }
}
