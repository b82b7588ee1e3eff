//! Hook and wrapper on this machine's own kernel: real programs, a real runtime
//! where runc is installed, real refusals.
//!
//! Needs root, BTF and a cgroup v2 mount. Where no mechanism works the tests say
//! so and count as skipped by name. They have a mount namespace of their own, so
//! that their pins and records are nobody else's.

macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+).into());
        }
    };
}

mod crash;
mod ladder;
mod load;
mod runc;
mod upgrade;

use std::{
    fs,
    io::{self, Write as _},
    os::unix::{
        fs::{MetadataExt as _, symlink},
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use execblock::{
    bind::Binder,
    cgroup::Hierarchy,
    setup::{Options, Setup},
};
use libtest_mimic::{Arguments, Failed, Trial};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::UnshareFlags,
};
use serde_json::{Value, json};

const HOOK: &str = env!("CARGO_BIN_EXE_execblock-hook");
const WRAPPER: &str = env!("CARGO_BIN_EXE_execblock-runc");

/// The name of a test, and what it does.
type Case = (&'static str, fn() -> Result<(), Failed>);

const CASES: &[Case] = &[
    ("hook_binds_and_forgets", hook_binds_and_forgets),
    (
        "hook_refuses_and_binds_nothing",
        hook_refuses_and_binds_nothing,
    ),
    (
        "hook_touches_nothing_of_others",
        hook_touches_nothing_of_others,
    ),
    (
        "hook_of_a_user_says_what_to_do",
        hook_of_a_user_says_what_to_do,
    ),
    ("hook_binds_what_is_restored", hook_binds_what_is_restored),
    (
        "start_binds_from_files_and_answers",
        start_binds_from_files_and_answers,
    ),
    ("delete_forgets_what_is_dead", delete_forgets_what_is_dead),
];

fn main() {
    let mut arguments = Arguments::from_args();
    // They share one set of pins.
    arguments.test_threads = Some(1);
    let able = own_mounts().and_then(|()| {
        let loaded = Setup::default().load(&Options::default());
        loaded.map(drop).map_err(|error| error.to_string())
    });
    let runc = program("runc").is_some() && program("busybox").is_some();
    let strace = program("strace").is_some();
    #[expect(clippy::print_stdout, reason = "says why something is skipped")]
    {
        if let Err(reason) = &able {
            println!("skipped, nothing works here: {reason}");
        } else if !runc {
            println!("skipped those of runc: no runc or no busybox here");
        } else if !strace {
            println!("skipped those that kill: no strace here");
        }
    }
    let trial =
        |able: bool| move |&(name, case): &Case| Trial::test(name, case).with_ignored_flag(!able);
    let trials = CASES
        .iter()
        .chain(upgrade::CASES)
        .map(trial(able.is_ok()))
        .chain(crash::CASES.iter().map(trial(able.is_ok() && strace)))
        .chain(
            [runc::CASES, ladder::CASES, load::CASES]
                .concat()
                .iter()
                .map(trial(able.is_ok() && runc)),
        )
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}

/// A mount namespace with an empty BPF file system and an empty /run.
fn own_mounts() -> Result<(), String> {
    let failed = |what: &'static str| move |error| format!("{what}: {error}");
    // SAFETY: there is one thread, and it shares no file descriptors.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.map_err(failed("unshare"))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(failed("making mounts private"))?;
    let none = MountFlags::empty();
    mount("bpf", "/sys/fs/bpf", "bpf", none, c"mode=0700").map_err(failed("mount bpf"))?;
    mount("tmpfs", "/run", "tmpfs", none, c"mode=0755").map_err(failed("mount /run"))
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A created container: a process in a cgroup that carries the container's id.
struct Container {
    id: String,
    dir: PathBuf,
    child: Child,
}

impl Container {
    fn new(id: &str) -> Result<Self, Failed> {
        let id = format!("execblock-test-{id}");
        let dir = Hierarchy::find()?.mount().join(&id);
        fs::create_dir_all(&dir)?;
        let mut command = Command::new("sleep");
        let child = joining(command.arg("1000"), &dir).spawn()?;
        Ok(Self { id, dir, child })
    }

    fn state(&self, status: &str, annotations: &Value) -> Value {
        json!({
            "ociVersion": "1.0.2", "id": self.id, "status": status, "pid": self.child.id(),
            "bundle": "/nowhere", "annotations": annotations,
        })
    }

    /// Whether the program runs in it.
    fn runs(&self, program: &str) -> Result<bool, Failed> {
        let mut command = Command::new(program);
        command.stdout(Stdio::piped());
        match joining(&mut command, &self.dir).output() {
            Ok(output) if output.status.success() => Ok(true),
            Ok(output) if output.status.signal() == Some(9) => Ok(false),
            Ok(output) => Err(format!("{program}: {:?}", output.status).into()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The id of its cgroup.
    fn cgroup(&self) -> Result<u64, Failed> {
        Ok(fs::metadata(&self.dir)?.ino())
    }

    fn end(&mut self) -> Result<(), Failed> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn is_bound(&self) -> Result<bool, Failed> {
        Ok(!Binder::new()?.records().of_container(&self.id)?.is_empty())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.end().ok();
        if let Ok(binder) = Binder::new() {
            binder.unbind_container(&self.id).ok();
        }
        fs::remove_dir(&self.dir).ok();
    }
}

/// The command joins the cgroup before it execs.
fn joining<'a>(command: &'a mut Command, dir: &Path) -> &'a mut Command {
    let procs = dir.join("cgroup.procs");
    // SAFETY: only opens and writes a file.
    unsafe { command.pre_exec(move || fs::write(&procs, "0")) }
}

fn deny(list: &str) -> Value {
    json!({ "execblock/deny": list })
}

fn hook(state: &Value, command: &mut Command) -> Result<Output, Failed> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().ok_or("no stdin")?;
    match stdin.write_all(state.to_string().as_bytes()) {
        // One that a test kills may be dead before it reads: how it ended tells.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        other => other?,
    }
    drop(stdin);
    Ok(child.wait_with_output()?)
}

fn hooked(state: &Value, code: i32, said: &str) -> Result<(), Failed> {
    let output = hook(state, &mut Command::new(HOOK))?;
    let err = text(&output.stderr);
    ensure!(
        output.status.code() == Some(code) && err.contains(said) && err.lines().count() <= 1,
        "{state}: {:?} {err:?}, expected {code} {said:?}",
        output.status
    );
    Ok(())
}

fn hook_binds_and_forgets() -> Result<(), Failed> {
    let mut container = Container::new("hook")?;
    ensure!(container.runs("whoami")?, "whoami without rules");
    hooked(&container.state("creating", &deny("whoami")), 0, "")?;
    ensure!(!container.runs("whoami")?, "whoami ran");
    ensure!(container.runs("id")?, "id did not run");
    // crun says "created", and twice is as good as once.
    hooked(&container.state("created", &deny("whoami")), 0, "")?;
    ensure!(
        !container.runs("whoami")?,
        "whoami ran after the second time"
    );
    // A hook of another stage does not open it.
    let stopped = json!({ "id": container.id, "status": "stopped" });
    hooked(&stopped, 0, "still has processes")?;
    ensure!(
        !container.runs("whoami")?,
        "whoami ran after a wrong poststop"
    );
    container.end()?;
    hooked(&stopped, 0, "")?;
    ensure!(!container.is_bound()?, "it is still bound");
    ensure!(container.runs("whoami")?, "whoami after poststop");
    Ok(())
}

fn hook_refuses_and_binds_nothing() -> Result<(), Failed> {
    let container = Container::new("refused")?;
    let created = |annotations| container.state("created", &annotations);
    hooked(
        &created(deny("a/b")),
        1,
        "annotation execblock/deny: item 1",
    )?;
    let gone = json!({
        "id": container.id, "status": "created", "pid": 4_194_305, "annotations": deny("whoami"),
    });
    hooked(&gone, 1, "is gone")?;
    // The process of another: a container's cgroup is never its engine's.
    let other = json!({
        "id": "another", "status": "created", "pid": container.child.id(),
        "annotations": deny("whoami"),
    });
    hooked(&other, 1, "has no cgroup v2 of its own")?;
    ensure!(
        !container.is_bound()? && container.runs("whoami")?,
        "it was bound"
    );
    Setup::default().unload()?;
    let refused = hooked(&created(deny("whoami")), 1, "execblock load");
    Setup::default().load(&Options::default())?;
    refused
}

fn hook_touches_nothing_of_others() -> Result<(), Failed> {
    let container = Container::new("others")?;
    Setup::default().unload()?;
    fs::remove_dir_all("/run/execblock").ok();
    let result = (|| {
        for (status, annotations) in [
            ("creating", json!({})),
            ("creating", json!({ "a": "b" })),
            ("stopped", json!({})),
        ] {
            hooked(&container.state(status, &annotations), 0, "")?;
        }
        ensure!(!fs::exists("/run/execblock")?, "it made /run/execblock");
        ensure!(
            fs::read_dir("/sys/fs/bpf")?
                .next()
                .is_none_or(|one| { one.is_ok_and(|one| one.file_name() != "execblock") }),
            "it made pins"
        );
        Ok(())
    })();
    Setup::default().load(&Options::default())?;
    result
}

fn hook_of_a_user_says_what_to_do() -> Result<(), Failed> {
    let container = Container::new("user")?;
    let state = container.state("creating", &deny("whoami"));
    // Where a user can read it.
    let dir = tempfile::Builder::new()
        .prefix("execblock")
        .tempdir_in("/run")?;
    let program = dir.path().join("hook");
    fs::copy(HOOK, &program)?;
    Command::new("chmod")
        .args(["-R", "a+rX"])
        .arg(dir.path())
        .status()?;
    let mut user = Command::new(&program);
    user.uid(65_534).gid(65_534);
    let mut namespace = Command::new("unshare");
    namespace.args(["--user", "--map-root-user"]).arg(&program);
    for (command, who) in [
        (&mut user, "a user"),
        (&mut namespace, "root of a user namespace"),
    ] {
        let output = hook(&state, command)?;
        let err = text(&output.stderr);
        ensure!(
            output.status.code() == Some(1),
            "{who}: {:?} {err}",
            output.status
        );
        ensure!(
            err.contains("annotation execblock/deny")
                && err.contains(who)
                && err.contains("run the container as root, or drop the annotation"),
            "{who}: {err}"
        );
        // Without an annotation it is none of our business.
        let output = hook(&container.state("creating", &json!({})), command)?;
        ensure!(output.status.success(), "{who}: {}", text(&output.stderr));
    }
    ensure!(!container.is_bound()?, "it was bound");
    Ok(())
}

fn hook_binds_what_is_restored() -> Result<(), Failed> {
    let container = Container::new("restored")?;
    // createRuntime of runc's restore: no process is known, one is given.
    hooked(&container.state("stopped", &deny("whoami")), 0, "")?;
    ensure!(!container.runs("whoami")?, "whoami ran");
    Ok(())
}

/// A directory with a runtime that notes that it was called, and the wrapper in
/// front of it.
fn fake_runtime(state: &str) -> Result<tempfile::TempDir, Failed> {
    let dir = tempfile::tempdir()?;
    symlink(WRAPPER, dir.path().join("execblock-fake"))?;
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *state*) cat <<'E'\n{state}\nE\n;; *) echo real \"$@\";; esac\n"
    );
    let path = dir.path().join("fake");
    fs::write(&path, script)?;
    Command::new("chmod").arg("+x").arg(&path).status()?;
    Ok(dir)
}

