//! `cargo xtask vm`: boots Debian and self-built kernels under QEMU and runs
//! the guest's test cases (crate `execblock-vmtest`, PID 1 there) on each.
//!
//! What is fetched or built once lies in `target/vm`, or in the folder that
//! `EXECBLOCK_VM_DIR` names.

mod apt;
mod build_kernel;
mod cache;
pub(crate) mod clock;
pub(crate) mod cost;
mod evasion;
pub(crate) mod figures;
mod image;
mod kernel;
mod modules;
mod package;
mod payload;
pub(crate) mod peers;
mod qemu;
mod report;
mod userland;

use std::{
    collections::{BTreeSet, VecDeque},
    path::PathBuf,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Result, bail};
use clap::Subcommand;

pub(crate) use self::{apt::Apt, cache::Cache, payload::programs, report::Totals};
use self::{
    kernel::{Fetched, Kernel},
    payload::Payload,
    qemu::{Ending, Limits, Machine},
    report::{Listener, Matrix, Outcome},
    userland::Userland,
};
use crate::host;

/// What runs when nothing is asked for: each kernel, each engine generation,
/// and not their whole product.
const DEFAULT: &[(&str, &str)] = &[
    // The longest first: several may run at a time.
    ("6.12", "trixie"),
    ("7.3", "forky"),
    ("6.12", "trixie-systemd"),
    ("6.1", "bookworm"),
    (kernel::OVERRIDE, "trixie"),
    ("6.12-nolsm", "trixie"),
    ("6.12", "trixie-bare-systemd"),
    ("6.1", "bookworm-bare-systemd"),
];

/// What runs besides when its kernel or its userland is named.
const NAMED: &[(&str, &str)] = &[
    ("6.1", "bookworm-systemd"),
    ("ubuntu-6.8", "noble"),
    ("ubuntu-6.8", "noble-systemd"),
];

/// What another kernel that is run only when it is named boots with.
const OLDEST: &str = "bookworm";

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    pub(crate) selection: Selection,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the kernel with `bpf_override_return`, which no Debian kernel has
    BuildKernel,
    /// Run the evasion suite under each mechanism, and print what came of it
    Evasion(evasion::Arguments),
    /// Fetch kernels and userlands, and boot nothing
    Fetch(Wanted),
}

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Wanted {
    /// Kernel to boot; may be repeated
    #[arg(long, value_name = "KERNEL")]
    pub(crate) kernel: Vec<String>,
    /// Userland to boot; may be repeated
    #[arg(long, value_name = "USERLAND")]
    pub(crate) userland: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Selection {
    #[command(flatten)]
    wanted: Wanted,
    /// Fail when a case was skipped
    #[arg(long)]
    pub(crate) no_skip: bool,
    /// List kernels, userlands and cases, and boot nothing
    #[arg(long)]
    list: bool,
    /// Virtual machines at a time; each keeps one to two processors busy
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Have the guests' clocks count instructions: what they tell of time is exact and
    /// the same each time
    #[arg(long)]
    counting: bool,
    /// Seconds without a line on the console after which a guest is ended
    #[arg(long, value_name = "SECONDS", default_value_t = SILENCE)]
    silence: u64,
    /// Seconds after which a guest is ended in any case
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT)]
    timeout: u64,
    /// Run the cases whose name contains this, or one of these, split by commas
    #[arg(value_parser = parse_filter)]
    filter: Option<String>,
}

/// Seconds without a line, and in all, after which a guest is ended.
const SILENCE: u64 = 840;
const TIMEOUT: u64 = 2400;

impl Selection {
    /// Whether no machine and no case was asked for.
    fn is_everything(&self) -> bool {
        self.filter.is_none() && self.wanted.kernel.is_empty() && self.wanted.userland.is_empty()
    }

    /// What costs are counted with.
    fn of_cost(jobs: usize, filter: &str) -> Self {
        Self {
            counting: true,
            ..Self::of_evasion(jobs, filter)
        }
    }

    /// What the evasion suite boots with.
    fn of_evasion(jobs: usize, filter: &str) -> Self {
        Self {
            wanted: Wanted::default(),
            no_skip: false,
            list: false,
            counting: false,
            jobs,
            silence: SILENCE,
            timeout: TIMEOUT,
            filter: Some(filter.to_owned()),
        }
    }
}

