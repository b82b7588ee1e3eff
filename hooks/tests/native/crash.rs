//! The hook, killed at each system call that it makes: the container is bound, or it
//! is refused because its hook died, and the next one finds nothing in its way.

use std::{collections::HashMap, fs, os::unix::process::ExitStatusExt as _, process::Command};

use execblock::{bind::Binder, kernel::Pins};
use libtest_mimic::Failed;

use crate::{Case, Container, HOOK, deny, hook, hooked};

pub(crate) const CASES: &[Case] = &[("hook_killed_at_each_step", hook_killed_at_each_step)];

fn hook_killed_at_each_step() -> Result<(), Failed> {
    let steps = steps()?;
    let (mut bound, mut open) = (0, 0);
    for (name, nth) in &steps {
        match killed_at(name, *nth)? {
            Some(true) => bound += 1,
            Some(false) => open += 1,
            None => {}
        }
    }
    // Most is reading; what binds comes near the end.
    ensure!(
        open > 100 && bound > 0 && open + bound > steps.len() - 10,
        "{} steps: {open} open, {bound} bound",
        steps.len()
    );
    #[expect(clippy::print_stdout, reason = "says how much was tried")]
    {
        println!(
            "{} steps: not bound by {open} of them, bound by {bound}",
            steps.len()
        );
    }
    leaves_nothing()
}

/// The system calls of a hook that is let be, each with how often it was made by then.
fn steps() -> Result<Vec<(String, u32)>, Failed> {
    let container = Container::new("traced")?;
    let trace = tempfile::NamedTempFile::new()?;
    let mut command = Command::new("strace");
    command.arg("-o").arg(trace.path()).arg(HOOK);
    let output = hook(&container.state("creating", &deny("whoami")), &mut command)?;
    ensure!(output.status.success(), "{:?}", output.status);
    let mut made = HashMap::new();
    let steps = fs::read_to_string(trace.path())?
        .lines()
        .filter_map(|line| line.split_once('(')?.0.to_owned().into())
        .map(|name: String| {
            let nth = made
                .entry(name.clone())
                .and_modify(|n| *n += 1)
                .or_insert(1);
            (name, *nth)
        })
        // strace itself starts the program.
        .filter(|(name, _)| name != "execve")
        .collect();
    Ok(steps)
}

/// Kills the hook at one step: whether the container was bound by then; `None` where
/// the hook came to its end without that step.
fn killed_at(name: &str, nth: u32) -> Result<Option<bool>, Failed> {
    let step = format!("{name} {nth}");
    let mut container = Container::new(&format!("killed-{name}-{nth}"))?;
    let state = container.state("creating", &deny("whoami"));
    let mut command = Command::new("strace");
    command.args(["-o", "/dev/null", "-e"]);
    command.arg(format!("inject={name}:signal=SIGKILL:when={nth}"));
    let output = hook(&state, command.arg(HOOK))?;
    if output.status.success() {
        return Ok(None);
    }
    ensure!(
        output.status.signal() == Some(9),
        "{step}: {:?}",
        output.status
    );
    let entry = Pins::default().open()?.container(container.cgroup()?)?;
    let runs = container.runs("whoami")?;
    ensure!(
        runs == entry.is_none(),
        "{step}: {entry:?} in the map, and whoami ran: {runs}"
    );
    hooked(&state, 0, "")?;
    ensure!(
        !container.runs("whoami")? && container.runs("id")?,
        "{step}: not under its rules after a second hook"
    );
    container.end()?;
    let stopped = serde_json::json!({ "id": container.id, "status": "stopped" });
    hooked(&stopped, 0, "")?;
    ensure!(!container.is_bound()?, "{step}: it is still bound");
    Ok(Some(!runs))
}

/// Neither entries nor files, once what is dead was collected.
fn leaves_nothing() -> Result<(), Failed> {
    Binder::new()?.collect()?;
    let maps = Pins::default().open()?;
    let (containers, rules, policies) = (
        maps.containers()?.len(),
        maps.rule_keys()?.len(),
        maps.policies()?.len(),
    );
    ensure!(
        (containers, rules, policies) == (0, 0, 0),
        "{containers} containers, {rules} rules, {policies} policies are left"
    );
    let left: Vec<_> = fs::read_dir("/run/execblock/containers")?
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    ensure!(left.is_empty(), "{left:?} are left");
    Ok(())
}
