//! `cargo xtask bench`: what costs how much, as figures for people and for programs. Asserts
//! nothing but what `cost --check` is asked for: machines differ. What is measured on this one
//! stands in the crate `bench`, what in emulated ones in the crate `tests`.

mod chart;
mod cost;
mod exec;
mod native;
mod page;

use std::{env, fs};

use anyhow::{Context, Result, bail};
use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};

use crate::{
    host,
    vm::{figures, peers},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// All of them where none is named; each leaves its figures in target/bench
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Instructions that an exec costs, by mechanism and situation, in emulated machines
    Cost(cost::Arguments),
    /// Show the committed costs: write docs/cost.svg and the table of docs/performance.md
    Chart,
    /// What a BCC script costs that refuses one command, beside execblock, in an emulated
    /// machine
    Peers,
    /// What the OCI hook and the runtime wrapper add to a container's start, by bound containers
    Hooks {
        /// Measurements of each kind
        #[arg(long, default_value_t = 200)]
        runs: usize,
        /// Containers that are bound before
        #[arg(long, default_value = BOUND)]
        bound: String,
    },
    /// What the daemon adds to a container's start, and its memory, by bound containers
    Bind {
        /// Measurements of each kind
        #[arg(long, default_value_t = 300)]
        runs: usize,
        /// Containers that are bound before
        #[arg(long, default_value = BOUND)]
        bound: String,
        /// So many different policies
        #[arg(long, default_value_t = 1)]
        policies: usize,
        /// Names that each of them has
        #[arg(long, default_value_t = 3)]
        rules: usize,
    },
    /// What an exec takes by the clock, without the programs and with them
    Exec {
        /// How often each situation is measured
        #[arg(long, default_value_t = 20)]
        rounds: usize,
        /// Execs of one measurement
        #[arg(long, default_value_t = 500)]
        execs: usize,
    },
    /// The same by the clock of emulated machines, which counts instructions
    Clock(Machines),
}

const BOUND: &str = "0,1000,10000";

/// Emulated machines.
#[derive(Debug, clap::Args)]
struct Machines {
    /// Mechanism to measure; may be repeated
    #[arg(long, value_name = "MECHANISM", value_parser = PossibleValuesParser::new(figures::mechanisms()))]
    mechanism: Vec<String>,
    /// Virtual machines at a time; each keeps one processor busy
    #[arg(long, default_value_t = 1)]
    jobs: usize,
}

impl Default for Machines {
    fn default() -> Self {
        Self {
            mechanism: Vec::new(),
            jobs: 1,
        }
    }
}

/// All mechanisms where none is named.
fn mechanisms_or_all(named: &[String]) -> Vec<String> {
    if named.is_empty() {
        return figures::mechanisms().map(ToOwned::to_owned).collect();
    }
    named.to_vec()
}

pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let binds = matches!(
        arguments.what,
        None | Some(What::Hooks { .. } | What::Bind { .. } | What::Exec { .. })
    );
    if binds && !host::is_root() {
        bail!("binding needs root: run it as root");
    }
    if binds && !host::has_own_mounts() {
        return host::in_own_mounts(env::args_os().skip(1));
    }
    match &arguments.what {
        Some(what) => one(what),
        None => all(),
    }
}

/// Measures one part; whether it is as it should be.
fn one(what: &What) -> Result<bool> {
    let mut good = true;
    let (name, found) = match what {
        What::Cost(arguments) => {
            let (figures, is_good) = cost::run(arguments)?;
            good = is_good;
            ("cost", serde_json::to_value(figures)?)
        }
        What::Chart => {
            cost::draw(&cost::committed()?.unwrap_or_default())?;
            return Ok(true);
        }
        What::Peers => ("peers", compared_with_peers()?),
        What::Hooks { runs, bound } => ("hooks", native::hooks(*runs, bound)?),
        What::Bind {
            runs,
            bound,
            policies,
            rules,
        } => ("bind", native::bind(*runs, bound, *policies, *rules)?),
        What::Exec { rounds, execs } => ("exec", exec::here(*rounds, *execs)?),
        What::Clock(Machines { mechanism, jobs }) => ("clock", exec::emulated(mechanism, *jobs)?),
    };
    write(name, &found)?;
    Ok(good)
}

/// Its name in the JSON, what it is, and how it is measured.
type Part = (&'static str, &'static str, fn() -> Result<Value>);

/// Measures everything: this machine first, while nothing else runs.
fn all() -> Result<bool> {
    let parts: [Part; 7] = [
        ("exec", "an exec by this machine's clock", || {
            exec::here(20, 500)
        }),
        ("bind", "a container's start, by NRI", || {
            native::bind(300, BOUND, 1, 3)
        }),
        (
            "full",
            "a full node: 100 policies with 100 names each",
            || native::bind(5, "16300", 100, 100),
        ),
        ("hooks", "a container's start, by hook and wrapper", || {
            native::hooks(200, BOUND)
        }),
        ("cost", "instructions of an exec", || {
            let (figures, _) = cost::run(&cost::Arguments::default())?;
            Ok(serde_json::to_value(figures)?)
        }),
        ("clock", "an exec by a clock that counts them", || {
            exec::emulated(&[], 1)
        }),
        ("peers", "beside a BCC script", compared_with_peers),
    ];
    let mut found = json!({});
    for (name, about, measure) in parts {
        println!("\n== {name}: {about}");
        found[name] = measure()?;
        // What is measured stays, whatever becomes of the next.
        write("all", &found)?;
    }
    Ok(true)
}

fn compared_with_peers() -> Result<Value> {
    let peers = peers::measure()?;
    for peer in &peers {
        let resident = peer.resident_kib;
        let resident = resident.map_or_else(|| "none".to_owned(), |kib| format!("{kib} KiB"));
        println!("{}", peer.name);
        let start = peer.start_ns / 1_000_000;
        println!("  until it refuses, ms of the guest   {start:>12}");
        println!("  process that has to live            {resident:>12}");
        for (what, instructions) in &peer.exec {
            println!("  instructions, {what:21} {instructions:>12}");
        }
    }
    Ok(serde_json::to_value(&peers)?)
}

/// For programs.
fn write(name: &str, result: &Value) -> Result<()> {
    let folder = host::target_directory()?.join("bench");
    fs::create_dir_all(&folder)?;
    let file = folder.join(name).with_extension("json");
    fs::write(&file, format!("{result:#}\n")).with_context(|| file.display().to_string())?;
    println!("{}", file.display());
    Ok(())
}
