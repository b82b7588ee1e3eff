//! What the hooks cost, in instructions: only where it is asked for by name, on a machine whose
//! clock counts them. `cargo xtask bench cost` makes a table of it.
//!
//! The kernel's own statistics of BPF programs (`kernel.bpf_stats_enabled`) give the time that a
//! program ran, with the cost of taking it in it, and how often.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Case;
use crate::bpf;
use crate::cgroup::Cgroup;
use crate::execblock::{self, PINS};
use crate::machine::{Machine, Mechanism};
use crate::process;
use crate::protocol;

const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";
/// Programs that are run for one figure, and how often that is done: an interrupt within a
/// program counts for it, so the least is taken.
pub(super) const RUNS: u64 = 50;
const TRIES: u32 = 3;
pub(super) const ALLOWED: &str = "/usr/bin/true";
/// Where only the whole of an exec is known.
const NOT_LOADED: &str = "not loaded";
/// Beside the one that is measured.
const CONTAINERS: [u64; 2] = [1000, 16_383];

pub(super) fn cases(machine: &Machine) -> Vec<Case> {
    if !machine.filter.starts_with("cost") {
        return Vec::new();
    }
    let usual = machine.kernel.usual();
    usual
        .flat_map(|mechanism| {
            let name = mechanism.name();
            let all = Case::slow(format!("cost/{name}"), move |_| costs(mechanism, all));
            let few = Case::slow(format!("cost-few/{name}"), move |_| costs(mechanism, few));
            [all, few]
        })
        .collect()
}

/// What every change can wait for.
fn few(bench: &Bench) -> Result<()> {
    bench.figure("host, nothing bound", &bench.outside, ALLOWED)?;
    for (kind, item) in KINDS {
        bench.rules(kind, item, 1)?;
    }
    Ok(())
}

fn all(bench: &Bench) -> Result<()> {
    bench.figure("host, nothing bound", &bench.outside, ALLOWED)?;
    for (kind, item) in KINDS {
        for count in [1, 10, 100, 1000] {
            bench.rules(kind, item, count)?;
        }
    }
    bench.commands()?;
    bench.with(&["whoami"], || {
        bench.figure("host, another bound", &bench.outside, ALLOWED)?;
        bench.depths()?;
        bench.lengths()?;
        bench.containers()
    })?;
    bench.with(&["true"], || {
        bench.figure("bound, denied", &bench.bound, ALLOWED)
    })
}

/// Deny lists of one kind each, none of which has what is run.
type Item = fn(u32) -> String;
const KINDS: [(&str, Item); 6] = [
    ("name", |n| format!("whoami{n}")),
    ("long name", |n| {
        format!("a-name-of-more-than-32-bytes-in-all-{n}")
    }),
    ("path", |n| format!("/usr/local/bin/whoami{n}")),
    ("directory", |n| format!("/opt/tools{n}/")),
    ("prefix", |n| format!("whoami{n}x*")),
    ("suffix", |n| format!("*x{n}whoami")),
];

fn costs(mechanism: Mechanism, measure: impl Fn(&Bench) -> Result<()>) -> Result<()> {
    execblock::unloaded()?;
    count(true)?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let release = json!({ "mechanism": mechanism.name(), "kernel": release.trim() });
    protocol::figure(&release);
    let bench = Bench {
        mechanism,
        outside: Cgroup::own()?.child("outside")?,
        bound: Cgroup::own()?.child("bound")?,
    };
    bench.figure(NOT_LOADED, &bench.outside, ALLOWED)?;
    execblock::loaded(mechanism)?;
    measure(&bench)?;
    count(false)
}

/// Has the kernel count what programs take.
pub(super) fn count(whether: bool) -> Result<()> {
    fs::write(STATISTICS, if whether { "1" } else { "0" }).context(STATISTICS)
}

struct Bench {
    mechanism: Mechanism,
    outside: Cgroup,
    bound: Cgroup,
}

impl Bench {
    /// Something while those are denied to the bound cgroup.
    fn with(&self, items: &[&str], then: impl FnOnce() -> Result<()>) -> Result<()> {
        let query = format!("cgroup:{}", self.bound.path()?);
        execblock::run(&[&["deny", &query], items].concat())?.success()?;
        then()?;
        execblock::run(&["clear", &query])?.success().map(drop)
    }