/// The filter travels on the kernel's command line as it is.
fn parse_filter(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:/+,".contains(c);
    match text.chars().find(|c| !plain(*c)) {
        Some(c) => Err(format!("{c:?} occurs in no case's name")),
        None => Ok(text.to_owned()),
    }
}

/// One virtual machine to run.
#[derive(Debug, Clone, Copy)]
struct Pair {
    kernel: &'static Kernel,
    userland: &'static Userland,
}

impl Pair {
    fn label(self) -> String {
        format!("{}/{}", self.kernel.name, self.userland.name)
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    match &arguments.command {
        Some(Command::BuildKernel) => build_kernel::run(&Cache::open()?).map(|()| true),
        Some(Command::Evasion(arguments)) => evasion::run(arguments),
        Some(Command::Fetch(wanted)) => fetch(wanted).map(|()| true),
        None if arguments.selection.list => list(&arguments.selection).map(|()| true),
        None => {
            let totals = run_cases(&arguments.selection)?;
            println!("{totals}");
            Ok(totals.good(!arguments.selection.no_skip))
        }
    }
}

/// Fails when a program is missing that fetching or booting will want, with the
/// one command that installs them all.
pub(crate) fn check_tools() -> Result<()> {
    let mut needed = [qemu::NEEDED, kernel::NEEDED, userland::NEEDED, apt::NEEDED].concat();
    if !host::is_root() {
        needed.extend(userland::NEEDED_BY_USERS);
    }
    host::require(&needed)
}

/// Boots what is selected and prints all but the totals, which are returned.
pub(crate) fn run_cases(selection: &Selection) -> Result<Totals> {
    let pairs = selected(&selection.wanted)?;
    check_tools()?;
    let cache = Cache::open()?;
    let payload = Payload::build(&cache)?;
    let mut matrix = Matrix::default();
    let mut ready = VecDeque::new();
    let mut absent = Vec::new();
    {
        let _lock = cache.lock()?;
        for pair in pairs {
            match prepare(&cache, pair) {
                Ok(Ok(parts)) => ready.push_back((pair, parts)),
                Ok(Err(reason)) => absent.push((pair, reason)),
                Err(error) => {
                    let listener = Listener::new(pair.label(), false);
                    let outcome = listener.cannot_start(&format!("{error:#}"));
                    matrix.add(pair.kernel.name, pair.userland.name, outcome);
                }
            }
        }
    }
    let outcomes = boot_all(&cache, &payload, selection, ready);
    for (pair, outcome) in outcomes {
        matrix.add(pair.kernel.name, pair.userland.name, outcome);
    }
    for (pair, reason) in absent {
        let mut listener = Listener::new(pair.label(), false);
        for name in payload.case_names(pair, selection.filter.as_deref()) {
            listener.skip(&name, &reason);
        }
        matrix.add(
            pair.kernel.name,
            pair.userland.name,
            listener.into_outcome(),
        );
    }
    println!("\n{matrix}\n");
    if selection.is_everything() {
        println!("{}", left_out(&payload)?);
    }
    let totals = matrix.totals();
    if totals == Totals::default() {
        bail!("no case ran: does any name contain the filter?");
    }
    Ok(totals)
}

/// What of the default machines' cases runs only when it is asked for by name.
fn left_out(payload: &Payload) -> Result<String> {
    let cases = |filter| -> Result<BTreeSet<String>> {
        let pairs = selected(&Wanted::default())?.into_iter();
        Ok(pairs
            .flat_map(|pair| payload.case_names(pair, filter))
            .collect())
    };
    let usual = cases(None)?;
    let all = cases(Some("/"))?;
    let left: Vec<&str> = all.difference(&usual).map(String::as_str).collect();
    Ok(format!(
        "note: not run, for they take long (cargo xtask vm / has all on all machines): {}",
        left.join(", ")
    ))
}

/// Fetches what [`run_cases`] will want. What fails here fails there again, and is
/// counted there.
pub(crate) fn fetch_ahead(selection: &Selection) {
    let fetched = selected(&selection.wanted).and_then(|pairs| {
        let cache = Cache::open()?;
        let _lock = cache.lock()?;
        for pair in pairs {
            // An absent part is said when it is missed.
            let _parts = prepare(&cache, pair)?;
        }
        Ok(())
    });
    if let Err(error) = fetched {
        println!("note: {error:#}");
    }
}

fn selected(wanted: &Wanted) -> Result<Vec<Pair>> {
    let pair = |kernel: &str, userland: &str| {
        Ok(Pair {
            kernel: kernel::by_name(kernel)?,
            userland: userland::by_name(userland)?,
        })
    };
    let Wanted {
        kernel: kernels,
        userland: userlands,
    } = wanted;
    if !kernels.is_empty() && !userlands.is_empty() {
        // Both are named: their product.
        let product = kernels
            .iter()
            .flat_map(|k| userlands.iter().map(move |u| (k, u)));
        return product.map(|(k, u)| pair(k, u)).collect();
    }
    let all = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(k, u)| pair(k, u));
        pairs.collect::<Result<Vec<_>>>()
    };
    let defaults = all(DEFAULT)?;
    let known = [all(DEFAULT)?, all(NAMED)?].concat();
    let mut pairs = Vec::new();
    for name in kernels {
        kernel::by_name(name)?;
        let with_it = known
            .iter()
            .filter(|pair| pair.kernel.name == name)
            .collect::<Vec<_>>();
        if with_it.is_empty() {
            pairs.push(pair(name, OLDEST)?);
        }
        pairs.extend(with_it);
    }
    for name in userlands {
        let with_it = known
            .iter()
            .filter(|pair| pair.userland.name == name)
            .collect::<Vec<_>>();
        if with_it.is_empty() {
            pairs.push(pair("6.12", name)?);
        }
        pairs.extend(with_it);
    }
    Ok(if kernels.is_empty() && userlands.is_empty() {
        defaults
    } else {
        pairs
    })
}

