//! `execblock setup --required`: which engines have that, and what it asks of pods.

use std::process::Command;

use super::{Args, Engine, FAILED, Failure};
use crate::engines::{
    EditError,
    crio::{self, Config},
    files::Edit,
    required, version,
};

/// What else refuses a container while nobody of ours runs.
const INSTEAD: &str = "use inject_hook = true of table [nri] in /etc/execblock/config.toml (a hook \
                       in each annotated container), or a RuntimeClass with the handler execblock \
                       (the wrapper); nothing was changed";

impl Args {
    /// Fails where the engine would ignore what is asked for: better no plugin that
    /// is required than one that seems to be.
    pub(super) fn can_require(&self) -> Result<(), Failure> {
        let (program, least) = match self.engine {
            Engine::Containerd => ("containerd", (2, 2)),
            Engine::Crio => ("crio", (1, 34)),
            Engine::Docker | Engine::Podman => {
                return Err(Failure::new(
                    FAILED,
                    "--required is for containerd and CRI-O: with Docker and Podman it is the \
                     wrapper or the hook that refuses, whether or not anything of execblock runs",
                ));
            }
        };
        if self.remove || !self.is_this_machine() {
            return Ok(());
        }
        let said = Command::new(program).arg("--version").output();
        let said = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
        has(program, &said.unwrap_or_default(), least)
            .map_err(|reason| Failure::new(FAILED, reason))
    }

    /// Adds to what is added already, where that is asked for.
    pub(super) fn require(&self, text: Result<String, EditError>) -> Result<String, EditError> {
        let text = text?;
        if self.required {
            required::add(&text)
        } else {
            Ok(text)
        }
    }

    /// The annotation of pods that may start without us, where a file requires us.
    pub(super) fn toleration(&self, edit: &Edit) -> Option<String> {
        let after = edit.after.as_deref().filter(|_| self.required)?;
        match self.engine {
            Engine::Containerd => required::toleration(after),
            Engine::Crio => {
                let config = Config::parse(after).ok()?;
                let toleration = || crio::toleration(&config).to_owned();
                config.requires_us().then(toleration)
            }
            Engine::Docker | Engine::Podman => None,
        }
    }
}

/// Whether an engine of what it says is its version has a plugin that is required;
/// else the reason.
fn has(program: &str, said: &str, least: (u64, u64)) -> Result<(), String> {
    let (major, minor) = least;
    match version::of(said) {
        Some(version) if version >= least => Ok(()),
        Some((has_major, has_minor)) => Err(format!(
            "{program} {has_major}.{has_minor} has no required_plugins, which came with \
             {major}.{minor}: {INSTEAD}"
        )),
        None => Err(format!(
            "{program} --version does not say whether it is {major}.{minor} or later, which alone \
             have required_plugins (it said {:?}); put {program} on the PATH, or {INSTEAD}",
            said.trim()
        )),
    }
}

/// What the user must do besides, or the node does not come up again.
pub(super) fn who_must_tolerate(key: &str) -> String {
    format!(
        "note: while execblock nri is not registered, no container is created on this node. These \
         pods must carry the annotation {key}: \"true\" before the engine is restarted, or the \
         node can't come up: static pods (/etc/kubernetes/manifests), pods of the network and of \
         storage, and the pod of execblock nri itself where it runs as a DaemonSet"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_engines_are_refused_with_what_to_do_instead() {
        let old = "containerd github.com/containerd/containerd/v2 2.1.4 75cb2b7";
        let said = has("containerd", old, (2, 2)).unwrap_err();
        assert!(
            said.starts_with("containerd 2.1 has no required_plugins, which came with 2.2")
                && said.contains("inject_hook = true")
                && said.contains("RuntimeClass"),
            "{said}"
        );
        let new = "containerd github.com/containerd/containerd/v2 2.2.0 1c4457e";
        has("containerd", new, (2, 2)).unwrap();
        has("crio", "crio version 1.34.1", (1, 34)).unwrap();
        let said = has("crio", "crio version 1.9.1", (1, 34)).unwrap_err();
        assert!(said.starts_with("crio 1.9 has no"), "{said}");
        let said = has("crio", "", (1, 34)).unwrap_err();
        assert!(said.contains("put crio on the PATH"), "{said}");
    }
}
