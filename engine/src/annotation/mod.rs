//! The user's interface: annotations in, what they ask for out. Pure.
//!
//! A list is split at commas and white space. An item is a name without a slash
//! (with one `*` at one end, if it likes), an absolute path, a directory with a
//! slash at its end, or a group. Whatever else stands there is an error that
//! names the key, the item's position and what was expected: a rule that was
//! meant otherwise must not become no rule.

mod item;
mod list;

use std::collections::BTreeSet;

pub use item::{ItemProblem, Rule};
use list::shorten;
pub use list::{
    PROFILE_NAME_MAX, PROFILES_MAX, RULES_MAX, of_items, of_profiles, parse_list, parse_profiles,
};

use crate::origin::Origins;

/// What all our keys begin with.
pub const PREFIX: &str = "execblock/";
/// Key of the list of programs that may not be executed.
pub const DENY: &str = "execblock/deny";
/// Key of the list of programs that alone may be executed.
pub const ALLOW: &str = "execblock/allow";
/// Key of the mode: `enforce` or `audit`.
pub const MODE: &str = "execblock/mode";
/// Key of what becomes of files that did not come with the image.
pub const DRIFT: &str = "execblock/drift";
/// Key of the names of profiles.
pub const PROFILE: &str = "execblock/profile";
/// All keys, without a scope.
pub const KEYS: [&str; 5] = [DENY, ALLOW, MODE, DRIFT, PROFILE];
/// Between a key and the name of the container that it is for.
pub const SCOPE: &str = ".container.";

/// What becomes of a denied program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It is refused.
    #[default]
    Enforce,
    /// It runs and is reported.
    Audit,
}

impl Mode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Enforce, Self::Audit];

    /// The value of the annotation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }

    /// Reads the value of the annotation.
    ///
    /// # Errors
    ///
    /// Where it is neither.
    pub fn parse(value: &str) -> Result<Self, Problem> {
        let value = value.trim_ascii();
        let mut all = Self::ALL.into_iter();
        all.find(|mode| mode.name() == value)
            .ok_or_else(|| Problem::Mode(shorten(value)))
    }
}

/// What becomes of files that did not come with the container's image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drift {
    /// Nobody looks.
    #[default]
    Off,
    /// They run and are reported.
    Audit,
    /// They are refused.
    Deny,
}

impl Drift {
    /// All, from the weakest to the strongest.
    pub const ALL: [Self; 3] = [Self::Off, Self::Audit, Self::Deny];

    /// The value of the annotation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Audit => "audit",
            Self::Deny => "deny",
        }
    }

    /// Reads the value of the annotation.
    ///
    /// # Errors
    ///
    /// Where it is none of the three.
    pub fn parse(value: &str) -> Result<Self, Problem> {
        let value = value.trim_ascii();
        let mut all = Self::ALL.into_iter();
        all.find(|drift| drift.name() == value)
            .ok_or_else(|| Problem::Drift(shorten(value)))
    }
}

/// What holds for a container; valid by construction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// Programs that may not be executed, without repetition.
    pub deny: BTreeSet<Rule>,
    /// Where it is not empty, the only programs that may be executed.
    pub allow: BTreeSet<Rule>,
    /// Whether they are refused or reported.
    pub mode: Mode,
    /// What becomes of files that did not come with the image.
    pub drift: Drift,
    /// A default's allow-list bounds this one: its paths mean what is written and
    /// nothing that a link in the image leads to.
    pub bounded: bool,
    /// Where the rules come from that the annotations do not name.
    pub origins: Origins,
}

impl Spec {
    /// Whether nothing would be refused or reported.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deny.is_empty() && self.allow.is_empty() && self.drift == Drift::Off
    }
}

/// What the annotations of one container say, before profiles and the node's
/// defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Programs that may not be executed.
    pub deny: BTreeSet<Rule>,
    /// Programs that alone may be executed; empty where it is not set.
    pub allow: BTreeSet<Rule>,
    /// `None` where it is not set.
    pub mode: Option<Mode>,
    /// `None` where it is not set.
    pub drift: Option<Drift>,
    /// Names of profiles, each once.
    pub profiles: Vec<String>,
}

