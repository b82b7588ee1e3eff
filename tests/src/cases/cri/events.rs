//! What is told of a pod: whose refusal it was, and how the process came into the container.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Engine, LIMIT};
use crate::cases::Case;
use crate::execblock::{self, PLUGIN};
use crate::process::{self, LogFile};
use crate::protocol;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::slow("cri/events", |_| events())]
}

fn events() -> Result<()> {
    let engine = Engine::with_plugin()?;
    let mut log = LogFile::from_here(&PLUGIN.log_path());
    let pod = engine.pod("told", &[("execblock/deny", "whoami")])?;
    let first = &["sh", "-c", "/bin/whoami; sleep 1000000"];
    let container = pod.start("app", first, &[])?;
    container.refuses(&["sh", "-c", "/bin/whoami; exit 1"])?;
    let logged = log.wait_for(LIMIT, "the refusal in the daemon's log", |line| {
        line.contains("exec session")
    })?;
    protocol::note(logged);
    let told = process::until(LIMIT, "both events", || {
        let told = of_container(&container.id)?;
        Ok((told.len() == 2).then_some(told))
    })?;
    for (event, session) in told.iter().zip(["entrypoint", "exec"]) {
        protocol::note(event);
        for (field, expected) in [
            ("session", session),
            ("container", &container.id),
            ("name", "app"),
            ("engine", "containerd"),
            ("pod", "told"),
            ("namespace", "default"),
            ("rule", "whoami"),
            ("origin", "annotation"),
            ("argv0", "/bin/whoami"),
            ("parent_program", "sh"),
        ] {
            ensure!(
                event[field] == expected,
                "{field}, expected {expected}: {event}"
            );
        }
        let image = event["image"].as_str().context("no image")?;
        ensure!(!image.is_empty(), "{event}");
        let inside = event["container_pid"].as_u64().context("no pid")?;
        ensure!(inside > 1 && event["pid"] != inside, "{event}");
    }
    scrape()?;
    // It is still told when the container is gone.
    container.remove()?;
    ensure!(of_container("told")? == told, "{:?}", of_container("told")?);
    let text = execblock::run(&["events", "--container", "default/told"])?.success()?;
    ensure!(text.stdout.lines().count() == 2, "{}", text.stdout);
    Ok(())
}

/// The daemon's metrics, as Prometheus asks for them.
fn scrape() -> Result<()> {
    let metric = |series: &str| -> Result<f64> {
        let value = execblock::metric(series)?;
        protocol::note(format_args!("{series} {value}"));
        Ok(value)
    };
    let at_least = [
        ("execblock_bound_containers", 1.0),
        ("execblock_nri_connected", 1.0),
        ("execblock_refusals_total{verdict=\"denied\"}", 2.0),
        ("execblock_denials_total", 2.0),
        ("execblock_bind_seconds_count", 1.0),
        ("execblock_map_entries{map=\"containers\"}", 1.0),
        ("execblock_map_entries{map=\"rules\"}", 1.0),
        ("execblock_map_capacity{map=\"globs\"}", 1.0),
        (
            "execblock_nri_requests_total{request=\"start_container\"}",
            1.0,
        ),
    ];
    for (series, least) in at_least {
        ensure!(metric(series)? >= least, "{series} is below {least}");
    }
    for series in [
        "execblock_unprotected_containers",
        "execblock_events_lost_total",
        "execblock_scrape_errors_total",
        "execblock_bind_refused_total",
    ] {
        ensure!(metric(series)? < 1.0, "{series} is not zero");
    }
    Ok(())
}

fn of_container(query: &str) -> Result<Vec<Value>> {
    let output = execblock::run(&["events", "-o", "json", "--container", query])?.success()?;
    let lines = output.stdout.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}
