//! `execblock why` against what really happens.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        process::ExitStatusExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use libtest_mimic::Failed;
use serde_json::Value;

use super::{Place, Running, execblock, joining, text};

/// The loader of this machine's programs.
fn loader() -> Result<String, Failed> {
    for name in [
        "/lib64/ld-linux-x86-64.so.2",
        "/lib/ld-linux-aarch64.so.1",
        "/lib/ld-linux-riscv64-lp64d.so.1",
    ] {
        if fs::exists(name)? {
            return Ok(name.to_owned());
        }
    }
    Err("no loader is where glibc has it".into())
}

/// A directory of programs.
struct Programs {
    dir: tempfile::TempDir,
}

impl Programs {
    fn new() -> Result<Self, Failed> {
        let made = Self {
            dir: tempfile::tempdir()?,
        };
        let at = |name: &str| made.path().join(name);
        for dir in ["locked", "sub", "p1", "p2"] {
            fs::create_dir(at(dir))?;
        }
        for copy in ["fine", "pyx", "locked/x", "p2/tool", "p2/both"] {
            fs::copy("/usr/bin/id", at(copy))?;
        }
        for (link, target) in [
            ("other", "/usr/bin/whoami"),
            ("whoami", "/usr/bin/id"),
            ("again", "other"),
            ("into", "locked/x"),
            ("dangling", "nothing"),
            ("loop", "loop"),
            ("p1/both", "/usr/bin/whoami"),
        ] {
            symlink(target, at(link))?;
        }
        fs::copy("/usr/bin/whoami", at("copied"))?;
        made.script("plain", "no interpreter", 0o644)?;
        made.script("p1/tool", "no interpreter", 0o644)?;
        made.script("script", "#!/bin/sh", 0o755)?;
        made.script("run.deny", "#! /bin/sh -e", 0o755)?;
        made.script("by-whoami", "#!/usr/bin/whoami", 0o755)?;
        made.script("by-link", "#!other", 0o755)?;
        made.script("orphan", "#!/no/such/interpreter", 0o755)?;
        made.script("applet", "#!/usr/bin/busybox true", 0o755)?;
        made.script("denied-applet", "#!/usr/bin/busybox whoami", 0o755)?;
        made.script("c6", "#!/bin/true", 0o755)?;
        for index in (1..6).rev() {
            let next = at(&format!("c{}", index + 1));
            made.script(
                &format!("c{index}"),
                &format!("#!{}", next.display()),
                0o755,
            )?;
        }
        Ok(made)
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn script(&self, name: &str, first: &str, mode: u32) -> Result<(), Failed> {
        let path = self.path().join(name);
        fs::write(&path, format!("{first}\nexit 0\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// As the container's first process has them: working directory and PATH.
    fn configure(&self, command: &mut Command) {
        let path = self.path().display();
        command
            .current_dir(self.path())
            .env("PATH", format!("{path}/p1:{path}/p2::/usr/bin:/bin"));
    }

    fn running(&self, name: &str) -> Result<Running, Failed> {
        Running::with(name, |command| self.configure(command))
    }

    /// What becomes of it, in the words of `why`.
    fn really(&self, running: &Place, words: &[&str]) -> Result<&'static str, Failed> {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        self.configure(&mut command);
        match joining(&mut command, &running.dir).output() {
            Ok(output) => match (output.status.code(), output.status.signal()) {
                (Some(127), _) => Ok("not-loaded"),
                (Some(_), _) => Ok("runs"),
                (_, Some(9)) => Ok("killed"),
                (_, Some(11)) => Ok("crashes"),
                _ => Err(format!("{words:?}: {:?}", output.status).into()),
            },
            Err(error) => match error.raw_os_error() {
                Some(1) => Ok("eperm"),
                // ENOENT, EACCES, ENOTDIR, ELOOP
                Some(2 | 13 | 20 | 40) => Ok("fails"),
                _ => Err(format!("{words:?}: {error}").into()),
            },
        }
    }

    /// Compares each program's end with what was said before; returns how many
    /// ended in each way.
    fn compare(&self, running: &Place, programs: &[&[&str]]) -> Result<Ends, Failed> {
        let mut wrong = Vec::new();
        let mut ends = Ends::default();
        for words in programs {
            let (said, answer) = ask(&running.query(), words)?;
            let end = self.really(running, words)?;
            if said != end {
                wrong.push(format!("{words:?} {end}, said was {said}: {answer:#}"));
            }
            match end {
                "runs" => ends.run += 1,
                "fails" => ends.fail += 1,
                _ => ends.denied += 1,
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(ends)
    }
}

/// How many programs ended how.
#[derive(Debug, Default)]
struct Ends {
    run: u32,
    denied: u32,
    fail: u32,
}

/// The effect that `why` expects of what is loaded, and all of its answer. Checks
/// the exit status against the verdict.
fn ask(container: &str, words: &[&str]) -> Result<(String, Value), Failed> {
    ask_by(execblock(), container, words)
}

/// The same by this command, which runs execblock.
fn ask_by(mut why: Command, container: &str, words: &[&str]) -> Result<(String, Value), Failed> {
    let output = why
        .args(["why", container, "--json"])
        .args(words)
        .output()?;
    let answer: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{words:?}: {error}: {}", text(&output.stderr)))?;
    let loaded = answer["mechanisms"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|mechanism| mechanism["loaded"] == true)
        .ok_or("nothing is loaded")?;
    let effect = loaded["effect"].as_str().unwrap_or_default();
    let (verdict, status) = match effect {
        "runs" => ("allowed", 0),
        "fails" => ("fails", 2),
        _ => ("denied", 1),
    };
    ensure!(
        answer["verdict"] == verdict && output.status.code() == Some(status),
        "{words:?}: {:?}: {answer:#}",
        output.status
    );
    Ok((effect.to_owned(), answer))
}

pub(super) fn says_what_happens() -> Result<(), Failed> {
    let programs = Programs::new()?;
    let running = programs.running("why")?;
    let locked = format!("{}/locked/", programs.path().display());
    let deny = ["whoami", "/usr/bin/uname", "py*", "*.deny", &locked];
    running.order("deny", &deny)?;
    let loader = loader()?;
    let absolute = programs.path().join("fine");
    let absolute = absolute.to_string_lossy();
    let ends = programs.compare(
        &running,
        &[
            // By name, path and spelling.
            &["whoami"],
            &["id"],
            &["/usr/bin/whoami"],
            &["/usr//bin/../bin/whoami"],
            &["uname"],
            &["/bin/uname"],
            &["/usr/bin/./uname"],
            &["./copied"],
            &[&absolute],
            // Links.
            &["./other"],
            &["./again"],
            &["./whoami"],
            &["./dangling"],
            &["./loop"],
            // Globs and directories.
            &["./pyx"],
            &["./locked/x"],
            &["./sub/../locked/x"],
            &["./into"],
            // Scripts and chains.
            &["./script"],
            &["./run.deny"],
            &["./by-whoami"],
            &["./by-link"],
            &["./orphan"],
            &["./c2"],
            &["./c1"],
            // Relative names, PATH, what is no program.
            &["sub/../fine"],
            &["fine"],
            &["tool"],
            &["both"],
            &["nope"],
            &["./nope"],
            &["./plain"],
            &["./locked"],
            &["./plain/x"],
            // What an argument asks for.
            &["busybox", "true"],
            &["busybox", "whoami"],
            &["busybox", "busybox", "whoami"],
            &["./applet"],
            &["./denied-applet"],
            &[&loader, "/usr/bin/whoami"],
            &[&loader, "--argv0", "x", "/usr/bin/id"],
            &[&loader, "./other"],
        ],
    )?;
    ensure!(
        ends.run >= 8 && ends.denied >= 15 && ends.fail >= 7,
        "too few of a kind: {ends:?}"
    );
    let said = answer_for_people(&running, "uname")?;
    for part in [
        "uname is denied in",
        "uname → /usr/bin/uname",
        "rule \"/usr/bin/uname\" (command line)",
        "(loaded)",
    ] {
        ensure!(said.contains(part), "{part}: {said}");
    }
    Ok(())
}

fn answer_for_people(running: &Place, program: &str) -> Result<String, Failed> {
    let mut why = execblock();
    let output = why.args(["why", &running.query(), program]).output()?;
    Ok(text(&output.stdout))
}

pub(super) fn knows_an_allow_list() -> Result<(), Failed> {
    let programs = Programs::new()?;
    let dir = programs.path().display();
    let allow = format!("/usr/bin/id busy* {dir}/fine {dir}/locked/ *.deny dash");
    let command = ["sh", "-c", "echo ready; read end"];
    with_list(&allow, &command, &programs, |running| {
        let ends = programs.compare(
            running,
            &[
                &["id"],
                &["./whoami"],
                &["whoami"],
                &["./fine"],
                &["./copied"],
                &["./into"],
                &["./script"],
                &["./run.deny"],
                &["busybox", "true"],
                &["uname"],
                &["env"],
                &["nope"],
            ],
        )?;
        ensure!(ends.run >= 4 && ends.denied >= 3, "{ends:?}");
        Ok(())
    })
}

/// A command of `execblock run --allow` that ends with its input.
fn with_list(
    allow: &str,
    command: &[&str],
    programs: &Programs,
    test: impl FnOnce(&Place) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let mut run = execblock();
    run.args(["run", "--allow", allow, "--"]).args(command);
    programs.configure(&mut run);
    let mut child = run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let result = if line == "ready\n" {
        cgroup_of_child(child.id()).and_then(|place| test(&place))
    } else {
        Err(format!("it did not start: {line:?}").into())
    };
    drop(child.stdin.take());
    child.wait()?;
    result
}

fn only_child(pid: u32) -> Result<u32, Failed> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    Ok(children.trim().parse()?)
}

/// The cgroup of the only child of a process.
fn cgroup_of_child(pid: u32) -> Result<Place, Failed> {
    let child = only_child(pid)?;
    let cgroups = fs::read_to_string(format!("/proc/{child}/cgroup"))?;
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::"));
    let path = path.ok_or("no cgroup v2")?.to_owned();
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut mounts = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = mounts.find(|mount| mount.get(2) == Some(&"cgroup2"));
    let mount = mount.ok_or("no cgroup2 mount")?[1].to_owned();
    let dir = PathBuf::from(mount + &path);
    Ok(Place { dir, path })
}

/// A container on an overlay of this machine's root: what `why` says of files of
/// the image, of changed and new ones, and of another file system.
pub(super) fn knows_drift() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let setup = "\
        set -e; mount --make-rprivate /; mount -t tmpfs tmpfs .; cd $PWD; mkdir u w m; \
        mount -t overlay overlay -o lowerdir=/,upperdir=$PWD/u,workdir=$PWD/w m; \
        for d in proc sys dev run; do mount --rbind /$d m/$d; done; \
        mkdir m/x; mount -t tmpfs tmpfs m/x; mount -t tmpfs tmpfs m/mnt; \
        cp /usr/bin/id m/new; cp /usr/bin/id m/x/id; cp /usr/bin/id m/mnt/id; \
        chmod g-w m/usr/bin/env; touch m/usr/bin/uname; \
        cp $EXECBLOCK m/execblock; ln -s /new m/link; mkdir m/old;";
    // Its root is that of its mount namespace, as a container's is.
    let script = format!(
        "{setup} unshare -m sh -c 'cd m && pivot_root . old && exec /execblock run \
         --drift deny --allow \"/usr/ /mnt/ new\" -- sh -c \"echo ready; while read -r p; \
         do \\$p >/dev/null 2>&1; echo \\$?; done\"'; true"
    );
    let mut child = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .current_dir(dir.path())
        .env("EXECBLOCK", env!("CARGO_BIN_EXE_execblock"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().ok_or("no input")?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let result = (|| {
        let ready = lines.next().transpose()?;
        ensure!(
            ready.as_deref() == Some("ready"),
            "it did not start: {ready:?}"
        );
        let run = only_child(child.id())?;
        let container = cgroup_of_child(run)?.query();
        for (program, lies, runs) in [
            ("/usr/bin/id", "image", true),
            ("/usr/bin/whoami", "image", true),
            ("/new", "upper", false),
            ("/link", "upper", false),
            ("/usr/bin/env", "upper", false),
            ("/usr/bin/uname", "upper", false),
            // A directory of the allow-list admits a mount, and nothing else does.
            ("/x/id", "elsewhere", false),
            ("/mnt/id", "elsewhere", true),
        ] {
            writeln!(input, "{program}")?;
            let status = lines.next().transpose()?.unwrap_or_default();
            let really = !matches!(status.as_str(), "126" | "137" | "139");
            let (effect, answer) =
                ask_by(where_it_was_mounted(child.id()), &container, &[program])?;
            ensure!(
                really == runs && (effect == "runs") == runs,
                "{program}: status {status}, said was {answer:#}"
            );
            ensure!(answer["files"][0]["lies"] == lies, "{program}: {answer:#}");
        }
        // From here the upper layer is hidden, and nothing is claimed.
        let mut why = execblock();
        let output = why.args(["why", &container, "/usr/bin/id"]).output()?;
        let out = text(&output.stdout);
        ensure!(
            output.status.code() == Some(2),
            "{:?}: {out}",
            output.status
        );
        ensure!(out.contains("is not to be seen from here"), "{out}");
        Ok(())
    })();
    drop(input);
    child.wait()?;
    result
}

/// execblock in the mount namespace of a process, as an engine's host is: from
/// elsewhere the upper layer is not to be seen.
fn where_it_was_mounted(pid: u32) -> Command {
    let mut enter = Command::new("nsenter");
    enter
        .arg(format!("--mount=/proc/{pid}/ns/mnt"))
        .arg(env!("CARGO_BIN_EXE_execblock"));
    enter
}

/// It needs no daemon, and leaves no trace; without a binding no rule holds.
pub(super) fn changes_nothing() -> Result<(), Failed> {
    let running = Running::new("unbound")?;
    execblock().arg("unload").output()?;
    let why = |program: &str| {
        let mut why = execblock();
        why.args(["why", &running.query(), program]).output()
    };
    let output = why("whoami")?;
    let out = text(&output.stdout);
    ensure!(
        output.status.code() == Some(0),
        "{:?}: {out}",
        output.status
    );
    for part in ["whoami is allowed", "not bound", "no mechanism is loaded"] {
        ensure!(out.contains(part), "{part}: {out}");
    }
    ensure!(!fs::exists("/sys/fs/bpf/execblock")?, "it pinned something");
    running.order("deny", &["id"])?;
    let before = running.order("status", &["--json"])?;
    ensure!(why("id")?.status.code() == Some(1), "not denied");
    let after = running.order("status", &["--json"])?;
    ensure!(before == after, "{before}\nbecame\n{after}");
    let mut missing = execblock();
    let missing = missing.args(["why", "cgroup:/no/such", "id"]).output()?;
    ensure!(missing.status.code() == Some(2), "{:?}", missing.status);
    ensure!(!missing.stderr.is_empty(), "no message");
    Ok(())
}

pub(super) fn allow_adds_to_an_allow_list() -> Result<(), Failed> {
    let programs = Programs::new()?;
    let command = ["sh", "-c", "echo ready; read end"];
    with_list("dash sh bash", &command, &programs, |running| {
        ensure!(programs.really(running, &["id"])? != "runs", "unlisted");
        let said = running.order("allow", &["id", "/usr/bin/whoami"])?;
        ensure!(said.contains("by its allow-list"), "{said}");
        ensure!(
            programs.really(running, &["id"])? == "runs",
            "listed by name"
        );
        ensure!(
            programs.really(running, &["./other"])? == "runs",
            "listed by path"
        );
        running.order("deny", &["id"])?;
        ensure!(programs.really(running, &["id"])? != "runs", "deny wins");
        running.order("allow", &["id"])?;
        ensure!(programs.really(running, &["id"])? == "runs", "lifted");
        let status = running.order("status", &[])?;
        for part in ["allow id, command line", "deny all else, "] {
            ensure!(status.contains(part), "{part}: {status}");
        }
        Ok(())
    })
}
