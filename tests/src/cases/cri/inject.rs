//! The hook that the plugin puts into a container when it is created: it binds whoever of ours still
//! runs.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;

use super::invalid::explains;
use super::lists::Etc;
use super::{Engine, IDLE, LIMIT};
use crate::cases::Case;
use crate::execblock::{self, PLUGIN};
use crate::process;
use crate::protocol;

/// Where containerd's shim has the OCI configurations of running containers.
const BUNDLES: &str = "/run/containerd/io.containerd.runtime.v2.task/k8s.io";

pub(super) fn cases() -> Vec<Case> {
    vec![Case::slow("cri/inject-hook", |_| inject_hook())]
}

/// The setting, for a plugin that is started anew, while this lives.
struct Injecting {
    _etc: Etc,
}

impl Injecting {
    fn start() -> Result<Self> {
        let etc = Etc::with("config.toml", "[nri]\ninject_hook = true\n")?;
        PLUGIN.stop(Signal::TERM)?;
        Ok(Self { _etc: etc })
    }
}

impl Drop for Injecting {
    fn drop(&mut self) {
        // The next one has no such setting.
        if let Err(error) = PLUGIN.stop(Signal::KILL) {
            protocol::log(format_args!("the plugin: {error:#}"));
        }
    }
}

/// The annotation is the pod's, and for one container of it by name: neither reaches an OCI
/// configuration by itself.
fn inject_hook() -> Result<()> {
    let _setting = Injecting::start()?;
    let engine = Engine::with_plugin()?;
    let pod = engine.pod(
        "injected",
        &[
            ("execblock/deny.container.c", "whoami"),
            ("execblock/deny.container.late", "whoami"),
        ],
    )?;
    let Err(error) = pod.create("bad", IDLE, &[("execblock/deny", "./x")]) else {
        bail!("a container with a bad annotation was created")
    };
    let error = format!("{error:#}");
    protocol::note(format_args!("refused creation: {error}"));
    explains("execblock/deny", &error)?;
    let container = pod.create("c", IDLE, &[])?;
    let late = pod.create("late", IDLE, &[])?;
    let plain = pod.create("plain", IDLE, &[])?;

    PLUGIN.stop(Signal::KILL)?;
    container.start()?;
    let id = container.cgroup()?.id()?;
    ensure!(
        execblock::bound_cgroups()?.contains(&id),
        "nobody bound the container"
    );
    container.is_protected()?;
    plain.start()?;
    plain.is_unprotected()?;
    for (container, has_hook) in [(&container, true), (&plain, false)] {
        let path = format!("{BUNDLES}/{}/config.json", container.id);
        let config = fs::read_to_string(&path).context(path)?;
        ensure!(
            config.contains("execblock-hook") == has_hook,
            "its configuration: {config}"
        );
    }
    container.remove()?;
    process::until(LIMIT, "the hook to forget it", || {
        Ok((!execblock::bound_cgroups()?.contains(&id)).then_some(()))
    })?;

    execblock::unloaded()?;
    let Err(error) = late.start() else {
        bail!("it started although nothing is loaded")
    };
    let error = format!("{error:#}");
    protocol::note(format_args!("refused by the hook: {error}"));
    ensure!(error.contains("execblock load"), "{error}");
    Ok(())
}