    /// A deny list of one kind.
    fn rules(&self, kind: &str, item: Item, count: u32) -> Result<()> {
        let items: Vec<String> = (0..count).map(item).collect();
        let items: Vec<&str> = items.iter().map(String::as_str).collect();
        self.with(&items, || {
            let what = format!("bound, {count} {kind}");
            self.figure(&what, &self.bound, ALLOWED)
        })
    }

    /// Processes in cgroups below the bound one.
    fn depths(&self) -> Result<()> {
        let mut below = None;
        for depth in 1..=16 {
            let above = below.as_ref().unwrap_or(&self.bound);
            let cgroup = above.child("x")?;
            if [1, 4, 16].contains(&depth) {
                let what = format!("bound, 1 name, {depth} levels below");
                self.figure(&what, &cgroup, ALLOWED)?;
            }
            below = Some(cgroup);
        }
        Ok(())
    }

    /// Programs with a long path.
    fn lengths(&self) -> Result<()> {
        for components in [16, 64, 250] {
            let root = Path::new("/tmp/cost");
            let dir: PathBuf =
                (0..components).fold(root.to_owned(), |dir, _| dir.join("directory"));
            fs::create_dir_all(&dir)?;
            let program = dir.join("true");
            fs::copy(ALLOWED, &program)?;
            let program = program.to_string_lossy();
            let what = format!("bound, 1 name, path of {} bytes", program.len());
            self.figure(&what, &self.bound, &program)?;
            fs::remove_dir_all(root)?;
        }
        Ok(())
    }

    /// Entries of containers that nobody has.
    fn containers(&self) -> Result<()> {
        let map = bpf::Map::of(bpf::by_pin(&format!("{PINS}/containers"))?)?;
        let own = self.bound.id()?;
        let entries = map.entries()?;
        let own = entries.iter().find(|(key, _)| key == &own.to_ne_bytes());
        let (_, value) = own.context("the bound cgroup has no entry")?;
        let keys = |number| (1..=number).map(|id: u64| (u64::MAX - id).to_ne_bytes());
        for number in CONTAINERS {
            for key in keys(number) {
                map.update(&key, value)?;
            }
            let others = format!("{number} others");
            self.figure(&format!("bound, 1 name, {others}"), &self.bound, ALLOWED)?;
            self.figure(&format!("host, {others} bound"), &self.outside, ALLOWED)?;
        }
        for key in keys(CONTAINERS[1]) {
            map.delete(&key)?;
        }
        Ok(())
    }

    /// Allow-lists, and what did not come with the image.
    fn commands(&self) -> Result<()> {
        // The shell and what it runs are two.
        for count in [2, 10, 100, 1000] {
            let others = (2..count).map(|n| format!("whoami{n}"));
            let listed: Vec<String> = others.chain(["dash".into(), "true".into()]).collect();
            let what = format!("bound, allow-list of {} names", listed.len());
            self.command(&what, &["--allow", &listed.join(",")])?;
        }
        // As in an image, whose root is an overlay.
        let in_overlay = [
            "unshare",
            "-m",
            "sh",
            "-c",
            OVERLAY,
            "sh",
            execblock::PROGRAM,
        ];
        self.command_by("bound, drift", &in_overlay, &["--drift", "deny"])
    }

    /// As [`figure`](Self::figure), of `execblock run`, whose own execs are among them: two in
    /// fifty.
    fn command(&self, what: &str, options: &[&str]) -> Result<()> {
        self.command_by(what, &[execblock::PROGRAM], options)
    }

    fn command_by(&self, what: &str, execblock: &[&str], options: &[&str]) -> Result<()> {
        let script = again_and_again(ALLOWED);
        let words = [execblock, &["run"], options, &["--", "sh", "-c", &script]].concat();
        self.measured(what, || {
            let (program, arguments) = words.split_first().context("no command")?;
            let ran = process::run(process::command(program).args(arguments))?;
            ran.success().map(drop)
        })
    }

