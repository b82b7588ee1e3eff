//! A list of items: rules with groups expanded, or names of profiles. Pure.

use std::collections::BTreeSet;

use super::{ItemProblem, Problem, Rule};
use crate::groups;

/// Most rules of one list, with the members of its groups. Bounds what one pod
/// can take of the rules map.
pub const RULES_MAX: usize = 1_000;

/// Most profiles that one list may name. Bounds the files that are read.
pub const PROFILES_MAX: usize = 16;

/// Longest name of a profile, in bytes.
pub const PROFILE_NAME_MAX: usize = 64;

/// Reads one list, as in `execblock/deny` and `--deny`. A group stands for its
/// members.
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
    of_items(items(value))
}

/// Reads a list whose items stand alone, as in a profile.
///
/// # Errors
///
/// As [`parse_list`].
pub fn of_items<'a>(items: impl IntoIterator<Item = &'a str>) -> Result<BTreeSet<Rule>, Problem> {
    let mut rules = BTreeSet::new();
    for (index, item) in items.into_iter().enumerate() {
        let wrong = |reason| Problem::Item {
            position: index + 1,
            item: shorten(item),
            reason,
        };
        match item.strip_prefix(groups::SIGN) {
            Some(name) => {
                let group = groups::find(name).ok_or_else(|| wrong(ItemProblem::UnknownGroup))?;
                rules.extend(group.rules());
            }
            None => {
                rules.insert(item.parse().map_err(wrong)?);
            }
        }
    }
    if rules.len() > RULES_MAX {
        return Err(Problem::TooMany(rules.len()));
    }
    Ok(rules)
}

/// Reads the names of profiles, each once, in their order.
///
/// # Errors
///
/// The first item that can't be the name of a profile, with its position.
pub fn parse_profiles(value: &str) -> Result<Vec<String>, Problem> {
    if value.trim_ascii().is_empty() {
        return Err(Problem::NoProfile);
    }
    of_profiles(items(value))
}

/// Reads names of profiles that stand alone, as in `config.toml`.
///
/// # Errors
///
/// The first that can't be one, with its position.
pub fn of_profiles<'a>(items: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, Problem> {
    let mut names: Vec<String> = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        if !is_profile_name(item) {
            return Err(Problem::ProfileName {
                position: index + 1,
                item: shorten(item),
            });
        }
        if !names.iter().any(|name| name == item) {
            names.push(item.to_owned());
        }
        if names.len() > PROFILES_MAX {
            return Err(Problem::TooManyProfiles);
        }
    }
    Ok(names)
}

/// The name becomes part of a path: nothing in it may leave the directory.
fn is_profile_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=PROFILE_NAME_MAX).contains(&name.len())
        && !name.starts_with('.')
        && name.chars().all(plain)
}

/// Splits at commas, with or without white space around, and at white space.
/// Nothing between two commas is an (empty) item.
fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').flat_map(|part| {
        let empty = part.trim_ascii().is_empty().then_some("");
        empty.into_iter().chain(part.split_ascii_whitespace())
    })
}

/// Error messages end up in `kubectl describe`: long input is cut there.
pub(super) fn shorten(text: &str) -> String {
    const SHOWN: usize = 64;
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    text.chars().take(SHOWN).chain(['…']).collect()
}
