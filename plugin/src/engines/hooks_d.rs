//! Podman and CRI-O: a hook in a hooks.d directory, matched by annotation
//! (oci-hooks(5)). CRI-O reads only the directories that it is told of.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::EditError;

/// Where an administrator's hooks are.
pub(crate) const DIR: &str = "/etc/containers/oci/hooks.d";
/// Where packages' hooks are.
pub(crate) const PACKAGED_DIR: &str = "/usr/share/containers/oci/hooks.d";

const TEMPLATE: &str = include_str!("../../../hooks/hooks.d/execblock.json");
const TEMPLATE_HOOK: &str = "/usr/libexec/execblock/execblock-hook";

/// The hook's file.
pub(crate) fn hook_json(hook: &Path) -> Result<String, EditError> {
    let path = serde_json::to_string(hook).map_err(|error| EditError::Syntax(error.to_string()))?;
    Ok(TEMPLATE.replace(&format!("\"{TEMPLATE_HOOK}\""), &path))
}

/// Whether a hook's file is ours, and may be replaced and removed.
pub(crate) fn is_ours(text: &str) -> bool {
    let hook: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let path = hook.as_ref().and_then(|hook| hook["hook"]["path"].as_str());
    path.is_some_and(|path| path.ends_with("/execblock-hook"))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Containers {
    engine: HooksDir,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Crio {
    crio: CrioTable,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CrioTable {
    runtime: HooksDir,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HooksDir {
    hooks_dir: Option<Vec<PathBuf>>,
}

/// `hooks_dir` of a containers.conf.
pub(crate) fn podman_dirs(text: &str) -> Result<Option<Vec<PathBuf>>, EditError> {
    let file: Containers = parse(text)?;
    Ok(file.engine.hooks_dir)
}

/// `hooks_dir` of a crio.conf.
pub(crate) fn crio_dirs(text: &str) -> Result<Option<Vec<PathBuf>>, EditError> {
    let file: Crio = parse(text)?;
    Ok(file.crio.runtime.hooks_dir)
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, EditError> {
    toml::from_str(text).map_err(|error| EditError::Syntax(error.to_string()))
}

/// CRI-O's drop-in: the directories that it reads already, and ours. NRI reports
/// and binds earlier; the hook is what refuses, since CRI-O starts a container
/// whatever a plugin says.
pub(crate) fn crio_drop_in(known: &[PathBuf]) -> String {
    let mut dirs: Vec<String> = known.iter().map(|dir| dir.display().to_string()).collect();
    if !dirs.iter().any(|dir| dir == DIR) {
        dirs.push(DIR.to_owned());
    }
    let dirs: Vec<String> = dirs.iter().map(|dir| format!("{dir:?}")).collect();
    format!(
        "# Written by execblock setup.\n[crio.runtime]\nhooks_dir = [{}]\n\n[crio.nri]\nenable_nri = \
         true\n",
        dirs.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hook_is_where_it_was_installed() {
        let text = hook_json("/opt/x \"y\"/execblock-hook".as_ref()).unwrap();
        let hook: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(hook["hook"]["path"], "/opt/x \"y\"/execblock-hook");
        assert_eq!(
            hook["stages"],
            serde_json::json!(["createRuntime", "poststop"])
        );
        assert!(is_ours(&text) && !is_ours("{}") && !is_ours("no JSON"));
    }

    #[test]
    fn directories_are_read_and_ours_is_added_once() {
        let dirs = crio_dirs("[crio.runtime]\nhooks_dir = [\"/a\"]\nother = 1\n").unwrap();
        assert_eq!(dirs, Some(vec!["/a".into()]));
        assert_eq!(crio_dirs("[crio]\n").unwrap(), None);
        assert_eq!(
            podman_dirs("[engine]\nhooks_dir=[\"/b\"]\n").unwrap(),
            Some(vec!["/b".into()])
        );
        assert!(podman_dirs("[engine]\nhooks_dir = 1\n").is_err());
        let text = crio_drop_in(&["/a".into(), DIR.into()]);
        assert_eq!(
            crio_dirs(&text).unwrap(),
            Some(vec!["/a".into(), DIR.into()])
        );
        let text = crio_drop_in(&[PACKAGED_DIR.into()]);
        assert_eq!(crio_dirs(&text).unwrap().unwrap().len(), 2);
    }
}
