//! Containers that were started with runc or crun by hand, from the directories
//! in which these keep their state.
//!
//! Sources: runc `libcontainer/container_linux.go` (`State`, `BaseState`) and
//! `utils.Annotations` for the labels; crun `src/libcrun/status.c`.

use std::path::Path;

use serde_json::Value;

use super::{Found, names, read_json};
use crate::oci;

pub(super) fn runc(root: &Path) -> Result<Vec<Found>, String> {
    let ids = names(root)?.into_iter();
    let states = ids.filter_map(|id| {
        let state = read_json(&root.join(&id).join("state.json"))?;
        let labels = state["config"]["labels"].as_array()?.iter();
        let bundle = labels
            .filter_map(Value::as_str)
            .find_map(|label| label.strip_prefix("bundle="))?
            .to_owned();
        found(&id, &state["init_process_pid"], &bundle)
    });
    Ok(states.collect())
}

pub(super) fn crun(root: &Path) -> Result<Vec<Found>, String> {
    let ids = names(root)?.into_iter();
    let states = ids.filter_map(|id| {
        let state = read_json(&root.join(&id).join("status"))?;
        found(&id, &state["pid"], state["bundle"].as_str()?)
    });
    Ok(states.collect())
}

fn found(id: &str, pid: &Value, bundle: &str) -> Option<Found> {
    let container = oci::Container::new(
        oci::State {
            id: id.to_owned(),
            pid: pid.as_i64()?.try_into().ok()?,
            ..oci::State::default()
        },
        oci::Config::of_bundle(bundle.as_ref()).unwrap_or_default(),
    );
    (!container.is_sandbox()).then(|| Found::new(container))
}
