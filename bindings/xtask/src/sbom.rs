//! The bill of materials: CycloneDX 1.5, one component per linked package.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::linked::Package;

/// The document for the library built from `packages`, of which `root` is the name of the library's own.
pub(crate) fn document(packages: &[Package], root: &str) -> Result<Value> {
    let own = packages.iter().find(|p| p.name == root).context("the library is not in the list")?;
    let others = packages.iter().filter(|p| p.name != root);
    let dependency = |p: &Package| {
        let needs: Vec<String> = p.needs.iter().map(|id| purl(id)).collect();
        json!({ "ref": purl(&p.id()), "dependsOn": needs })
    };
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": component(own) },
        "components": others.map(component).collect::<Vec<_>>(),
        "dependencies": packages.iter().map(dependency).collect::<Vec<_>>(),
    }))
}

fn component(package: &Package) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": purl(&package.id()),
        "name": package.name,
        "version": package.version,
        "purl": purl(&package.id()),
        "licenses": [{ "expression": package.licence }],
    });
    if let Some(checksum) = &package.checksum {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

/// `name@version` as a package URL; `+` stands for a space there.
fn purl(id: &str) -> String {
    format!("pkg:cargo/{}", id.replace('+', "%2B"))
}
