//! containerd's validator, as `execblock setup containerd --required` configures it: no container is
//! created while the plugin is not there, but for pods that tolerate it.

use anyhow::{Result, bail, ensure};
use rustix::process::Signal;

use super::{Container, Engine, IDLE, Pod};
use crate::cases::Case;
use crate::containerd;
use crate::execblock::{self, PLUGIN};
use crate::process::Output;
use crate::protocol;

/// What the pods carry that may start without the plugin.
const TOLERATES: (&str, &str) = ("execblock.dev/tolerate-missing", "true");
/// What a pod carries that does not want to.
const ASKS: (&str, &str) = ("required-plugins.noderesource.dev", r#"["execblock"]"#);

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::slow("cri/required-by-node", |_| by_node()),
        Case::slow("cri/required-by-pod", |_| by_pod()),
    ]
}

/// The configuration of the next case is the usual one.
struct Usual;

impl Drop for Usual {
    fn drop(&mut self) {
        if let Err(error) = containerd::stop() {
            protocol::log(format_args!("containerd: {error:#}"));
        }
    }
}

fn by_node() -> Result<()> {
    let _usual = Usual;
    let engine = Engine::without_plugin()?;
    engine.reconnect(containerd::restart_with(|config| {
        let said = require(config, &[])?.success()?;
        ensure!(said.stdout.contains(TOLERATES.0), "{}", said.said());
        Ok(())
    })?);
    let plain = engine.pod("plain", &[])?;
    is_refused(&plain, "early")?;
    let tolerating = engine.pod("tolerating", &[TOLERATES])?;
    tolerating
        .start("c", IDLE, &[])?
        .runs(&["whoami"], "root\n")?;

    let registered = Engine::with_plugin()?;
    let denying = registered.pod("denying", &[("execblock/deny", "whoami")])?;
    let container = denying.start("c", IDLE, &[])?;
    container.is_protected()?;
    registered
        .pod("beside", &[])?
        .start("c", IDLE, &[])?
        .is_unprotected()?;

    PLUGIN.stop(Signal::KILL)?;
    is_refused(&registered.pod("new", &[])?, "c")?;
    is_refused(&denying, "late")?;
    container.is_protected()?;

    // containerd forgets a plugin at the end of the next call, whatever that is: where a new pod is
    // not the first that comes, one container is created as if it were there.
    execblock::plugin_running(false)?;
    PLUGIN.stop(Signal::KILL)?;
    denying.create("through", IDLE, &[])?;
    is_refused(&denying, "later")?;
    container.is_protected()?;

    // A node that is stuck is freed.
    engine.reconnect(containerd::restart_with(|config| {
        require(config, &[])?.success()?;
        require(config, &["--remove"])?.success()?;
        Ok(())
    })?);
    let freed = engine.pod("freed", &[])?.start("c", IDLE, &[])?;
    freed.runs(&["whoami"], "root\n")
}

/// The validator is on and requires nothing by itself.
fn by_pod() -> Result<()> {
    let _usual = Usual;
    let engine = Engine::without_plugin()?;
    engine.reconnect(containerd::restart_with(containerd::validate)?);
    let asking = engine.pod("asking", &[ASKS, ("execblock/deny", "whoami")])?;
    is_refused(&asking, "early")?;
    engine
        .pod("plain", &[])?
        .start("c", IDLE, &[])?
        .runs(&["whoami"], "root\n")?;
    let registered = Engine::with_plugin()?;
    let pod = registered.pod("asking-again", &[ASKS, ("execblock/deny", "whoami")])?;
    pod.start("c", IDLE, &[])?.is_protected()
}

fn require(config: &str, more: &[&str]) -> Result<Output> {
    let words = ["setup", "containerd", "--config", config, "--required"];
    execblock::run(&[&words, more].concat())
}

/// At its creation, with the name of what is missing.
fn is_refused(pod: &Pod<'_>, name: &str) -> Result<()> {
    let Err(error) = pod.create(name, IDLE, &[]).map(drop::<Container<'_>>) else {
        bail!("a container was created without the plugin that is required")
    };
    let error = format!("{error:#}");
    protocol::note(format_args!("without the plugin: {error}"));
    ensure!(
        error.contains("required plugin") && error.contains("execblock"),
        "{error}"
    );
    Ok(())
}
