//! Tests of outcomes.

use plugin_common::{DRIFT_AUDIT, DRIFT_DENY, MODE_AUDIT};

use super::*;
use crate::{
    annotation::Rule,
    matching::last_component,
    policy::always,
    program::{File, Level, Mapped},
};

fn file(path: &str) -> File {
    File {
        name: last_component(path.as_bytes()).to_vec(),
        path: path.as_bytes().to_vec(),
        whence: Whence::Image,
        unknown: None,
    }
}

fn mapped(path: &str) -> Mapped {
    Mapped {
        requested: path.as_bytes().to_vec(),
        file: file(path),
    }
}

/// A chain of files, each with the string that it was asked for by.
fn program(levels: &[(&str, &str)], arguments: &str) -> Program {
    Program {
        requested: levels[0].0.as_bytes().to_vec(),
        levels: levels
            .iter()
            .map(|(requested, path)| Level {
                requested: requested.as_bytes().to_vec(),
                file: file(path),
            })
            .collect(),
        arguments: arguments
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect(),
        loader: Some(mapped("/lib/ld-linux.so.2")),
        ..Program::default()
    }
}

fn denying(name: &str) -> Rules {
    Rules {
        deny: always(&[Rule::Name(name.into())].into()),
        ..Rules::default()
    }
}

/// The effects of lsm, kprobe and signal.
fn effects(program: &Program, rules: &Rules, container: &Container) -> [Effect; 3] {
    let case = Case {
        program,
        rules,
        container,
        now: 0,
        maps: false,
    };
    let under = |mechanism| case.under(mechanism).effect;
    if program.handed.is_none() {
        assert_eq!(under(Mechanism::Lsm), under(Mechanism::FmodRet));
    }
    [
        under(Mechanism::Lsm),
        under(Mechanism::Kprobe),
        under(Mechanism::Signal),
    ]
}

use Effect::{Crashes, Eperm, Fails, Killed, NotLoaded, Runs};

#[test]
fn each_mechanism_refuses_what_it_sees() {
    // A script by a link, its interpreter by a link, with BusyBox behind.
    let script = program(
        &[("./run", "/opt/run.sh"), ("/bin/sh", "/bin/busybox")],
        "/bin/sh ./run",
    );
    let applet = program(&[("/bin/busybox", "/bin/busybox")], "busybox whoami");
    let mut by_loader = program(&[("/lib/ld.so", "/lib/ld.so")], "/lib/ld.so /bin/id");
    by_loader.handed = Some(mapped("/bin/id"));
    let container = Container::default();
    for (program, denied, expected) in [
        (&script, "ls", [Runs, Runs, Runs]),
        (&script, "run", [Eperm, Eperm, Killed]),
        // Seen at no other hook than bprm_check.
        (&script, "run.sh", [Eperm, Runs, Runs]),
        (&script, "sh", [Eperm, Killed, Killed]),
        (&script, "busybox", [Eperm, Killed, Killed]),
        (&script, "ld-linux.so.2", [Crashes, Runs, Runs]),
        (&applet, "whoami", [Killed, Killed, Killed]),
        (&by_loader, "id", [NotLoaded, Killed, Killed]),
    ] {
        let found = effects(program, &denying(denied), &container);
        assert_eq!(found, expected, "{denied}");
    }
    let rules = denying("id");
    let case = Case {
        program: &by_loader,
        rules: &rules,
        container: &container,
        now: 0,
        maps: false,
    };
    assert_eq!(case.under(Mechanism::FmodRet).effect, Killed);
    // A link that the loader is given: only the mapping tells the file.
    by_loader.arguments[1] = b"/tmp/link".to_vec();
    let found = effects(&by_loader, &denying("id"), &container);
    assert_eq!(found, [NotLoaded, Runs, Runs]);
}

#[test]
fn a_hook_at_mappings_is_asked_for_the_loader_and_not_for_the_program() {
    let whoami = program(&[("/bin/x", "/bin/whoami")], "/bin/x");
    let effect = |denied: &str| {
        let case = Case {
            program: &whoami,
            rules: &denying(denied),
            container: &Container::default(),
            now: 0,
            maps: true,
        };
        [Mechanism::Lsm, Mechanism::Kprobe, Mechanism::Signal].map(|one| case.under(one).effect)
    };
    assert_eq!(effect("whoami"), [Eperm, Killed, Killed]);
    assert_eq!(effect("x"), [Eperm, Eperm, Killed]);
    assert_eq!(effect("ld-linux.so.2"), [Crashes, Crashes, Crashes]);
}

#[test]
fn where_the_kernel_stops_by_itself_the_rules_before_it_count() {
    let mut broken = program(&[("./run", "/opt/run.sh")], "./run");
    broken.fails = Some("no interpreter".into());
    let container = Container::default();
    let found = |denied| effects(&broken, &denying(denied), &container);
    assert_eq!(found("run"), [Eperm, Eperm, Fails]);
    assert_eq!(found("x"), [Fails, Fails, Fails]);
    let missing = Program {
        requested: b"/bin/whoami".to_vec(),
        fails: Some("missing".into()),
        ..Program::default()
    };
    let found = effects(&missing, &denying("whoami"), &container);
    assert_eq!(found, [Fails, Eperm, Fails]);
}

#[test]
fn an_allow_list_is_asked_about_each_file_that_is_seen() {
    let script = program(
        &[("/opt/run.sh", "/opt/run.sh"), ("/bin/sh", "/bin/dash")],
        "/bin/sh /opt/run.sh",
    );
    let container = Container::default();
    let allowing = |names: &[&str]| {
        let rules = names.iter().map(|name| Rule::Name((*name).into()));
        Rules {
            allow: always(&rules.collect()),
            ..Rules::default()
        }
    };
    let found = |names| effects(&script, &allowing(names), &container);
    assert_eq!(found(&["run.sh", "dash"]), [Runs, Runs, Runs]);
    assert_eq!(found(&["dash"]), [Eperm, Runs, Runs]);
    assert_eq!(found(&["run.sh", "sh"]), [Eperm, Killed, Killed]);
}

#[test]
fn audit_lets_through_and_names_all_and_unknown_drift_says_so() {
    let mut script = program(&[("/a", "/a"), ("/bin/sh", "/bin/sh")], "/bin/sh /a");
    script.levels[0].file.whence = Whence::Upper;
    script.levels[1].file.whence = Whence::Unknown;
    let rules = denying("sh");
    let outcome = |mode, drift, rules: &Rules| {
        let container = Container {
            mode,
            drift,
            ..Container::default()
        };
        let case = Case {
            program: &script,
            rules,
            container: &container,
            now: 0,
            maps: false,
        };
        let outcome = case.under(Mechanism::Lsm);
        let steps: Vec<Step> = outcome.findings.iter().map(|found| found.step).collect();
        (outcome.effect, steps, outcome.is_unknown())
    };
    let (first, second) = (Step::Level(0), Step::Level(1));
    assert_eq!(
        outcome(MODE_AUDIT, DRIFT_DENY, &rules),
        (Runs, vec![first, second, Step::Image], false)
    );
    assert_eq!(
        outcome(0, DRIFT_AUDIT, &rules),
        (Eperm, vec![first, second], false)
    );
    script.levels[0].file.whence = Whence::Image;
    let container = Container {
        drift: DRIFT_DENY,
        ..Container::default()
    };
    let case = Case {
        program: &script,
        rules: &Rules::default(),
        container: &container,
        now: 0,
        maps: false,
    };
    assert!(case.under(Mechanism::Lsm).is_unknown());
}
