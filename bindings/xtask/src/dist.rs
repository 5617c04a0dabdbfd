//! `dist`: everything that a C or C++ programmer needs, as one folder and one archive.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use walkdir::WalkDir;

use crate::{elf, licences, linked, root, sbom};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Files and folders of the repository that are shipped as they are.
const SHIPPED: [(&str, &str); 12] = [
    ("include/f2d2.h", "include/f2d2.h"),
    ("include/f2d2.hpp", "include/f2d2.hpp"),
    ("include/f2d2_opencv.hpp", "include/f2d2_opencv.hpp"),
    ("bindings/packaging/README.md", "README.md"),
    ("include/README.md", "share/doc/f2d2/README.md"),
    ("LICENSE-APACHE", "share/doc/f2d2/LICENSE-APACHE"),
    ("LICENSE-MIT", "share/doc/f2d2/LICENSE-MIT"),
    ("examples/c", "examples/c"),
    ("examples/cpp", "examples/cpp"),
    ("examples/cpp-opencv", "examples/cpp-opencv"),
    ("examples/threads", "examples/threads"),
    ("models/fashion-mnist/samples", "models/fashion-mnist/samples"),
];

/// Files of a model that run it; the others reproduce it.
const MODEL: [&str; 3] = ["CARD.md", "calibration.json", "model.onnx"];

/// What to pack.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Folder to write to.
    #[arg(long, default_value = "target/dist")]
    out: PathBuf,
    /// Pack what is already built.
    #[arg(long)]
    no_build: bool,
}

/// Builds the library and packs it; prints the path of the archive.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(cfg!(target_os = "linux"), "dist packs for Linux, this is {}", std::env::consts::OS);
    let workspace = root();
    if !options.no_build {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--release", "--workspace", "--locked"]).current_dir(workspace);
        ensure!(cargo.status()?.success(), "cargo build failed");
    }
    let target = host()?;
    let name = format!("f2d2-{VERSION}-{target}");
    let tree = options.out.join(&name);
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    libraries(&tree)?;
    for (from, to) in SHIPPED {
        copy(&workspace.join(from), &tree.join(to))?;
    }
    for file in MODEL {
        let path = Path::new("models/fashion-mnist").join(file);
        copy(&workspace.join(&path), &tree.join(&path))?;
    }
    packages(workspace, &tree, &target)?;
    let packed = linked::packages(workspace, "f2d2-c", &target)?;
    let document = sbom::document(&packed, "f2d2-c")?;
    let documents = tree.join("share/doc/f2d2");
    fs::write(documents.join("f2d2.cdx.json"), serde_json::to_string_pretty(&document)?)?;
    fs::write(documents.join("THIRD-PARTY.txt"), licences::list(&packed)?)?;
    let archive = options.out.join(format!("{name}.tar.gz"));
    pack(&tree, &name, &archive)?;
    println!("{}", archive.display());
    Ok(())
}

/// The shared library under its three names, and the static library.
fn libraries(tree: &Path) -> Result<()> {
    let folder = tree.join("lib");
    fs::create_dir_all(&folder)?;
    let built = release()?;
    let shared = built.join("libf2d2_c.so");
    let (soname, expected) = (elf::soname(&shared)?, soname());
    ensure!(soname == expected, "the soname is {soname}, need {expected}");
    let file = format!("libf2d2.so.{VERSION}");
    elf::strip(&shared, &folder.join(&file))?;
    #[cfg(unix)]
    for (link, to) in [(&*soname, &*file), ("libf2d2.so", &*soname)] {
        std::os::unix::fs::symlink(to, folder.join(link))?;
    }
    let symbols = elf::exports(&shared)?;
    elf::localise(&built.join("libf2d2_c.a"), &symbols, &folder.join("libf2d2.a"))
}

/// What CMake and pkg-config look for, from the templates.
fn packages(workspace: &Path, tree: &Path, target: &str) -> Result<()> {
    let native = elf::native_libraries(&release()?)?;
    let names: Vec<&str> = native.iter().map(|l| l.strip_prefix("-l").unwrap_or(l)).collect();
    let values = [
        ("@VERSION@", VERSION.to_owned()),
        ("@MAJOR@", env!("CARGO_PKG_VERSION_MAJOR").to_owned()),
        ("@SONAME@", soname()),
        ("@TARGET@", target.to_owned()),
        ("@POINTER_BYTES@", size_of::<usize>().to_string()),
        ("@NATIVE_LIBRARIES@", native.join(" ")),
        ("@NATIVE_LIBRARIES_CMAKE@", names.join(";")),
    ];
    for (folder, files) in [
        ("lib/cmake/f2d2", ["f2d2Config.cmake", "f2d2ConfigVersion.cmake"]),
        ("lib/pkgconfig", ["f2d2.pc", "f2d2-static.pc"]),
    ] {
        fs::create_dir_all(tree.join(folder))?;
        for file in files {
            let template = workspace.join("bindings/packaging").join(format!("{file}.in"));
            let mut text = fs::read_to_string(&template)
                .with_context(|| format!("cannot read {}", template.display()))?;
            for (placeholder, value) in &values {
                text = text.replace(placeholder, value);
            }
            fs::write(tree.join(folder).join(file), text)?;
        }
    }
    Ok(())
}

/// One archive, the same for the same tree.
fn pack(tree: &Path, name: &str, archive: &Path) -> Result<()> {
    let file = fs::File::create(archive)?;
    let mut tar =
        tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::new(6)));
    tar.mode(tar::HeaderMode::Deterministic);
    tar.follow_symlinks(false);
    for entry in WalkDir::new(tree).sort_by_file_name() {
        let entry = entry?;
        let inside = Path::new(name).join(entry.path().strip_prefix(tree)?);
        tar.append_path_with_name(entry.path(), inside)?;
    }
    tar.into_inner()?.finish()?;
    Ok(())
}

/// A file, or a folder with everything in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in WalkDir::new(from) {
        let entry = entry?;
        let target = match entry.path().strip_prefix(from)? {
            inside if inside.as_os_str().is_empty() => to.to_owned(),
            inside => to.join(inside),
        };
        if entry.file_type().is_dir() {
            continue;
        }
        fs::create_dir_all(target.parent().unwrap_or(to))?;
        fs::copy(entry.path(), target)?;
    }
    Ok(())
}

fn soname() -> String {
    format!("libf2d2.so.{}", env!("CARGO_PKG_VERSION_MAJOR"))
}

/// The folder that this program was built into, as were the libraries.
fn release() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().context("this program is nowhere")?.to_owned())
}

/// The target that rustc builds for.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let said = String::from_utf8(output.stdout)?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}
