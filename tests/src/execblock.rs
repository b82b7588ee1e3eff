//! The command under test.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::background::Background;
use crate::containerd;
use crate::machine::Mechanism;
use crate::process::{self, LogFile, Output};

pub(crate) const PROGRAM: &str = "/payload/execblock";
pub(crate) const PINS: &str = "/sys/fs/bpf/execblock";
/// Which mechanism the tests loaded last, so that not every case loads again.
const LOADED: &str = "/run/vmtest-loaded";

/// Documented exit status of a machine that can't do what was asked for.
pub(crate) const EXIT_UNABLE: i32 = 3;

/// Where the daemon serves its metrics.
const METRICS: &str = "/run/vmtest-metrics";

pub(crate) const PLUGIN: Background = Background::named("plugin");

pub(crate) fn command() -> Command {
    process::command(PROGRAM)
}

pub(crate) fn run(args: &[&str]) -> Result<Output> {
    process::run(command().args(args))
}

/// Has the programs of this mechanism pinned, and nothing bound.
pub(crate) fn loaded(mechanism: Mechanism) -> Result<()> {
    let known = fs::read_to_string(LOADED).unwrap_or_default();
    if known == mechanism.name() && Path::new(PINS).exists() {
        return Ok(());
    }
    unloaded()?;
    run(&["load", "--mechanism", mechanism.name()])?.success()?;
    fs::write(LOADED, mechanism.name()).context("remember the mechanism")
}

/// Has no pins of another mechanism that a case before this one wanted.
pub(crate) fn not_loaded_but(mechanism: Mechanism) -> Result<()> {
    match fs::read_to_string(LOADED) {
        Ok(known) if known != mechanism.name() => unloaded(),
        _ => Ok(()),
    }
}

/// Has no pins. Cases that change pins call it first and last.
pub(crate) fn unloaded() -> Result<()> {
    if Path::new(LOADED).exists() {
        fs::remove_file(LOADED)?;
    }
    PLUGIN.stop(Signal::KILL)?;
    if Path::new(PINS).exists() {
        run(&["unload"])?.success()?;
    }
    ensure!(
        !Path::new(PINS).exists(),
        "{PINS} is there after `execblock unload`"
    );
    Ok(())
}

/// Has the daemon registered with containerd. It loads the programs itself when they are missing.
pub(crate) fn plugin_running(containerd_is_new: bool) -> Result<()> {
    if PLUGIN.pid().is_some() {
        if !containerd_is_new {
            return Ok(());
        }
        PLUGIN.stop(Signal::KILL)?;
    }
    start_plugin()
}

pub(crate) fn start_plugin() -> Result<()> {
    let mut log = LogFile::from_here(&containerd::DAEMON.log_path());
    let mut nri = command();
    nri.args(["nri", "--socket", containerd::NRI_SOCKET])
        .args(["--metrics", &format!("unix:{METRICS}")]);
    PLUGIN.start(&nri)?;
    plugin_connected(&mut log)
}

/// Waits for containerd to say that the plugin is registered and synchronized.
pub(crate) fn plugin_connected(containerd_log: &mut LogFile) -> Result<()> {
    containerd_log
        .wait_for(
            Duration::from_mins(1),
            "containerd to accept the plugin",
            |line| line.contains("execblock") && line.contains("connected"),
        )
        .inspect_err(|_| PLUGIN.show_log())?;
    Ok(())
}

/// One number of the daemon's metrics.
pub(crate) fn metric(series: &str) -> Result<f64> {
    metric_at(METRICS, series)
}

/// The same of a daemon that serves them elsewhere.
pub(crate) fn metric_at(socket: &str, series: &str) -> Result<f64> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    metric_of(&get(stream, "/metrics")?, series)
}

/// What a daemon says at a place where it serves HTTP.
pub(crate) fn get(mut stream: impl Read + Write, path: &str) -> Result<String> {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// One number of an answer to `/metrics`.
pub(crate) fn metric_of(answer: &str, series: &str) -> Result<f64> {
    let value = answer
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = value.with_context(|| format!("no {series} in {answer}"))?;
    Ok(value.trim().parse()?)
}

/// The cgroups that have an entry in the pinned map.
pub(crate) fn bound_cgroups() -> Result<BTreeSet<u64>> {
    let map = format!("{PINS}/containers");
    let mut bpftool = process::command("bpftool");
    let dump =
        process::run_unseen(bpftool.args(["-j", "map", "dump", "pinned", &map]))?.success()?;
    parse_keys(&dump.stdout)
}

/// Keys are bytes in bpftool's JSON, `{"key": ["0x01", …]}`; the cgroup id comes first.
fn parse_keys(json: &str) -> Result<BTreeSet<u64>> {
    let entries: Vec<serde_json::Value> = serde_json::from_str(json).context("bpftool's JSON")?;
    entries
        .iter()
        .map(|entry| {
            let bytes = entry["key"].as_array().context("an entry without a key")?;
            let mut key = 0;
            for byte in bytes.iter().take(8).rev() {
                let hex = byte.as_str().and_then(|byte| byte.strip_prefix("0x"));
                key = key << 8 | u64::from_str_radix(hex.context("a key that is no bytes")?, 16)?;
            }
            Ok(key)
        })
        .collect()
}

/// What `execblock doctor --json` says of one mechanism.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) works: bool,
    /// All that was said, for looking for words.
    pub(crate) text: String,
}

pub(crate) fn doctor() -> Result<(Output, serde_json::Value)> {
    let output = run(&["doctor", "--json"])?;
    let report = serde_json::from_str(&output.stdout)
        .with_context(|| format!("JSON of doctor: {}", output.stdout))?;
    Ok((output, report))
}

/// Looks the mechanism up. It works when it is available and its canary, if named, was refused.
pub(crate) fn find_mechanism(report: &serde_json::Value, mechanism: Mechanism) -> Result<Found> {
    let list = report["mechanisms"]
        .as_array()
        .context("no list of mechanisms")?;
    let entry = list
        .iter()
        .find(|entry| entry["name"] == mechanism.name())
        .with_context(|| format!("{} is not reported", mechanism.name()))?;
    let yes = |value: &serde_json::Value| {
        value.as_bool().unwrap_or_else(|| {
            matches!(
                value.as_str(),
                Some("yes" | "ok" | "works" | "pass" | "passed" | "refused")
            )
        })
    };
    let canary = &entry["canary"];
    Ok(Found {
        works: yes(&entry["available"]) && (canary.is_null() || yes(canary)),
        text: entry.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_keys_of_a_map() {
        let json = r#"[{"key":["0x02","0x01","0x00","0x00","0x00","0x00","0x00","0x00"],
            "value":["0x00"],"formatted":{"key":258,"value":{"policy":1}}}]"#;
        assert_eq!(parse_keys(json).unwrap(), BTreeSet::from([258]));
        assert_eq!(parse_keys("[]").unwrap(), BTreeSet::new());
    }

    #[test]
    fn a_mechanism_whose_canary_ran_does_not_work() {
        let report = serde_json::json!({"mechanisms": [
            {"name": "lsm", "available": "yes", "canary": "ran"},
            {"name": "signal", "available": "yes"},
        ]});
        assert!(!find_mechanism(&report, Mechanism::Lsm).unwrap().works);
        assert!(find_mechanism(&report, Mechanism::Signal).unwrap().works);
        assert!(find_mechanism(&report, Mechanism::Kprobe).is_err());
    }
}
