//! What the plugin adds to `StartContainer`, as a figure and not as a limit.

use std::time::Duration;

use anyhow::Result;

use super::{Engine, IDLE};
use crate::cases::Case;
use crate::protocol;

const STARTS: usize = 3;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::slow("cri/start-time", |_| start_time())]
}

fn start_time() -> Result<()> {
    let plain = &[("unrelated/key", "whoami")];
    let deny = &[("execblock/deny", "whoami")];
    {
        let engine = Engine::without_plugin()?;
        note("without the plugin", measure(&engine, plain)?);
    }
    let engine = Engine::with_plugin()?;
    note("with the plugin, not annotated", measure(&engine, plain)?);
    note("with the plugin, annotated", measure(&engine, deny)?);
    Ok(())
}

fn measure(engine: &Engine, annotations: &[(&str, &str)]) -> Result<Vec<Duration>> {
    let pod = engine.pod("timed", annotations)?;
    let mut times = Vec::new();
    for index in 0..STARTS {
        let container = pod.create(&format!("c{index}"), IDLE, &[])?;
        times.push(container.start()?);
        container.remove()?;
    }
    engine.client().remove_pod(&pod.id)?;
    Ok(times)
}

fn note(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let all: Vec<_> = times
        .iter()
        .map(|time| time.as_millis().to_string())
        .collect();
    protocol::note(format_args!(
        "StartContainer {what}: median {} ms of {}",
        times[times.len() / 2].as_millis(),
        all.join(", ")
    ));
}
