//! What each mechanism makes of a program, from its files and a container's
//! rules. Pure.
//!
//! The steps are those of the kernel, in its order: the files of the chain of
//! interpreters (`bprm_check`), the dynamic loader (`mmap_file`), the new image
//! (`sched_process_exec`), and the program that a dynamic loader maps itself.

use plugin_common::{Container, RULE_DRIFT, Verdict};

use crate::{
    kernel::Mechanism,
    matching::{Asked, Found, Match, Whence, find},
    policy::Rules,
    program::Program,
};

/// What becomes of an exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It goes on.
    Runs,
    /// exec answers EPERM.
    Eperm,
    /// The new image is killed before its first instruction.
    Killed,
    /// The kernel can't map it or its dynamic loader, at a point where exec can't
    /// return any more: SIGSEGV.
    Crashes,
    /// The dynamic loader runs, and can't map the program that it was given.
    NotLoaded,
    /// The kernel doesn't run it, whatever the rules.
    Fails,
}

/// Where something was found about a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The syscall's string.
    Syscall,
    /// A file of the chain, counted from 0.
    Level(usize),
    /// The dynamic loader.
    Loader,
    /// The new image.
    Image,
    /// The program that was handed to a dynamic loader.
    Handed,
}

/// Why something is refused or reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason<'r> {
    /// A rule that denies it.
    Rule(Match<'r>),
    /// No item of the allow-list holds for it.
    Unlisted,
    /// It did not come with the image.
    Drift,
    /// Whether it came with the image could not be told from here.
    UnknownDrift,
}

/// What was found at one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding<'r> {
    /// Where.
    pub step: Step,
    /// Why.
    pub reason: Reason<'r>,
    /// It is reported and goes on.
    pub audited: bool,
}

/// What one mechanism makes of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<'r> {
    /// What becomes of it.
    pub effect: Effect,
    /// All that is reported on the way, and at last what it is refused for.
    pub findings: Vec<Finding<'r>>,
}

impl<'r> Outcome<'r> {
    /// What it is refused for.
    #[must_use]
    pub fn refusal(&self) -> Option<&Finding<'r>> {
        self.findings.last().filter(|found| !found.audited)
    }

    /// Whether a fact is missing that decides.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.refusal()
            .is_some_and(|found| found.reason == Reason::UnknownDrift)
    }
}

/// A program in a container under its rules.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The program.
    pub program: &'a Program,
    /// The rules, with the paths that they stand for in this container.
    pub rules: &'a Rules,
    /// Its mode and drift.
    pub container: &'a Container,
    /// Nanoseconds of `CLOCK_BOOTTIME`.
    pub now: u64,
    /// Whether the hook at `mmap_file` stands beside `kprobe` and `signal` too, as
    /// it does where the kernel has it.
    pub maps: bool,
}

impl<'a> Case<'a> {
    /// What this mechanism makes of it, with `signal` behind, as it is loaded.
    #[must_use]
    pub fn under(&self, mechanism: Mechanism) -> Outcome<'a> {
        let mut findings = Vec::new();
        for (step, effect) in self.steps(mechanism) {
            let Some(effect) = effect else {
                // The kernel itself stops here.
                return Outcome {
                    effect: Effect::Fails,
                    findings,
                };
            };
            let Some(found) = self.at(step, mechanism) else {
                continue;
            };
            findings.push(found);
            if !found.audited {
                return Outcome { effect, findings };
            }
        }
        Outcome {
            effect: Effect::Runs,
            findings,
        }
    }

    /// The steps, and what a refusal there looks like; without that the kernel
    /// stops by itself.
    fn steps(&self, mechanism: Mechanism) -> Vec<(Step, Option<Effect>)> {
        let program = self.program;
        let mut steps = Vec::new();
        let at_exec = sees_mappings(mechanism);
        if at_exec {
            let levels = 0..program.levels.len();
            steps.extend(levels.map(|level| (Step::Level(level), Some(Effect::Eperm))));
        }
        if mechanism == Mechanism::Kprobe {
            steps.push((Step::Syscall, Some(Effect::Eperm)));
        }
        if program.fails.is_some() {
            steps.push((Step::Image, None));
            return steps;
        }
        let maps = at_exec || self.maps;
        if maps && program.loader.is_some() {
            steps.push((Step::Loader, Some(Effect::Crashes)));
        }
        steps.push((Step::Image, Some(Effect::Killed)));
        if maps && program.handed.is_some() {
            steps.push((Step::Handed, Some(Effect::NotLoaded)));
        }
        steps
    }

    /// What is found at one step, by the hook that stands there where this
    /// mechanism is loaded.
    #[must_use]
    pub fn at(&self, step: Step, mechanism: Mechanism) -> Option<Finding<'a>> {
        let program = self.program;
        let mapped = |file| self.asked(step, &Asked::Mapped { file });
        match step {
            Step::Syscall => {
                let requested = &program.requested;
                self.asked(step, &Asked::Syscall { requested })
            }
            Step::Level(index) => {
                let level = program.levels.get(index)?;
                let asked = Asked::Level {
                    requested: &level.requested,
                    file: level.file.facts(),
                };
                self.asked(step, &asked)
            }
            Step::Loader => mapped(program.loader.as_ref()?.file.facts()),
            Step::Handed => mapped(program.handed.as_ref()?.file.facts()),
            Step::Image => self.image(mechanism),
        }
    }

    fn image(&self, mechanism: Mechanism) -> Option<Finding<'a>> {
        let program = self.program;
        let last = program.levels.last()?;
        let arguments: Vec<&[u8]> = program.arguments.iter().map(Vec::as_slice).collect();
        let asked = Asked::Image {
            requested: &[&program.requested, &last.requested],
            file: last.file.facts(),
            arguments: &arguments,
            // The look of fmod_ret at mappings can be passed over.
            loader: mechanism != Mechanism::Lsm,
        };
        self.asked(Step::Image, &asked)
    }

    fn asked(&self, step: Step, asked: &Asked<'_>) -> Option<Finding<'a>> {
        let found = find(self.rules, asked, self.now);
        let (rule, audited) = match found.verdict(self.container) {
            Verdict::Allow => return None,
            Verdict::Deny(rule) => (rule, false),
            Verdict::Audit(rule) => (rule, true),
        };
        Some(Finding {
            step,
            reason: reason(&found, rule, asked),
            audited,
        })
    }
}

/// Whether it has a hook at `mmap_file`; these have one at `bprm_check` too.
fn sees_mappings(mechanism: Mechanism) -> bool {
    matches!(mechanism, Mechanism::Lsm | Mechanism::FmodRet)
}

fn reason<'r>(found: &Found<'r>, rule: u32, asked: &Asked<'_>) -> Reason<'r> {
    match found.denied {
        Some(denied) => Reason::Rule(denied),
        None if rule != RULE_DRIFT => Reason::Unlisted,
        None if asked.whence() == Some(Whence::Unknown) => Reason::UnknownDrift,
        None => Reason::Drift,
    }
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
