//! What an exec takes on this machine: fork, exec and exit in a loop, on the host and in a bound
//! cgroup, without our programs and with them.
//!
//! Machines drift, so each round has every situation in it, and what is compared are the
//! situations of one round; nothing loaded comes first.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use execblock::cgroup::Hierarchy;
use serde_json::{Value, json};

use crate::{progress, quietly};

const PROGRAM: &str = "/bin/true";

/// A situation, and what it takes to have it.
struct Situation {
    name: &'static str,
    loaded: bool,
    /// Names that are denied; none where it is not bound.
    denied: usize,
}

const SITUATIONS: [Situation; 4] = [
    Situation {
        name: "not loaded",
        loaded: false,
        denied: 0,
    },
    Situation {
        name: "loaded, host",
        loaded: true,
        denied: 0,
    },
    Situation {
        name: "bound, 1 name",
        loaded: true,
        denied: 1,
    },
    Situation {
        name: "bound, 1000 names",
        loaded: true,
        denied: 1000,
    },
];

/// Microseconds of one exec in each situation, a value for each round.
pub(crate) fn measure(execblock: &Path, rounds: usize, execs: usize) -> Result<Value> {
    let place = Place::new("execblock-bench-exec")?;
    let mut all = vec![Vec::new(); SITUATIONS.len()];
    for round in 0..rounds {
        for (situation, times) in SITUATIONS.iter().zip(&mut all) {
            let what = if situation.loaded { "load" } else { "unload" };
            quietly(Command::new(execblock).arg(what))?;
            let query = format!("cgroup:{}", place.path);
            if situation.denied > 0 {
                let names = (0..situation.denied).map(|number| format!("whoami{number}"));
                let mut deny = Command::new(execblock);
                quietly(deny.args(["deny", &query]).args(names))?;
            }
            // What the kernel has to do after programs were loaded or taken away, it does
            // with the first, which are not counted.
            place.looped(execs)?;
            times.push(place.looped(execs)?);
            if situation.denied > 0 {
                quietly(Command::new(execblock).args(["clear", &query]))?;
            }
        }
        progress(&format!("round {} of {rounds}", round + 1));
    }
    quietly(Command::new(execblock).arg("unload"))?;
    let rows = SITUATIONS.iter().zip(all);
    let rows = rows.map(|(situation, us)| json!({ "name": situation.name, "us": us }));
    Ok(json!({ "rounds": rounds, "execs": execs, "rows": rows.collect::<Vec<_>>() }))
}

/// A cgroup that processes of ours are put into.
struct Place {
    dir: PathBuf,
    path: String,
}

impl Place {
    fn new(name: &str) -> Result<Self> {
        let dir = Hierarchy::find()?.mount().join(name);
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        let path = format!("/{name}");
        Ok(Self { dir, path })
    }

    /// Microseconds of one exec, of so many by a process in it.
    fn looped(&self, execs: usize) -> Result<f64> {
        let mut worker = Command::new(env::current_exe()?);
        worker.arg("loop").arg(execs.to_string());
        worker.arg(self.dir.join("cgroup.procs"));
        let output = worker.stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{worker:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _removed = fs::remove_dir(&self.dir);
    }
}

/// The process that does so: microseconds of one exec.
pub(crate) fn looped(execs: u32, cgroup: &Path) -> Result<f64> {
    fs::write(cgroup, "0").with_context(|| cgroup.display().to_string())?;
    let began = Instant::now();
    for _ in 0..execs {
        let status = Command::new(PROGRAM).status()?;
        ensure!(status.success(), "{PROGRAM}: {status}");
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(execs.max(1)))
}
