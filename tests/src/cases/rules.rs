//! The forms that an item of a list has, with the mechanism that `auto` chooses.

use anyhow::Result;

use super::Case;
use super::mechanism::{Check, exec, expect, refused, runs};

struct Form {
    name: &'static str,
    rules: &'static [&'static str],
    checks: fn() -> Result<Vec<Check>>,
}

const FORMS: &[Form] = &[
    Form {
        name: "list",
        rules: &["--deny", "whoami,nproc hostname"],
        checks: || {
            Ok(vec![
                refused("the first", exec("/usr/bin/whoami")),
                refused("the second", exec("/usr/bin/nproc")),
                refused("the third", exec("/usr/bin/hostname")),
                runs("another program", exec("/usr/bin/id")),
            ])
        },
    },
    Form {
        name: "audit",
        rules: &["--audit", "--deny", "whoami"],
        checks: || {
            Ok(vec![runs(
                "denied, but only watched",
                exec("/usr/bin/whoami"),
            )])
        },
    },
];

pub(super) fn cases() -> Vec<Case> {
    FORMS
        .iter()
        .map(|form| {
            Case::new(format!("rules/{}", form.name), move |machine| {
                let checks = (form.checks)()?;
                expect(machine.kernel.preferred(), form.rules, &checks)
            })
        })
        .collect()
}
