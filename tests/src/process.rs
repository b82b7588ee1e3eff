//! Child processes with a time limit, and waiting for conditions.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::protocol;

/// Everything is emulated here, so ordinary commands take long.
const COMMAND_LIMIT: Duration = Duration::from_mins(3);
/// Between two looks at a condition that can't be waited for.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Output {
    command: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The command's output, or what went wrong with it.
    pub(crate) fn success(self) -> Result<Self> {
        if self.status.success() {
            Ok(self)
        } else {
            bail!(
                "`{}` ended with {}: {}",
                self.command,
                self.status,
                self.said()
            )
        }
    }

    /// The code is one of those documented, so it is compared and not only "failed".
    pub(crate) fn expect_code(self, code: i32) -> Result<Self> {
        if self.code() == Some(code) {
            Ok(self)
        } else {
            bail!(
                "`{}` ended with {}, expected exit status {code}: {}",
                self.command,
                self.status,
                self.said()
            )
        }
    }

    fn record(&self, took: Duration) {
        let Self {
            command,
            status,
            stdout,
            stderr,
        } = self;
        let took = took.as_millis();
        protocol::log(format_args!(
            "$ {command}   # {status}, {took} ms\n{stdout}{stderr}"
        ));
    }

    /// Both outputs, for messages and for looking for words that may stand on either.
    pub(crate) fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// A command that reads nothing and finds programs where a root shell would.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8");
    command
}

/// Runs the command to its end and records it among the details of the case.
pub(crate) fn run(command: &mut Command) -> Result<Output> {
    run_within(command, COMMAND_LIMIT)
}

/// The same, for a command that takes longer.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result<Output> {
    let (output, took) = execute(command, limit)?;
    output.record(took);
    Ok(output)
}

/// For commands that are run again and again: only what fails is recorded.
pub(crate) fn run_unseen(command: &mut Command) -> Result<Output> {
    let (output, took) = execute(command, COMMAND_LIMIT)?;
    if !output.status.success() {
        output.record(took);
    }
    Ok(output)
}

fn execute(command: &mut Command, limit: Duration) -> Result<(Output, Duration)> {
    let line = display(command);
    let began = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start `{line}`"))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let ended = wait_within(&mut child, limit);
    let (stdout, stderr) = (received(&stdout), received(&stderr));
    match ended {
        Ok(status) => {
            let output = Output {
                command: line,
                status,
                stdout,
                stderr,
            };
            Ok((output, began.elapsed()))
        }
        Err(error) => {
            protocol::log(format_args!("$ {line}   # {error}\n{stdout}{stderr}"));
            Err(error.context(format!("`{line}`")))
        }
    }
}

pub(crate) fn display(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        let argument = argument.to_string_lossy();
        line.push(' ');
        if argument.len() > 200 {
            line.extend(argument.chars().take(200));
            line.push('…');
        } else {
            line.push_str(&argument);
        }
    }
    line
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    if let Some(mut pipe) = pipe {
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(read @ 1..) = pipe.read(&mut chunk) {
                if sender.send(chunk[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
    }
    receiver
}

/// A grandchild may hold the pipe open for ever: what has come two seconds after the end is all.
fn received(pipe: &mpsc::Receiver<Vec<u8>>) -> String {
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut bytes = Vec::new();
    while let Ok(chunk) = pipe.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        bytes.extend(chunk);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for the child; one that is late is killed and is an error.
pub(crate) fn wait_within(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    if wait_for_exit(pid_of(child)?, limit)? {
        return Ok(child.wait()?);
    }
    child.kill().context("kill a process that is late")?;
    let status = child.wait()?;
    bail!("did not end within {} s, then {status}", limit.as_secs())
}

pub(crate) fn pid_of(child: &Child) -> Result<Pid> {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .context("process id")
}

/// Whether the process (anybody's child, zombies included) ended in time.
pub(crate) fn wait_for_exit(pid: Pid, limit: Duration) -> Result<bool> {
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(true),
        other => other.context("pidfd_open")?,
    };
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs())?,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    Ok(poll(&mut fds, Some(&limit)).context("poll a pidfd")? > 0)
}

pub(crate) fn signal(pid: Pid, signal: Signal) -> Result<()> {
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).context("kill"),
    }
}

/// Whether the process is there and not a zombie.
pub(crate) fn is_alive(pid: Pid) -> bool {
    wait_for_exit(pid, Duration::ZERO).is_ok_and(|ended| !ended)
}

/// Those whose executable is this file, whoever started them.
pub(crate) fn running(executable: &Path) -> Result<Vec<Pid>> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").context("list processes")? {
        let name = entry?.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.parse().ok())
            .and_then(Pid::from_raw);
        if let Some(pid) = pid
            && std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == executable)
        {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// Looks again and again until there is an answer. For conditions that send no event.
pub(crate) fn until<T>(
    limit: Duration,
    what: impl Display,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) if Instant::now() < deadline => {}
            Ok(None) => bail!("waited {} s for {what}", limit.as_secs()),
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context(format!("waited {} s for {what}", limit.as_secs())));
            }
            Err(_) => {}
        }
        thread::sleep(PAUSE);
    }
}

/// A log file that another process writes, and how much of it was read.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    seen: usize,
}

impl LogFile {
    /// Lines written from now on count.
    pub(crate) fn from_here(path: &Path) -> Self {
        let seen = std::fs::metadata(path).map_or(0, |meta| meta.len());
        Self {
            path: path.to_owned(),
            seen: usize::try_from(seen).unwrap_or(usize::MAX),
        }
    }

    /// Waits for a new line that fits.
    pub(crate) fn wait_for(
        &mut self,
        limit: Duration,
        what: &str,
        fits: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let deadline = Instant::now() + limit;
        File::options().create(true).append(true).open(&self.path)?;
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        inotify::add_watch(&watch, &self.path, inotify::WatchFlags::MODIFY)?;
        loop {
            let text = std::fs::read(&self.path)?;
            let new = text.get(self.seen..).unwrap_or_default();
            let whole = new
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |last| last + 1);
            for line in new[..whole].split_inclusive(|byte| *byte == b'\n') {
                self.seen += line.len();
                let line = String::from_utf8_lossy(line);
                if fits(&line) {
                    return Ok(line.trim_end().to_owned());
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let tail: Vec<_> = String::from_utf8_lossy(&text)
                    .lines()
                    .rev()
                    .take(15)
                    .map(ToOwned::to_owned)
                    .collect();
                for line in tail.iter().rev() {
                    protocol::log(format_args!("{}: {line}", self.path.display()));
                }
                return Err(anyhow!("waited {} s for {what}", limit.as_secs()));
            }
            let limit = Timespec {
                tv_sec: i64::try_from(left.as_secs())?,
                tv_nsec: left.subsec_nanos().into(),
            };
            poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&limit))?;
            let mut events = [0; 4096];
            // Read only to make the descriptor quiet again.
            while rustix::io::read(&watch, &mut events).is_ok_and(|read| read > 0) {}
        }
    }
}

/// The number of the signal that ended the process, also when a shell passed it on as 128 + n.
pub(crate) fn signal_of(status: ExitStatus) -> Option<i32> {
    status.signal().or_else(|| {
        status
            .code()
            .and_then(|code| (code > 128).then_some(code - 128))
    })
}
