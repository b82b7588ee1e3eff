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
const INVALID: &[(Annotations<'_>, &str)] = &[
    (&[("execblock/deny", "id,./x")], "./x"),
    (&[("execblock/mode", "strict")], "strict"),
];

/// The cases of an engine that binds containers as they start.
pub(super) fn all<E: Engine + 'static>(engine: E) -> Vec<Case> {
    let engine = Rc::new(engine);
    let mut cases = vec![case(&engine, "refuses", refuses)];
    cases.push(case(&engine, "invalid", invalid));
    cases.push(case(&engine, "fails-closed", fails_closed));
    cases
}

pub(super) fn case<E: Engine + 'static>(
    engine: &Rc<E>,
    what: &str,
    run: fn(&dyn Engine, &Machine) -> Result<()>,
) -> Case {
    let name = format!("{}/{what}", engine.name());
    let engine = Rc::clone(engine);
    Case::slow(name, move |machine| run(&*engine, machine))
}

/// A denied program, as entrypoint and by exec; its twin without annotations; what is left of it.
pub(super) fn refuses(engine: &dyn Engine, machine: &Machine) -> Result<()> {
    let bench = Bench::loaded(engine, machine)?;
    let before = (execblock::bound_cgroups()?, records());
    let denied = bench.start("denied", DENY)?;
    let id = denied.id()?;
    denied.bound_id()?;
    ensure!(has_record(&id), "no record of {id}: {:?}", records());
    denied.is_protected()?;
    denied.refuses(&["/usr/bin/whoami"])?;
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
pub(super) fn invalid(engine: &dyn Engine, machine: &Machine) -> Result<()> {
    let bench = Bench::loaded(engine, machine)?;
    let before = (execblock::bound_cgroups()?, records());
    for (number, &(annotations, item)) in INVALID.iter().enumerate() {
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
pub(super) fn fails_closed(engine: &dyn Engine, _: &Machine) -> Result<()> {
    execblock::unloaded()?;
    let bench = Bench::without_pins(engine)?;
    let said = bench.refused_start("denied", DENY)?;
    for word in ["execblock", "load"] {
        ensure!(
            said.contains(word),
            "reason and next step are not named: {said}"
        );
    }
    ensure!(records().is_empty(), "records: {:?}", records());
    let plain = bench.start("plain", &[])?;
    plain.runs(&["whoami"], "root\n")
}
