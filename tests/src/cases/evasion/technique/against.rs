//! The policies that most techniques are tried against.

use super::Expect::{self, EscapesIn, Held};
use super::Policy::{
    self, Allow, AllowPath, Directory, Drift, DriftName, DriftVolume, Glob, Name, Path,
};
use crate::machine::Mechanism;

pub(in super::super) const NAME: &[(Policy, Expect)] = &[(Name, Held)];
pub(in super::super) const GLOB: &[(Policy, Expect)] = &[(Glob, Held)];
pub(in super::super) const BOTH: &[(Policy, Expect)] = &[(Name, Held), (Path, Held)];
/// Deny rules of every kind.
pub(in super::super) const DENIED: &[(Policy, Expect)] =
    &[(Name, Held), (Path, Held), (Directory, Held), (Glob, Held)];
/// One of each kind.
pub(in super::super) const MOST: &[(Policy, Expect)] =
    &[(Name, Held), (Path, Held), (Allow, Held), (Drift, Held)];
/// Everything.
pub(in super::super) const EVERY: &[(Policy, Expect)] = &[
    (Name, Held),
    (Path, Held),
    (Directory, Held),
    (Glob, Held),
    (Allow, Held),
    (AllowPath, Held),
    (Drift, Held),
    (DriftName, Held),
    (DriftVolume, Held),
];

/// Hooks behind the kernel's lookup see each level of interpreters, the others the last.
pub(in super::super) const LAST_ONLY: Expect = EscapesIn(
    &[Mechanism::Kprobe, Mechanism::Signal],
    "of a script, this mechanism sees the name and the interpreter, and not the file",
);
/// A program that the dynamic loader is asked to run.
pub(in super::super) const LOADED: &[(Policy, Expect)] = &[
    (Name, Held),
    (Path, Held),
    (Directory, Held),
    (Glob, Held),
    (Allow, Held),
    (Drift, Held),
    (DriftName, Held),
];
