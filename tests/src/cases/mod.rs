//! The cases, in the order in which they run.

mod cli;
mod cost;
mod cri;
mod doctor;
mod engine;
pub(crate) mod evasion;
mod events;
mod kernel;
mod mechanism;
mod old;
mod orders;
mod pins;
mod rules;
mod setup;
mod storm;
mod tamper;
mod why;

use std::time::Duration;

use anyhow::Result;

use crate::machine::{Kernel, Machine};

type Run = Box<dyn Fn(&Machine) -> Result<()>>;

/// One case of the plan.
pub(crate) struct Case {
    /// `group/what`, which the filter looks at.
    pub(crate) name: String,
    pub(crate) limit: Duration,
    pub(crate) run: Run,
}

impl Case {
    /// A case without containers.
    fn new(name: impl Into<String>, run: impl Fn(&Machine) -> Result<()> + 'static) -> Self {
        Self {
            name: name.into(),
            limit: Duration::from_mins(4),
            run: Box::new(run),
        }
    }

    /// A case that starts containers, each of which takes seconds.
    fn slow(name: impl Into<String>, run: impl Fn(&Machine) -> Result<()> + 'static) -> Self {
        Self {
            limit: Duration::from_mins(8),
            ..Self::new(name, run)
        }
    }
}

/// The cases that apply to the machine.
pub(crate) fn for_machine(machine: &Machine) -> Vec<Case> {
    if machine.kernel == Kernel::V5_10 {
        return old::cases();
    }
    let mut cases = Vec::new();
    // What systemd changes is where an engine puts its containers.
    if !machine.has_systemd() {
        cases.extend(doctor::cases());
        cases.extend(mechanism::cases(machine));
        cases.extend(rules::cases());
        if machine.runs_all() {
            cases.extend(cli::cases());
        }
        cases.extend(orders::cases(machine));
        cases.extend(events::cases(machine));
        cases.extend(why::cases(machine));
        // The oldest kernel has the least of what pins need.
        if machine.runs_all() || machine.kernel == Kernel::V6_1 {
            cases.extend(pins::cases(machine));
        }
        if machine.has_nri() {
            cases.extend(cri::cases(machine));
        }
        if machine.tests_engines() {
            cases.extend(cri::wrapper_cases());
            cases.extend(setup::cases());
        }
    }
    if machine.has_systemd() && machine.has_nri() {
        cases.extend(cri::units::cases(machine));
    }
    if machine.tests_engines() {
        cases.extend(engine::cases(machine));
    }
    cases.extend(tamper::cases(machine));
    cases.extend(evasion::cases(machine));
    cases.extend(cost::cases(machine));
    cases.extend(kernel::cases());
    cases.retain(|case| machine.keeps(&case.name));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(kernel: Kernel, userland: &str) -> Vec<String> {
        let machine = Machine {
            kernel,
            userland: userland.to_owned(),
            filter: String::new(),
        };
        for_machine(&machine)
            .into_iter()
            .map(|case| case.name)
            .collect()
    }

    #[test]
    fn names_are_words_of_the_protocol_and_stand_once() {
        let machines = Kernel::ALL.map(|kernel| (kernel, "trixie"));
        let others = [
            (Kernel::V6_1, "bookworm"),
            (Kernel::V6_12, "trixie-systemd"),
            (Kernel::V7_3, "forky"),
        ];
        for (kernel, userland) in machines.into_iter().chain(others) {
            let mut names = names(kernel, userland);
            assert!(names.iter().all(|name| !name.contains(char::is_whitespace)));
            let all = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), all);
        }
    }

    #[test]
    fn what_runs_on_one_machine_is_one_of_its_cases() {
        for (case, (kernel, userland)) in crate::machine::ONCE {
            let names = names(*kernel, userland);
            assert!(names.iter().any(|name| name == case), "{case}");
        }
    }

    #[test]
    fn a_kernel_without_a_mechanism_is_asked_only_whether_it_says_so() {
        let names = names(Kernel::NoLsm, "trixie");
        assert!(!names.iter().any(|name| name == "lsm/direct"));
        assert!(names.iter().any(|name| name == "lsm/reported-missing"));
        assert!(names.iter().any(|name| name == "fmod_ret/direct"));
    }
}
