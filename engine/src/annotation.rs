//! The user's interface: annotations in, a [`Spec`] out. Pure.
//!
//! A list is split at commas and white space. An item is a name without a
//! slash, or an absolute path. Whatever else stands there is an error that
//! names the key, the item's position and what was expected: a rule that was
//! meant otherwise must not become no rule.

use std::{collections::BTreeSet, fmt, str::FromStr};

#[cfg(doc)]
use plugin_common::GLOB_MAX;
use plugin_common::{NAME_MAX, PATH_COMPONENTS_MAX, PATH_MAX};

/// What all our keys begin with.
pub const PREFIX: &str = "execblock/";
/// Key of the list of programs that may not be executed.
pub const DENY: &str = "execblock/deny";
/// Key of the mode: `enforce` or `audit`.
pub const MODE: &str = "execblock/mode";
/// Between a key and the name of the container that it is for.
pub const SCOPE: &str = ".container.";

/// Most rules of one policy. Bounds what one pod can take of the rules map.
pub const RULES_MAX: usize = 1_000;

/// Which programs an item of a list means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A file name: 1 to 255 bytes, no slash, no control character.
    Name(String),
    /// `python*`: names that begin so; without the `*`, 1 to [`GLOB_MAX`] bytes.
    Prefix(String),
    /// `*.sh`: names that end so; without the `*`, 1 to [`GLOB_MAX`] bytes.
    Suffix(String),
    /// An absolute path, at most 4,095 bytes, without `.`, `..` and empty parts.
    Path(String),
    /// `/opt/tools/`: everything below; a path as above with a slash at its end,
    /// or `/` alone.
    Directory(String),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) | Self::Path(text) | Self::Directory(text) => f.write_str(text),
            Self::Prefix(text) => write!(f, "{text}*"),
            Self::Suffix(text) => write!(f, "*{text}"),
        }
    }
}

impl FromStr for Rule {
    type Err = ItemProblem;

    /// Reads one item of a list.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_item(text)
    }
}

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
}

/// What a container's annotations ask for; valid by construction.
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
    #[error("unknown key, expected {DENY} or {MODE}, optionally followed by {SCOPE}NAME")]
    UnknownKey,
    /// The value of `execblock/mode`.
    #[error("found {0:?}, expected \"enforce\" or \"audit\"")]
    Mode(String),
    /// A mode with nothing to apply it to.
    #[error("set without {DENY}, expected a list of programs to deny")]
    ModeAlone,
    /// Nothing in the list.
    #[error("empty list, expected names or absolute paths, split by commas or white space")]
    EmptyList,
    /// More than [`RULES_MAX`] items.
    #[error("{0} items, expected at most {RULES_MAX}")]
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
}

/// Why an item of a list is not a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemProblem {
    /// Nothing between two commas, or at an end.
    #[error("empty item, expected a name or an absolute path")]
    Empty,
    /// A slash, but not at the beginning.
    #[error("relative path with a slash, expected a name without slashes or an absolute path")]
    Relative,
    /// A control character.
    #[error("control character, expected printable characters")]
    Control,
    /// A name, or a part of a path, that is too long.
    #[error("name of {0} bytes, expected at most {NAME_MAX}")]
    NameTooLong(usize),
    /// A path that is too long.
    #[error("path of {0} bytes, expected at most {PATH_MAX}")]
    PathTooLong(usize),
    /// A path with too many directories.
    #[error("path of {0} components, expected at most {PATH_COMPONENTS_MAX}")]
    PathTooDeep(usize),
    /// `/`, or a path ending in a slash.
    #[error("a directory, expected the path of a program")]
    Directory,
    /// `.`, `..` or nothing between two slashes.
    #[error("path with an empty, '.' or '..' component, expected a normalised path")]
    NotNormal,
    /// `.` or `..` as a name.
    #[error("not a file name, expected the name of a program")]
    NotAName,
    /// `*`
    #[error("pattern with '*', expected a whole name: this version has no patterns")]
    Pattern,
    /// `@group`
    #[error("group, expected a name or an absolute path: this version has no groups")]
    Group,
}

