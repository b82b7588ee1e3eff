//! Each mechanism against each way of executing a denied program, without a container engine.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use super::{Case, doctor, storm};
use crate::execblock::{self, PROGRAM};
use crate::harness::Skip;
use crate::machine::{Kernel, Machine, Mechanism};
use crate::probe::{self, Attempt, Step, Verdict};
use crate::process;
use crate::protocol;

pub(super) const EPERM: i32 = libc::EPERM;
pub(super) const SIGKILL: i32 = libc::SIGKILL;

const WHOAMI: &str = "/usr/bin/whoami";
const ID: &str = "/usr/bin/id";
const BUSYBOX: &str = "/usr/bin/busybox";
const HELPERS: &str = "/payload/helpers";

/// What must become of an attempt.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expect {
    /// As the mechanism refuses what it sees.
    Refused,
    /// It runs to its end.
    Runs,
}

/// An attempt and what must become of it.
#[derive(Debug)]
pub(super) struct Check {
    what: &'static str,
    step: Step,
    expect: Expect,
}

impl Check {
    fn new(what: &'static str, attempt: Attempt, expect: Expect) -> Self {
        Self {
            what,
            step: Step {
                attempt,
                levels_below: 0,
            },
            expect,
        }
    }

    fn levels_below(mut self, levels: usize) -> Self {
        self.step.levels_below = levels;
        self
    }
}

pub(super) fn refused(what: &'static str, attempt: Attempt) -> Check {
    Check::new(what, attempt, Expect::Refused)
}

pub(super) fn runs(what: &'static str, attempt: Attempt) -> Check {
    Check::new(what, attempt, Expect::Runs)
}

pub(super) fn exec(path: impl Into<PathBuf>) -> Attempt {
    Attempt::Exec {
        path: path.into(),
        argv: Vec::new(),
    }
}

/// A directory for the files of a case; `/tmp` is a file system of its own.
#[derive(Debug)]
pub(super) struct Scratch {
    dir: PathBuf,
    mounts: Vec<PathBuf>,
}

