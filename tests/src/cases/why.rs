//! `execblock why` against what happens, with each mechanism: what one refuses by EPERM another
//! kills, or does not see.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context as _, Result, bail, ensure};

use super::Case;
use crate::cgroup::Cgroup;
use crate::execblock;
use crate::machine::{Machine, Mechanism};
use crate::process;

const DIR: &str = "/run/vmtest/why";

pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    let kernel = machine.kernel;
    let mechanisms = Mechanism::ALL.into_iter();
    mechanisms
        .filter(|mechanism| kernel.has(*mechanism))
        // The usual machine has all but one.
        .filter(|mechanism| machine.runs_all() || *mechanism == Mechanism::Kprobe)
        .map(|mechanism| Case::new(format!("why/{}", mechanism.name()), move |_| why(mechanism)))
        .collect()
}

fn why(mechanism: Mechanism) -> Result<()> {
    execblock::loaded(mechanism)?;
    let loader = programs()?;
    let target = Target::new()?;
    let rules = ["whoami", "run.sh", "/usr/bin/nproc", "python*", "*.deny"];
    execblock::run(&[&["deny", &target.query], &rules[..]].concat())?.success()?;
    let mut wrong = Vec::new();
    for words in [
        "id -u",
        "whoami",
        "./copy",
        "./other",
        "./whoami -u",
        "nproc",
        "../../bin/nproc",
        "./python4",
        "./script",
        "./by-link",
        // The file of a script is seen at bprm_check alone.
        "./link-to-script",
        "./x.deny",
        "./by-whoami",
        "./orphan",
        "./plain",
        "./missing",
        &format!("{loader} /usr/bin/whoami"),
        // What the loader maps is seen at mmap_file alone.
        &format!("{loader} ./other"),
        &format!("{loader} /usr/bin/id"),
    ] {
        target.compare(words, &mut wrong)?;
    }
    // Without its loader no program runs: the last of the rules.
    let name = Path::new(&fs::canonicalize(&loader)?).to_owned();
    let name = name.file_name().and_then(|name| name.to_str());
    execblock::run(&["deny", &target.query, name.context("loader")?])?.success()?;
    target.compare("id -u", &mut wrong)?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Makes the programs; returns the loader of this machine's.
fn programs() -> Result<String> {
    let dir = Path::new(DIR);
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir)?;
    fs::copy("/usr/bin/whoami", dir.join("copy"))?;
    fs::copy("/usr/bin/id", dir.join("python4"))?;
    for (link, target) in [
        ("other", "/usr/bin/whoami"),
        ("whoami", "/usr/bin/id"),
        ("link-to-script", "run.sh"),
    ] {
        symlink(target, dir.join(link))?;
    }
    for (name, first, mode) in [
        ("script", "#!/bin/sh", 0o755),
        ("run.sh", "#!/bin/sh", 0o755),
        ("x.deny", "#!/bin/sh", 0o755),
        ("by-whoami", "#!/usr/bin/whoami", 0o755),
        ("by-link", "#!./other", 0o755),
        ("orphan", "#!/no/such/program", 0o755),
        ("plain", "#!/bin/sh", 0o644),
    ] {
        let path = dir.join(name);
        fs::write(&path, format!("{first}\nexit 0\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    let names = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let name = names.into_iter().find(|name| Path::new(name).exists());
    Ok(name.context("no loader where glibc has it")?.to_owned())
}

/// Without a second name for a folder: a shell that is refused goes on to the next.
const PATH: &str = "/usr/sbin:/usr/bin";

/// A cgroup with a process that `why` looks programs up as.
struct Target {
    cgroup: Cgroup,
    query: String,
    child: Child,
}

impl Target {
    fn new() -> Result<Self> {
        let cgroup = Cgroup::own()?.child("why")?;
        let script = format!("echo 0 > {}; exec sleep 1000", cgroup.procs().display());
        let mut command = process::command("sh");
        command.args(["-c", &script]).env("PATH", PATH);
        let child = command.current_dir(DIR).spawn()?;
        let pid = process::pid_of(&child)?;
        let sleep: PathBuf = format!("/proc/{}/comm", pid.as_raw_nonzero()).into();
        process::until(std::time::Duration::from_mins(1), "sleep", || {
            Ok((fs::read_to_string(&sleep)? == "sleep\n").then_some(()))
        })?;
        Ok(Self {
            query: format!("cgroup:{}", cgroup.path()?),
            cgroup,
            child,
        })
    }

    fn compare(&self, words: &str, wrong: &mut Vec<String>) -> Result<()> {
        let words: Vec<&str> = words.split(' ').collect();
        let really = self.really(&words)?;
        let arguments = [&["why", "--json", &self.query], &words[..]].concat();
        let output = execblock::run(&arguments)?;
        let answer: serde_json::Value =
            serde_json::from_str(&output.stdout).with_context(|| output.said())?;
        let mut mechanisms = answer["mechanisms"].as_array().into_iter().flatten();
        let loaded = mechanisms.find(|mechanism| mechanism["loaded"] == true);
        let said = &loaded.context("nothing is loaded")?["effect"];
        if *said != really {
            wrong.push(format!("{words:?}: {really}, and {said} was said"));
        }
        Ok(())
    }

    /// What becomes of it, in the words of `why`.
    fn really(&self, words: &[&str]) -> Result<&'static str> {
        let script = format!(
            "echo 0 > {}; exec {}",
            self.cgroup.procs().display(),
            words.join(" ")
        );
        let mut command = process::command("sh");
        command.args(["-c", &script]).env("PATH", PATH);
        let output = process::run(command.current_dir(DIR))?;
        let said = output.said();
        Ok(match (output.code(), process::signal_of(output.status)) {
            (Some(0), _) => "runs",
            (Some(126), _) if said.contains("not permitted") => "eperm",
            (Some(126 | 127), _) if said.starts_with("sh: ") => "fails",
            (Some(127), _) => "not-loaded",
            (_, Some(libc::SIGKILL)) => "killed",
            (_, Some(libc::SIGSEGV)) => "crashes",
            _ => bail!("{words:?}: {said}"),
        })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        execblock::run(&["clear", &self.query]).ok();
    }
}
