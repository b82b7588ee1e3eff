//! What becomes of an annotated container when what is to bind it is missing, held
//! up, killed or out of room: with a real runc it does not start, and nothing is
//! left bound. The table in docs/engines.md names these tests.

use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use execblock::{
    bind::Binder,
    setup::{Options, Setup},
};
use libtest_mimic::Failed;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    Case, HOOK, WRAPPER, deny,
    runc::{Bundle, SCRIPT},
    text,
};

/// Those that need runc and a static BusyBox.
pub(crate) const CASES: &[Case] = &[
    (
        "runc_without_the_hook_refuses",
        runc_without_the_hook_refuses,
    ),
    ("runc_gives_a_slow_hook_up", runc_gives_a_slow_hook_up),
    (
        "runc_refuses_for_a_killed_hook",
        runc_refuses_for_a_killed_hook,
    ),
    (
        "a_killed_wrapper_starts_nothing",
        a_killed_wrapper_starts_nothing,
    ),
    ("hook_and_wrapper_say_full", hook_and_wrapper_say_full),
];

/// So long a machine may be busy with others.
const LIMIT: Duration = Duration::from_mins(1);

/// A bundle whose configuration calls a hook, as NRI's `inject_hook` has it.
fn hooked(id: &str, hook: &str, timeout: u32) -> Result<Bundle, Failed> {
    let bundle = Bundle::new(id, &deny("true"), SCRIPT)?;
    let path = bundle.dir.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
    let hook = json!([{ "path": hook, "args": ["execblock-hook"], "timeout": timeout }]);
    config["hooks"] = json!({ "createRuntime": hook });
    fs::write(&path, config.to_string())?;
    Ok(bundle)
}

/// `PROGRAM WORD ID`, with what it says in the bundle's file `said`.
fn spawn(bundle: &Bundle, program: &str, word: &str) -> Result<Child, Failed> {
    // A file: a pipe would stay open in the container.
    let said = File::create(bundle.dir.path().join("said"))?;
    let mut command = Command::new(program);
    command.args([word, &bundle.id]).current_dir(&bundle.dir);
    let command = command.stdin(Stdio::null()).stdout(said.try_clone()?);
    Ok(command.stderr(said).spawn()?)
}

/// It fails with these words, and the container runs nothing and is not bound.
fn is_refused(bundle: &Bundle, mut child: Child, words: &[&str]) -> Result<(), Failed> {
    let status = child.wait()?;
    let said = text(&fs::read(bundle.dir.path().join("said"))?);
    ensure!(!status.success(), "it went well: {said}");
    for word in words {
        ensure!(said.contains(word), "no {word:?} in {said}");
    }
    is_untouched(bundle)
}

fn is_untouched(bundle: &Bundle) -> Result<(), Failed> {
    let ran = bundle.dir.path().join("rootfs/status").exists();
    ensure!(!ran, "the container's program ran");
    let records = Binder::new()?.records().of_container(&bundle.id)?;
    ensure!(records.is_empty(), "it is bound: {records:?}");
    Ok(())
}

fn state(bundle: &Bundle) -> Result<Value, Failed> {
    let output = Command::new("runc").args(["state", &bundle.id]).output()?;
    Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
}

/// Held by another writer, which all that binds waits for.
fn lock() -> Result<File, Failed> {
    fs::create_dir_all("/run/execblock")?;
    let mut options = File::options();
    let lock = options
        .create(true)
        .append(true)
        .open("/run/execblock/lock")?;
    lock.lock()?;
    Ok(lock)
}

/// The process that waits for the lock. The kernel tells no one that somebody
/// waits: it is looked for again and again.
fn waiting(lock: &File) -> Result<Pid, Failed> {
    use std::os::unix::fs::MetadataExt as _;
    // "1: -> FLOCK  ADVISORY  WRITE 4711 00:21:1234 0 EOF"
    let inode = format!(":{}", lock.metadata()?.ino());
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        for line in fs::read_to_string("/proc/locks")?.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [_, "->", "FLOCK", _, _, pid, file, ..] = words[..]
                && file.ends_with(&inode)
            {
                let pid = Pid::from_raw(pid.parse()?);
                return Ok(pid.ok_or("no process")?);
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err("nobody waits for the lock".into())
}

fn runc_without_the_hook_refuses() -> Result<(), Failed> {
    let bundle = hooked("no-hook", "/no/such/execblock-hook", 10)?;
    let create = spawn(&bundle, "runc", "create")?;
    is_refused(
        &bundle,
        create,
        &["/no/such/execblock-hook", "no such file"],
    )
}

fn runc_gives_a_slow_hook_up() -> Result<(), Failed> {
    let lock = lock()?;
    let bundle = hooked("slow-hook", HOOK, 1)?;
    let create = spawn(&bundle, "runc", "create")?;
    is_refused(&bundle, create, &["hook", "timeout"])?;
    drop(lock);
    // The same one, in time.
    let bundle = hooked("quick-hook", HOOK, 10)?;
    let status = spawn(&bundle, "runc", "create")?.wait()?;
    ensure!(status.success(), "{:?}", status);
    Ok(())
}

fn runc_refuses_for_a_killed_hook() -> Result<(), Failed> {
    let lock = lock()?;
    let bundle = hooked("killed-hook", HOOK, 60)?;
    let create = spawn(&bundle, "runc", "create")?;
    kill_process(waiting(&lock)?, Signal::KILL)?;
    is_refused(&bundle, create, &["hook", "killed"])
}

fn a_killed_wrapper_starts_nothing() -> Result<(), Failed> {
    let bundle = Bundle::new("killed-wrapper", &deny("true"), SCRIPT)?;
    bundle.done(&["create", &bundle.id])?;
    let lock = lock()?;
    let start = spawn(&bundle, WRAPPER, "start")?;
    kill_process(waiting(&lock)?, Signal::KILL)?;
    is_refused(&bundle, start, &[])?;
    let state = state(&bundle)?;
    ensure!(state["status"] == "created", "it was started: {state}");
    drop(lock);
    // The engine may try again.
    bundle.done(&["start", &bundle.id])?;
    bundle.wait()?;
    crate::runc::refused(&bundle)
}

fn hook_and_wrapper_say_full() -> Result<(), Failed> {
    Setup::default().unload()?;
    Setup::default().load(&Options {
        containers: Some(1),
        ..Options::default()
    })?;
    let result = full();
    Setup::default().unload()?;
    Setup::default().load(&Options::default())?;
    result
}

fn full() -> Result<(), Failed> {
    let first = hooked("full-first", HOOK, 10)?;
    let status = spawn(&first, "runc", "create")?.wait()?;
    ensure!(status.success(), "the first: {status:?}");
    let second = hooked("full-hook", HOOK, 10)?;
    let create = spawn(&second, "runc", "create")?;
    is_refused(&second, create, &["execblock-hook", "is full"])?;
    let third = Bundle::new("full-wrapper", &deny("true"), SCRIPT)?;
    third.done(&["create", &third.id])?;
    let start = spawn(&third, WRAPPER, "start")?;
    is_refused(&third, start, &["execblock-runc", "is full"])?;
    let state = state(&third)?;
    ensure!(state["status"] == "created", "it was started: {state}");
    Ok(())
}
