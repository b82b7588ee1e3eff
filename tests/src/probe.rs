//! Attempts to execute a program in every way there is, run inside the bound cgroup.
//!
//! The test describes the steps as JSON, this process takes them and answers each with a verdict.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::process;
use crate::protocol;

/// One way of executing a program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Attempt {
    /// `execve(path, argv)`, `argv[0]` being the path when no argv is given.
    Exec { path: PathBuf, argv: Vec<String> },
    /// `execve` with words that are too many to be written here: so many of this length stand
    /// behind those of `argv`. The first word has this length too where `argv` is empty.
    ExecLarge {
        path: PathBuf,
        argv: Vec<String>,
        words: usize,
        length: usize,
    },
    /// `execve` of a relative path.
    ExecIn { dir: PathBuf, path: PathBuf },
    /// `execve` after a chroot.
    ExecInRoot { root: PathBuf, path: PathBuf },
    /// `execveat(fd, "", AT_EMPTY_PATH)`.
    ExecFd { path: PathBuf },
    /// `execveat(directory, name)`.
    ExecAt { dir: PathBuf, name: String },
    /// `execve("/proc/self/fd/N")`.
    ExecProcFd { path: PathBuf },
    /// `execve` from a thread that is not the leader of its process.
    ExecInThread { path: PathBuf },
    /// A program that executes another and exits with the errno if it can't.
    Helper { path: PathBuf, args: Vec<String> },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) attempt: Attempt,
    /// So many new cgroups below the own one are made and entered first.
    pub(crate) levels_below: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// The exec failed with this errno.
    Errno(i32),
    Signal(i32),
    Exit {
        code: i32,
        stdout: String,
        stderr: String,
    },
}

/// Marks a verdict among other output.
const MARK: &str = "verdict ";

/// Takes the steps and prints a verdict for each.
pub(crate) fn main(steps: &str) -> Result<()> {
    let steps: Vec<Step> = serde_json::from_str(steps).context("steps")?;
    for step in steps {
        if step.levels_below > 0 {
            let mut cgroup = Cgroup::own()?;
            for level in 0..step.levels_below {
                cgroup = cgroup.child(&format!("below-{level}"))?;
            }
            cgroup.enter()?;
        }
        let verdict = attempt(&step.attempt)?;
        protocol::write_stdout(&format!("{MARK}{}\n", serde_json::to_string(&verdict)?));
    }
    Ok(())
}

/// Waits for a byte on standard input before it takes the steps.
pub(crate) fn main_when_told(steps: &str) -> Result<()> {
    protocol::write_stdout("ready\n");
    let mut byte = [0];
    io::stdin()
        .read_exact(&mut byte)
        .context("wait for the word")?;
    main(steps)
}

/// `execve` from a second thread; exits with the errno.
pub(crate) fn main_in_thread(path: &str) -> Result<i32> {
    let path = path.to_owned();
    let thread = thread::spawn(move || Command::new(path).exec());
    let error = thread
        .join()
        .map_err(|_panic| anyhow::anyhow!("the thread panicked"))?;
    Ok(error.raw_os_error().unwrap_or(255))
}

pub(crate) fn parse(output: &str) -> Result<Vec<Verdict>> {
    output
        .lines()
        .filter_map(|line| line.strip_prefix(MARK))
        .map(|json| serde_json::from_str(json).context("verdict"))
        .collect()
}

fn attempt(attempt: &Attempt) -> Result<Verdict> {
    let mut command;
    let mut kept_open = None;
    match attempt {
        Attempt::Exec { path, argv } => {
            command = Command::new(path);
            if let Some((first, rest)) = argv.split_first() {
                command.arg0(first).args(rest);
            }
        }
        Attempt::ExecLarge {
            path,
            argv,
            words,
            length,
        } => {
            let word = "w".repeat(*length);
            command = Command::new(path);
            command.arg0(argv.first().unwrap_or(&word));
            command.args(argv.iter().skip(1));
            command.args(vec![word; *words]);
        }
        Attempt::ExecIn { dir, path } => {
            command = Command::new(path);
            command.current_dir(dir);
        }
        Attempt::ExecInRoot { root, path } => {
            command = Command::new(path);
            let root = root.clone();
            // SAFETY: the closure makes two system calls and allocates nothing before them.
            unsafe {
                command.pre_exec(move || {
                    rustix::process::chroot(&root)?;
                    rustix::process::chdir("/")?;
                    Ok(())
                });
            }
        }
        Attempt::ExecFd { path } => {
            let file = open_path(path)?;
            let fd = file.as_raw_fd();
            command = execveat(fd, c"".to_owned(), libc::AT_EMPTY_PATH);
            kept_open = Some(file);
        }
        Attempt::ExecAt { dir, name } => {
            let file = open_path(dir)?;
            command = execveat(file.as_raw_fd(), CString::new(name.as_str())?, 0);
            kept_open = Some(file);
        }
        Attempt::ExecProcFd { path } => {
            let file = open_path(path)?;
            command = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
            kept_open = Some(file);
        }
        Attempt::ExecInThread { path } => {
            command = Command::new(std::env::current_exe()?);
            command.arg("probe-thread").arg(path);
        }
        Attempt::Helper { path, args } => {
            command = Command::new(path);
            command.args(args);
        }
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let verdict = match command.spawn() {
        Err(error) => match error.raw_os_error() {
            Some(errno) => Verdict::Errno(errno),
            None => return Err(error).context("spawn"),
        },
        Ok(child) => {
            let output = child.wait_with_output()?;
            let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            match (output.status.signal(), output.status.code()) {
                (Some(signal), _) => Verdict::Signal(signal),
                (None, Some(errno)) if errno != 0 && stdout.is_empty() && is_helper(attempt) => {
                    Verdict::Errno(errno)
                }
                (None, code) => Verdict::Exit {
                    code: code.unwrap_or(-1),
                    stdout,
                    stderr,
                },
            }
        }
    };
    drop(kept_open);
    Ok(verdict)
}

fn is_helper(attempt: &Attempt) -> bool {
    matches!(
        attempt,
        Attempt::Helper { .. } | Attempt::ExecInThread { .. }
    )
}

/// Closed by the exec itself, so the descriptor must not be one of the standard three.
fn open_path(path: &PathBuf) -> Result<File> {
    File::options()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)
        .with_context(|| path.display().to_string())
}

/// The standard library has no execveat: it is called in the child, whose error it hands on.
fn execveat(fd: i32, path: CString, flags: i32) -> Command {
    let mut command = process::command("/nonexistent");
    // SAFETY: the closure makes one system call; its pointers live on its own stack and in `path`.
    unsafe {
        command.pre_exec(move || {
            let argv = [c"execveat".as_ptr(), std::ptr::null()];
            let envp = [std::ptr::null::<libc::c_char>()];
            libc::syscall(
                libc::SYS_execveat,
                fd,
                path.as_ptr(),
                argv.as_ptr(),
                envp.as_ptr(),
                flags,
            );
            Err(io::Error::last_os_error())
        });
    }
    command
}

/// Tells a waiting probe to go on.
pub(crate) fn tell(stdin: &mut impl io::Write) -> Result<()> {
    stdin
        .write_all(b"x")
        .and_then(|()| stdin.flush())
        .context("tell the probe")
}
