//! The cases, in the order in which they run.

mod cli;
mod cri;
mod doctor;
mod kernel;
mod mechanism;
mod orders;
mod pins;
mod rules;

use std::time::Duration;

use anyhow::Result;

use crate::machine::Machine;

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
            limit: Duration::from_mins(2),
            run: Box::new(run),
        }
    }

    /// A case that starts containers, each of which takes seconds.
    fn slow(name: impl Into<String>, run: impl Fn(&Machine) -> Result<()> + 'static) -> Self {
        Self {
            limit: Duration::from_mins(5),
            ..Self::new(name, run)
        }
    }
}

/// The cases that apply to the machine.
pub(crate) fn for_machine(machine: &Machine) -> Vec<Case> {
    let mut cases = doctor::cases();
    cases.extend(mechanism::cases(machine));
    cases.extend(rules::cases());
    cases.extend(cli::cases());
    cases.extend(orders::cases(machine));
    cases.extend(pins::cases(machine));
    if machine.has_containerd() {
        cases.extend(cri::cases(machine));
    }
    cases.extend(kernel::cases());
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Kernel;

    fn names(kernel: Kernel) -> Vec<String> {
        let machine = Machine {
            kernel,
            userland: "trixie".to_owned(),
            filter: String::new(),
        };
        for_machine(&machine)
            .into_iter()
            .map(|case| case.name)
            .collect()
    }

    #[test]
    fn names_are_words_of_the_protocol_and_stand_once() {
        for kernel in Kernel::ALL {
            let mut names = names(kernel);
            assert!(names.iter().all(|name| !name.contains(char::is_whitespace)));
            let all = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), all);
        }
    }

    #[test]
    fn a_kernel_without_a_mechanism_is_asked_only_whether_it_says_so() {
        let names = names(Kernel::NoLsm);
        assert!(!names.iter().any(|name| name == "lsm/direct"));
        assert!(names.iter().any(|name| name == "lsm/reported-missing"));
        assert!(names.iter().any(|name| name == "fmod_ret/direct"));
    }
}
