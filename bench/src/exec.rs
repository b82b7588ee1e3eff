//! What an exec takes on this machine: fork, exec and exit in a loop, on the host and in a bound
//! cgroup, without our programs and with them.
//!
//! Machines drift, so each round has every situation in it, and what is compared are the
//! situations of one round.

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

/// Microseconds of one exec in each situation, and its part of the first one's.
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
            times.push(place.looped(execs)?);
            if situation.denied > 0 {
                quietly(Command::new(execblock).args(["clear", &query]))?;
            }
        }
        progress(&format!("round {} of {rounds}", round + 1));
    }
    quietly(Command::new(execblock).arg("unload"))?;
    let base = all.first().cloned().unwrap_or_default();
    let rows = SITUATIONS.iter().zip(all).map(|(situation, times)| {
        let parts = times.iter().zip(&base).map(|(time, base)| time / base);
        json!({
            "name": situation.name,
            "us": spread(times.clone()),
            "ratio": spread(parts.collect()),
        })
    });
    Ok(json!({ "rounds": rounds, "execs": execs, "rows": rows.collect::<Vec<_>>() }))
}

/// The values that one, five and nine tenths are not above.
fn spread(mut values: Vec<f64>) -> Value {
    values.sort_unstable_by(f64::total_cmp);
    let at = |percent: usize| {
        let index = (values.len() * percent).div_ceil(100).saturating_sub(1);
        values.get(index).copied().unwrap_or_default()
    };
    json!({ "low": at(10), "median": at(50), "high": at(90) })
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
