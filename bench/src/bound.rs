//! The daemon, and containers that it has bound before something is measured.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use execblock_bench::crowd::Crowd;
use execblock_bench::runtime::{Runtime, container, pod};
use nri::proto::Container;

/// How long an answer may take before this gives up; a runtime waits two seconds.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(2);

/// What containers are told to refuse.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policies {
    /// So many differ.
    pub(crate) policies: usize,
    /// Each has that many names.
    pub(crate) rules: usize,
}

impl Policies {
    /// The annotation of one of them.
    pub(crate) fn of(self, number: usize) -> [(&'static str, String); 1] {
        let policy = number % self.policies.max(1);
        let names = (0..self.rules).map(|rule| format!("tool{policy}-{rule}"));
        [("execblock/deny", names.collect::<Vec<_>>().join(","))]
    }

    /// A container of the crowd that is told so.
    pub(crate) fn annotated(self, number: usize, crowd: &Crowd) -> Container {
        container(number, &crowd.members()[number], &self.of(number))
    }

    /// Binds that many of the crowd.
    pub(crate) fn bind(self, daemon: &Runtime, crowd: &Crowd, count: usize) -> Result<()> {
        for number in 0..count {
            daemon.start_container(&pod(number), &self.annotated(number, crowd))?;
        }
        Ok(())
    }
}

/// Starts the daemon, which loads the programs where nothing is loaded.
pub(crate) fn daemon(execblock: &Path) -> Result<Runtime> {
    let plugin = |socket: &Path| {
        let mut command = Command::new(execblock);
        command.arg("nri").arg("--socket").arg(socket);
        command.stderr(Stdio::null());
        command
    };
    Runtime::start(plugin, TIMEOUT)
}

/// With it go all bindings.
pub(crate) fn unload(execblock: &Path) -> Result<()> {
    // Fails where nothing is loaded.
    Command::new(execblock).arg("unload").output()?;
    Ok(())
}
