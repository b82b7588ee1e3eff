//! What a technique is, and what is expected of it. The techniques themselves stand in the files
//! beside this one, by group.

pub(super) mod against;

use std::collections::BTreeMap;

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
    Name,
    Path,
    Directory,
    Glob,
    /// An allow-list of names.
    Allow,
    /// An allow-list of paths and folders.
    AllowPath,
    Drift,
    /// Drift, and a name is denied.
    DriftName,
    /// Drift, and an allow-list that also admits a part of a volume.
    DriftVolume,
    /// A name is denied, and the container has the machine's process ids.
    Host,
}

type Annotations = &'static [(&'static str, &'static str)];

const DENY: &str = "execblock/deny";
const ALLOW: &str = "execblock/allow";
const DRIFT: (&str, &str) = ("execblock/drift", "deny");

impl Policy {
    pub(super) const ALL: [Self; 10] = [
        Self::Name,
        Self::Path,
        Self::Directory,
        Self::Glob,
        Self::Allow,
        Self::AllowPath,
        Self::Drift,
        Self::DriftName,
        Self::DriftVolume,
        Self::Host,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Path => "path",
            Self::Directory => "directory",
            Self::Glob => "glob",
            Self::Allow => "allow",
            Self::AllowPath => "allow-path",
            Self::Drift => "drift",
            Self::DriftName => "drift-name",
            Self::DriftVolume => "drift-volume",
            Self::Host => "host",
        }
    }

    pub(super) const fn annotations(self) -> Annotations {
        match self {
            Self::Name | Self::Host => &[(DENY, "whoami")],
            Self::Path => &[(DENY, "/usr/bin/whoami,/opt/static/whoami")],
            Self::Directory => &[(DENY, "/opt/denied/")],
            Self::Glob => &[(DENY, "pwn*,*.evil")],
            Self::Allow => &[(ALLOW, "busybox,evade,exec_*,/opt/ok/")],
            Self::AllowPath => &[(
                ALLOW,
                "/bin/busybox,/usr/bin/evade,/usr/bin/exec_ia32,/usr/bin/exec_x32,/opt/ok/",
            )],
            Self::Drift => &[DRIFT],
            Self::DriftName => &[(DENY, "whoami"), DRIFT],
            Self::DriftVolume => &[
                (ALLOW, "busybox,evade,exec_*,loads,/opt/,/vol/ok/,/vol/one"),
                DRIFT,
            ],
        }
    }

    /// Sets `$T`, static and so small that it can be mapped by hand, and `$P`, of the dynamic
    /// loader's.
    pub(super) const fn targets(self) -> &'static str {
        match self {
            Self::Name
            | Self::Path
            | Self::Allow
            | Self::AllowPath
            | Self::DriftName
            | Self::Host => "T=/opt/static/whoami P=/usr/bin/whoami",
            Self::Directory => "T=/opt/denied/tool P=/opt/denied/dynamic",
            Self::Glob => "T=/opt/static/pwntool P=/usr/bin/tool.evil",
            Self::Drift => {
                "T=$D/dropped/tool P=$D/dropped/dynamic\nmkdir dropped; cp /opt/static/other $T; \
                 cp /opt/other/program $P"
            }
            Self::DriftVolume => "T=/vol/other/tool P=/vol/other/dynamic",
        }
    }

    /// Whether its containers share the machine's process ids.
    pub(super) const fn on_host(self) -> bool {
        matches!(self, Self::Host)
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

    /// What the twin must have shown. A technique is the same for all policies, but for the
    /// programs that it is after: these are tried for each.
    pub(super) fn proof(&self) -> String {
        if self.group == "syscalls" && self.technique.name.starts_with("execve") {
            self.id()
        } else {
            format!("{}/{}", self.group, self.technique.name)
        }
    }

    pub(super) fn describe(&self) -> Described {
        let escapes = Mechanism::ALL.into_iter().filter_map(|mechanism| {
            let why = self.expect.escape(mechanism)?;
            Some((mechanism.name(), why))
        });
        Described {
            id: self.id(),
            about: self.technique.about,
            needs: self.technique.needs,
            policy: self.policy,
            script: self.script(),
            runs: self.expect == Expect::Runs,
            escapes: escapes.collect(),
        }
    }

    pub(super) fn script(&self) -> String {
        format!("{}\n{}", self.policy.targets(), self.technique.script)
    }
}

/// A row for readers outside of the virtual machine.
#[derive(Debug, Serialize)]
pub(crate) struct Described {
    pub(super) id: String,
    about: &'static str,
    needs: Needs,
    policy: Policy,
    script: String,
    /// Nothing forbids it.
    runs: bool,
    /// The mechanisms under which it is known to escape, and why.
    escapes: BTreeMap<&'static str, &'static str>,
}