    /// What is run many times in a cgroup.
    fn figure(&self, what: &str, cgroup: &Cgroup, program: &str) -> Result<()> {
        let join = format!("echo 0 > {}", cgroup.procs().display());
        let script = format!("{join}; {}", again_and_again(program));
        self.measured(what, || {
            process::run(process::command("sh").args(["-c", &script]))?
                .success()
                .map(drop)
        })
    }

    /// Instructions of one run of each of our programs, of all of them for one exec, and of all
    /// that the machine did for one: the shell's fork, the exec, the program and its end.
    fn measured(&self, what: &str, execs: impl Fn() -> Result<()>) -> Result<()> {
        let Least {
            mut exec,
            whole,
            mut programs,
        } = least_of(&OURS, execs)?;
        ensure!(
            what == NOT_LOADED || !programs.is_empty(),
            "{what}: no program of ours ran"
        );
        if what == NOT_LOADED {
            // Those before may have been on their way out.
            exec = 0;
            programs.clear();
        }
        let line = json!({
            "mechanism": self.mechanism.name(),
            "what": what,
            "exec": exec,
            "whole": whole,
            "programs": programs,
        });
        protocol::figure(&line);
        Ok(())
    }
}

/// The least of some tries.
struct Least {
    /// Of all programs, for one exec.
    exec: u64,
    /// Of all that the machine did for one.
    whole: u128,
    /// Of one run, by program.
    programs: BTreeMap<String, u64>,
}

/// Instructions of the programs whose names begin so, for one of [`RUNS`] execs.
pub(super) fn least(names: &[&str], execs: impl Fn() -> Result<()>) -> Result<u64> {
    let least = least_of(names, execs)?;
    ensure!(!least.programs.is_empty(), "none of {names:?} ran");
    Ok(least.exec)
}

fn least_of(names: &[&str], execs: impl Fn() -> Result<()>) -> Result<Least> {
    let (mut least, mut whole) = (u64::MAX, u128::MAX);
    let mut programs: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..TRIES {
        let before = statistics(names)?;
        let began = Instant::now();
        execs()?;
        whole = whole.min(began.elapsed().as_nanos() / u128::from(RUNS));
        let mut all = 0;
        for (program, (time, runs)) in statistics(names)? {
            let (time_before, runs_before) = before.get(&program).copied().unwrap_or_default();
            let (time, runs) = (time - time_before, runs - runs_before);
            all += time;
            if let Some(each) = time.checked_div(runs) {
                let known = programs.entry(program).or_insert(each);
                *known = each.min(*known);
            }
        }
        least = least.min(all / RUNS);
    }
    Ok(Least {
        exec: least,
        whole,
        programs,
    })
}

/// What the names of our programs begin with.
pub(super) const OURS: [&str; 5] = ["lsm_", "fmod_ret_", "kprobe_", "signal_", "fork"];

/// Runs its arguments in an overlay of this root.
const OVERLAY: &str = "\
set -e
mkdir -p /tmp/cost/upper /tmp/cost/work /tmp/cost/root
mount -t overlay cost -o lowerdir=/,upperdir=/tmp/cost/upper,workdir=/tmp/cost/work /tmp/cost/root
for dir in proc sys dev run payload; do mount --rbind /$dir /tmp/cost/root/$dir; done
exec chroot /tmp/cost/root \"$@\"";

/// A script that is [`RUNS`] execs; that they are refused is no failure.
pub(super) fn again_and_again(program: &str) -> String {
    format!("i=0; while [ $i -lt {RUNS} ]; do {program}; i=$((i+1)); done; exit 0")
}

/// Time and runs of programs whose names begin so, by name.
fn statistics(names: &[&str]) -> Result<BTreeMap<String, (u64, u64)>> {
    let mut bpftool = process::command("bpftool");
    let programs = process::run_unseen(bpftool.args(["-j", "prog", "show"]))?.success()?;
    let programs: Vec<Value> = serde_json::from_str(&programs.stdout)?;
    let programs = programs.into_iter().filter_map(|program| {
        let name = program["name"].as_str()?.to_owned();
        let number = |field: &str| program[field].as_u64().unwrap_or(0);
        let ours = names.iter().any(|start| name.starts_with(start));
        ours.then(|| (name, (number("run_time_ns"), number("run_cnt"))))
    });
    Ok(programs.collect())
}