/// A virtual machine's parts in the cache.
#[derive(Debug)]
struct Parts {
    kernel: Fetched,
    root: PathBuf,
    older: Option<PathBuf>,
    busybox: PathBuf,
}

/// The userland whose machine has that of the release before as well.
const UPGRADED: &str = "forky";
const UPGRADED_FROM: &str = "trixie";

fn prepare(cache: &Cache, pair: Pair) -> Result<Result<Parts, String>> {
    let kernel = match pair.kernel.fetch(cache)? {
        Ok(kernel) => kernel,
        Err(reason) => return Ok(Err(reason)),
    };
    let root = pair.userland.fetch(cache)?;
    let older = (pair.userland.name == UPGRADED)
        .then(|| userland::by_name(UPGRADED_FROM)?.fetch(cache))
        .transpose()?;
    Ok(Ok(Parts {
        kernel,
        root,
        older,
        busybox: cache.busybox()?,
    }))
}

fn boot_all(
    cache: &Cache,
    payload: &Payload,
    selection: &Selection,
    ready: VecDeque<(Pair, Parts)>,
) -> Vec<(Pair, Outcome)> {
    let queue = Mutex::new(ready);
    let outcomes = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..selection.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let next = queue
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some((pair, parts)) = next else { return };
                    let outcome = boot(cache, payload, selection, pair, &parts);
                    outcomes
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((pair, outcome));
                }
            });
        }
    });
    outcomes
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
}

fn boot(
    cache: &Cache,
    payload: &Payload,
    selection: &Selection,
    pair: Pair,
    parts: &Parts,
) -> Outcome {
    let label = pair.label();
    println!("boot  {label}");
    let log = cache.folder.join(format!(
        "logs/{}-{}.log",
        pair.kernel.name, pair.userland.name
    ));
    let mut listener = Listener::new(label, selection.jobs <= 1);
    let boot_from = |from: Option<&str>, listener: &mut Listener| {
        let scratch = cache.scratch()?;
        let initrd = scratch.path().join("initrd.img");
        image::write_initrd(&parts.kernel, &parts.busybox, &initrd)?;
        let machine = Machine {
            kernel: &parts.kernel.image,
            initrd: &initrd,
            command_line: command_line(pair, parts, selection.filter.as_deref(), from),
            root: &parts.root,
            payload: &payload.image(),
            modules: parts.kernel.module_disk.as_deref(),
            older: parts.older.as_deref(),
            scratch: scratch.path(),
            counting: selection.counting,
        };
        let limits = Limits {
            silent: Duration::from_secs(selection.silence),
            total: Duration::from_secs(selection.timeout),
        };
        qemu::boot(&machine, limits, &log, &mut |line| listener.line(line))
    };
    let mut booted = boot_from(None, &mut listener);
    // Once: what dies so twice in a row dies of something else.
    if listener.died_of_emulation() && qemu::emulates() {
        let from = listener.again();
        booted = boot_from(from.as_deref(), &mut listener);
    }
    let how = match booted {
        // A guest that hangs after its last word has still said everything.
        Ok(ending) if ending != Ending::PoweredOff && listener.is_done() => {
            println!("note  {}  {}", pair.label(), ending.describe());
            ending.describe()
        }
        Ok(ending) => ending.describe(),
        Err(error) => format!("{error:#}"),
    };
    listener.end(&how, &log.display().to_string())
}

