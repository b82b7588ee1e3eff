//! What a technique is, and what is expected of it. The techniques themselves stand in the files
//! beside this one, by group.

use serde::Serialize;

use crate::machine::Mechanism;

/// One way of getting a program to run that the container's rules refuse.
#[derive(Debug, Clone, Copy)]
pub(super) struct Technique {
    /// Unique in its group.
    pub(super) name: &'static str,
    /// What it does, in a sentence.
    pub(super) about: &'static str,
    pub(super) needs: Needs,
    /// For the shell of the container. `$T` is the program that the policy refuses (static), `$P`
    /// another that it refuses (of the dynamic loader's); the working folder is empty, and on the
    /// container's root.
    pub(super) script: &'static str,
    pub(super) against: &'static [(Policy, Expect)],
}

/// The least privilege that it needs; it is run with no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Needs {
    /// The capabilities that every container has.
    Nothing,
    /// The same, and a kernel that lets anybody make user namespaces.
    Userns,
    /// A privileged container.
    Admin,
}

/// The annotations of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Policy {
    /// A name is denied.
    Name,
    /// Paths are denied.
    Path,
}

impl Policy {
    pub(super) const ALL: [Self; 2] = [Self::Name, Self::Path];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Path => "path",
        }
    }

    pub(super) const fn annotations(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Name => &[("execblock/deny", "whoami")],
            Self::Path => &[("execblock/deny", "/usr/bin/whoami,/opt/static/whoami")],
        }
    }

    /// `$T`: static, and so small that it can be mapped by hand.
    pub(super) const fn target(self) -> &'static str {
        match self {
            Self::Name | Self::Path => "/opt/static/whoami",
        }
    }

    /// `$P`: of the dynamic loader's.
    pub(super) const fn dynamic_target(self) -> &'static str {
        match self {
            Self::Name | Self::Path => "/usr/bin/whoami",
        }
    }
}

/// What must become of a technique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// The program does not run, whatever the mechanism.
    Held,
    /// It runs, whatever the mechanism, and this is why.
    Escapes(&'static str),
    /// It runs where one of these mechanisms refuses, and this is why.
    EscapesIn(&'static [Mechanism], &'static str),
    /// Nothing of it is forbidden, and it must run.
    Runs,
}

impl Expect {
    /// Why it runs in spite of the rules, if it is known to.
    pub(super) fn escape(self, mechanism: Mechanism) -> Option<&'static str> {
        match self {
            Self::Escapes(why) => Some(why),
            Self::EscapesIn(mechanisms, why) => mechanisms.contains(&mechanism).then_some(why),
            Self::Held | Self::Runs => None,
        }
    }
}

/// A technique against one policy: what is run, and a line of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) group: &'static str,
    pub(super) technique: &'static Technique,
    pub(super) policy: Policy,
    pub(super) expect: Expect,
}

impl Row {
    /// `GROUP/NAME@POLICY`
    pub(super) fn id(&self) -> String {
        format!(
            "{}/{}@{}",
            self.group,
            self.technique.name,
            self.policy.name()
        )
    }

    pub(super) fn script(&self) -> String {
        format!(
            "T={} P={}\n{}",
            self.policy.target(),
            self.policy.dynamic_target(),
            self.technique.script
        )
    }
}
