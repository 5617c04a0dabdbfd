//! `xtask header`: the C header from the source of the C ABI.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;

use crate::root;

/// Options of `xtask header`.
#[derive(Args)]
pub(crate) struct Header {
    /// Write nothing; fail if the committed header differs.
    #[arg(long)]
    check: bool,
    /// Where the header goes.
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Header {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let path = self.out.unwrap_or_else(|| root().join("include/f2d2.h"));
        let text = text()?;
        if !self.check {
            return std::fs::write(&path, text)
                .with_context(|| format!("cannot write {}", path.display()));
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        if committed != text {
            bail!(
                "{} is not what bindings/c says: run `xtask header` and commit it",
                path.display()
            );
        }
        Ok(())
    }
}

/// The header.
fn text() -> anyhow::Result<String> {
    let crate_folder = root().join("bindings/c");
    let config = cbindgen::Config::from_file(crate_folder.join("cbindgen.toml"))
        .map_err(anyhow::Error::msg)?;
    let bindings = cbindgen::generate_with_config(crate_folder, config)?;
    let mut text = Vec::new();
    bindings.write(&mut text);
    // What Rust asks of callers of `unsafe` functions is said to C callers by the parameters.
    let text = String::from_utf8(text)?;
    Ok(without_safety(&text))
}

/// The header without the `# Safety` sections of its comments.
fn without_safety(text: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let comment = line.trim_start();
        if comment == "* # Safety" {
            inside = true;
            if kept.last().is_some_and(|line| line.trim() == "*") {
                kept.pop();
            }
        } else if comment.starts_with("*/") {
            inside = false;
        }
        if !inside {
            kept.push(line);
        }
    }
    kept.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_header_is_what_the_source_says() {
        Header { check: true, out: None }.run().unwrap();
    }

    #[test]
    fn a_changed_header_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f2d2.h");
        let changed = text().unwrap().replacen("F2D2_BUSY 8", "F2D2_BUSY 9", 1);
        std::fs::write(&path, changed).unwrap();
        assert!(Header { check: true, out: Some(path) }.run().is_err());
    }

    #[test]
    fn safety_sections_go_and_the_rest_stays() {
        let text = "/**\n * What.\n *\n * # Safety\n * Words.\n */\nint f(void);\n";
        assert_eq!(without_safety(text), "/**\n * What.\n */\nint f(void);\n");
    }
}