impl Scratch {
    pub(super) fn new() -> Result<Self> {
        let dir = PathBuf::from("/tmp/case");
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir(&dir)?;
        Ok(Self {
            dir,
            mounts: Vec::new(),
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    pub(super) fn link(&self, name: &str, target: impl AsRef<Path>) -> Result<PathBuf> {
        let path = self.path(name);
        symlink(target, &path)?;
        Ok(path)
    }

    pub(super) fn script(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    pub(super) fn copy(&self, name: &str, of: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::copy(of, &path).with_context(|| of.to_owned())?;
        Ok(path)
    }

    fn bind(&mut self, name: &str, of: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, "")?;
        mount_bind(of, &path)?;
        self.mounts.push(path.clone());
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for path in &self.mounts {
            if let Err(error) = unmount(path, UnmountFlags::DETACH) {
                protocol::log(format_args!("unmount {}: {error}", path.display()));
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            protocol::log(format_args!("remove {}: {error}", self.dir.display()));
        }
    }
}

type Checks = Result<Vec<Check>>;

/// Files to lay out, rules to bind, and what must become of each attempt.
struct Scenario {
    name: &'static str,
    rules: &'static [&'static str],
    applies: fn(Kernel, Mechanism) -> bool,
    checks: fn(&mut Scratch) -> Checks,
}

const DENY_WHOAMI: &[&str] = &["--deny", "whoami"];

fn everywhere(_: Kernel, _: Mechanism) -> bool {
    true
}

/// What needs a hook at each level of an exec, not only at its end.
fn in_kernel(_: Kernel, mechanism: Mechanism) -> bool {
    matches!(mechanism, Mechanism::Lsm | Mechanism::FmodRet)
}

/// What takes its time: once for each mechanism.
fn large(kernel: Kernel, mechanism: Mechanism) -> bool {
    kernel.is_usual_for(mechanism)
}

fn with_x32(kernel: Kernel, _: Mechanism) -> bool {
    kernel.has_x32()
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "direct",
        rules: DENY_WHOAMI,
        applies: everywhere,
        checks: |_| {
            Ok(vec![
                refused("by path", exec(WHOAMI)),
                runs("another program", exec(ID)),
            ])
        },
    },
    Scenario {
        name: "symlink-to-busybox",
        rules: DENY_WHOAMI,
        applies: everywhere,
        checks: |scratch| {
            let denied = scratch.link("whoami", BUSYBOX)?;
            let allowed = scratch.link("id", BUSYBOX)?;
            Ok(vec![
                refused("a link of the denied name", exec(denied)),
                runs("a link of another name", exec(allowed)),
            ])
        },
    },
    Scenario {
        name: "symlink-to-denied",
        rules: DENY_WHOAMI,
        applies: everywhere,
        checks: |scratch| {
            let to_whoami = scratch.link("innocent", WHOAMI)?;
            let to_id = scratch.link("whoever", ID)?;
            Ok(vec![
                refused("a link to the denied file", exec(to_whoami)),
                runs("a link to another file", exec(to_id)),
            ])
        },
    },
    Scenario {
        name: "symlinked-directory",
        rules: DENY_WHOAMI,
        applies: everywhere,
        checks: |scratch| {
            let dir = scratch.link("dir", "/usr/bin")?;
            Ok(vec![
                refused("through the link", exec(dir.join("whoami"))),
                runs("another program through it", exec(dir.join("id"))),
            ])
        },
    },
    Scenario {
        name: "interpreter",
        rules: DENY_WHOAMI,
        applies: everywhere,
        checks: |scratch| {
            // `whoami` and `id` fail on the script's path as an operand; the exec is what counts.
            let denied = scratch.script("denied", "#!/usr/bin/whoami --help\n")?;
            let allowed = scratch.script("allowed", "#!/usr/bin/env -S echo\n")?;
            Ok(vec![
                refused("a script of the denied interpreter", exec(denied)),
                runs("a script of another", exec(allowed)),
            ])
        },
    },
    Scenario {
        name: "interpreter-that-is-a-link",
        rules: DENY_WHOAMI,
        applies: everywhere,
        checks: |scratch| {
            scratch.link("whoami", BUSYBOX)?;
            scratch.link("echo", BUSYBOX)?;
            let denied = scratch.script("denied", "#!/tmp/case/whoami\n")?;
            let allowed = scratch.script("allowed", "#!/tmp/case/echo\n")?;
            Ok(vec![
                refused("a link of the denied name", exec(denied)),
                runs("a link of another name", exec(allowed)),
            ])
        },
    },
    Scenario {
        name: "script-of-that-name",
        rules: DENY_WHOAMI,
        applies: everywhere,
        checks: |scratch| {
            let denied = scratch.script("whoami", "#!/bin/sh\necho ran\n")?;
            let allowed = scratch.script("whoever", "#!/bin/sh\necho ran\n")?;
            Ok(vec![
                refused("a script named so", exec(denied)),
                runs("a script of another name", exec(allowed)),
            ])
        },
    },
    Scenario {
        name: "interpreter-that-is-a-script",
        rules: DENY_WHOAMI,
        applies: in_kernel,
        checks: |scratch| {
            scratch.script("whoami", "#!/bin/sh\necho ran\n")?;
            scratch.script("whoever", "#!/bin/sh\necho ran\n")?;
            let denied = scratch.script("denied", "#!/tmp/case/whoami\n")?;
            let allowed = scratch.script("allowed", "#!/tmp/case/whoever\n")?;
            Ok(vec![
                refused("the denied name in the middle", exec(denied)),
                runs("another name there", exec(allowed)),
            ])
        },
    },
    Scenario {
        name: "execveat-descriptor",
        rules: DENY_WHOAMI,
        applies: everywhere,
        checks: |_| {
            Ok(vec![
                refused(
                    "AT_EMPTY_PATH",
                    Attempt::ExecFd {
                        path: WHOAMI.into(),
                    },
                ),
                runs("another program so", Attempt::ExecFd { path: ID.into() }),
            ])
        },
    },
    Scenario {
        name: "execveat-directory",
        rules: DENY_WHOAMI,
        applies: everywhere,
        checks: |_| {
            let at = |name: &str| Attempt::ExecAt {
                dir: "/usr/bin".into(),
                name: name.to_owned(),
            };
            Ok(vec![
                refused("by directory", at("whoami")),
                runs("another program so", at("id")),
            ])
        },
    },
    Scenario {
        name: "proc-self-fd",
        rules: DENY_WHOAMI,
        applies: everywhere,
        checks: |_| {
            Ok(vec![
                refused(
                    "through /proc",
                    Attempt::ExecProcFd {
                        path: WHOAMI.into(),
                    },
                ),
                runs(
                    "another program so",
                    Attempt::ExecProcFd { path: ID.into() },
                ),
            ])
        },
    },
    Scenario {
        name: "thread",
        rules: DENY_WHOAMI,
        applies: everywhere,
        checks: |_| {
            Ok(vec![
                refused(
                    "by a second thread",
                    Attempt::ExecInThread {
                        path: WHOAMI.into(),
                    },
                ),
                runs(
                    "another program so",
                    Attempt::ExecInThread { path: ID.into() },
                ),
            ])
        },
    },
    Scenario {
        name: "bind-mount",
        rules: DENY_WHOAMI,
        applies: everywhere,
        checks: |scratch| {
            let denied = scratch.bind("innocent", WHOAMI)?;
            let allowed = scratch.bind("other", ID)?;
            Ok(vec![
                refused("the denied file mounted elsewhere", exec(denied)),
                runs("another file mounted", exec(allowed)),
            ])
        },
    },
    Scenario {
        name: "other-names",
        rules: DENY_WHOAMI,
        applies: everywhere,
        checks: |scratch| {
            let mut checks = vec![refused("the name itself", exec(WHOAMI))];
            for (what, name) in [
                ("one letter more", "whoami2"),
                ("one letter before", "xwhoami"),
                ("one letter less", "whoam"),
                ("another case", "Whoami"),
                ("a dot", "whoami."),
                (
                    "a longer name",
                    "whoami-and-then-some-more-letters-than-a-small-buffer-holds",
                ),
            ] {
                checks.push(runs(what, exec(scratch.copy(name, ID)?)));
            }
            Ok(checks)
        },
    },
    Scenario {
        name: "long-path",
        rules: DENY_WHOAMI,
        applies: everywhere,
        checks: |scratch| {
            let deep = vec!["d".repeat(200); 15].join("/");
            let dir = scratch.dir(&deep)?;
            symlink(BUSYBOX, dir.join("whoami"))?;
            symlink(BUSYBOX, dir.join("id"))?;
            Ok(vec![
                refused("3,000 bytes before the name", exec(dir.join("whoami"))),
                runs("another name there", exec(dir.join("id"))),
            ])
        },
    },
    Scenario {
        name: "path-rule",
        rules: &["--deny", WHOAMI],
        applies: everywhere,
        checks: |scratch| {
            let elsewhere = scratch.copy("whoami", ID)?;
            let in_dir = |path: &str| Attempt::ExecIn {
                dir: "/usr/bin".into(),
                path: path.into(),
            };
            let link = scratch.link("innocent", WHOAMI)?;
            Ok(vec![
                refused("as written", exec(WHOAMI)),
                refused("/bin, a link", exec("/bin/whoami")),
                refused("more slashes and dots", exec("/usr//bin/./whoami")),
                refused("up and down", exec("/usr/bin/../bin/whoami")),
                refused("relative", in_dir("./whoami")),
                refused("by a link of another name", exec(link)),
                refused(
                    "by descriptor",
                    Attempt::ExecFd {
                        path: WHOAMI.into(),
                    },
                ),
                runs("the same name elsewhere", exec(elsewhere)),
                runs("another program there", exec(ID)),
            ])
        },
    },
    Scenario {
        name: "path-rule-in-chroot",
        rules: &["--deny", "/tmp/case/root/usr/bin/whoami"],
        applies: everywhere,
        checks: |scratch| {
            // Static, so that it needs nothing of the root it runs in.
            scratch.dir("root/usr/bin")?;
            scratch.copy("root/usr/bin/whoami", BUSYBOX)?;
            scratch.copy("root/usr/bin/id", BUSYBOX)?;
            let inside = |path: &str| Attempt::ExecInRoot {
                root: "/tmp/case/root/usr".into(),
                path: path.into(),
            };
            Ok(vec![
                refused("seen from outside", exec("/tmp/case/root/usr/bin/whoami")),
                refused("seen from inside", inside("/bin/whoami")),
                runs("another program inside", inside("/bin/id")),
            ])
        },
    },
    Scenario {
        name: "child-cgroup",
        rules: DENY_WHOAMI,
        applies: everywhere,
        checks: |_| {
            Ok(vec![
                refused("in a cgroup below", exec(WHOAMI)).levels_below(1),
                runs("another program there", exec(ID)),
            ])
        },
    },
    Scenario {
        name: "deep-child-cgroup",
        rules: DENY_WHOAMI,
        applies: everywhere,
        checks: |_| {
            Ok(vec![
                refused("ten cgroups below", exec(WHOAMI)).levels_below(10),
                runs("another program there", exec(ID)),
            ])
        },
    },
    Scenario {
        name: "largest-arguments",
        rules: DENY_WHOAMI,
        applies: large,
        checks: |_| {
            // MAX_ARG_STRLEN, and a quarter of the stack's limit.
            let first = |path: &str| Attempt::ExecLarge {
                path: path.into(),
                argv: Vec::new(),
                words: 0,
                length: 131_071,
            };
            let many = |path: &str, argv: &[&str]| Attempt::ExecLarge {
                path: path.into(),
                argv: argv.iter().map(|&word| word.to_owned()).collect(),
                words: 16,
                length: 125_000,
            };
            Ok(vec![
                refused("a first word as long as it gets", first(WHOAMI)),
                refused("two million bytes of words", many(WHOAMI, &["whoami"])),
                runs(
                    "another program with as many",
                    many("/bin/sh", &["sh", "-c", "echo ran"]),
                ),
            ])
        },
    },
    Scenario {
        name: "ia32",
        rules: DENY_WHOAMI,
        applies: everywhere,
        checks: |_| foreign_abi("exec_ia32"),
    },
    Scenario {
        name: "x32",
        rules: DENY_WHOAMI,
        applies: with_x32,
        checks: |_| foreign_abi("exec_x32"),
    },
];

/// The helpers are not libc programs: they make the raw system call of their ABI.
fn foreign_abi(helper: &str) -> Checks {
    let path = Path::new(HELPERS).join(helper);
    let works = process::command(&path).arg("/nonexistent").output();
    match works {
        Ok(output) if output.status.code() == Some(libc::ENOENT) => {}
        Ok(output) => bail!("{helper} ended with {}", output.status),
        Err(error) => return Err(Skip(format!("{}: {error}", path.display())).into()),
    }
    let call = |args: &[&str]| Attempt::Helper {
        path: path.clone(),
        args: args.iter().map(|&word| word.to_owned()).collect(),
    };
    Ok(vec![
        refused("execve", call(&[WHOAMI])),
        refused("execveat", call(&[WHOAMI, "at"])),
        runs("execve of another program", call(&[ID])),
        runs("execveat of another program", call(&[ID, "at"])),
    ])
}

pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    let mut cases = Vec::new();
    for mechanism in Mechanism::ALL {
        let group = mechanism.name();
        if !machine.kernel.has(mechanism) {
            cases.push(Case::new(format!("{group}/reported-missing"), move |_| {
                doctor::reported_missing(mechanism)
            }));
            continue;
        }
        for scenario in SCENARIOS {
            if (scenario.applies)(machine.kernel, mechanism) {
                cases.push(Case::new(format!("{group}/{}", scenario.name), move |_| {
                    let mut scratch = Scratch::new()?;
                    let checks = (scenario.checks)(&mut scratch)?;
                    expect(mechanism, scenario.rules, &checks)
                }));
            }
        }
        cases.extend(storm::cases(machine, mechanism));
        cases.push(Case::new(format!("{group}/shell"), move |_| {
            shell(mechanism)
        }));
        cases.push(Case::new(format!("{group}/others-untouched"), move |_| {
            others_untouched(mechanism)
        }));
        cases.push(Case::new(format!("{group}/without-processes"), move |_| {
            without_processes(mechanism)
        }));
    }
    cases
}

/// Takes the steps inside a bound cgroup and holds each verdict against what was expected.
pub(super) fn expect(mechanism: Mechanism, rules: &[&str], checks: &[Check]) -> Result<()> {
    execblock::loaded(mechanism)?;
    let mut command = execblock::command();
    command
        .arg("run")
        .args(rules)
        .arg("--")
        .arg(std::env::current_exe()?)
        .arg("probe");
    let output = process::run(command.arg(steps(checks)?))?.success()?;
    judge(mechanism, checks, &probe::parse(&output.stdout)?)
}

fn steps(checks: &[Check]) -> Result<String> {
    let steps: Vec<_> = checks.iter().map(|check| &check.step).collect();
    Ok(serde_json::to_string(&steps)?)
}

fn judge(mechanism: Mechanism, checks: &[Check], verdicts: &[Verdict]) -> Result<()> {
    ensure!(
        verdicts.len() == checks.len(),
        "{} of {} verdicts",
        verdicts.len(),
        checks.len()
    );
    let mut wrong = Vec::new();
    for (check, verdict) in checks.iter().zip(verdicts) {
        if !is_met(mechanism, check, verdict) {
            wrong.push(format!(
                "{}: {verdict:?}, expected {:?}",
                check.what, check.expect
            ));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

fn is_met(mechanism: Mechanism, check: &Check, verdict: &Verdict) -> bool {
    match (check.expect, verdict) {
        (
            Expect::Runs,
            Verdict::Exit {
                code: 0, stdout, ..
            },
        ) => !stdout.is_empty(),
        (Expect::Refused, Verdict::Errno(EPERM)) => mechanism != Mechanism::Signal,
        // The name in user memory is a courtesy check; what it can't see is killed.
        (Expect::Refused, Verdict::Signal(SIGKILL)) => match mechanism {
            Mechanism::Signal => true,
            Mechanism::Kprobe => check.what != "by path",
            Mechanism::Lsm | Mechanism::FmodRet => false,
        },
        _ => false,
    }
}

/// What a shell makes of it: 126 and a message, or 137. It finds the program on its path.
fn shell(mechanism: Mechanism) -> Result<()> {
    execblock::loaded(mechanism)?;
    let script = "whoami; echo status=$?; id -u; exec whoami";
    let output = execblock::run(&["run", "--deny", "whoami", "--", "sh", "-c", script])?;
    let lines: Vec<_> = output.stdout.lines().collect();
    let killed = lines == ["status=137", "0"] && process::signal_of(output.status) == Some(SIGKILL);
    let forbidden = lines == ["status=126", "0"]
        && output.code() == Some(126)
        && output.stderr.contains("Operation not permitted");
    let met = match mechanism {
        Mechanism::Lsm | Mechanism::FmodRet => forbidden,
        Mechanism::Kprobe => forbidden || killed,
        Mechanism::Signal => killed,
    };
    ensure!(met, "{lines:?}, then {}: {}", output.status, output.stderr);
    Ok(())
}

/// While one cgroup is bound, everybody else runs the program.
fn others_untouched(mechanism: Mechanism) -> Result<()> {
    let checks = [
        refused("by path", exec(WHOAMI)),
        runs("another program", exec(ID)),
    ];
    let mut bound = Bound::start(mechanism, &checks)?;
    for _ in 0..3 {
        let output = process::run(&mut process::command(WHOAMI))?.success()?;
        ensure!(output.stdout == "root\n", "whoami said {:?}", output.stdout);
    }
    bound.go()?;
    judge(mechanism, &checks, &bound.verdicts()?)?;
    let output = process::run(&mut process::command(WHOAMI))?.success()?;
    ensure!(output.stdout == "root\n", "whoami said {:?}", output.stdout);
    Ok(())
}

/// The refusal holds when every process of execblock has been killed.
fn without_processes(mechanism: Mechanism) -> Result<()> {
    let checks = [
        refused("by path", exec(WHOAMI)),
        runs("another program", exec(ID)),
    ];
    let mut bound = Bound::start(mechanism, &checks)?;
    let program = fs::canonicalize(PROGRAM)?;
    let killed = process::running(&program)?;
    for pid in &killed {
        process::signal(*pid, rustix::process::Signal::KILL)?;
    }
    for pid in &killed {
        ensure!(
            process::wait_for_exit(*pid, std::time::Duration::from_secs(10))?,
            "{pid} did not die"
        );
    }
    ensure!(
        process::running(&program)?.is_empty(),
        "an execblock process is left"
    );
    protocol::log(format_args!("killed {killed:?}"));
    bound.go()?;
    judge(mechanism, &checks, &bound.verdicts()?)
}

/// A probe inside a bound cgroup that waits for the word.
struct Bound {
    child: std::process::Child,
    output: std::io::BufReader<std::process::ChildStdout>,
}

impl Bound {
    fn start(mechanism: Mechanism, checks: &[Check]) -> Result<Self> {
        use std::io::BufRead as _;
        execblock::loaded(mechanism)?;
        let mut command = execblock::command();
        let mut child = command
            .args(["run", "--deny", "whoami", "--"])
            .arg(std::env::current_exe()?)
            .arg("probe-when-told")
            .arg(steps(checks)?)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("standard output")?;
        let mut output = std::io::BufReader::new(stdout);
        let mut line = String::new();
        output.read_line(&mut line)?;
        ensure!(line == "ready\n", "the probe said {line:?}");
        Ok(Self { child, output })
    }

    fn go(&mut self) -> Result<()> {
        probe::tell(self.child.stdin.as_mut().context("standard input")?)
    }

    fn verdicts(mut self) -> Result<Vec<Verdict>> {
        use std::io::Read as _;
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        process::wait_within(&mut self.child, std::time::Duration::from_mins(1))?;
        probe::parse(&text)
    }
}
