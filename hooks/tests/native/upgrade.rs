//! Programs that take the place of others while containers run.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
};

use execblock::{
    bind::{Binder, Unbound},
    cgroup::Hierarchy,
    kernel::{Mechanism, Pins},
    setup::{Choice, Loaded, Options, Replace, Setup},
};
use libtest_mimic::Failed;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::{Case, Container, deny, hooked, joining};

pub(crate) const CASES: &[Case] = &[
    ("replacing_leaves_no_gap", replacing_leaves_no_gap),
    ("older_pins_are_taken_over", older_pins_are_taken_over),
    (
        "what_can_not_be_taken_over_stays",
        what_can_not_be_taken_over_stays,
    ),
    ("newer_pins_stay", newer_pins_stay),
    (
        "who_left_its_cgroup_stays_bound",
        who_left_its_cgroup_stays_bound,
    ),
    ("a_cut_off_swap_is_put_right", a_cut_off_swap_is_put_right),
];

const ALWAYS: Options<'_> = Options {
    choice: Choice::Auto,
    containers: None,
    rules: None,
    transient: false,
    replace: Replace::Always,
    retiring: &|_| {},
};

const OUTDATED: Options<'_> = Options {
    replace: Replace::Outdated,
    ..ALWAYS
};

/// A program of a name that nothing else has.
struct Program {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Program {
    fn new(name: &str) -> Result<Self, Failed> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join(name);
        fs::copy("/bin/true", &path)?;
        Ok(Self { _dir: dir, path })
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap_or_default()
    }
}

/// Executes the program in the container until it is told to stop; how often, and how
/// often it ran.
struct Storm {
    tried: AtomicU32,
    ran: AtomicU32,
    stop: AtomicBool,
}

impl Storm {
    fn during(
        container: &Container,
        program: &Program,
        least: u32,
        what: impl FnOnce() -> Result<(), Failed>,
    ) -> Result<u32, Failed> {
        let storm = Self {
            tried: AtomicU32::new(0),
            ran: AtomicU32::new(0),
            stop: AtomicBool::new(false),
        };
        let result = thread::scope(|scope| {
            scope.spawn(|| storm.run(&container.dir, &program.path));
            let result = what();
            while result.is_ok() && storm.tried.load(Ordering::Relaxed) < least {
                thread::yield_now();
            }
            storm.stop.store(true, Ordering::Relaxed);
            result
        });
        result?;
        let (tried, ran) = (storm.tried.into_inner(), storm.ran.into_inner());
        ensure!(ran == 0, "it ran {ran} times of {tried}");
        Ok(tried)
    }

