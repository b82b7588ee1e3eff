//! Control groups: each case runs in its own, so that all it started can be ended at once.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal};

use crate::process;

const ROOT: &str = "/sys/fs/cgroup";

#[derive(Debug, Clone)]
pub(crate) struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    /// A group below the root, made when missing.
    pub(crate) fn at(path: &str) -> Result<Self> {
        let dir = Path::new(ROOT).join(path);
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// The group that a process is in, as this process sees it.
    pub(crate) fn of(pid: Pid) -> Result<Self> {
        Self::from_proc(&format!("/proc/{pid}/cgroup"))
    }

    pub(crate) fn own() -> Result<Self> {
        Self::from_proc("/proc/self/cgroup")
    }

    fn from_proc(file: &str) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| file.to_owned())?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
        let path = path.with_context(|| format!("no unified hierarchy in {file}: {text}"))?;
        Ok(Self {
            dir: Path::new(ROOT).join(path),
        })
    }

    /// The group above, unless that is the root.
    pub(crate) fn parent(&self) -> Option<Self> {
        let dir = self.dir.parent()?;
        (dir != Path::new(ROOT)).then(|| Self {
            dir: dir.to_owned(),
        })
    }

    pub(crate) fn child(&self, name: &str) -> Result<Self> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(Self { dir })
    }

    pub(crate) fn procs(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }

    pub(crate) fn enter(&self) -> Result<()> {
        fs::write(self.procs(), "0").with_context(|| format!("enter {}", self.dir.display()))
    }

    pub(crate) fn add(&self, pid: Pid) -> Result<()> {
        fs::write(self.procs(), pid.to_string())
            .with_context(|| format!("move {pid} to {}", self.dir.display()))
    }

    /// Its path as `/proc/PID/cgroup` shows it.
    pub(crate) fn path(&self) -> Result<String> {
        Ok(format!("/{}", self.dir.strip_prefix(ROOT)?.display()))
    }

    /// What the kernel side knows the group by.
    pub(crate) fn id(&self) -> Result<u64> {
        Ok(fs::metadata(&self.dir)?.ino())
    }

    /// Kills everything in the group and below, waits until it is gone and removes the groups.
    pub(crate) fn destroy(&self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        let kill = self.dir.join("cgroup.kill");
        loop {
            if kill.exists() {
                fs::write(&kill, "1").context("cgroup.kill")?;
            } else {
                // Linux before 5.14. What is born meanwhile is met the next time.
                kill_all(&self.dir)?;
            }
            let events = fs::File::open(self.dir.join("cgroup.events"))?;
            if std::io::read_to_string(&events)?.contains("populated 0") {
                return remove(&self.dir).context("remove the group");
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{} still has processes", self.dir.display());
            }
            let left = Timespec {
                tv_sec: i64::try_from(left.as_secs())?,
                tv_nsec: left.subsec_nanos().into(),
            };
            poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&left))?;
        }
    }
}

fn kill_all(dir: &Path) -> Result<()> {
    for pid in fs::read_to_string(dir.join("cgroup.procs"))?.lines() {
        let pid = pid.parse().ok().and_then(Pid::from_raw);
        process::signal(pid.context("a process id")?, Signal::KILL)?;
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            kill_all(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    Ok(fs::remove_dir(dir)?)
}