fn command_line(pair: Pair, parts: &Parts, filter: Option<&str>, from: Option<&str>) -> String {
    let mut words = vec![
        // A panic, which each fault of the kernel is, ends QEMU: it is told not to reboot.
        "console=ttyS0 panic=-1 oops=panic quiet loglevel=4".to_owned(),
        // Emulated, they cost much and protect nobody.
        "mitigations=off random.trust_cpu=on".to_owned(),
        // The first container switches accounting on in code that all processors
        // run all the time, and an emulated one may execute what was there before
        // ("Oops: int3" in kmem_cache_free).
        "cgroup.memory=nokmem".to_owned(),
        pair.kernel.command_line.to_owned(),
        format!("execblock.kernel={}", pair.kernel.name),
        format!("execblock.userland={}", pair.userland.name),
        format!("execblock.filter={}", filter.unwrap_or_default()),
        format!("execblock.from={}", from.unwrap_or_default()),
    ];
    if parts.kernel.module_disk.is_some() {
        words.push("execblock.modules".into());
    }
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

fn fetch(wanted: &Wanted) -> Result<()> {
    let cache = Cache::open()?;
    let _lock = cache.lock()?;
    for pair in selected(wanted)? {
        match prepare(&cache, pair)? {
            Ok(_) => println!("{}: ready", pair.label()),
            Err(reason) => println!("{}: {reason}", pair.label()),
        }
    }
    Ok(())
}

fn list(selection: &Selection) -> Result<()> {
    println!("kernels:");
    for kernel in kernel::KERNELS {
        println!("  {:<14} {}", kernel.name, kernel.command_line);
    }
    println!("userlands:");
    for userland in userland::USERLANDS {
        println!("  {:<14} {}", userland.name, userland.about);
    }
    println!("virtual machines and their cases:");
    let payload = Payload::build(&Cache::open()?)?;
    for pair in selected(&selection.wanted)? {
        println!("  {}", pair.label());
        for name in payload.case_names(pair, selection.filter.as_deref()) {
            println!("    {name}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(kernels: &[&str], userlands: &[&str]) -> Result<Vec<String>> {
        let wanted = Wanted {
            kernel: kernels.iter().map(ToString::to_string).collect(),
            userland: userlands.iter().map(ToString::to_string).collect(),
        };
        Ok(selected(&wanted)?.into_iter().map(Pair::label).collect())
    }

    #[test]
    fn flags_narrow_the_default_or_name_a_product() -> Result<()> {
        assert_eq!(labels(&[], &[])?.len(), DEFAULT.len());
        assert_eq!(
            labels(&["6.12"], &[])?,
            [
                "6.12/trixie",
                "6.12/trixie-systemd",
                "6.12/trixie-bare-systemd"
            ]
        );
        assert_eq!(labels(&[], &["forky"])?, ["7.3/forky"]);
        assert_eq!(labels(&[], &["bookworm"])?, ["6.1/bookworm"]);
        assert_eq!(labels(&["7.3"], &["bookworm"])?, ["7.3/bookworm"]);
        assert_eq!(labels(&["5.10"], &[])?, ["5.10/bookworm"]);
        assert_eq!(
            labels(&[], &["bookworm-systemd"])?,
            ["6.1/bookworm-systemd"]
        );
        assert_eq!(labels(&[], &["noble"])?, ["ubuntu-6.8/noble"]);
        assert_eq!(labels(&["ubuntu-7.0"], &[])?, ["ubuntu-7.0/bookworm"]);
        assert_eq!(
            labels(&["6.1", "7.3"], &["forky"])?,
            ["6.1/forky", "7.3/forky"]
        );
        assert!(labels(&["2.6"], &[]).is_err());
        assert!(labels(&[], &["sarge"]).is_err());
        Ok(())
    }

    #[test]
    fn a_filter_survives_the_command_line() {
        assert!(parse_filter("lsm/deny_name,pins/").is_ok());
        assert!(parse_filter("a b").is_err());
        assert!(parse_filter("\"").is_err());
    }
}