    fn run(&self, dir: &Path, program: &Path) {
        while !self.stop.load(Ordering::Relaxed) {
            let mut command = Command::new(program);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let status = joining(&mut command, dir).status();
            self.tried.fetch_add(1, Ordering::Relaxed);
            // Any other end than the two of a refusal is as bad as a run.
            let refused = match status {
                Ok(status) => status.signal() == Some(9),
                Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
            };
            if !refused {
                self.ran.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn bound(name: &str, rule: &str) -> Result<Container, Failed> {
    let container = Container::new(name)?;
    hooked(&container.state("creating", &deny(rule)), 0, "")?;
    Ok(container)
}

/// Pins as that ABI had them, without what came since, and the container's record where
/// it was then. Returns the record's path.
fn as_of_abi_4(container: &Container) -> Result<String, Failed> {
    let dir = Pins::default().dir().to_owned();
    for name in ["build", "tags", "rules_long"] {
        fs::remove_file(dir.join(name))?;
    }
    let (records, id, cgroup) = (
        "/run/execblock/containers",
        &container.id,
        container.cgroup()?,
    );
    let record = format!("{records}/{id}.{cgroup}.json");
    fs::rename(format!("{records}/{id}/{cgroup}.json"), &record)?;
    fs::remove_dir(format!("{records}/{id}"))?;
    set_abi(4)?;
    Ok(record)
}

fn set_abi(abi: u32) -> Result<(), Failed> {
    // The first field of the one value.
    let config = Pins::default().dir().join("config");
    let bytes = Command::new("bpftool")
        .args(["-j", "map", "lookup", "pinned"])
        .arg(&config)
        .args(["key", "0", "0", "0", "0"])
        .output()?;
    let value: serde_json::Value = serde_json::from_slice(&bytes.stdout)?;
    let mut value: Vec<String> = value["value"]
        .as_array()
        .ok_or("no value")?
        .iter()
        .filter_map(|byte| byte.as_str().map(str::to_owned))
        .collect();
    for (to, from) in value.iter_mut().zip(abi.to_ne_bytes()) {
        *to = format!("{from:#x}");
    }
    let set = Command::new("bpftool")
        .args(["map", "update", "pinned"])
        .arg(&config)
        .args(["key", "0", "0", "0", "0", "value"])
        .args(value)
        .status()?;
    ensure!(set.success(), "bpftool: {set}");
    Ok(())
}

fn bound_at(container: &Container) -> Result<Option<u64>, Failed> {
    let cgroup = container.cgroup()?;
    let entry = Pins::default().open()?.container(cgroup)?;
    Ok(entry.map(|entry| entry.bound_at))
}

fn nothing_beside_the_pins() -> Result<(), Failed> {
    for name in ["/sys/fs/bpf/execblock-new", "/sys/fs/bpf/execblock-old"] {
        ensure!(!fs::exists(name)?, "{name} is left");
    }
    Ok(())
}

fn replacing_leaves_no_gap() -> Result<(), Failed> {
    let program = Program::new("upgrade-denied")?;
    let container = bound("replaced", program.path())?;
    let since = bound_at(&container)?;
    let tried = Storm::during(&container, &program, 1000, || {
        for containers in [Some(20_000), None, Some(16_384)] {
            let loaded = Setup::default().load(&Options {
                containers,
                ..ALWAYS
            })?;
            ensure!(
                matches!(loaded, Loaded::Replaced { containers: 1, .. }),
                "{loaded:?}"
            );
        }
        Ok(())
    })?;
    ensure!(tried >= 1000, "{tried} times");
    ensure!(
        since.is_some() && bound_at(&container)? == since,
        "it was bound anew"
    );
    // What was counted before counts on; a denial is counted once a thread and second.
    let hits: u64 = hits_of(&container)?;
    ensure!(hits > 0, "no hits of {tried}");
    ensure!(container.runs("id")?, "id did not run");
    nothing_beside_the_pins()
}

fn hits_of(container: &Container) -> Result<u64, Failed> {
    let cgroup = container.cgroup()?;
    let hits = Pins::default().open()?.hits()?.into_iter();
    let own = hits.filter(|(key, _)| key.cgroup == cgroup);
    Ok(own.map(|(_, hit)| hit.count).sum())
}

fn older_pins_are_taken_over() -> Result<(), Failed> {
    let program = Program::new("upgrade-older")?;
    let container = bound("older", program.path())?;
    let since = bound_at(&container)?;
    as_of_abi_4(&container)?;
    // Nobody else touches them.
    let state = container.state("created", &deny("id"));
    hooked(
        &state,
        1,
        "ABI version 4, expected 6: execblock load takes them over",
    )?;
    let loaded = Setup::default().load(&Options::default());
    ensure!(loaded.is_err(), "{loaded:?}");
    Storm::during(&container, &program, 100, || {
        let loaded = Setup::default().load(&OUTDATED)?;
        ensure!(
            matches!(loaded, Loaded::Replaced { containers: 1, .. }),
            "{loaded:?}"
        );
        Ok(())
    })?;
    ensure!(
        since.is_some() && bound_at(&container)? == since,
        "it was bound anew"
    );
    ensure!(container.runs("id")?, "id did not run");
    nothing_beside_the_pins()?;
    let again = Setup::default().load(&OUTDATED)?;
    ensure!(matches!(again, Loaded::Already(_)), "{again:?}");
    Ok(())
}

fn what_can_not_be_taken_over_stays() -> Result<(), Failed> {
    let program = Program::new("upgrade-stays")?;
    let container = bound("stays", program.path())?;
    // A mechanism that can't be had here, and a map that is too small.
    let (_more, _others) = (bound("stays-2", "x")?, bound("stays-3", "y")?);
    for options in [
        Options {
            choice: Choice::One(Mechanism::Kprobe),
            ..ALWAYS
        },
        Options {
            containers: Some(2),
            ..ALWAYS
        },
    ] {
        let loaded = Setup::default().load(&options);
        ensure!(loaded.is_err(), "{options:?}: {loaded:?}");
        ensure!(!container.runs(program.path())?, "{options:?}: it ran");
        nothing_beside_the_pins()?;
    }
    let record = as_of_abi_4(&container)?;
    let text = fs::read(&record)?;
    fs::remove_file(&record)?;
    let error = Setup::default()
        .load(&OUTDATED)
        .map_err(|error| error.to_string());
    ensure!(
        error
            .as_ref()
            .is_err_and(|error| error.contains("has no record")),
        "{error:?}"
    );
    ensure!(!container.runs(program.path())?, "it ran");
    nothing_beside_the_pins()?;
    fs::write(&record, text)?;
    Setup::default().load(&OUTDATED)?;
    ensure!(!container.runs(program.path())?, "it ran");
    Ok(())
}

fn newer_pins_stay() -> Result<(), Failed> {
    let program = Program::new("upgrade-newer")?;
    let container = bound("newer", program.path())?;
    let abi = Pins::default().open()?.config()?.abi;
    set_abi(abi + 1)?;
    for options in [ALWAYS, OUTDATED] {
        let error = Setup::default()
            .load(&options)
            .map_err(|error| error.to_string());
        ensure!(
            error
                .as_ref()
                .is_err_and(|error| error.contains("a newer execblock made them")),
            "{error:?}"
        );
    }
    ensure!(!container.runs(program.path())?, "it ran");
    set_abi(abi)
}

fn who_left_its_cgroup_stays_bound() -> Result<(), Failed> {
    let program = Program::new("upgrade-left")?;
    let mut container = bound("left", program.path())?;
    // A shell that was executed in the container, and then leaves it.
    let script = format!(
        "echo $$ > {}/cgroup.procs; read line; {program}; echo $?; read line; {program}; echo $?",
        Hierarchy::find()?.mount().display(),
        program = program.path(),
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut shell = joining(&mut command, &container.dir).spawn()?;
    let mut stdin = shell.stdin.take().ok_or("no stdin")?;
    let mut lines = BufReader::new(shell.stdout.take().ok_or("no stdout")?).lines();
    let mut next = |what: &str| -> Result<(), Failed> {
        stdin.write_all(b"\n")?;
        let line = lines.next().ok_or("it ended")??;
        ensure!(line == "137", "{what}: exit status {line}");
        Ok(())
    };
    Setup::default().load(&ALWAYS)?;
    next("after the programs were replaced")?;
    // Nor does the end of its container free it.
    container.end()?;
    let unbound = Binder::new()?.unbind_container(&container.id)?;
    ensure!(
        unbound == Unbound::InUse,
        "{unbound:?}, and a process of it is outside"
    );
    fs::remove_dir(&container.dir)?;
    Binder::new()?.collect()?;
    next("after its cgroup is gone")?;
    // Its end is enough: that nobody has waited for it yet keeps nothing.
    let pid = Pid::from_child(&shell);
    waitid(
        WaitId::Pid(pid),
        WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
    )?;
    ensure!(
        Binder::new()?.collect()?.dead == 1,
        "the entry stays for ever"
    );
    shell.wait()?;
    Ok(())
}

/// As a kill between the two renames leaves it, where a kernel can't exchange.
fn a_cut_off_swap_is_put_right() -> Result<(), Failed> {
    let program = Program::new("upgrade-cut")?;
    let container = bound("cut", program.path())?;
    for place in ["execblock-new", "execblock-old"] {
        fs::rename(
            "/sys/fs/bpf/execblock",
            Path::new("/sys/fs/bpf").join(place),
        )?;
        ensure!(!container.runs(program.path())?, "{place}: it ran");
        let other = bound("cut-2", "whoami")?;
        ensure!(!other.runs("whoami")?, "{place}: whoami ran");
        nothing_beside_the_pins()?;
    }
    Ok(())
}
