//! Cgroups by the thousand, each with one process that does nothing: as containers are, as
//! far as binding looks at them.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use execblock::cgroup::{Hierarchy, fork_into};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// A cgroup and its process.
#[derive(Debug)]
pub struct Member {
    pid: Pid,
    ended: bool,
    dir: PathBuf,
    path: String,
}

impl Member {
    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Its path in the v2 hierarchy.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where its files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Ends its process, as a container's does before it is removed.
    pub fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            // Both fail where somebody else did it.
            let _killed = kill_process(self.pid, Signal::KILL);
            let _status = waitpid(Some(self.pid), WaitOptions::empty());
        }
    }

    fn new(dir: PathBuf, path: String) -> Result<Self> {
        // One that a killed run has left may be there.
        let _there = fs::create_dir(&dir);
        let pid = File::open(&dir)
            .and_then(|cgroup| idle(&cgroup))
            .with_context(|| dir.display().to_string())?;
        Ok(Self {
            pid,
            ended: false,
            dir,
            path,
        })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.end();
        // Fails where something else is in it.
        let _removed = fs::remove_dir(&self.dir);
    }
}

/// A process in the cgroup that waits for its end, which comes with this thread's at the
/// latest.
fn idle(cgroup: &File) -> io::Result<Pid> {
    // SAFETY: the child calls nothing that allocates or locks.
    let Some(pid) = (unsafe { fork_into(cgroup.as_fd())? }) else {
        // SAFETY: a flag of this process.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        }
    };
    Ok(pid)
}

/// Many of them, in a cgroup of their own.
#[derive(Debug)]
pub struct Crowd {
    members: Vec<Member>,
    place: PathBuf,
    path: String,
    made: usize,
}

impl Crowd {
    /// That many, in a cgroup of this name.
    ///
    /// # Errors
    ///
    /// No cgroup v2 is mounted, or the kernel has no more processes.
    pub fn new(name: &str, count: usize) -> Result<Self> {
        let path = format!("/{name}");
        let dir = Hierarchy::find()?.mount().join(name);
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        let mut crowd = Self {
            members: Vec::new(),
            place: dir,
            path,
            made: 0,
        };
        crowd.grow(count)?;
        Ok(crowd)
    }

    /// Adds until there are that many.
    ///
    /// # Errors
    ///
    /// As [`Crowd::new`].
    pub fn grow(&mut self, count: usize) -> Result<()> {
        while self.members.len() < count {
            let member = self.make()?;
            self.members.push(member);
        }
        Ok(())
    }

    /// Leaves that many of the oldest.
    pub fn shrink(&mut self, count: usize) {
        self.members.truncate(count);
    }

    /// All, the oldest first.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// All, to end some.
    pub fn members_mut(&mut self) -> &mut [Member] {
        &mut self.members
    }

    fn make(&mut self) -> Result<Member> {
        let name = self.made.to_string();
        self.made += 1;
        Member::new(self.place.join(&name), format!("{}/{name}", self.path))
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.members.clear();
        let _removed = fs::remove_dir(&self.place);
    }
}