impl Asked {
    /// Whether nothing is asked for: no annotation of ours holds.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why an annotation was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {key}: {problem}")]
pub struct AnnotationError {
    /// The key as it stands on the pod or container.
    pub key: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with an annotation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A key of ours that this version doesn't know.
    #[error(
        "unknown key, expected {DENY}, {ALLOW}, {MODE}, {DRIFT} or {PROFILE}, optionally followed \
         by {SCOPE}NAME"
    )]
    UnknownKey,
    /// The value of `execblock/mode`.
    #[error("found {0:?}, expected \"enforce\" or \"audit\"")]
    Mode(String),
    /// The value of `execblock/drift`.
    #[error("found {0:?}, expected \"deny\", \"audit\" or \"off\"")]
    Drift(String),
    /// A mode with nothing to apply it to.
    #[error("set alone, expected {DENY}, {ALLOW}, {DRIFT} or {PROFILE} beside it")]
    ModeAlone,
    /// Nothing in the list.
    #[error(
        "empty list, expected names, absolute paths, directories or groups, split by commas or \
         white space"
    )]
    EmptyList,
    /// More than [`RULES_MAX`] rules.
    #[error("{0} rules, expected at most {RULES_MAX}; a group counts as its members")]
    TooMany(usize),
    /// An item that is not a rule.
    #[error("item {position} ({item:?}): {reason}")]
    Item {
        /// Counted from 1.
        position: usize,
        /// The item, shortened for display.
        item: String,
        /// What it is, and what was expected.
        reason: ItemProblem,
    },
    /// Nothing in the list of profiles.
    #[error("empty list, expected names of profiles, split by commas or white space")]
    NoProfile,
    /// An item that can't be the name of a profile.
    #[error(
        "item {position} ({item:?}): not the name of a profile, expected 1 to {PROFILE_NAME_MAX} \
         letters, digits, '-', '_' and '.', not beginning with '.'"
    )]
    ProfileName {
        /// Counted from 1.
        position: usize,
        /// The item, shortened for display.
        item: String,
    },
    /// More than [`PROFILES_MAX`] of them.
    #[error("more than {PROFILES_MAX} profiles, expected fewer")]
    TooManyProfiles,
}

/// One annotation that applies to a container, with its scope removed.
#[derive(Clone, Copy, Debug)]
pub struct Annotation<'a> {
    /// The key as it was written, for error messages.
    pub written: &'a str,
    /// The key without a scope.
    pub key: &'a str,
    /// The value.
    pub value: &'a str,
}

/// Reads the annotations that apply to one container.
///
/// Keys that don't begin with [`PREFIX`] are skipped; [`Asked::is_empty`] where
/// none is left, which is the answer for every container that is not ours.
///
/// # Errors
///
/// The first annotation that is not understood.
pub fn read<'a>(
    annotations: impl IntoIterator<Item = Annotation<'a>>,
) -> Result<Asked, AnnotationError> {
    let mut asked = Asked::default();
    let mut mode_key = None;
    for annotation in annotations {
        let Annotation {
            written,
            key,
            value,
        } = annotation;
        if !key.starts_with(PREFIX) {
            continue;
        }
        if key == MODE {
            mode_key = Some(written);
        }
        set(&mut asked, key, value).map_err(|problem| AnnotationError {
            key: written.to_owned(),
            problem,
        })?;
    }
    let alone = Asked {
        mode: asked.mode,
        ..Asked::default()
    };
    match mode_key {
        Some(key) if asked == alone => Err(AnnotationError {
            key: key.to_owned(),
            problem: Problem::ModeAlone,
        }),
        _ => Ok(asked),
    }
}

/// Whether a value is one that its key (without a scope) can have.
///
/// # Errors
///
/// What is wrong with it.
pub fn check(key: &str, value: &str) -> Result<(), Problem> {
    set(&mut Asked::default(), key, value)
}

fn set(asked: &mut Asked, key: &str, value: &str) -> Result<(), Problem> {
    match key {
        DENY => asked.deny = parse_list(value)?,
        ALLOW => asked.allow = parse_list(value)?,
        MODE => asked.mode = Some(Mode::parse(value)?),
        DRIFT => asked.drift = Some(Drift::parse(value)?),
        PROFILE => asked.profiles = parse_profiles(value)?,
        _ => return Err(Problem::UnknownKey),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