/// One annotation that applies to a container, with its scope removed.
#[derive(Clone, Debug)]
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
/// Keys that don't begin with [`PREFIX`] are skipped; `None` where none is
/// left, which is the answer for every container that is not ours.
///
/// # Errors
///
/// The first annotation that is not understood.
pub fn parse<'a>(
    annotations: impl IntoIterator<Item = Annotation<'a>>,
) -> Result<Option<Spec>, AnnotationError> {
    let mut spec = Spec::default();
    let mut mode_key = None;
    for Annotation {
        written,
        key,
        value,
    } in annotations
    {
        if !key.starts_with(PREFIX) {
            continue;
        }
        let wrong = |problem| AnnotationError {
            key: written.to_owned(),
            problem,
        };
        match key {
            DENY => spec.deny = parse_list(value).map_err(wrong)?,
            MODE => {
                spec.mode = parse_mode(value).map_err(wrong)?;
                mode_key = Some(written);
            }
            _ => return Err(wrong(Problem::UnknownKey)),
        }
    }
    match (spec.deny.is_empty(), mode_key) {
        (false, _) => Ok(Some(spec)),
        (true, None) => Ok(None),
        (true, Some(key)) => Err(AnnotationError {
            key: key.to_owned(),
            problem: Problem::ModeAlone,
        }),
    }
}

/// Reads one list, as in `execblock/deny` and `--deny`.
///
/// # Errors
///
/// The first item that is not a rule, with its position.
pub fn parse_list(value: &str) -> Result<BTreeSet<Rule>, Problem> {
    if value.trim_ascii().is_empty() {
        return Err(Problem::EmptyList);
    }
    let count = items(value).count();
    if count > RULES_MAX {
        return Err(Problem::TooMany(count));
    }
    items(value)
        .enumerate()
        .map(|(index, item)| {
            parse_item(item).map_err(|reason| Problem::Item {
                position: index + 1,
                item: shorten(item),
                reason,
            })
        })
        .collect()
}

/// Splits at commas, with or without white space around, and at white space.
/// Nothing between two commas is an (empty) item.
fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').flat_map(|part| {
        let empty = part.trim_ascii().is_empty().then_some("");
        empty.into_iter().chain(part.split_ascii_whitespace())
    })
}

fn parse_mode(value: &str) -> Result<Mode, Problem> {
    let value = value.trim_ascii();
    Mode::ALL
        .into_iter()
        .find(|mode| mode.name() == value)
        .ok_or_else(|| Problem::Mode(shorten(value)))
}

fn parse_item(item: &str) -> Result<Rule, ItemProblem> {
    if item.is_empty() {
        return Err(ItemProblem::Empty);
    }
    if item.chars().any(char::is_control) {
        return Err(ItemProblem::Control);
    }
    if item.starts_with('@') {
        return Err(ItemProblem::Group);
    }
    if item.contains('*') {
        return Err(ItemProblem::Pattern);
    }
    match item.strip_prefix('/') {
        Some(below) => parse_path(item, below),
        None if item.contains('/') => Err(ItemProblem::Relative),
        None if item.len() > NAME_MAX => Err(ItemProblem::NameTooLong(item.len())),
        None if matches!(item, "." | "..") => Err(ItemProblem::NotAName),
        None => Ok(Rule::Name(item.to_owned())),
    }
}

fn parse_path(path: &str, below_root: &str) -> Result<Rule, ItemProblem> {
    if path.len() > PATH_MAX {
        return Err(ItemProblem::PathTooLong(path.len()));
    }
    if path.ends_with('/') {
        return Err(ItemProblem::Directory);
    }
    let components = below_root.split('/').count();
    if components > PATH_COMPONENTS_MAX {
        return Err(ItemProblem::PathTooDeep(components));
    }
    for component in below_root.split('/') {
        if matches!(component, "" | "." | "..") {
            return Err(ItemProblem::NotNormal);
        }
        if component.len() > NAME_MAX {
            return Err(ItemProblem::NameTooLong(component.len()));
        }
    }
    Ok(Rule::Path(path.to_owned()))
}

/// Error messages end up in `kubectl describe`: long input is cut there.
fn shorten(text: &str) -> String {
    const SHOWN: usize = 64;
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    text.chars().take(SHOWN).chain(['…']).collect()
}

#[cfg(test)]
#[path = "annotation_tests.rs"]
mod tests;
