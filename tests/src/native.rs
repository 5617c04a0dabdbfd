//! C and C++ programs on the built library: compiling them and running them on a model with a known answer.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::gaussian::Gaussian;
use crate::programs::{Finished, built, root};

/// Rows and columns of the models' images, as tests/abi/check.h has them.
const SIZE: (usize, usize) = (6, 8);
/// Number of images, as tests/abi/check.h has it.
const IMAGES: u64 = 300;

/// A folder with the library under its SONAME, two models and normal images of the grey one.
pub struct Workplace(TempDir);

impl Default for Workplace {
    /// # Panics
    /// If the library was not built or the folder cannot be filled.
    fn default() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(library(), folder.path().join("libf2d2.so.0")).unwrap();
        let (height, width) = SIZE;
        let grey = Gaussian::new(1, height, width, 31);
        std::fs::write(folder.path().join("model.onnx"), grey.bytes()).unwrap();
        let colour = Gaussian::new(3, height, width, 32);
        std::fs::write(folder.path().join("colour.onnx"), colour.bytes()).unwrap();
        std::fs::write(folder.path().join("images.raw"), grey.images(0, IMAGES).concat()).unwrap();
        Self(folder)
    }
}

impl Workplace {
    /// Where `name` is in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Compiles a file of tests/abi to a program of the library; its path.
    ///
    /// # Panics
    /// With what the compiler said.
    pub fn compile(&self, compiler: &str, flags: &[&str], source: &str) -> PathBuf {
        let program =
            self.path(&format!("{source}-{compiler}{}", flags.concat()).replace(['/', '='], "_"));
        let folder = self.0.path();
        let mut command = Command::new(compiler);
        command
            .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-D_GNU_SOURCE"])
            .args(flags);
        command.arg("-I").arg(root().join("include")).arg("-I").arg(root().join("tests/abi"));
        command.arg(root().join("tests/abi").join(source)).arg("-o").arg(&program);
        command.arg(folder.join("libf2d2.so.0")).arg("-Wl,-rpath").arg(folder);
        command.args(["-lm", "-ldl", "-pthread"]);
        Finished::from(command.output().unwrap()).expect(0);
        program
    }

    /// Compiles a C file with gcc.
    pub fn program(&self, source: &str) -> PathBuf {
        self.compile("gcc", &["-std=gnu11", "-O1"], source)
    }

    /// A command that runs `program` on the folder.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.arg(self.0.path());
        command
    }

    /// Runs `program` on the folder; it must end well and must have checked something.
    ///
    /// # Panics
    /// With what it said.
    #[track_caller]
    pub fn check(&self, program: &Path, arguments: &[&str]) -> Finished {
        let output = self.command(program).args(arguments).output().unwrap();
        let said = Finished::from(output).expect(0);
        let out = said.out();
        let checks = out.lines().find_map(|line| line.strip_suffix(" checks, 0 failed"));
        let checks: u32 = checks.and_then(|n| n.parse().ok()).unwrap_or(0);
        assert!(checks > 0 && said.err().is_empty(), "{out}\n{}", said.err());
        said
    }
}

/// The shared library.
pub fn library() -> PathBuf {
    built("libf2d2_c.so")
}

/// Whether a tool can be started here; says so if not.
pub fn available(tool: &str) -> bool {
    let found =
        Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        crate::skipped(&format!("{tool} is not installed"));
    }
    found
}
