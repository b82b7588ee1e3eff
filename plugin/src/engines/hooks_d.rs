//! Podman and CRI-O: a hook in a hooks.d directory, matched by annotation
//! (oci-hooks(5)).

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::EditError;

/// Where an administrator's hooks are.
pub(crate) const DIR: &str = "/etc/containers/oci/hooks.d";
/// Where packages' hooks are, the one place where Podman looks unless `hooks_dir` says more.
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
struct HooksDir {
    hooks_dir: Option<Vec<PathBuf>>,
}

/// `hooks_dir` of a containers.conf.
pub(crate) fn podman_dirs(text: &str) -> Result<Option<Vec<PathBuf>>, EditError> {
    let file: Result<Containers, _> = toml::from_str(text);
    let file = file.map_err(|error| EditError::Syntax(error.to_string()))?;
    Ok(file.engine.hooks_dir)
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
    fn directories_are_read() {
        assert_eq!(
            podman_dirs("[engine]\nhooks_dir=[\"/b\"]\n").unwrap(),
            Some(vec!["/b".into()])
        );
        assert!(podman_dirs("[engine]\nhooks_dir = 1\n").is_err());
    }
}
