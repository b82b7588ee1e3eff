//! What can be said of rules without knowing the container.

use std::collections::BTreeSet;

use super::{Report, known};
use crate::{
    annotation::{Drift, Rule, Spec},
    merge::covers,
};

/// Which list rules stand in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Deny,
    Allow,
}

/// Where rules stand, and what holds beside them.
pub(super) struct Of<'a> {
    pub(super) spec: &'a Spec,
    pub(super) list: List,
    /// What a message begins with.
    pub(super) who: String,
    pub(super) line: usize,
}

/// Names that are listed in a message.
const SHOWN: usize = 5;

/// Checks the rules of a list.
pub(super) fn check(rules: &BTreeSet<Rule>, of: &Of<'_>, report: &mut Report) {
    for rule in rules {
        if let Some(problem) = unusual(rule) {
            report.warning(
                of.line,
                format!("{}: {:?}: {problem}", of.who, rule.to_string()),
            );
        }
        let problem = match of.list {
            List::Deny => breaks(rule),
            List::Allow => None,
        };
        if let Some(problem) = problem {
            report.warning(of.line, format!("{}: {rule}: {problem}", of.who));
        }
        if of.list == List::Allow && of.spec.deny.contains(rule) {
            report.warning(
                of.line,
                format!("{}: {rule}: denied as well, which wins", of.who),
            );
        }
    }
    match of.list {
        List::Deny => deny(rules, of, report),
        List::Allow => allow(rules, of, report),
    }
}

fn deny(rules: &BTreeSet<Rule>, of: &Of<'_>, report: &mut Report) {
    listed(of, report, &names(rules, known::BUILTINS), |names| {
        format!("{names}: shells do that themselves, with no program that could be refused")
    });
    // A copy under another name, or the shell's own applet, is what drift and an
    // allow-list are for.
    let open = of.spec.drift != Drift::Deny && of.spec.allow.is_empty();
    if open {
        let applets = names(rules, known::APPLETS).into_iter();
        let applets: Vec<&str> = applets
            .filter(|name| !known::BUILTINS.contains(name))
            .collect();
        listed(of, report, &applets, |names| {
            format!(
                "{names}: in an image with BusyBox this is an applet of one file: a copy of it gets \
                 by, which drift=deny or an allow-list closes, and so may a shell that runs its own \
                 applets"
            )
        });
    }
    listed(of, report, &applet_paths(rules), |paths| {
        format!(
            "{paths}: in an image with BusyBox this is a link, and the rule holds for that \
             spelling alone; the name without its directory holds for all"
        )
    });
}

fn allow(rules: &BTreeSet<Rule>, of: &Of<'_>, report: &mut Report) {
    let has_busybox = rules.iter().any(|rule| match rule {
        Rule::Name(name) => name == "busybox",
        Rule::Path(path) => path.ends_with("/busybox"),
        Rule::Directory(directory) => "/bin/busybox".starts_with(directory.as_str()),
        Rule::Prefix(_) | Rule::Suffix(_) => false,
    });
    let everything = Rule::Directory("/".to_owned());
    if of.spec.drift != Drift::Off && rules.contains(&everything) {
        report.warning(
            of.line,
            format!(
                "{}: /: admits whatever lies on any volume, and leaves drift only what is written \
                 to the root; name the directories that may have programs",
                of.who
            ),
        );
    }
    if !has_busybox {
        let paths = applet_paths(rules);
        listed(of, report, &paths, |paths| {
            format!(
                "{paths}: in an image with BusyBox this is a link, and an allow-list is about the \
                 file behind it: /bin/busybox, which is all applets"
            )
        });
    }
    for (link, behind) in known::LINKS {
        let named = rules.contains(&Rule::Name((*link).to_owned()));
        let has = |behind: &&str| {
            let name = Rule::Name(known::example(behind));
            rules.iter().any(|rule| covers(rule, &name))
        };
        if named && !behind.iter().any(has) {
            report.warning(
                of.line,
                format!(
                    "{}: {link}: usually a link, and an allow-list is about the file behind it: {}",
                    of.who,
                    behind.join(", ")
                ),
            );
        }
    }
}

/// Adds one warning for all of them.
fn listed(of: &Of<'_>, report: &mut Report, items: &[&str], message: impl Fn(String) -> String) {
    if items.is_empty() {
        return;
    }
    let mut text = items
        .get(..SHOWN.min(items.len()))
        .unwrap_or_default()
        .join(", ");
    if items.len() > SHOWN {
        text = format!("{text} and {} more", items.len() - SHOWN);
    }
    report.warning(of.line, format!("{}: {}", of.who, message(text)));
}

fn names<'a>(rules: &'a BTreeSet<Rule>, known: &[&str]) -> Vec<&'a str> {
    let names = rules.iter().filter_map(|rule| match rule {
        Rule::Name(name) if known.contains(&name.as_str()) => Some(name.as_str()),
        _ => None,
    });
    names.collect()
}

/// Paths that are links to BusyBox where there is one.
fn applet_paths(rules: &BTreeSet<Rule>) -> Vec<&str> {
    let paths = rules.iter().filter_map(|rule| match rule {
        Rule::Path(path) => Some(path.as_str()),
        _ => None,
    });
    let is_applet = |path: &&str| {
        let mut directories = known::APPLET_DIRECTORIES.iter();
        directories.any(|directory| {
            let name = path.strip_prefix(directory);
            name.is_some_and(|name| known::APPLETS.binary_search(&name).is_ok())
        })
    };
    paths.filter(is_applet).collect()
}

/// Why a container would not run, or not be entered.
fn breaks(rule: &Rule) -> Option<String> {
    if matches!(rule, Rule::Directory(path) if path == "/") {
        return Some("everything: no program of the container would run".to_owned());
    }
    let hits = |name: &str| covers(rule, &Rule::Name(name.to_owned()));
    if let Some((name, why)) = known::RUNTIME.iter().find(|(name, _)| hits(name)) {
        return Some(format!("denies {name}: {why}"));
    }
    let in_directory = |name: &str| {
        let mut directories = known::LIBRARIES.iter();
        directories.any(|directory| covers(rule, &Rule::Path(format!("{directory}{name}"))))
    };
    if let Rule::Directory(_) = rule
        && let Some(library) = known::LIBRARIES
            .iter()
            .find(|library| covers(rule, &Rule::Directory((**library).to_owned())))
    {
        return Some(format!(
            "has {library} in it, with libraries: they are mapped as programs are, and every \
             program that is not static fails"
        ));
    }
    let loader = known::LOADERS
        .iter()
        .find(|name| hits(name) || in_directory(name))?;
    Some(format!(
        "denies {loader}: every program that is not static fails"
    ))
}

/// What is likely not meant to be a part of a name.
fn unusual(rule: &Rule) -> Option<&'static str> {
    let text = rule.to_string();
    if text
        .chars()
        .any(|c| matches!(c, '"' | '\'' | '`' | '\u{2018}'..='\u{201f}'))
    {
        return Some("the quote is a part of the name");
    }
    if text.chars().any(|c| c.is_whitespace() || is_invisible(c)) {
        return Some("a space that is no ASCII, or an invisible character, is a part of the name");
    }
    if text.contains([';', ':', '\\', '|']) {
        return Some("lists are split by commas and white space; this is a part of the name");
    }
    None
}

/// Zero width and direction marks, which come along when text is copied.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{feff}')
}
