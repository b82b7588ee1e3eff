//! What a runtime knows of a container that it has created: from the files that
//! it keeps, since asking the runtime takes longer than all the rest; by asking
//! where those are not as expected.
//!
//! Sources: `BaseState` of runc's libcontainer (`state.json`), `main.go` of runc
//! (its root); crun `src/libcrun/status.c` (`status`, its root) and
//! `libcrun_copy_config_file` (`config.json` beside it).

use std::{
    env,
    ffi::OsStr,
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use execblock::oci::{self, Annotations, Container, OciError, State};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::{Pid, PidfdFlags},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{args::Invocation, bind};

/// Longest that a runtime may take to tell a state. It takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a runtime's answer is not one.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It does not start.
    #[error("{0} state: {1}")]
    Spawn(String, io::Error),
    /// It hangs.
    #[error("{0} state did not answer in {PATIENCE:?}")]
    Slow(String),
    /// It was killed.
    #[error("{0} state crashed: {1}")]
    Crashed(String, String),
    /// It answers something else.
    #[error("{0} state: {1}")]
    Answer(String, OciError),
}

/// The container of this id; `None` where the runtime says that there is none.
///
/// # Errors
///
/// Where the runtime can't be understood.
pub fn container(
    invocation: &Invocation<'_>,
    real: &Path,
    ask: impl FnOnce(&mut Command),
    id: &str,
) -> Result<Option<Container>, AskError> {
    let kept = roots(invocation, real)
        .iter()
        .find_map(|root| kept(root, id));
    if let Some(container) = kept {
        return Ok(Some(container));
    }
    let Some(state) = asked(invocation, real, ask, id)? else {
        return Ok(None);
    };
    // Open: the bundle can't be read and the runtime tells of no annotation.
    // What runc and crun don't tell there is none of.
    let bare = Container::new(state.clone(), oci::Config::default());
    Ok(Some(bind::describe(state).unwrap_or(bare)))
}

/// Where the runtime keeps what it knows. None where that depends on more than
/// is worth repeating here: then it is asked.
fn roots(invocation: &Invocation<'_>, real: &Path) -> Vec<PathBuf> {
    if let Some(root) = invocation.root {
        return vec![root.to_owned()];
    }
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    if name.contains("crun") {
        let user = env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
        let dir = user.map_or_else(|| PathBuf::from("/run"), PathBuf::from);
        return vec![dir.join("crun")];
    }
    // Of a user, or of root in a user namespace, it lies elsewhere.
    if name.contains("runc") && bind::not_root().is_none() {
        return vec![PathBuf::from("/run/runc")];
    }
    Vec::new()
}

/// From the files of runc or crun below `root`; `None` where they are not as
/// expected.
#[must_use]
pub fn kept(root: &Path, id: &str) -> Option<Container> {
    if id.is_empty() || id.starts_with('.') || id.contains('/') {
        return None;
    }
    let dir = root.join(id);
    let state = of_runc(&dir, id).or_else(|| of_crun(&dir, id))?;
    bind::describe(state).ok()
}

#[derive(Deserialize)]
struct RuncState {
    id: String,
    init_process_pid: i32,
    init_process_start: Value,
    config: RuncConfig,
}

#[derive(Deserialize)]
struct RuncConfig {
    labels: Vec<String>,
}

