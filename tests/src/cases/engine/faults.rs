//! Runtimes that are not there, die or lie, behind the wrapper and below a real engine.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::ctr::{CTR, Ctr};
use super::{Annotations, Bench, DENY, records};
use crate::execblock;
use crate::machine::Machine;

const CONFIG: &str = "/etc/execblock/config.toml";
const FAULTY: &str = "/run/vmtest/faulty-runtime";

/// runc with its containers elsewhere than the engine says, so that nobody finds their state but by
/// asking; and what it answers then.
const SCRIPT: &str = r#"#!/bin/sh
case " $* " in *" state "*) ANSWER ;; esac
for word do
    shift
    [ "$before" = --root ] && word="$word-elsewhere"
    set -- "$@" "$word"
    before=$word
done
exec /usr/bin/runc "$@"
"#;

/// The configuration that names a runtime, while this lives.
struct Configured;

impl Configured {
    fn runtime(path: &str) -> Result<Self> {
        fs::create_dir_all("/etc/execblock")?;
        fs::write(CONFIG, format!("[wrapper]\nruntime = \"{path}\"\n")).context(CONFIG)?;
        Ok(Self)
    }

    fn faulty(answer: &str) -> Result<Self> {
        fs::write(FAULTY, SCRIPT.replace("ANSWER", answer)).context(FAULTY)?;
        fs::set_permissions(FAULTY, fs::Permissions::from_mode(0o755))?;
        Self::runtime(FAULTY)
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        if Path::new(CONFIG).exists()
            && let Err(error) = fs::remove_file(CONFIG)
        {
            crate::protocol::log(format_args!("{CONFIG}: {error}"));
        }
    }
}

/// Nobody is let through unbound, and the engine shows which runtime is to blame.
pub(super) fn case(machine: &Machine) -> Result<()> {
    let bench = Bench::loaded(&CTR, machine)?;
    let before = (execblock::bound_cgroups()?, records());
    {
        let missing = Ctr {
            binary: "/no/such/execblock-runc",
            ..CTR
        };
        let bench = Bench::without_pins(&missing)?;
        refused(&bench, "no-wrapper", DENY, "/no/such/execblock-runc")?;
    }
    {
        let _missing = Configured::runtime("/no/such/runtime")?;
        refused(&bench, "missing", &[], "/no/such/runtime")?;
    }
    {
        let _honest = Configured::faulty(":")?;
        let container = bench.start("honest", DENY)?;
        container.is_protected()?;
        container.remove()?;
    }
    for (name, answer) in [
        ("killed", "kill -9 $$"),
        ("garbage", "echo '[1, 2'; exit 0"),
    ] {
        let _faulty = Configured::faulty(answer)?;
        refused(&bench, name, DENY, FAULTY)?;
    }
    ensure!(
        (execblock::bound_cgroups()?, records()) == before,
        "a container that was refused left something"
    );
    bench.start("plain", &[])?.is_unprotected()
}

fn refused(
    bench: &Bench<'_>,
    name: &str,
    annotations: Annotations<'_>,
    blames: &str,
) -> Result<()> {
    let said = bench.refused_start(name, annotations)?;
    ensure!(said.contains(blames), "{blames} is not named: {said}");
    // While the same runtime is configured, which alone knows its containers.
    bench.engine.remove(name)
}
