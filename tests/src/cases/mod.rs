//! The cases, in the order in which they run.

mod cli;
mod clock;
mod cost;
mod cri;
mod doctor;
mod engine;
pub(crate) mod evasion;
mod events;
mod guard;
mod install;
mod kernel;
mod mechanism;
mod old;
mod orders;
mod peers;
mod pins;
mod quickstart;
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

    /// A case that installs, upgrades and takes away: minutes, more where the machine that
    /// emulates has others to do.
    fn longest(name: impl Into<String>, run: impl Fn(&Machine) -> Result<()> + 'static) -> Self {
        Self {
            limit: Duration::from_mins(13),
            ..Self::new(name, run)
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

/// The cases that run on the machine.
pub(crate) fn for_machine(machine: &Machine) -> Vec<Case> {
    let mut cases = that_apply(machine);
    cases.retain(|case| machine.keeps(&case.name));
    cases
}

/// Also those that another machine runs for all.
fn that_apply(machine: &Machine) -> Vec<Case> {
    if matches!(machine.kernel, Kernel::V5_10 | Kernel::Ubuntu5_15) {
        return old::cases(machine);
    }
    if machine.userland.ends_with("-bcc") {
        return peers::cases(machine);
    }
    if machine.is_bare() {
        return install::bare_cases().chain(kernel::cases()).collect();
    }
    let mut cases = Vec::new();
    // What systemd changes is where an engine puts its containers.
    if !machine.has_systemd() {
        cases.extend(doctor::cases());
        cases.extend(mechanism::cases(machine));
        cases.extend(guard::cases(machine));
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
        cases.extend(quickstart::cases(machine));
        cases.extend(install::cases(machine));
    }
    cases.extend(tamper::cases(machine));
    cases.extend(evasion::cases(machine));
    cases.extend(clock::cases(machine));
    cases.extend(cost::cases(machine));
    cases.extend(kernel::cases());
    cases
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::machine::BOUNDED;

    fn machine(kernel: Kernel, userland: &str) -> Machine {
        Machine {
            kernel,
            userland: userland.to_owned(),
            filter: String::new(),
            from: String::new(),
        }
    }

    fn names(kernel: Kernel, userland: &str) -> Vec<String> {
        let cases = for_machine(&machine(kernel, userland));
        cases.into_iter().map(|case| case.name).collect()
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

    /// Those that `cargo xtask test` boots.
    const WHOLE_RUN: [(Kernel, &str); 8] = [
        (Kernel::V6_1, "bookworm"),
        (Kernel::V6_12, "trixie"),
        (Kernel::NoLsm, "trixie"),
        (Kernel::Override, "trixie"),
        (Kernel::V7_3, "forky"),
        (Kernel::V6_12, "trixie-systemd"),
        (Kernel::V6_12, "trixie-bare-systemd"),
        (Kernel::V6_1, "bookworm-bare-systemd"),
    ];

    /// A whole run has each case, but for those that are named to be of none.
    #[test]
    fn a_case_that_one_machine_leaves_to_another_runs_there() {
        let mut run = BTreeSet::new();
        let mut apply = BTreeSet::new();
        for (kernel, userland) in WHOLE_RUN {
            let machine = machine(kernel, userland);
            run.extend(names(kernel, userland));
            for case in that_apply(&machine) {
                let bounded = BOUNDED.iter().find(|(name, _)| *name == case.name);
                if bounded.is_none_or(|(_, machines)| !machines.is_empty()) {
                    apply.insert(case.name);
                } else {
                    assert!(!machine.keeps(&case.name));
                }
            }
        }
        assert_eq!(run, apply);
        for (case, machines) in BOUNDED {
            for (kernel, userland) in *machines {
                let there = names(*kernel, userland);
                assert!(
                    there.iter().any(|name| name == case),
                    "{case} on {userland}"
                );
            }
        }
    }

    #[test]
    fn what_is_of_no_machine_runs_when_all_is_asked_for() {
        let all: BTreeSet<String> = WHOLE_RUN
            .iter()
            .flat_map(|(kernel, userland)| {
                let asked = Machine {
                    filter: "/".to_owned(),
                    ..machine(*kernel, userland)
                };
                for_machine(&asked)
            })
            .map(|case| case.name)
            .collect();
        for (case, _) in BOUNDED {
            assert!(all.contains(*case), "{case}");
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
