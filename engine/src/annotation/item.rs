//! One item of a list: which programs it means, or why it means none. Pure.

use std::{fmt, str::FromStr};

use plugin_common::{GLOB_MAX, NAME_MAX, PATH_COMPONENTS_MAX, PATH_MAX};

use crate::groups;

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

    /// Reads one item of a list; a group is not one rule.
    fn from_str(item: &str) -> Result<Self, Self::Err> {
        if item.is_empty() {
            return Err(ItemProblem::Empty);
        }
        if item.chars().any(char::is_control) {
            return Err(ItemProblem::Control);
        }
        if item.starts_with(groups::SIGN) {
            return Err(ItemProblem::Group);
        }
        if item.contains('*') {
            return glob(item);
        }
        match item.strip_prefix('/') {
            Some(below) => path(item, below),
            None => name(item),
        }
    }
}

/// Why an item of a list is not a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemProblem {
    /// Nothing between two commas, or at an end.
    #[error("empty item, expected a name, an absolute path, a directory or a group")]
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
    /// `.`, `..` or nothing between two slashes.
    #[error("path with an empty, '.' or '..' component, expected a normalised path")]
    NotNormal,
    /// `.` or `..` as a name.
    #[error("not a file name, expected the name of a program")]
    NotAName,
    /// `*`
    #[error(
        "'*' alone, expected text before or behind it (python*, *.sh); everything is the \
         directory /"
    )]
    Everything,
    /// `**`, `*a*`
    #[error("more than one '*', expected one, at one end of a name (python*, *.sh)")]
    ManyStars,
    /// `a*b`
    #[error("'*' in the middle, expected it at one end of a name (python*, *.sh)")]
    StarInside,
    /// `/usr/bin/python*`
    #[error(
        "'*' in a path, expected a whole path (/usr/bin/python3), a directory with all below it \
         (/usr/bin/), or a name with '*' at one end (python*)"
    )]
    StarInPath,
    /// A pattern that is too long.
    #[error("{0} bytes beside the '*', expected at most {GLOB_MAX}")]
    GlobTooLong(usize),
    /// A group where one rule is asked for.
    #[error("a group, expected one name, path or directory")]
    Group,
    /// `@nothing`
    #[error("unknown group, expected {}", groups::names())]
    UnknownGroup,
}

fn name(item: &str) -> Result<Rule, ItemProblem> {
    if item.contains('/') {
        return Err(ItemProblem::Relative);
    }
    if item.len() > NAME_MAX {
        return Err(ItemProblem::NameTooLong(item.len()));
    }
    if matches!(item, "." | "..") {
        return Err(ItemProblem::NotAName);
    }
    Ok(Rule::Name(item.to_owned()))
}

fn glob(item: &str) -> Result<Rule, ItemProblem> {
    if item.contains('/') {
        return Err(ItemProblem::StarInPath);
    }
    if item == "*" {
        return Err(ItemProblem::Everything);
    }
    if item.matches('*').count() > 1 {
        return Err(ItemProblem::ManyStars);
    }
    let (text, rule): (_, fn(String) -> Rule) = match item.strip_suffix('*') {
        Some(text) => (text, Rule::Prefix),
        None => match item.strip_prefix('*') {
            Some(text) => (text, Rule::Suffix),
            None => return Err(ItemProblem::StarInside),
        },
    };
    if text.len() > GLOB_MAX {
        return Err(ItemProblem::GlobTooLong(text.len()));
    }
    Ok(rule(text.to_owned()))
}

/// `below` is the path without its leading slash.
fn path(path: &str, below: &str) -> Result<Rule, ItemProblem> {
    if path.len() > PATH_MAX {
        return Err(ItemProblem::PathTooLong(path.len()));
    }
    if below.is_empty() {
        return Ok(Rule::Directory(path.to_owned()));
    }
    let (below, rule): (_, fn(String) -> Rule) = match below.strip_suffix('/') {
        Some(below) => (below, Rule::Directory),
        None => (below, Rule::Path),
    };
    let components = below.split('/').count();
    if components > PATH_COMPONENTS_MAX {
        return Err(ItemProblem::PathTooDeep(components));
    }
    for component in below.split('/') {
        if matches!(component, "" | "." | "..") {
            return Err(ItemProblem::NotNormal);
        }
        if component.len() > NAME_MAX {
            return Err(ItemProblem::NameTooLong(component.len()));
        }
    }
    Ok(rule(path.to_owned()))
}
