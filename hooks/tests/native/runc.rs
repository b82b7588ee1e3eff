//! The wrapper in front of a real runc, with a bundle of a static BusyBox.

use std::{
    fs,
    os::unix::fs::symlink,
    process::{Command, Output, Stdio},
};

use execblock::{bind::Binder, cgroup::Hierarchy};
use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::{Case, WRAPPER, deny, program, text};

/// Those that need runc and a static BusyBox.
pub(crate) const CASES: &[Case] = &[
    ("runc_start_is_under_rules", runc_start_is_under_rules),
    ("runc_run_is_under_rules", runc_run_is_under_rules),
    ("runc_refusals_reach_the_log", runc_refusals_reach_the_log),
];

/// A bundle of a static BusyBox.
pub(crate) struct Bundle {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) id: String,
}

impl Bundle {
    pub(crate) fn new(id: &str, annotations: &Value, script: &str) -> Result<Self, Failed> {
        let dir = tempfile::tempdir()?;
        let bin = dir.path().join("rootfs/bin");
        fs::create_dir_all(&bin)?;
        fs::copy(program("busybox").ok_or("no busybox")?, bin.join("busybox"))?;
        symlink("busybox", bin.join("sh"))?;
        // A program of its own: it is denied by name, not as an applet.
        fs::copy(bin.join("busybox"), bin.join("true"))?;
        let spec = Command::new("runc")
            .arg("spec")
            .current_dir(&dir)
            .status()?;
        ensure!(spec.success(), "runc spec");
        let path = dir.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
        let id = format!("execblock-test-{id}");
        config["process"]["terminal"] = json!(false);
        config["root"]["readonly"] = json!(false);
        config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        config["linux"]["cgroupsPath"] = json!(format!("/{id}"));
        config["annotations"] = annotations.clone();
        fs::write(&path, config.to_string())?;
        Ok(Self { dir, id })
    }

    /// The wrapper, in front of runc.
    fn wrapper(&self, args: &[&str]) -> Result<Output, Failed> {
        let mut command = Command::new(WRAPPER);
        let out = fs::File::create(self.dir.path().join("out"))?;
        let err = fs::File::create(self.dir.path().join("err"))?;
        // Files: a pipe would stay open in the container.
        command
            .args(args)
            .current_dir(&self.dir)
            .stdin(Stdio::null());
        let status = command.stdout(out).stderr(err).status()?;
        Ok(Output {
            status,
            stdout: fs::read(self.dir.path().join("out"))?,
            stderr: fs::read(self.dir.path().join("err"))?,
        })
    }

    pub(crate) fn done(&self, args: &[&str]) -> Result<Output, Failed> {
        let output = self.wrapper(args)?;
        let err = text(&output.stderr);
        ensure!(
            output.status.success(),
            "{args:?}: {:?} {err}",
            output.status
        );
        Ok(output)
    }

    /// Waits until the container has stopped.
    pub(crate) fn wait(&self) -> Result<(), Failed> {
        let events = Hierarchy::find()?
            .mount()
            .join(&self.id)
            .join("cgroup.events");
        let file = fs::File::open(&events)?;
        loop {
            if fs::read_to_string(&events)?.contains("populated 0") {
                return Ok(());
            }
            // cgroup v2: a change of the file is an exceptional condition.
            let mut fds = [rustix::event::PollFd::new(
                &file,
                rustix::event::PollFlags::PRI,
            )];
            let second = rustix::event::Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            };
            rustix::event::poll(&mut fds, Some(&second))?;
        }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        Command::new("runc")
            .args(["delete", "-f", &self.id])
            .status()
            .ok();
    }
}

/// Writes to the root of the container what `true` did there.
pub(crate) const SCRIPT: &str = "/bin/true; echo $? > /status; (exec bin/true); echo $? >> /status";

pub(crate) fn refused(bundle: &Bundle) -> Result<(), Failed> {
    let status = fs::read_to_string(bundle.dir.path().join("rootfs/status"))?;
    let refused = matches!(status.as_str(), "126\n126\n" | "137\n137\n");
    ensure!(refused, "exit statuses in the container: {status:?}");
    Ok(())
}

fn runc_start_is_under_rules() -> Result<(), Failed> {
    let bundle = Bundle::new("start", &deny("true"), SCRIPT)?;
    bundle.done(&["create", &bundle.id])?;
    let records = Binder::new()?.records();
    ensure!(
        records.of_container(&bundle.id)?.is_empty(),
        "bound before start"
    );
    bundle.done(&["start", &bundle.id])?;
    ensure!(
        !records.of_container(&bundle.id)?.is_empty(),
        "not bound by start"
    );
    bundle.wait()?;
    refused(&bundle)?;
    bundle.done(&["delete", &bundle.id])?;
    ensure!(
        records.of_container(&bundle.id)?.is_empty(),
        "bound after delete"
    );
    Ok(())
}

fn runc_run_is_under_rules() -> Result<(), Failed> {
    let bundle = Bundle::new("run", &deny("true"), SCRIPT)?;
    bundle.done(&["run", &bundle.id])?;
    refused(&bundle)?;
    // poststop of `run`, which deletes the container.
    let records = Binder::new()?.records();
    ensure!(
        records.of_container(&bundle.id)?.is_empty(),
        "bound after poststop"
    );
    // The same without annotations.
    let bundle = Bundle::new("bare", &json!({}), SCRIPT)?;
    bundle.done(&["run", &bundle.id])?;
    let status = fs::read_to_string(bundle.dir.path().join("rootfs/status"))?;
    ensure!(status == "0\n0\n", "without annotations: {status:?}");
    Ok(())
}

fn runc_refusals_reach_the_log() -> Result<(), Failed> {
    let bundle = Bundle::new("log", &deny("a/b"), SCRIPT)?;
    bundle.done(&["create", &bundle.id])?;
    let log = bundle.dir.path().join("log.json");
    let log_arg = log.to_string_lossy();
    let args = [
        "--log",
        &log_arg,
        "--log-format",
        "json",
        "start",
        &bundle.id,
    ];
    let output = bundle.wrapper(&args)?;
    ensure!(output.status.code() == Some(1), "{:?}", output.status);
    let log = fs::read_to_string(&log)?;
    let last: Value = serde_json::from_str(log.lines().last().ok_or("an empty log")?)?;
    let msg = last["msg"].as_str().unwrap_or_default();
    ensure!(
        last["level"] == "error" && msg.contains("annotation execblock/deny: item 1"),
        "{last}"
    );
    let state = Command::new("runc").args(["state", &bundle.id]).output()?;
    let state: Value = serde_json::from_slice(&state.stdout)?;
    ensure!(state["status"] == "created", "it was started: {state}");
    Ok(())
}
