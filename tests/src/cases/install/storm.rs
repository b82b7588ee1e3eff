//! A denied program, tried again and again, whatever is installed meanwhile.

use std::fs;
use std::io::Read as _;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;

use crate::process;

const LIMIT: Duration = Duration::from_mins(2);
const COUNT: &str = "/tmp/vmtest-storm";

/// Ends when whoami ends otherwise than by a refusal: 126 is what a shell makes of EPERM (127 would
/// be a program that is not there), 137 of SIGKILL.
const SCRIPT: &str = r#"
n=0
while :; do
    /usr/bin/whoami >/dev/null 2>&1
    status=$?
    case $status in 126 | 137) ;; *) break ;; esac
    n=$((n + 1))
    echo $n >"$1"
done
echo "status $status"
"#;

/// It goes on until whoami runs, or this is dropped.
pub(super) struct Storm {
    child: Child,
}

impl Storm {
    /// Under a rule of `execblock run`, which binds its command as an engine does a container.
    pub(super) fn begin(execblock: &str) -> Result<Self> {
        fs::write(COUNT, "0\n")?;
        let child = process::command(execblock)
            .args(["run", "--deny", "whoami", "--", "sh", "-c", SCRIPT, "sh"])
            .arg(COUNT)
            .stdout(Stdio::piped())
            .spawn()
            .context(execblock.to_owned())?;
        let mut storm = Self { child };
        storm.goes_on()?;
        Ok(storm)
    }

    /// Waits for one more refusal.
    pub(super) fn goes_on(&mut self) -> Result<()> {
        let before = tried()?;
        process::until(LIMIT, "the next refusal", || {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(Err(status)));
            }
            // The one that ran when this was called may have begun before.
            Ok((tried()? > before + 1).then_some(Ok(())))
        })?
        .or_else(|status| bail!("whoami ran: {}, {status}", self.said()?))
    }

    /// How often it was refused while this was done, and that it never ran.
    pub(super) fn during<T>(&mut self, what: impl FnOnce() -> Result<T>) -> Result<(T, u32)> {
        let before = tried()?;
        let done = what()?;
        self.goes_on()?;
        Ok((done, tried()? - before))
    }

    /// Nothing refuses any more.
    pub(super) fn gets_through(&mut self) -> Result<()> {
        // What `execblock run` makes of it without pins is not asked here.
        process::wait_within(&mut self.child, LIMIT)?;
        let said = self.said()?;
        ensure!(said == "status 0\n", "whoami ended with {said:?}");
        Ok(())
    }

    /// Does that while `execblock run` stands still and what it runs goes on: it writes what it
    /// knows when its command ends, also where it was taken away by then.
    pub(super) fn unattended<T>(&self, what: impl FnOnce() -> Result<T>) -> Result<T> {
        let pid = process::pid_of(&self.child)?;
        process::signal(pid, Signal::STOP)?;
        let done = what();
        process::signal(pid, Signal::CONT)?;
        done
    }

    fn said(&mut self) -> Result<String> {
        let mut said = String::new();
        let out = self.child.stdout.as_mut().context("no output")?;
        out.read_to_string(&mut said)?;
        Ok(said)
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        // The harness ends what is left in the cgroup of the case; this one is in another.
        if let Ok(pid) = process::pid_of(&self.child) {
            drop(process::signal(pid, Signal::TERM));
        }
        drop(process::wait_within(&mut self.child, LIMIT));
    }
}

fn tried() -> Result<u32> {
    // Empty where the shell is about to write it.
    let text = fs::read_to_string(COUNT)?;
    text.trim().parse().or_else(|_empty| {
        process::until(LIMIT, "a count", || {
            Ok(fs::read_to_string(COUNT)?.trim().parse().ok())
        })
    })
}
