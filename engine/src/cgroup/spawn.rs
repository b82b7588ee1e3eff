//! Processes whose first instruction is in a cgroup: none moves there, for which the kernel
//! would wait for all processors (`cgroup_attach_lock` in kernel/cgroup/cgroup.c).

use std::{
    ffi::{CString, OsStr, OsString},
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt as _, process::ExitStatusExt as _},
    },
    path::Path,
    process::ExitStatus,
    ptr,
};

use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Pid, WaitOptions, waitpid},
};

use super::scratch::SpawnError;

/// What is executed.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Its path, or a name that is looked for in `PATH`.
    pub path: &'a OsStr,
    /// What follows its own name.
    pub args: &'a [OsString],
    /// Whether it gets no environment, and nothing but /dev/null to read and to write.
    pub alone: bool,
}

/// A child that was started.
#[derive(Debug)]
pub struct Spawned {
    pid: Pid,
    ended: Option<ExitStatus>,
}

impl Spawned {
    /// Its process; another's once it has ended and was waited for.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// Where somebody else has waited for it.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended_by(WaitOptions::empty())? {
                return Ok(status);
            }
        }
    }

    /// Its status if it has ended.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.ended_by(WaitOptions::NOHANG)
    }

    fn ended_by(&mut self, options: WaitOptions) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            let ended = rustix::io::retry_on_intr(|| waitpid(Some(self.pid), options))?;
            self.ended = ended.map(|(_, status)| ExitStatus::from_raw(status.as_raw()));
        }
        Ok(self.ended)
    }
}

/// `struct clone_args` of clone3(2).
#[repr(C, align(8))]
#[derive(Debug, Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `CLONE_INTO_CGROUP` of include/uapi/linux/sched.h, Linux 5.7.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// fork(2) into the cgroup whose directory is open; `None` in the child.
///
/// # Errors
///
/// Where the kernel or a seccomp filter refuses it.
///
/// # Safety
///
/// The child may call only what is safe in a signal handler: other threads, with the locks
/// that they had, are not there.
pub unsafe fn fork_into(cgroup: BorrowedFd<'_>) -> io::Result<Option<Pid>> {
    let mut args = CloneArgs {
        flags: INTO_CGROUP,
        // Both are small and not negative.
        exit_signal: libc::SIGCHLD.unsigned_abs().into(),
        cgroup: cgroup.as_raw_fd().unsigned_abs().into(),
        ..CloneArgs::default()
    };
    // SAFETY: the structure is that of the system call, and no longer than it says; without
    // CLONE_VM the child has a copy of everything, its stack too.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) };
    told(pid)
}

/// What fork(2) and clone3(2) return.
fn told(pid: libc::c_long) -> io::Result<Option<Pid>> {
    match i32::try_from(pid) {
        Ok(pid) if pid >= 0 => Ok(Pid::from_raw(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// All that a child needs, made before it is there.
struct Prepared {
    path: CString,
    argv: Vec<CString>,
    null: Option<File>,
    /// `cgroup.procs`, for a child that begins elsewhere.
    procs: File,
    /// Where it tells why it did not become the program; closed by an exec.
    tell: OwnedFd,
}

/// Starts a program in the cgroup of `dir`. Fails closed: a child that can't be in it
/// executes nothing.
pub(super) fn spawn(dir: &Path, program: Program<'_>) -> Result<Spawned, SpawnError> {
    let join = |source| SpawnError::Join {
        path: dir.to_owned(),
        source,
    };
    let (hear, tell) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| join(errno.into()))?;
    let prepared = prepare(dir, program, tell)?;
    let cgroup = File::open(dir).map_err(join)?;
    let argv: Vec<*const libc::c_char> = prepared
        .argv
        .iter()
        .map(|word| word.as_ptr())
        .chain([ptr::null()])
        .collect();
    // SAFETY: `become_program` calls only what is safe in a signal handler.
    let child = match unsafe { fork_into(cgroup.as_fd()) } {
        Ok(None) => become_program(&prepared, &argv, false),
        // Refused by a filter (ENOSYS, EPERM) or for the cgroup's type: it joins by itself,
        // and says so where that is refused too.
        Err(error) => {
            log::debug!("clone3 into {}: {error}", dir.display());
            // SAFETY: as above.
            match told(unsafe { libc::fork() }.into()).map_err(join)? {
                None => become_program(&prepared, &argv, true),
                Some(pid) => pid,
            }
        }
        Ok(Some(pid)) => pid,
    };
    drop(prepared);
    let mut spawned = Spawned {
        pid: child,
        ended: None,
    };
    let mut told = [0; 5];
    if File::from(hear).read_exact(&mut told).is_err() {
        // Closed by its exec.
        return Ok(spawned);
    }
    spawned.wait().map_err(join)?;
    let [joined, errno @ ..] = told;
    let error = io::Error::from_raw_os_error(i32::from_le_bytes(errno));
    Err(match joined {
        0 => join(error),
        _ => SpawnError::Exec(error),
    })
}

fn prepare(dir: &Path, program: Program<'_>, tell: OwnedFd) -> Result<Prepared, SpawnError> {
    let word =
        |text: &OsStr| CString::new(text.as_bytes()).map_err(|nul| SpawnError::Exec(nul.into()));
    let path = word(program.path)?;
    let args = program.args.iter().map(|arg| word(arg));
    let procs = dir.join("cgroup.procs");
    let open = |path: &Path| {
        let opened = File::options().read(true).write(true).open(path);
        opened.map_err(|source| SpawnError::Join {
            path: path.to_owned(),
            source,
        })
    };
    Ok(Prepared {
        argv: [Ok(path.clone())]
            .into_iter()
            .chain(args)
            .collect::<Result<_, _>>()?,
        path,
        null: program
            .alone
            .then(|| open(Path::new("/dev/null")))
            .transpose()?,
        procs: open(&procs)?,
        tell,
    })
}

/// In the child: becomes the program, or tells why not and ends. Calls only what is safe in
/// a signal handler.
fn become_program(prepared: &Prepared, argv: &[*const libc::c_char], join: bool) -> ! {
    let refused = if join {
        rustix::io::write(&prepared.procs, b"0").err()
    } else {
        None
    };
    let (joined, errno) = if let Some(errno) = refused {
        (0, errno.raw_os_error())
    } else {
        // SAFETY: system calls and execvp(3) on strings that outlive them; the arguments end
        // with null. What Rust's runtime changed is as a program expects it again.
        unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
            if let Some(null) = &prepared.null {
                for standard in 0..3 {
                    libc::dup2(null.as_raw_fd(), standard);
                }
                libc::execve(
                    prepared.path.as_ptr(),
                    argv.as_ptr(),
                    [ptr::null()].as_ptr(),
                );
            } else {
                libc::execvp(prepared.path.as_ptr(), argv.as_ptr());
            }
        }
        (
            1,
            io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or_default(),
        )
    };
    let mut told = [joined, 0, 0, 0, 0];
    told[1..].copy_from_slice(&errno.to_le_bytes());
    // Where nobody hears it, nobody waits for it.
    let _told = rustix::io::write(&prepared.tell, &told);
    // SAFETY: ends this process without running anything of the parent's.
    unsafe { libc::_exit(127) }
}
