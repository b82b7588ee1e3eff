//! `execblock why` about a pod's container: its annotations, its root, its upper layer.

use anyhow::{Context as _, Result, ensure};

use super::{Engine, IDLE};
use crate::cases::Case;
use crate::execblock;
use crate::protocol;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::slow("cri/why", |_| why())]
}

fn why() -> Result<()> {
    // Whatever was loaded before: the plugin takes the best.
    execblock::unloaded()?;
    let engine = Engine::with_plugin()?;
    let annotations = &[("execblock/deny", "whoami"), ("execblock/drift", "deny")];
    let pod = engine.pod("why", annotations)?;
    let container = pod.start("asked", IDLE, &[])?;
    let said = execblock::run(&["why", &container.id, "whoami"])?.expect_code(1)?;
    protocol::note(said.stdout.trim_end());
    for part in [
        "whoami is denied in container \"asked\" of pod",
        "rule \"whoami\" (annotation execblock/deny)",
    ] {
        ensure!(said.stdout.contains(part), "{part}: {}", said.stdout);
    }
    container.refuses(&["whoami"])?;

    ensure!(asked(&container.id, "id")? == ("allowed".into(), "image".into()));
    container.runs(&["id", "-u"], "0\n")?;

    // A copy is new, and a mode that changes copies the file up.
    container.runs(&["busybox", "cp", "/bin/busybox", "/new"], "")?;
    ensure!(asked(&container.id, "/new")? == ("denied".into(), "upper".into()));
    container.refuses(&["/new", "id"])?;

    let plain = engine.pod("plain", &[])?.start("unbound", IDLE, &[])?;
    let said = execblock::run(&["why", &plain.id, "whoami"])?.expect_code(0)?;
    ensure!(said.stdout.contains("not bound"), "{}", said.stdout);
    Ok(())
}

/// The verdict, and where the program's file lies.
fn asked(container: &str, program: &str) -> Result<(String, String)> {
    let output = execblock::run(&["why", "--json", container, program])?;
    let answer: serde_json::Value =
        serde_json::from_str(&output.stdout).with_context(|| output.said())?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    Ok((text(&answer["verdict"]), text(&answer["files"][0]["lies"])))
}