fn wrapped(dir: &Path, args: &[&str]) -> Result<String, Failed> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = format!("{}:{}", dir.display(), path.to_string_lossy());
    let mut command = Command::new(dir.join("execblock-fake"));
    let output = command.args(args).env("PATH", path).output()?;
    let err = text(&output.stderr);
    ensure!(
        output.status.success(),
        "{args:?}: {:?} {err}",
        output.status
    );
    Ok(text(&output.stdout))
}

fn start_binds_from_files_and_answers() -> Result<(), Failed> {
    for fast in [true, false] {
        let container = Container::new(if fast { "files" } else { "answers" })?;
        let state = if fast {
            Value::Null
        } else {
            container.state("created", &deny("whoami"))
        };
        let runtime = fake_runtime(&state.to_string())?;
        let root = runtime.path().join("root");
        fs::create_dir_all(root.join(&container.id))?;
        if fast {
            let stat = fs::read_to_string(format!("/proc/{}/stat", container.child.id()))?;
            let rest = stat.rsplit_once(')').ok_or("no name in stat")?.1;
            let began: u64 = rest
                .split_ascii_whitespace()
                .nth(19)
                .ok_or("short stat")?
                .parse()?;
            let state = json!({
                "id": container.id, "init_process_pid": container.child.id(),
                "init_process_start": began,
                "config": { "labels": ["bundle=/nowhere", "execblock/deny=whoami"] },
            });
            fs::write(
                root.join(&container.id).join("state.json"),
                state.to_string(),
            )?;
        }
        let root = root.to_string_lossy();
        let out = wrapped(runtime.path(), &["--root", &root, "start", &container.id])?;
        let expected = format!("real --root {root} start {}\n", container.id);
        ensure!(out == expected, "{out:?}, expected {expected:?}");
        ensure!(
            !container.runs("whoami")? && container.runs("id")?,
            "not under its rules"
        );
    }
    Ok(())
}

fn delete_forgets_what_is_dead() -> Result<(), Failed> {
    let mut container = Container::new("deleted")?;
    hooked(&container.state("created", &deny("whoami")), 0, "")?;
    let runtime = fake_runtime("null")?;
    let delete = || wrapped(runtime.path(), &["delete", &container.id]);
    // The runtime may refuse to delete what runs.
    ensure!(
        delete()?.starts_with("real delete"),
        "it did not reach the runtime"
    );
    ensure!(container.is_bound()?, "a running container was opened");
    container.child.kill()?;
    container.child.wait()?;
    delete()?;
    ensure!(!container.is_bound()?, "it is still bound");
    container.end().ok();
    Ok(())
}
