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
mod selection;
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

pub(crate) use self::{
    apt::Apt,
    cache::Cache,
    payload::programs,
    report::Totals,
    selection::{Selection, Wanted},
};
use self::{
    kernel::Fetched,
    payload::Payload,
    qemu::{Ending, Limits, Machine},
    report::{Listener, Matrix, Outcome},
    selection::{Pair, selected},
};
use crate::host;

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
