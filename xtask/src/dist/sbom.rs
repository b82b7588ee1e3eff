//! The bill of materials, by cargo-cyclonedx: which crates, in which versions and under which
//! licences, the programs are linked with.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::{Release, Tool, build};
use crate::host;

pub(crate) const TOOL: Tool = Tool {
    name: "cargo-cyclonedx",
    version: "0.5.9",
};

/// It writes one for each crate of the workspace, beside its manifest.
const WRITTEN: &str = "execblock-dist";
/// Those that have programs of the release.
const CRATES: [&str; 2] = ["plugin", "hooks"];

/// Writes `execblock-VERSION.cdx.json`.
pub(crate) fn write(release: &Release, into: &Path) -> Result<PathBuf> {
    let _removed = Written;
    host::run_quietly(
        host::program(TOOL.name)
            .args(["cyclonedx", "--format", "json", "--spec-version", "1.5"])
            .args(["--no-build-deps", "--target", build::TARGET])
            .args(["--override-filename", WRITTEN, "--quiet"])
            .env("SOURCE_DATE_EPOCH", release.epoch.to_string())
            .current_dir(host::checkout()),
    )?;
    let mut bills = Vec::new();
    for name in CRATES {
        let path = written(&host::checkout().join(name));
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        // Crates of the workspace are known by where they lie.
        let text = text.replace(&host::checkout().display().to_string(), "/execblock");
        bills.push(serde_json::from_str(&text).with_context(|| path.display().to_string())?);
    }
    let file = into.join(format!("execblock-{}.cdx.json", release.version));
    let mut text = serde_json::to_string_pretty(&merged(&bills, release)?)?;
    text.push('\n');
    fs::write(&file, text)?;
    Ok(file)
}

fn written(folder: &Path) -> PathBuf {
    folder.join(format!("{WRITTEN}.json"))
}

/// Takes out of the checkout what the tool leaves there.
struct Written;

impl Drop for Written {
    fn drop(&mut self) {
        // Crates lie one or two folders deep.
        let tops = folders(host::checkout()).collect::<Vec<_>>();
        let below = tops.iter().flat_map(|top| folders(top));
        for folder in tops.iter().cloned().chain(below) {
            let file = written(&folder);
            if file.exists()
                && let Err(error) = fs::remove_file(&file)
            {
                println!("note: {}: {error}", file.display());
            }
        }
    }
}

fn folders(of: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
}

/// One bill of all programs: each crate once, sorted by its reference. The first one's head
/// is taken, with the release's name.
fn merged(bills: &[Value], release: &Release) -> Result<Value> {
    let mut one = bills.first().context("no bill")?.clone();
    let mut programs = Vec::new();
    for bill in bills {
        programs.push(bill["metadata"]["component"].clone());
    }
    for (list, key) in [("components", "bom-ref"), ("dependencies", "ref")] {
        let mut all = Map::new();
        let entries = bills.iter().filter_map(|bill| bill[list].as_array());
        for entry in entries.flatten() {
            let name = entry[key].as_str().context("an entry without a name")?;
            all.entry(name).or_insert_with(|| entry.clone());
        }
        let mut all: Vec<(String, Value)> = all.into_iter().collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        one[list] = all.into_iter().map(|(_, entry)| entry).collect();
    }
    one["metadata"]["component"] = serde_json::json!({
        "type": "application",
        "name": "execblock",
        "version": release.version,
        "components": programs,
    });
    Ok(one)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_crate_of_both_stands_once() -> Result<()> {
        let bill = |name: &str, parts: &[&str]| {
            let components: Vec<Value> =
                parts.iter().map(|part| json!({"bom-ref": part})).collect();
            let dependencies: Vec<Value> = parts.iter().map(|part| json!({"ref": part})).collect();
            json!({
                "metadata": {"component": {"name": name}},
                "components": components,
                "dependencies": dependencies,
            })
        };
        let release = Release {
            version: "1.0.0".to_owned(),
            epoch: 0,
        };
        let bills = vec![bill("cli", &["c", "a"]), bill("hooks", &["b", "a"])];
        let one = merged(&bills, &release)?;
        assert_eq!(
            one["components"],
            json!([{"bom-ref": "a"}, {"bom-ref": "b"}, {"bom-ref": "c"}])
        );
        assert_eq!(one["dependencies"].as_array().map(Vec::len), Some(3));
        let programs = &one["metadata"]["component"]["components"];
        assert_eq!(*programs, json!([{"name": "cli"}, {"name": "hooks"}]));
        Ok(())
    }
}
