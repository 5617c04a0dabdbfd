//! What the licences of the linked packages ask for: their names and texts, each text once.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result};

use crate::linked::Package;

/// Beginnings of the names of files that hold licences and the notices that go with them.
const FILES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

/// The list of `packages` with their licences, then the texts that they ship.
pub(crate) fn list(packages: &[Package]) -> Result<String> {
    let mut list = String::from("f2d2 is built from these packages:\n\n");
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages {
        writeln!(list, "  {} {}: {}", package.name, package.version, package.licence)?;
        let folder = std::fs::read_dir(&package.folder)
            .with_context(|| format!("cannot read {}", package.folder.display()))?;
        for entry in folder {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().to_uppercase();
            if entry.path().is_file() && FILES.iter().any(|file| name.starts_with(file)) {
                let text = String::from_utf8_lossy(&std::fs::read(entry.path())?).into_owned();
                texts.entry(text.trim().to_owned()).or_default().push(package.id());
            }
        }
    }
    let mut texts: Vec<_> = texts.into_iter().collect();
    texts.sort_by(|a, b| a.1.cmp(&b.1));
    for (text, mut users) in texts {
        users.dedup();
        write!(list, "\n{}\n{}\n\n{text}\n", "-".repeat(80), users.join(", "))?;
    }
    Ok(list)
}
