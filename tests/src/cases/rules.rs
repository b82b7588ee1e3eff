//! The forms that an item of a list has, with the mechanism that `auto` chooses.

use std::path::PathBuf;

use anyhow::Result;

use super::Case;
use super::mechanism::{Check, Scratch, exec, expect, refused, runs};

struct Form {
    name: &'static str,
    rules: &'static [&'static str],
    checks: fn(&Scratch) -> Result<Vec<Check>>,
}

const FORMS: &[Form] = &[
    Form {
        name: "list",
        rules: &["--deny", "whoami,nproc hostname"],
        checks: |_| {
            Ok(vec![
                refused("the first", exec("/usr/bin/whoami")),
                refused("the second", exec("/usr/bin/nproc")),
                refused("the third", exec("/usr/bin/hostname")),
                runs("another program", exec("/usr/bin/id")),
            ])
        },
    },
    Form {
        name: "leading-star",
        rules: &["--deny", "*.sh"],
        checks: |scratch| {
            Ok(vec![
                refused("such a name", exec(script(scratch, "a.sh")?)),
                refused("only the end", exec(script(scratch, ".sh")?)),
                runs("the end elsewhere", exec(script(scratch, "a.sh.x")?)),
                runs("another program", exec("/usr/bin/id")),
            ])
        },
    },
    Form {
        name: "trailing-star",
        rules: &["--deny", "who*"],
        checks: |scratch| {
            Ok(vec![
                refused("such a name", exec("/usr/bin/whoami")),
                refused("only the start", exec(script(scratch, "who")?)),
                runs("the start elsewhere", exec(script(scratch, "xwho")?)),
                runs("another program", exec("/usr/bin/id")),
            ])
        },
    },
    Form {
        name: "directory",
        rules: &["--deny", "/tmp/case/tools/"],
        checks: |scratch| {
            scratch.dir("tools/deeper/still")?;
            scratch.dir("tools2")?;
            Ok(vec![
                refused("in it", exec(script(scratch, "tools/a")?)),
                refused("below it", exec(script(scratch, "tools/deeper/still/b")?)),
                runs("beside it", exec(script(scratch, "c")?)),
                runs(
                    "in one whose name starts so",
                    exec(script(scratch, "tools2/d")?),
                ),
            ])
        },
    },
    Form {
        name: "group",
        rules: &["--deny", "@network-tools"],
        checks: |scratch| {
            Ok(vec![
                refused("a member", exec(script(scratch, "curl")?)),
                refused("another member", exec(script(scratch, "wget")?)),
                runs("another program", exec("/usr/bin/id")),
            ])
        },
    },
    Form {
        name: "allow",
        rules: &["--allow", "vmtest,id"],
        checks: |_| {
            Ok(vec![
                runs("on the list", exec("/usr/bin/id")),
                refused("not on the list", exec("/usr/bin/whoami")),
            ])
        },
    },
    Form {
        name: "deny-wins-over-allow",
        rules: &["--allow", "vmtest,id,nproc,whoami", "--deny", "whoami"],
        checks: |_| {
            Ok(vec![
                runs("allowed", exec("/usr/bin/nproc")),
                refused("allowed and denied", exec("/usr/bin/whoami")),
                refused("neither", exec("/usr/bin/hostname")),
            ])
        },
    },
    Form {
        name: "audit",
        rules: &["--audit", "--deny", "whoami"],
        checks: |_| {
            Ok(vec![runs(
                "denied, but only watched",
                exec("/usr/bin/whoami"),
            )])
        },
    },
];

fn script(scratch: &Scratch, name: &str) -> Result<PathBuf> {
    scratch.script(name, "#!/bin/sh\necho ran\n")
}

pub(super) fn cases() -> Vec<Case> {
    FORMS
        .iter()
        .map(|form| {
            Case::new(format!("rules/{}", form.name), move |machine| {
                let scratch = Scratch::new()?;
                let checks = (form.checks)(&scratch)?;
                expect(machine.kernel.preferred(), form.rules, &checks)
            })
        })
        .collect()
}
