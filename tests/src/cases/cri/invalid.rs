//! Containers that must not start, because what they ask for can't be given.

use std::fs::File;

use anyhow::{Result, bail, ensure};

use super::{Engine, IDLE, Pod};
use crate::cases::Case;
use crate::execblock::{self, PLUGIN};
use crate::protocol;
use rustix::process::Signal;

struct Invalid {
    name: &'static str,
    key: &'static str,
    value: fn() -> String,
}

const INVALID: &[Invalid] = &[
    Invalid {
        name: "relative-path",
        key: "execblock/deny",
        value: || "./x".into(),
    },
    Invalid {
        name: "empty-item",
        key: "execblock/deny",
        value: || "whoami,,id".into(),
    },
    Invalid {
        name: "empty-value",
        key: "execblock/deny",
        value: String::new,
    },
    Invalid {
        name: "control-character",
        key: "execblock/deny",
        value: || "who\u{1}ami".into(),
    },
    Invalid {
        name: "long-name",
        key: "execblock/deny",
        value: || "n".repeat(256),
    },
    Invalid {
        name: "long-path",
        key: "execblock/deny",
        value: || format!("/{}", "p/".repeat(2048)),
    },
    Invalid {
        name: "many-items",
        key: "execblock/deny",
        value: || {
            (0..10_000)
                .map(|item| format!("tool-{item}"))
                .collect::<Vec<_>>()
                .join(",")
        },
    },
    Invalid {
        name: "unknown-group",
        key: "execblock/deny",
        value: || "@no-such-group".into(),
    },
    Invalid {
        name: "unknown-key",
        key: "execblock/foo",
        value: || "whoami".into(),
    },
    Invalid {
        name: "unknown-mode",
        key: "execblock/mode",
        value: || "strict".into(),
    },
    Invalid {
        name: "unknown-profile",
        key: "execblock/profile",
        value: || "no-such".into(),
    },
];

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::slow("cri/invalid-container-annotations", |_| on_the_container()),
        Case::slow("cri/invalid-pod-annotation", |_| on_the_pod()),
        Case::slow("cri/full-map", |_| full_map()),
    ]
}

/// Each is refused, with an error that names the key and what was expected.
fn on_the_container() -> Result<()> {
    let engine = Engine::with_plugin()?;
    let before = execblock::bound_cgroups()?;
    let pod = engine.pod("invalid", &[])?;
    let mut wrong = Vec::new();
    for invalid in INVALID {
        let value = (invalid.value)();
        let container = pod.create(invalid.name, IDLE, &[(invalid.key, &value)])?;
        match container.start() {
            Ok(_) => wrong.push(format!("{} started", invalid.name)),
            Err(error) => {
                let error = format!("{error:#}");
                protocol::note(format_args!("{}: {error}", invalid.name));
                if let Err(complaint) = explains(invalid.key, &error) {
                    wrong.push(format!("{}: {complaint}", invalid.name));
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    ensure!(
        execblock::bound_cgroups()? == before,
        "an entry is left in the map"
    );
    pod.start("plain", IDLE, &[])?.is_unprotected()
}

/// The same from the pod; another pod is not touched by it.
fn on_the_pod() -> Result<()> {
    let engine = Engine::with_plugin()?;
    let pod = engine.pod("invalid", &[("execblock/deny", "./x")])?;
    let container = pod.create("c", IDLE, &[])?;
    let Err(error) = container.start() else {
        bail!("it started")
    };
    explains("execblock/deny", &format!("{error:#}"))?;
    engine
        .pod("plain", &[])?
        .start("c", IDLE, &[])?
        .is_unprotected()
}

pub(super) fn explains(key: &str, error: &str) -> Result<()> {
    ensure!(error.contains(key), "the key is not named: {error}");
    ensure!(
        error.contains("expected"),
        "what was expected is not said: {error}"
    );
    ensure!(error.len() < 2000, "{} bytes of message", error.len());
    Ok(())
}

/// With room for two containers the third is refused, with that reason, until one goes.
fn full_map() -> Result<()> {
    PLUGIN.stop(Signal::TERM)?;
    execblock::unloaded()?;
    execblock::run(&["load", "--max-containers", "2"])?.success()?;
    let result = fill();
    PLUGIN.stop(Signal::TERM)?;
    execblock::unloaded()?;
    result
}

fn fill() -> Result<()> {
    let engine = Engine::with_plugin()?;
    let pod = engine.pod("full", &[("execblock/deny", "whoami")])?;
    let first = pod.start("first", IDLE, &[])?;
    let second = pod.start("second", IDLE, &[])?;
    let third = pod.create("third", IDLE, &[])?;
    let Err(error) = third.start() else {
        bail!("the third started")
    };
    let error = format!("{error:#}");
    protocol::note(format_args!("full map: {error}"));
    ensure!(
        error.contains("full") || error.contains("capacity"),
        "the reason: {error}"
    );
    let plain = engine.pod("plain", &[])?.start("c", IDLE, &[])?;
    plain.is_unprotected()?;
    first.is_protected()?;
    second.is_protected()?;
    first.remove()?;
    super::lifecycle::until_bound(1)?;
    let fourth = pod.start("fourth", IDLE, &[])?;
    fourth.is_protected()?;
    slow(&pod)
}

/// While another holds the lock nothing can be bound: what starts is refused before containerd
/// would go on without the plugin.
fn slow(pod: &Pod<'_>) -> Result<()> {
    let lock = File::options().write(true).open("/run/execblock/lock")?;
    lock.lock()?;
    let container = pod.create("slow", IDLE, &[])?;
    let Err(error) = container.start() else {
        bail!("it started without its rules")
    };
    let error = format!("{error:#}");
    protocol::note(format_args!("lock held: {error}"));
    ensure!(
        error.contains("not done within") || error.contains("/run/execblock/lock"),
        "the reason: {error}"
    );
    Ok(())
}
