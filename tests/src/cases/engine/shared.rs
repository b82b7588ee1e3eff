//! What holds with every engine.

use std::rc::Rc;

use anyhow::{Context as _, Result, ensure};

use super::{Annotations, Bench, DENY, Engine, has_record, is_refused, records};
use crate::cases::Case;
use crate::execblock;
use crate::machine::Machine;
use crate::process;
use crate::protocol;

/// Annotations that are refused, and a word of each that the reason must name.
const WRONG: &[(Annotations<'_>, &str)] = &[
    (&[("execblock/deny", "id,./x")], "./x"),
    (&[("execblock/mode", "strict")], "strict"),
];

type Run = fn(&dyn Engine, &Machine) -> Result<()>;

/// A case and its name within the group of its engine.
pub(super) type Shared = (&'static str, Run);

pub(super) const REFUSES: Shared = ("refuses", refuses);
const INVALID: Shared = ("invalid", invalid);
const FAILS_CLOSED: Shared = ("fails-closed", fails_closed);
pub(super) const ORDER: Shared = ("order", order);

/// For an engine that binds annotated containers as they start.
pub(super) const BINDS: &[Shared] = &[REFUSES, INVALID, FAILS_CLOSED];

/// The same where a quick start tells the first.
pub(super) const BINDS_TOO: &[Shared] = &[INVALID, FAILS_CLOSED];

/// For one whose containers are bound by an order alone.
pub(super) const ORDERS: &[Shared] = &[ORDER];

/// The cases of an engine.
pub(super) fn all<E: Engine + 'static>(engine: E, which: &[Shared]) -> Vec<Case> {
    let engine = Rc::new(engine);
    which
        .iter()
        .map(|&(what, run)| {
            let engine = Rc::clone(&engine);
            let name = format!("{}/{what}", engine.name());
            Case::slow(name, move |machine| run(&*engine, machine))
        })
        .collect()
}

/// A denied program, as entrypoint and by exec; its twin without annotations; what is left of it.
fn refuses(engine: &dyn Engine, machine: &Machine) -> Result<()> {
    let bench = Bench::loaded(engine, machine)?;
    let before = (execblock::bound_cgroups()?, records());
    let denied = bench.start("denied", DENY)?;
    let id = denied.id()?;
    denied.bound_id()?;
    ensure!(has_record(&id), "no record of {id}: {:?}", records());
    denied.is_protected()?;
    denied.refuses(&["sh", "-c", "/usr/bin/whoami"])?;
    let plain = bench.start("plain", &[])?;
    plain.is_unprotected()?;
    ensure!(!has_record(&plain.id()?), "a record of the other container");
    plain.remove()?;
    denied.remove()?;

    let entrypoint = engine.run("entrypoint", DENY, &["/usr/bin/whoami"])?;
    protocol::note(format_args!(
        "{}: refused entrypoint: {}",
        engine.name(),
        entrypoint.said()
    ));
    is_refused(&entrypoint).context("as entrypoint")?;
    let allowed = engine.run("allowed", DENY, &["/bin/id", "-u"])?.success()?;
    ensure!(allowed.stdout == "0\n", "id said {:?}", allowed.said());
    nothing_left(&before)
}

/// The map and the records as they were. A group can outlive its container for a moment.
fn nothing_left(before: &(std::collections::BTreeSet<u64>, Vec<String>)) -> Result<()> {
    process::until(super::LIMIT, "entries and records to go", || {
        let now = (execblock::bound_cgroups()?, records());
        ensure!(now == *before, "{before:?} before, {now:?} now");
        Ok(Some(()))
    })
}

/// Refused, with a reason that names key, item and what was expected; nothing is left.
fn invalid(engine: &dyn Engine, machine: &Machine) -> Result<()> {
    let bench = Bench::loaded(engine, machine)?;
    let before = (execblock::bound_cgroups()?, records());
    for (number, &(annotations, item)) in WRONG.iter().enumerate() {
        let name = format!("invalid-{number}");
        let said = bench.refused_start(&name, annotations)?;
        for word in [annotations[0].0, item, "expected"] {
            ensure!(said.contains(word), "{word:?} is not named: {said}");
        }
        engine.remove(&name)?;
    }
    nothing_left(&before)
}

/// Without pins nothing can be bound: an annotated container is refused, another is not touched.
fn fails_closed(engine: &dyn Engine, _: &Machine) -> Result<()> {
    refuses_without_pins(engine, &[])
}

/// The same; the reason must have these words too.
pub(super) fn refuses_without_pins(engine: &dyn Engine, words: &[&str]) -> Result<()> {
    execblock::unloaded()?;
    let bench = Bench::without_pins(engine)?;
    let said = bench.refused_start("denied", DENY)?;
    for word in ["execblock", "load"].iter().chain(words) {
        ensure!(
            said.contains(word),
            "reason and next step are not named: {said}"
        );
    }
    ensure!(records().is_empty(), "records: {:?}", records());
    let plain = bench.start("plain", &[])?;
    plain.runs(&["whoami"], "root\n")
}

/// A running container that nobody annotated: refused from the order on, until it is cleared. The
/// container is named by name, by the first 12 characters of its id, and by the whole id.
fn order(engine: &dyn Engine, machine: &Machine) -> Result<()> {
    let bench = Bench::loaded(engine, machine)?;
    let before = (execblock::bound_cgroups()?, records());
    let name = "order-target";
    let container = bench.start(name, &[])?;
    container.is_unprotected()?;
    let id = container.id()?;
    let short: String = id.chars().take(12).collect();

    execblock::run(&["deny", name, "whoami"])?.success()?;
    container.is_protected()?;
    execblock::run(&["deny", &short, "ls"])?.success()?;
    container.refuses(&["ls"])?;
    container.runs(&["id", "-u"], "0\n")?;
    let status = execblock::run(&["status", &short, "--json"])?.success()?;
    ensure!(status.stdout.contains(&id), "status: {}", status.said());

    execblock::run(&["clear", &id])?.success()?;
    container.is_unprotected()?;
    container.runs(&["ls", "/usr/bin"], "whoami\n")?;
    let status = execblock::run(&["status", "--json"])?.success()?;
    ensure!(!status.stdout.contains(&id), "status: {}", status.said());
    nothing_left(&before)
}
