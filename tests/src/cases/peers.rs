//! What a script costs that refuses one command by BCC, beside execblock: the one of
//! docs/from-the-bcc-script.md. Only on the machine that has BCC; `cargo xtask bench peers`
//! makes a table of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::Case;
use super::cost::{self, ALLOWED, RUNS};
use crate::cgroup::Cgroup;
use crate::execblock;
use crate::machine::{Machine, Mechanism};
use crate::process;
use crate::protocol;

const USERLAND: &str = "trixie-bcc";
const PAGE: &str = include_str!("../../../docs/from-the-bcc-script.md");
/// The number that the page's script has for a cgroup.
const CGROUP: &str = "4242";
/// What it refuses.
const DENIED: &str = "/usr/bin/whoami";

pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    if machine.userland != USERLAND || !machine.filter.starts_with("peers") {
        return Vec::new();
    }
    vec![Case::slow("peers/bcc", |_| bcc())]
}

fn bcc() -> Result<()> {
    execblock::unloaded()?;
    cost::count(true)?;
    let outside = Cgroup::own()?.child("outside")?;
    let bound = Cgroup::own()?.child("bound")?;
    headers()?;

    let began = Instant::now();
    let mut script = Script::start(bound.id()?)?;
    let start = began.elapsed();
    let exec = execs(&outside, &bound, &["syscall__execve"])?;
    tell(
        "BCC script",
        start.as_nanos(),
        Some(script.resident()?),
        &exec,
    );
    script.0.kill()?;
    script.0.wait()?;

    let query = format!("cgroup:{}", bound.path()?);
    let began = Instant::now();
    execblock::loaded(Mechanism::Kprobe)?;
    execblock::run(&["deny", &query, "whoami"])?.success()?;
    let start = began.elapsed();
    let exec = execs(&outside, &bound, &cost::OURS)?;
    tell("execblock, kprobe", start.as_nanos(), None, &exec);
    execblock::unloaded()?;
    cost::count(false)
}

fn tell(name: &str, start: u128, resident: Option<u64>, exec: &BTreeMap<&str, u64>) {
    let line = json!({
        "name": name,
        "start_ns": start,
        "resident_kib": resident,
        "exec": exec,
    });
    protocol::figure(&line);
}

/// Instructions of one exec, and that what is refused is.
fn execs<'a>(
    outside: &Cgroup,
    bound: &Cgroup,
    programs: &[&str],
) -> Result<BTreeMap<&'a str, u64>> {
    let mut found = BTreeMap::new();
    for (what, cgroup, program) in [
        ("on the host", outside, ALLOWED),
        ("bound, allowed", bound, ALLOWED),
        ("bound, denied", bound, DENIED),
    ] {
        let join = format!("echo 0 > {}", cgroup.procs().display());
        let script = format!("{join}; {}", cost::again_and_again(program));
        let least = cost::least(programs, || {
            let ran = process::run_unseen(process::command("sh").args(["-c", &script]))?;
            let ran = ran.success()?;
            let refused = ran.stderr.matches("not permitted").count();
            let expected = if program == DENIED { RUNS } else { 0 };
            ensure!(
                u64::try_from(refused)? == expected,
                "{what}: {refused} of {RUNS} refused"
            );
            Ok(())
        })?;
        found.insert(what, least);
    }
    Ok(found)
}

/// The page's script, and a line of its own that says that it is ready.
struct Script(Child);

impl Script {
    fn start(cgroup: u64) -> Result<Self> {
        let (_, behind) = PAGE
            .split_once("```python\n")
            .context("no script on the page")?;
        let (script, _) = behind.split_once("```").context("no end of the script")?;
        ensure!(script.contains(CGROUP), "no cgroup {CGROUP} in the script");
        let script = script.replace(CGROUP, &cgroup.to_string());
        let script =
            format!("{script}\nprint('ready', flush=True)\nimport time\ntime.sleep(9999)\n");
        let mut child = process::command("python3")
            .args(["-c", &script])
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("no output")?;
        let line = BufReader::new(output).lines().next().transpose()?;
        ensure!(line.as_deref() == Some("ready"), "the script said {line:?}");
        Ok(Self(child))
    }

    fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.context("no VmRSS")?.parse()?)
    }
}

/// The headers are those of Debian's kernel of the same series: what the script includes is
/// the same there.
fn headers() -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let modules = Path::new("/lib/modules").join(release.trim());
    fs::create_dir_all(&modules)?;
    for (link, end) in [("build", "-amd64"), ("source", "-common")] {
        let link = modules.join(link);
        if !link.is_symlink() {
            symlink(sources(end)?, link)?;
        }
    }
    Ok(())
}

fn sources(end: &str) -> Result<PathBuf> {
    let entries = fs::read_dir("/usr/src")?
        .flatten()
        .map(|entry| entry.path());
    let mut fitting = entries.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("linux-headers-") && name.ends_with(end)
    });
    fitting
        .next()
        .with_context(|| format!("no linux-headers-*{end} in /usr/src"))
}
