//! The libraries as they are shipped, made from what cargo built with the binutils and rustc.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The symbols that the shared library exports.
///
/// # Errors
/// If there are others than ours, or none.
pub(crate) fn exports(library: &Path) -> Result<Vec<String>> {
    let listed = run(Command::new("nm").args(["-D", "--defined-only", "-P"]).arg(library))?;
    let symbols = listed.lines().filter_map(|line| line.split_whitespace().next());
    let symbols: Vec<String> = symbols.map(Into::into).collect();
    ensure!(!symbols.is_empty(), "{} exports nothing", library.display());
    match symbols.iter().find(|symbol| !symbol.starts_with("f2d2_")) {
        Some(foreign) => bail!("{} exports {foreign}, need f2d2_* alone", library.display()),
        None => Ok(symbols),
    }
}

/// The name that programs linked with the shared library look for.
pub(crate) fn soname(library: &Path) -> Result<String> {
    let listed = run(Command::new("readelf").args(["-d", "-W"]).arg(library))?;
    let line = listed.lines().find(|line| line.contains("(SONAME)"));
    let name = line.and_then(|line| line.split_once('[')?.1.split_once(']'));
    Ok(name.with_context(|| format!("{} has no soname", library.display()))?.0.to_owned())
}

/// `library` without what only debuggers need.
pub(crate) fn strip(library: &Path, stripped: &Path) -> Result<()> {
    run(Command::new("strip").arg("-o").args([stripped, library])).map(drop)
}

/// The archive as one object with the code that `symbols` need, all other symbols local: two such libraries, each with
/// a Rust standard library inside, can be linked into one program.
pub(crate) fn localise(archive: &Path, symbols: &[String], localised: &Path) -> Result<()> {
    let work = tempfile::tempdir()?;
    let (object, local) = (work.path().join("all.o"), work.path().join("f2d2.o"));
    let mut ld = Command::new("ld");
    ld.args(["-r", "--gc-sections", "--force-group-allocation", "-z", "noexecstack"]);
    ld.args(symbols.iter().map(|symbol| format!("--undefined={symbol}")));
    run(ld.arg("-o").args([&object, archive]))?;
    let mut objcopy = Command::new("objcopy");
    // Bitcode of the Rust standard library: other versions of LLVM stumble over it.
    objcopy.args(["--remove-section=.llvmbc", "--remove-section=.llvmcmd"]);
    objcopy.args(["--strip-debug", "--strip-unneeded"]);
    objcopy.args(symbols.iter().map(|symbol| format!("--keep-global-symbol={symbol}")));
    run(objcopy.args([&object, &local]))?;
    run(Command::new("ar").arg("crsD").args([localised, &local])).map(drop)
}

/// What the static library has to be linked with, in order, as rustc says for everything that the library links.
pub(crate) fn native_libraries(release: &Path) -> Result<Vec<String>> {
    let work = tempfile::tempdir()?;
    let source: PathBuf = work.path().join("all.rs");
    std::fs::write(&source, "extern crate f2d2;\n")?;
    let mut dependency = std::ffi::OsString::from("dependency=");
    dependency.push(release.join("deps"));
    let mut own = std::ffi::OsString::from("f2d2=");
    own.push(release.join("libf2d2.rlib"));
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition=2024", "--crate-type=staticlib", "--print=native-static-libs", "-L"]);
    rustc.arg(dependency).arg("--extern").arg(own).arg("--out-dir").arg(work.path()).arg(&source);
    let output = rustc.output().context("cannot run rustc")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    let list = said.lines().find_map(|line| Some(line.split_once("native-static-libs:")?.1));
    let list = list.with_context(|| format!("rustc lists no libraries: {said}"))?;
    Ok(last_of_each(list))
}

/// Words without repetitions: what an earlier one would give, the last one still gives, to more objects.
fn last_of_each(list: &str) -> Vec<String> {
    let words: Vec<&str> = list.split_whitespace().collect();
    let again = |at: usize| words[at + 1..].contains(&words[at]);
    (0..words.len()).filter(|&at| !again(at)).map(|at| words[at].to_owned()).collect()
}

/// Runs a program to its end and gives what it printed.
fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().with_context(|| format!("cannot run {name}: is it installed?"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed ({}): {said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_two_crates_name_is_linked_once_and_last() {
        assert_eq!(last_of_each(" -ldl -lgcc_s -lm -ldl -lc"), ["-lgcc_s", "-lm", "-ldl", "-lc"]);
        assert_eq!(last_of_each(""), [""; 0]);
    }
}
