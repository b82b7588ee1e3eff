//! PID 1: runs each case in a process and a cgroup of its own, within a time limit.

use std::any::Any;
use std::io::{BufRead as _, BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{WaitOptions, WaitStatus, wait};
use rustix::system::{RebootCommand, reboot};

use crate::cases::{self, Case};
use crate::cgroup::Cgroup;
use crate::machine::Machine;
use crate::mounts;
use crate::process;
use crate::protocol::{Line, Message, Outcome, emit};

/// For what a case left behind.
const CLEAN_UP_LIMIT: Duration = Duration::from_mins(1);
/// A case that fails says what it did; beyond this only the newest lines are kept.
const LOG_LINES: usize = 120;

/// A case can't be decided here, which is neither a pass nor a failure.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl std::fmt::Display for Skip {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// Runs the plan and powers off, whatever happens: a machine that stays up would be waited for.
pub(crate) fn init() -> ExitCode {
    let end = catch_unwind(run_plan);
    let trouble = match end {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{error:#}")),
        Err(panic) => Some(panic_text(&*panic)),
    };
    if let Some(text) = trouble {
        emit(&Line::Log(&text));
    } else {
        emit(&Line::Done);
    }
    rustix::fs::sync();
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        emit(&Line::Log(&format!("power off: {error}")));
    }
    ExitCode::FAILURE
}

fn run_plan() -> Result<()> {
    let missing = mounts::all()?;
    for text in missing {
        emit(&Line::Note(&format!("not mounted: {text}")));
    }
    mounts::settle()?;
    let machine = Machine::this()?;
    let mut plan: Vec<Case> = cases::for_machine(&machine)
        .into_iter()
        .filter(|case| machine.wants(&case.name))
        .collect();
    if !machine.from.is_empty() {
        let before = plan.iter().position(|case| case.name == machine.from);
        let before = before.with_context(|| format!("execblock.from={}: no case", machine.from))?;
        plan.drain(..before);
    }
    emit(&Line::Plan(plan.len()));
    for (index, case) in plan.iter().enumerate() {
        emit(&Line::Start(&case.name));
        let began = Instant::now();
        let outcome = run_apart(case, index).unwrap_or_else(|error| {
            Outcome::Fail(format!("the harness could not run it: {error:#}"))
        });
        emit(&Line::End {
            name: &case.name,
            took: began.elapsed(),
            outcome: &outcome,
        });
    }
    Ok(())
}

enum Event {
    Message(Message),
    Ended(WaitStatus),
}

/// Starts the case as a process of its own and forwards what it says.
fn run_apart(case: &Case, index: usize) -> Result<Outcome> {
    let cgroup = Cgroup::at(&format!("vmtest/{index}"))?;
    let executable = std::env::current_exe()?;
    // Waited for by the reaper thread, which alone may wait: it reaps orphans as well.
    let mut child = Command::new(executable)
        .args(["case", &case.name])
        .arg(cgroup.procs())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start the case")?;
    let pid = process::pid_of(&child)?;
    let (sender, events) = mpsc::channel();
    let readers = [
        child
            .stdout
            .take()
            .map(|pipe| forward(pipe, sender.clone())),
        child
            .stderr
            .take()
            .map(|pipe| forward(pipe, sender.clone())),
    ];
    let reaper = thread::spawn(move || {
        loop {
            match wait(WaitOptions::empty()) {
                Ok(Some((ended, status))) if ended == pid => {
                    return drop(sender.send(Event::Ended(status)));
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    });

    let mut report = Report::default();
    let deadline = Instant::now() + case.limit;
    let ended = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match events.recv_timeout(left) {
            Ok(Event::Message(message)) => report.take(message),
            Ok(Event::Ended(status)) => break Some(status),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break None,
        }
    };
    let cleaned = cgroup.destroy(CLEAN_UP_LIMIT);
    join(reaper, "reaper")?;
    for reader in readers.into_iter().flatten() {
        join(reader, "reader")?;
    }
    for event in events.try_iter() {
        if let Event::Message(message) = event {
            report.take(message);
        }
    }
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}

    let outcome = match (ended, report.outcome.take()) {
        (None, _) => Outcome::Fail(format!("no end within {} s", case.limit.as_secs())),
        (Some(_), Some(outcome)) => outcome,
        (Some(status), None) => match status.terminating_signal() {
            Some(signal) => Outcome::Fail(format!("its process died of signal {signal}")),
            None => Outcome::Fail(format!(
                "its process said no result: {:?}",
                status.exit_status()
            )),
        },
    };
    let outcome = match (cleaned, outcome) {
        (Err(error), Outcome::Pass) => Outcome::Fail(format!("passed, then {error:#}")),
        (_, outcome) => outcome,
    };
    if matches!(outcome, Outcome::Fail(_)) {
        report.show();
    }
    Ok(outcome)
}

fn join(thread: thread::JoinHandle<()>, what: &str) -> Result<()> {
    thread
        .join()
        .map_err(|panic| anyhow::anyhow!("{what}: {}", panic_text(&*panic)))
}

fn forward(pipe: impl Read + Send + 'static, to: mpsc::Sender<Event>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { return };
            let message = Message::parse(&String::from_utf8_lossy(&line));
            if to.send(Event::Message(message)).is_err() {
                return;
            }
        }
    })
}

/// What a case has said so far.
#[derive(Default)]
struct Report {
    log: std::collections::VecDeque<String>,
    left_out: usize,
    outcome: Option<Outcome>,
}

impl Report {
    fn take(&mut self, message: Message) {
        match message {
            Message::Note(text) => emit(&Line::Note(&text)),
            Message::Result(outcome) => self.outcome = Some(outcome),
            Message::Log(text) => {
                self.log.push_back(text);
                if self.log.len() > LOG_LINES {
                    self.log.pop_front();
                    self.left_out += 1;
                }
            }
        }
    }

    fn show(&self) {
        if self.left_out > 0 {
            emit(&Line::Log(&format!(
                "({} earlier lines left out)",
                self.left_out
            )));
        }
        for line in &self.log {
            emit(&Line::Log(line));
        }
    }
}

/// The process of one case: enters its cgroup, runs the case, says how it went.
pub(crate) fn case_process(name: &str, cgroup_procs: &str) -> Result<()> {
    std::fs::write(cgroup_procs, "0").context("enter the cgroup of the case")?;
    let machine = Machine::this()?;
    let case = cases::for_machine(&machine)
        .into_iter()
        .find(|case| case.name == name)
        .with_context(|| format!("no case {name}"))?;
    let outcome = match catch_unwind(AssertUnwindSafe(|| (case.run)(&machine))) {
        Ok(Ok(())) => Outcome::Pass,
        Ok(Err(error)) => match error.downcast_ref::<Skip>() {
            Some(Skip(reason)) => Outcome::Skip(reason.clone()),
            None => Outcome::Fail(format!("{error:#}")),
        },
        Err(panic) => Outcome::Fail(format!("panicked: {}", panic_text(&*panic))),
    };
    Message::Result(outcome).send();
    Ok(())
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a value that is no text")
        .to_owned()
}