/// runc keeps bundle and annotations as `key=value`.
fn of_runc(dir: &Path, id: &str) -> Option<State> {
    let kept: RuncState = parse(&dir.join("state.json"))?;
    let alive = lives(kept.init_process_pid, &kept.init_process_start);
    if kept.id != id || !alive {
        return None;
    }
    let labels = kept.config.labels.iter();
    let mut annotations: Annotations = labels
        .filter_map(|label| label.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let bundle = annotations.remove("bundle")?;
    Some(State {
        id: id.to_owned(),
        status: "created".to_owned(),
        pid: kept.init_process_pid,
        bundle: Some(PathBuf::from(bundle)),
        annotations: Some(annotations),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct CrunStatus {
    pid: i32,
    process_start_time: Value,
    bundle: PathBuf,
}

/// crun keeps a copy of the configuration that it was given.
fn of_crun(dir: &Path, id: &str) -> Option<State> {
    let kept: CrunStatus = parse(&dir.join("status"))?;
    if !lives(kept.pid, &kept.process_start_time) {
        return None;
    }
    let copy = dir.join("config.json").is_file();
    Some(State {
        id: id.to_owned(),
        status: "created".to_owned(),
        pid: kept.pid,
        bundle: Some(if copy { dir.to_owned() } else { kept.bundle }),
        annotations: None,
    })
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let file = File::open(path).ok()?;
    let text = oci::read_bounded(file, "state").ok()?;
    serde_json::from_slice(&text).ok()
}

/// Whether the process is still the one that was started at this time, in clock
/// ticks since boot: field 22 of /proc/PID/stat. Old versions of runc write it as
/// a string.
fn lives(pid: i32, began: &Value) -> bool {
    let began = match began {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is a name in brackets, of any characters.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest);
    let found = fields
        .and_then(|rest| rest.split_ascii_whitespace().nth(19))
        .and_then(|field| field.parse::<u64>().ok());
    pid > 0 && began.is_some() && began == found
}

/// From the runtime itself. `None`: it fails, so there is no such container.
fn asked(
    invocation: &Invocation<'_>,
    real: &Path,
    ask: impl FnOnce(&mut Command),
    id: &str,
) -> Result<Option<State>, AskError> {
    let mut command = Command::new(real);
    command
        .args(invocation.globals)
        .args([OsStr::new("state"), OsStr::new(id)]);
    ask(&mut command);
    let name = real.display().to_string();
    let Some(text) = output(command, &name, PATIENCE)? else {
        return Ok(None);
    };
    let state = text.and_then(|text| State::parse(&text));
    let state = state.and_then(|state| {
        let other = || OciError::State(format!("it is of {:?}, not of {id:?}", state.id));
        (state.id == id).then_some(state.clone()).ok_or_else(other)
    });
    state
        .map(Some)
        .map_err(|error| AskError::Answer(name, error))
}

type Output = Result<Vec<u8>, OciError>;

/// What a command prints; `None` where its exit status is not 0.
fn output(
    mut command: Command,
    name: &str,
    patience: Duration,
) -> Result<Option<Output>, AskError> {
    let spawn = |error| AskError::Spawn(name.to_owned(), error);
    let end = Instant::now() + patience;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(spawn)?;
    let (send, receive) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        let what = format!("the output of {name} state");
        // Ends with this process, whoever holds the pipe's other end.
        thread::spawn(move || send.send(oci::read_bounded(stdout, &what)).ok());
    }
    let text = receive.recv_timeout(end.saturating_duration_since(Instant::now()));
    let done = matches!(&text, Ok(Ok(_))) && ends(child.id(), end);
    if !done {
        child.kill().ok();
    }
    let status = child.wait().map_err(spawn)?;
    match text {
        Ok(Ok(text)) if done => match status.code() {
            Some(0) => Ok(Some(Ok(text))),
            Some(_) => Ok(None),
            None => Err(AskError::Crashed(name.to_owned(), status.to_string())),
        },
        Ok(Err(error)) => Ok(Some(Err(error))),
        _ => Err(AskError::Slow(name.to_owned())),
    }
}

/// Whether the process ends in time.
fn ends(pid: u32, end: Instant) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(Ok(pidfd)) = pid.map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()))
    else {
        // Reaped already: somebody ignores SIGCHLD.
        return true;
    };
    let left = end.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).ok();
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    rustix::event::poll(&mut fds, left.as_ref()) == Ok(1)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn own_start() -> u64 {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let rest = stat.rsplit_once(')').unwrap().1;
        rest.split_ascii_whitespace()
            .nth(19)
            .unwrap()
            .parse()
            .unwrap()
    }

    #[test]
    fn the_files_of_runc_are_read() {
        let root = tempfile::tempdir().unwrap();
        let (pid, start) = (std::process::id(), own_start());
        let dir = root.path().join("c1");
        fs::create_dir(&dir).unwrap();
        let state = |id: &str, pid: u32, start: &str| {
            format!(
                r#"{{"id":"{id}","init_process_pid":{pid},"init_process_start":{start},"created":"x",
                    "config":{{"labels":["bundle=/b=c","execblock/deny=a=b,c","odd"],"rootfs":"/r"}}}}"#
            )
        };
        let write = |text: &str| fs::write(dir.join("state.json"), text).unwrap();
        for start in [start.to_string(), format!("\"{start}\"")] {
            write(&state("c1", pid, &start));
            let found = kept(root.path(), "c1").unwrap();
            assert_eq!(found.pid.unsigned_abs(), pid);
            assert_eq!(found.annotations["execblock/deny"], "a=b,c");
            assert_eq!(found.annotations.len(), 1);
        }
        // Another container, a process that took the number, one that is gone.
        let text = start.to_string();
        for wrong in [
            state("c2", pid, &text),
            state("c1", pid, "1"),
            state("c1", 0, &text),
            state("c1", 4_194_305, &text),
            "{".to_owned(),
            "{\"id\":\"c1\"}".to_owned(),
        ] {
            write(&wrong);
            assert_eq!(kept(root.path(), "c1"), None, "{wrong}");
        }
    }

    #[test]
    fn the_files_of_crun_are_read() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("c1");
        fs::create_dir(&dir).unwrap();
        let bundle = tempfile::tempdir().unwrap();
        let status = format!(
            r#"{{"pid":{},"process-start-time":{},"cgroup-path":"/x","bundle":"{}"}}"#,
            std::process::id(),
            own_start(),
            bundle.path().display()
        );
        fs::write(dir.join("status"), status).unwrap();
        // Nothing tells of annotations.
        assert_eq!(kept(root.path(), "c1"), None);
        let config = |deny: &str| format!(r#"{{"annotations":{{"execblock/deny":"{deny}"}}}}"#);
        fs::write(bundle.path().join("config.json"), config("id")).unwrap();
        let found = kept(root.path(), "c1").unwrap();
        assert_eq!(found.annotations["execblock/deny"], "id");
        // `crun create --config`: the copy is what the container runs with.
        fs::write(dir.join("config.json"), config("ls")).unwrap();
        let found = kept(root.path(), "c1").unwrap();
        assert_eq!(found.annotations["execblock/deny"], "ls");
    }

    #[test]
    fn an_id_never_leaves_the_root() {
        let root = tempfile::tempdir().unwrap();
        for id in ["", ".", "..", "../c1", "a/../c1", "/c1"] {
            assert_eq!(kept(root.path(), id), None, "{id}");
        }
    }

    #[test]
    fn a_runtime_that_hangs_is_killed() {
        for script in [
            "exec sleep 100",
            "exec >&-; exec sleep 100",
            "sleep 100 & wait",
        ] {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            let began = Instant::now();
            let slow = output(command, "sh", Duration::from_millis(100));
            assert!(matches!(slow, Err(AskError::Slow(_))), "{script}: {slow:?}");
            assert!(began.elapsed() < Duration::from_secs(50), "{script}");
        }
    }

    #[test]
    fn what_a_runtime_answers_is_bounded() {
        let mut command = Command::new("sh");
        command.args(["-c", "exec cat /dev/zero"]);
        let found = output(command, "sh", Duration::from_secs(50)).unwrap();
        assert!(matches!(found, Some(Err(OciError::TooLong(_)))));
    }
}
