//! What a guest says on its console, and what becomes of it on ours: events by
//! the line, outcomes by case, a matrix and totals at the end.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    io::{IsTerminal, Write, stdout},
    time::Duration,
};

use super::{evasion, figures};

/// The prefix of the lines that are for us.
const MARK: &str = "VMTEST ";
/// How many lines of the console are shown of a guest that died.
const TAIL: usize = 40;
/// What a kernel dies of that met the breakpoint of its own patching: it puts one where it
/// changes code that other processors may run, and an emulated one may run what was translated
/// while it stood there. Seen with QEMU 7.2 and a thread for each processor, once in some hundred
/// boots: before PID 1 ran, and where a trampoline was being attached.
const STALE_BREAKPOINT: &str = "int3: 0000 [#";

/// One line of the protocol.
#[derive(Debug, PartialEq, Eq)]
enum Event<'a> {
    Plan(usize),
    Start(&'a str),
    Pass {
        name: &'a str,
        millis: u64,
    },
    Fail {
        name: &'a str,
        millis: u64,
        reason: &'a str,
    },
    Skip {
        name: &'a str,
        reason: &'a str,
    },
    Note(&'a str),
    Log(&'a str),
    Done,
}

/// Reads a console line; `None` when it is somebody else's, or cut short.
fn parse(line: &str) -> Option<Event<'_>> {
    // A message of the kernel can stand before it on the same line.
    let (_, said) = line.split_once(MARK)?;
    let (word, rest) = said.split_once(' ').unwrap_or((said, ""));
    let (name, after) = rest.split_once(' ').unwrap_or((rest, ""));
    let timed = || {
        let (millis, reason) = after.split_once(' ').unwrap_or((after, ""));
        Some((millis.parse::<u64>().ok()?, reason))
    };
    match word {
        "plan" => rest.parse().ok().map(Event::Plan),
        "note" => Some(Event::Note(rest)),
        "log" => Some(Event::Log(rest)),
        "done" => Some(Event::Done),
        _ if name.is_empty() => None,
        "start" => Some(Event::Start(name)),
        "pass" => timed().map(|(millis, _)| Event::Pass { name, millis }),
        "fail" => timed().map(|(millis, reason)| Event::Fail {
            name,
            millis,
            reason,
        }),
        "skip" => Some(Event::Skip {
            name,
            reason: after,
        }),
        _ => None,
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Totals {
    /// Whether this is a success, for those who accept skips and those who don't.
    pub(crate) fn good(self, skips_allowed: bool) -> bool {
        self.failed == 0 && (skips_allowed || self.skipped == 0)
    }
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// What one virtual machine came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) totals: Totals,
    /// The cases that ran or were skipped.
    pub(crate) names: BTreeSet<String>,
    /// The cases that failed, with the reason.
    pub(crate) failures: Vec<(String, String)>,
    /// What became of the techniques of the evasion suite.
    pub(crate) evasion: Vec<String>,
    /// Lines of figures.
    pub(crate) figures: Vec<String>,
}

/// Listens to one guest.
#[derive(Debug)]
pub(crate) struct Listener {
    /// `KERNEL/USERLAND`
    label: String,
    progress: bool,
    outcome: Outcome,
    plan: Option<usize>,
    running: Option<String>,
    done: bool,
    stale_breakpoint: bool,
    tail: VecDeque<String>,
}

impl Listener {
    /// `progress` shows the running case on a terminal.
    pub(crate) fn new(label: String, progress: bool) -> Self {
        Self {
            label,
            progress: progress && stdout().is_terminal(),
            outcome: Outcome::default(),
            plan: None,
            running: None,
            done: false,
            stale_breakpoint: false,
            tail: VecDeque::new(),
        }
    }

    /// Takes a line of the console.
    pub(crate) fn line(&mut self, line: &str) {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
        self.stale_breakpoint |= line.contains(STALE_BREAKPOINT);
        match parse(line) {
            None => {}
            // A machine that is booted again plans what is left.
            Some(Event::Plan(cases)) => self.plan = Some(self.outcome.names.len() + cases),
            Some(Event::Start(name)) => {
                self.running = Some(name.to_owned());
                self.show_progress(name);
            }
            Some(Event::Pass { name, millis }) => {
                self.outcome.totals.passed += 1;
                self.finish("pass", name, &seconds(millis));
            }
            Some(Event::Fail {
                name,
                millis,
                reason,
            }) => {
                self.fail(name, reason, &format!("{}  {reason}", seconds(millis)));
            }
            Some(Event::Skip { name, reason }) => self.skip(name, reason),
            Some(Event::Note(text)) if text.starts_with(figures::MARK) => {
                let said = text.trim_start_matches(figures::MARK);
                self.outcome.figures.push(said.to_owned());
            }
            // There are hundreds: `cargo xtask vm evasion` makes a table of them.
            Some(Event::Note(text)) if text.starts_with(evasion::MARK) => {
                let said = text.trim_start_matches(evasion::MARK);
                self.outcome.evasion.push(said.to_owned());
            }
            Some(Event::Note(text)) => self.print(&format!("note  {:<20}  {text}", self.label)),
            Some(Event::Log(text)) => self.print(&format!("      | {text}")),
            Some(Event::Done) => self.done = true,
        }
    }

    /// Counts a case as skipped.
    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        self.outcome.totals.skipped += 1;
        self.finish("skip", name, reason);
    }

    /// Whether the guest has said that it is through.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Whether the guest died of what an emulated processor alone dies of; no case counts as
    /// failed for it.
    pub(crate) fn died_of_emulation(&self) -> bool {
        self.stale_breakpoint && !self.done
    }

    /// The guest is booted once more. The case to begin with: that during which it died.
    pub(crate) fn again(&mut self) -> Option<String> {
        self.print(&format!(
            "note  {:<20}  the emulated kernel met a breakpoint of its own patching and died; booted again",
            self.label
        ));
        self.print_tail();
        self.stale_breakpoint = false;
        self.plan = None;
        self.running.take()
    }

    /// The guest has ended: what is missing from its report has failed.
    pub(crate) fn end(mut self, how: &str, log: &str) -> Outcome {
        // A panic also ends in powering off, and says more.
        let panic = self
            .tail
            .iter()
            .find(|line| line.contains("Kernel panic"))
            .cloned();
        let how = panic.as_deref().unwrap_or(how);
        if let Some(name) = self.running.take() {
            self.fail(&name, how, how);
        }
        let reported = self.outcome.names.len();
        if !self.done {
            let reason = format!("{how} before it was done; {reported} cases reported");
            self.fail("(guest)", &reason, &reason);
        } else if let Some(plan) = self.plan.filter(|plan| *plan != reported) {
            let reason = format!("{plan} cases planned, {reported} reported");
            self.fail("(guest)", &reason, &reason);
        }
        if !self.done {
            self.print(&format!(
                "the last lines of its console (all of it: {log}):"
            ));
            self.print_tail();
        }
        self.outcome
    }

    fn print_tail(&mut self) {
        for line in std::mem::take(&mut self.tail) {
            self.print(&format!("      | {line}"));
        }
    }

    /// The virtual machine could not be started.
    pub(crate) fn cannot_start(mut self, reason: &str) -> Outcome {
        self.fail("(guest)", reason, reason);
        self.outcome
    }

    pub(crate) fn into_outcome(self) -> Outcome {
        self.outcome
    }

    fn fail(&mut self, name: &str, reason: &str, shown: &str) {
        self.outcome.totals.failed += 1;
        self.outcome
            .failures
            .push((format!("{} {name}", self.label), reason.to_owned()));
        self.finish("FAIL", name, shown);
    }

    fn finish(&mut self, outcome: &str, name: &str, rest: &str) {
        self.running = None;
        self.outcome.names.insert(name.to_owned());
        self.print(&format!("{outcome}  {:<20}  {name}  {rest}", self.label));
    }

    fn show_progress(&self, name: &str) {
        if self.progress {
            let number = self.outcome.names.len() + 1;
            let of = self
                .plan
                .map_or_else(String::new, |plan| format!("/{plan}"));
            print!("\r\x1b[K....  {:<20}  {name}  ({number}{of})", self.label);
            flush();
        }
    }

    fn print(&self, line: &str) {
        if self.progress {
            print!("\r\x1b[K");
        }
        println!("{}", line.trim_end());
        flush();
    }
}

/// A terminal that went away is no reason to stop testing.
fn flush() {
    drop(stdout().flush());
}

fn seconds(millis: u64) -> String {
    let time = Duration::from_millis(millis);
    format!("({:.2} s)", time.as_secs_f64())
}

/// What all virtual machines came to, kernels down and userlands across.
#[derive(Debug, Default)]
pub(crate) struct Matrix {
    cells: Vec<(&'static str, &'static str, Totals)>,
    failures: Vec<(String, String)>,
}

impl Matrix {
    pub(crate) fn add(&mut self, kernel: &'static str, userland: &'static str, done: Outcome) {
        self.cells.push((kernel, userland, done.totals));
        self.failures.extend(done.failures);
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for (_, _, cell) in &self.cells {
            totals += *cell;
        }
        totals
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WIDTH: usize = 34;
        let mut kernels = Vec::new();
        let mut userlands = Vec::new();
        for (kernel, userland, _) in &self.cells {
            if !kernels.contains(kernel) {
                kernels.push(*kernel);
            }
            if !userlands.contains(userland) {
                userlands.push(*userland);
            }
        }
        write!(f, "{:<16}", "")?;
        for userland in &userlands {
            write!(f, "{userland:<WIDTH$}")?;
        }
        for kernel in &kernels {
            write!(f, "\n{kernel:<16}")?;
            for userland in &userlands {
                let mut cell = Totals::default();
                for (_, _, totals) in self
                    .cells
                    .iter()
                    .filter(|(k, u, _)| k == kernel && u == userland)
                {
                    cell += *totals;
                }
                let text = if cell == Totals::default() {
                    "-".to_owned()
                } else {
                    cell.to_string()
                };
                write!(f, "{text:<WIDTH$}")?;
            }
        }
        if !self.failures.is_empty() {
            write!(f, "\n\nfailed:")?;
        }
        for (name, reason) in &self.failures {
            write!(f, "\n  {name}: {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_protocol_is_read() {
        for (line, event) in [
            ("VMTEST plan 12", Event::Plan(12)),
            ("VMTEST start deny.name", Event::Start("deny.name")),
            (
                "VMTEST pass deny.name 130",
                Event::Pass {
                    name: "deny.name",
                    millis: 130,
                },
            ),
            (
                "VMTEST fail deny.name 9 exit 0, not 126",
                Event::Fail {
                    name: "deny.name",
                    millis: 9,
                    reason: "exit 0, not 126",
                },
            ),
            (
                "VMTEST fail deny.name 9",
                Event::Fail {
                    name: "deny.name",
                    millis: 9,
                    reason: "",
                },
            ),
            (
                "VMTEST skip x32 no x32",
                Event::Skip {
                    name: "x32",
                    reason: "no x32",
                },
            ),
            ("VMTEST note a b  c", Event::Note("a b  c")),
            ("VMTEST log   indented", Event::Log("  indented")),
            ("VMTEST done", Event::Done),
            ("[    3.1] random: crng init doneVMTEST done", Event::Done),
        ] {
            assert_eq!(parse(line), Some(event), "{line}");
        }
    }

    #[test]
    fn other_lines_are_nobodys() {
        for line in [
            "",
            "VMTEST",
            "VMTESTER plan 3",
            "VMTEST plan many",
            "VMTEST pass",
            "VMTEST pass name",
            "VMTEST pass name soon",
            "VMTEST start",
            "VMTEST dance name",
            "[    0.5] Run /init as init process",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    fn outcome_of(lines: &[&str], how: &str) -> Outcome {
        let mut listener = Listener::new("k/u".into(), false);
        for line in lines {
            listener.line(line);
        }
        listener.end(how, "console.log")
    }

    #[test]
    fn a_whole_report_counts_as_it_says() {
        let done = outcome_of(
            &[
                "VMTEST plan 3",
                "VMTEST start a",
                "VMTEST pass a 5",
                "VMTEST start b",
                "VMTEST fail b 6 broken",
                "VMTEST skip c why",
                "VMTEST done",
            ],
            "it ended",
        );
        assert_eq!(done.totals.to_string(), "1 passed, 1 failed, 1 skipped");
        assert_eq!(done.failures, [("k/u b".to_owned(), "broken".to_owned())]);
    }

    #[test]
    fn a_guest_that_dies_fails_its_case_and_itself() {
        let done = outcome_of(
            &["VMTEST plan 2", "VMTEST start a", "Kernel panic"],
            "it powered off",
        );
        assert_eq!(done.totals.to_string(), "0 passed, 2 failed, 0 skipped");
        assert_eq!(
            done.failures[0],
            ("k/u a".to_owned(), "Kernel panic".to_owned())
        );
    }

    #[test]
    fn a_guest_that_its_emulation_killed_goes_on_where_it_died() {
        let mut listener = Listener::new("k/u".into(), false);
        for line in ["VMTEST plan 3", "VMTEST pass a 1", "VMTEST start b"] {
            listener.line(line);
        }
        assert!(!listener.died_of_emulation());
        listener.line("[   31.1] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI");
        listener.line("[   31.1] Kernel panic - not syncing: Fatal exception");
        assert!(listener.died_of_emulation());
        assert_eq!(listener.again().as_deref(), Some("b"));
        for line in ["VMTEST plan 2", "VMTEST start b", "VMTEST pass b 1"] {
            listener.line(line);
        }
        assert!(!listener.died_of_emulation());
        for line in ["VMTEST pass c 1", "VMTEST done"] {
            listener.line(line);
        }
        let done = listener.end("it powered off", "console.log");
        assert_eq!(done.totals.to_string(), "3 passed, 0 failed, 0 skipped");
    }

    #[test]
    fn fewer_cases_than_planned_are_a_failure() {
        let done = outcome_of(&["VMTEST plan 2", "VMTEST pass a 1", "VMTEST done"], "");
        assert_eq!(done.totals.to_string(), "1 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn skips_fail_those_who_allow_none() {
        let totals = Totals {
            passed: 1,
            failed: 0,
            skipped: 1,
        };
        assert!(totals.good(true));
        assert!(!totals.good(false));
    }
}
