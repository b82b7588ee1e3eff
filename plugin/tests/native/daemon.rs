//! The daemon on this machine, without a runtime: what it tells of itself.

use std::{
    fs,
    io::{BufRead as _, BufReader, Lines, Read as _, Write as _},
    os::unix::net::{UnixDatagram, UnixStream},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Stdio},
    time::Duration,
};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::{execblock, text};

/// So long a machine may be busy with others.
const LIMIT: Duration = Duration::from_mins(1);

struct Daemon {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    notified: UnixDatagram,
    metrics: PathBuf,
    _dir: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Result<Self, Failed> {
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join("notify");
        let notified = UnixDatagram::bind(&socket)?;
        notified.set_read_timeout(Some(LIMIT))?;
        let metrics = dir.path().join("metrics");
        let mut command = execblock();
        command
            .args(["nri", "--log-format", "json", "--socket"])
            .arg(dir.path().join("none"))
            .arg("--metrics")
            .arg(format!("unix:{}", metrics.display()))
            .env("NOTIFY_SOCKET", &socket)
            .env("WATCHDOG_USEC", "200000")
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let log = BufReader::new(child.stderr.take().ok_or("no log")?).lines();
        Ok(Self {
            child,
            log,
            notified,
            metrics,
            _dir: dir,
        })
    }

    /// Waits until the service manager is told this.
    fn notifies(&self, wanted: &str) -> Result<(), Failed> {
        let mut message = [0; 4096];
        loop {
            let len = self
                .notified
                .recv(&mut message)
                .map_err(|error| format!("waiting for {wanted}: {error}"))?;
            if text(&message[..len]).lines().any(|line| line == wanted) {
                return Ok(());
            }
        }
    }

    /// Waits for a line of the log.
    fn logs(&mut self, fits: impl Fn(&Value) -> bool) -> Result<Value, Failed> {
        for line in self.log.by_ref() {
            let line = line?;
            let line: Value =
                serde_json::from_str(&line).map_err(|error| format!("{line}: {error}"))?;
            if fits(&line) {
                return Ok(line);
            }
        }
        Err("it ended".into())
    }

    fn answers(&self, path: &str) -> Result<String, Failed> {
        get(&self.metrics, path)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

pub(crate) fn get(socket: &Path, path: &str) -> Result<String, Failed> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The number of one series.
fn number(metrics: &str, series: &str) -> Result<f64, Failed> {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let line = line.ok_or_else(|| format!("no {series}: {metrics}"))?;
    Ok(line.trim().parse()?)
}

pub(crate) fn tells_of_itself() -> Result<(), Failed> {
    execblock().arg("unload").output()?;
    let result = tells();
    execblock().arg("unload").output()?;
    result
}

fn tells() -> Result<(), Failed> {
    let mut daemon = Daemon::start()?;
    daemon.notifies("READY=1")?;
    daemon.notifies("WATCHDOG=1")?;
    daemon.notifies("WATCHDOG=1")?;
    let healthy = daemon.answers("/healthz")?;
    ensure!(healthy.starts_with("HTTP/1.1 200"), "{healthy}");

    let dir = tempfile::tempdir()?;
    let program = dir.path().join("daemon-event");
    fs::copy("/usr/bin/whoami", &program)?;
    let script = format!("{}; true", program.display());
    let run = ["run", "--deny", "daemon-event", "--", "sh", "-c", &script];
    execblock().args(run).output()?;
    let line = daemon.logs(|line| line["refusal"]["resolved"] == "daemon-event")?;
    ensure!(
        line["level"] == "info"
            && line["refusal"]["verdict"] == "killed"
            && line["message"]
                .as_str()
                .is_some_and(|said| said.starts_with("killed") && !said.contains('\u{1b}')),
        "{line}"
    );

    let metrics = daemon.answers("/metrics")?;
    for (series, expected) in [
        ("execblock_mechanism{mechanism=\"signal\"}", 1.0),
        ("execblock_refusals_total{verdict=\"killed\"}", 1.0),
        ("execblock_events_lost_total", 0.0),
        ("execblock_bound_containers", 0.0),
        ("execblock_nri_connected", 0.0),
        ("execblock_map_capacity{map=\"containers\"}", 16384.0),
        ("execblock_map_entries{map=\"containers\"}", 0.0),
        ("execblock_scrape_errors_total", 0.0),
    ] {
        let found = number(&metrics, series)?;
        let is_it = (found - expected).abs() < 0.5;
        ensure!(is_it, "{series}: {found}, expected {expected}");
    }

    let pid = rustix::process::Pid::from_child(&daemon.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    daemon.notifies("STOPPING=1")?;
    let status = daemon.child.wait()?;
    ensure!(status.success(), "{status}");
    Ok(())
}
