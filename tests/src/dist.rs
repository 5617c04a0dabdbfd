//! The packed tree, as somebody gets it who downloads it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::programs::{self, Finished};

/// An archive, and a folder where it was unpacked.
pub struct Dist {
    /// The archive.
    pub archive: PathBuf,
    /// Name of the top folder in the archive.
    pub name: String,
    /// The unpacked tree.
    pub tree: PathBuf,
}

/// Packs what is built, once per test program, and unpacks it.
///
/// # Panics
/// If that fails.
pub fn unpacked() -> &'static Dist {
    static DIST: OnceLock<(TempDir, Dist)> = OnceLock::new();
    let (_, dist) = DIST.get_or_init(|| {
        for library in ["libf2d2_c.so", "libf2d2_c.a"] {
            programs::built(library);
        }
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("packed");
        let mut xtask = Command::new(programs::tool("xtask", "bindings/xtask/src"));
        let said = Finished::of(xtask.args(["dist", "--no-build", "--out"]).arg(&out)).expect(0);
        let archive = PathBuf::from(said.out().trim());
        let name = archive.file_name().unwrap().to_str().unwrap();
        let name = name.strip_suffix(".tar.gz").unwrap().to_owned();
        let elsewhere = folder.path().join("an empty folder");
        unpack(&archive, &elsewhere);
        // Nothing of what follows may come from where it was packed.
        std::fs::remove_dir_all(out.join(&name)).unwrap();
        let tree = elsewhere.join(&name);
        (folder, Dist { archive, name, tree })
    });
    dist
}

/// Unpacks an archive to the new folder `to`.
///
/// # Panics
/// If that fails.
pub fn unpack(archive: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    Finished::of(Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(to)).expect(0);
}
