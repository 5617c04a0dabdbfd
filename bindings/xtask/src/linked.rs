//! The packages whose code ends up in the library, from `cargo metadata` and `Cargo.lock`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// A package that is linked into the library.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// SPDX expression.
    pub(crate) licence: String,
    /// Its source files.
    pub(crate) folder: PathBuf,
    /// SHA-256 of its archive in the registry; none for our own.
    pub(crate) checksum: Option<String>,
    /// `name@version` of what it needs, in order.
    pub(crate) needs: BTreeSet<String>,
}

impl Package {
    /// `name@version`.
    pub(crate) fn id(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct MetadataPackage {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<LockedPackage>,
}

#[derive(Deserialize)]
struct LockedPackage {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// Package `root` and everything that it links on `target`, by name and version. Build scripts and procedural macros
/// run while compiling and are not part of the library.
pub(crate) fn packages(workspace: &Path, root: &str, target: &str) -> Result<Vec<Package>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform", target])
        .current_dir(workspace)
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    let lock = std::fs::read_to_string(workspace.join("Cargo.lock"))?;
    let lock: Lock = toml::from_str(&lock).context("Cargo.lock is not readable")?;

    let packages: BTreeMap<_, _> = metadata.packages.iter().map(|p| (&p.id, p)).collect();
    let nodes: BTreeMap<_, _> = metadata.resolve.nodes.iter().map(|n| (&n.id, n)).collect();
    let linked = |id: &String| -> Vec<&String> {
        let normal = |d: &&Dependency| d.dep_kinds.iter().any(|k| k.kind.is_none());
        let is_macro = |id: &String| {
            packages
                .get(id)
                .is_some_and(|p| p.targets.iter().any(|t| t.kind.iter().any(|k| k == "proc-macro")))
        };
        let dependencies = nodes.get(id).map_or(&[][..], |node| &node.deps);
        dependencies.iter().filter(normal).map(|d| &d.pkg).filter(|id| !is_macro(id)).collect()
    };
    let first = metadata.packages.iter().find(|p| p.name == root);
    let mut open = vec![&first.with_context(|| format!("no package {root}"))?.id];
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        let package = packages.get(id).with_context(|| format!("no package {id}"))?;
        let needed = linked(id);
        let needs = needed.iter().filter_map(|id| packages.get(*id));
        let locked =
            lock.package.iter().find(|l| l.name == package.name && l.version == package.version);
        found.push(Package {
            name: package.name.clone(),
            version: package.version.clone(),
            licence: spdx(package.license.as_deref().unwrap_or_default()),
            folder: package.manifest_path.parent().unwrap_or(workspace).to_owned(),
            checksum: locked.with_context(|| format!("{id} is not locked"))?.checksum.clone(),
            needs: needs.map(|p| format!("{}@{}", p.name, p.version)).collect(),
        });
        open.extend(needed);
    }
    found.sort_by_key(Package::id);
    Ok(found)
}

/// Older packages write `MIT/Apache-2.0`, which SPDX does not know.
fn spdx(licence: &str) -> String {
    licence.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_licence_expressions_become_spdx() {
        assert_eq!(spdx("MIT / Apache-2.0"), "MIT OR Apache-2.0");
        assert_eq!(spdx("(MIT OR ISC) AND Zlib"), "(MIT OR ISC) AND Zlib");
    }
}
