//! Daemons that outlive the case that started them, so that the next case finds them warm.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal};

use crate::cgroup::Cgroup;
use crate::process;
use crate::protocol;

const DIR: &str = "/run/vmtest";
const STOP_LIMIT: Duration = Duration::from_mins(1);

/// A daemon, known by its name. Its pid and its log are kept in files.
#[derive(Debug)]
pub(crate) struct Background {
    name: &'static str,
}

impl Background {
    pub(crate) const fn named(name: &'static str) -> Self {
        Self { name }
    }

    /// Starts it in a cgroup that no case owns, standard output and errors going to the log.
    pub(crate) fn start(&self, command: &Command) -> Result<Pid> {
        fs::create_dir_all(DIR)?;
        let cgroup = Cgroup::at(&format!("vmtest-{}", self.name))?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let mut shell = process::command("sh");
        // The shell enters the cgroup before it becomes the daemon: no process is left behind.
        shell
            .args(["-c", "echo 0 >\"$0\" && exec \"$@\""])
            .arg(cgroup.procs())
            .arg(command.get_program())
            .args(command.get_args())
            .stdout(log.try_clone()?)
            .stderr(log);
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                shell.env(name, value);
            }
        }
        let child = shell.spawn().with_context(|| self.name.to_owned())?;
        let pid = process::pid_of(&child)?;
        fs::write(self.pid_path(), pid.to_string())?;
        protocol::log(format_args!(
            "started {}: {}",
            self.name,
            process::display(command)
        ));
        Ok(pid)
    }

    pub(crate) fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.pid_path()).ok()?;
        let pid = Pid::from_raw(text.parse().ok()?)?;
        process::is_alive(pid).then_some(pid)
    }

    /// Ends it, if it runs, and waits until it is gone.
    pub(crate) fn stop(&self, signal: Signal) -> Result<()> {
        if let Some(pid) = self.pid() {
            process::signal(pid, signal)?;
            if !process::wait_for_exit(pid, STOP_LIMIT)? {
                process::signal(pid, Signal::KILL)?;
                ensure!(
                    process::wait_for_exit(pid, STOP_LIMIT)? && signal == Signal::KILL,
                    "{} did not end on {signal:?} within {} s",
                    self.name,
                    STOP_LIMIT.as_secs()
                );
            }
        }
        Ok(())
    }

    /// The end of its log, for the details of a failure.
    pub(crate) fn show_log(&self) {
        let text = fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(25)..] {
            protocol::log(format_args!("{}: {line}", self.name));
        }
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        Path::new(DIR).join(format!("{}.log", self.name))
    }

    fn pid_path(&self) -> PathBuf {
        Path::new(DIR).join(format!("{}.pid", self.name))
    }
}
