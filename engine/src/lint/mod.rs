//! `execblock lint`: what is wrong, or can't hold, in annotations before any
//! container starts. Reads text; the only files it looks at are the profiles and
//! defaults of the [`Node`] that it is given.

mod check;
mod config;
mod known;
mod pod;
mod rules;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};

pub use config::lint_toml;
use pod::{Container, Entry, Found, Pod};
use serde::Serialize;

use crate::{
    annotation::{self, KEYS, PREFIX, SCOPE},
    node::Node,
    scope,
};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The container would be refused, or the annotation has no effect at all.
    Error,
    /// A rule that does not hold, or one that breaks the container.
    Warning,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Counted from 1; 0 where there are no lines.
    pub line: usize,
    /// How bad it is.
    pub level: Level,
    /// What is wrong, and what was expected.
    pub message: String,
}

/// Findings, each once.
#[derive(Debug, Default)]
struct Report(BTreeSet<Finding>);

impl Report {
    fn error(&mut self, line: usize, message: impl Into<String>) {
        self.add(line, Level::Error, message.into());
    }

    fn warning(&mut self, line: usize, message: impl Into<String>) {
        self.add(line, Level::Warning, message.into());
    }

    fn add(&mut self, line: usize, level: Level, message: String) {
        self.0.insert(Finding {
            line,
            level,
            message,
        });
    }
}

/// Looks through a file with objects of Kubernetes, in any number of documents.
/// Findings are in the order of their lines.
#[must_use]
pub fn lint_yaml(text: &str, node: &Node) -> Vec<Finding> {
    let mut report = Report::default();
    match yaml::parse(text) {
        Ok(documents) => {
            let mut found = Found::default();
            for document in &documents {
                pod::find(document, &mut found);
            }
            for pod in &found.pods {
                lint_pod(pod, node, &mut report);
            }
            misplaced(&found, &mut report);
        }
        Err(error) => {
            let hint = unquoted(text, error.line);
            report.error(
                error.line,
                format!("not understood as YAML: {}{hint}", error.problem),
            );
        }
    }
    report.0.into_iter().collect()
}

/// `*.sh` and `@shells` begin like an alias and a reserved character.
fn unquoted(text: &str, line: usize) -> &'static str {
    let mut lines = text.lines().skip(line.saturating_sub(2)).take(2);
    let special = lines.any(|line| {
        let value = line.split_once(": ").map(|(_, value)| value.trim_start());
        line.contains(PREFIX) && value.is_some_and(|value| value.starts_with(['*', '@']))
    });
    if special {
        "; a value that begins with '*' or '@' must stand in quotes"
    } else {
        ""
    }
}

/// Looks through annotations as a command line gives them, for one container.
#[must_use]
pub fn lint_pairs(pairs: &[(String, String)], node: &Node) -> Vec<Finding> {
    let entry = |(key, value): &(String, String)| Entry {
        key: key.clone(),
        value: Some(value.clone()),
        line: 0,
    };
    let mut names: BTreeSet<&str> = pairs
        .iter()
        .filter_map(|(key, _)| scope::split(key).1)
        .collect();
    // One without a name has the keys that are for all.
    names.insert("");
    let containers = names.into_iter().map(|name| Container {
        name: name.to_owned(),
        ..Container::default()
    });
    let pod = Pod {
        annotations: pairs.iter().map(entry).collect(),
        containers: containers.collect(),
        ..Pod::default()
    };
    let mut report = Report::default();
    lint_pod(&pod, node, &mut report);
    report.0.into_iter().collect()
}

fn lint_pod(pod: &Pod, node: &Node, report: &mut Report) {
    let mut ours = BTreeMap::new();
    let mut understood = true;
    for entry in &pod.annotations {
        if !entry.key.starts_with(PREFIX) {
            near_miss(entry, report);
            continue;
        }
        match value(entry) {
            Ok(value) => {
                ours.insert(entry.key.clone(), value.to_owned());
            }
            Err(problem) => {
                understood = false;
                report.error(entry.line, format!("annotation {}: {problem}", entry.key));
            }
        }
        unknown_container(entry, pod, report);
    }
    // What is not understood refuses the container: no more to say of it.
    if understood {
        for container in &pod.containers {
            check::container(pod, container, &ours, node, report);
        }
    }
}

fn value(entry: &Entry) -> Result<&str, String> {
    let (key, _) = scope::split(&entry.key);
    let Some(value) = &entry.value else {
        return Err("expected a string; put the value in quotes".to_owned());
    };
    match annotation::check(key, value) {
        Ok(()) => Ok(value),
        Err(problem) if KEYS.contains(&key) => Err(problem.to_string()),
        Err(problem) => Err(match nearest(&entry.key) {
            Some(known) => format!("{problem}; is it {known}?"),
            None => problem.to_string(),
        }),
    }
}

fn unknown_container(entry: &Entry, pod: &Pod, report: &mut Report) {
    let Some(name) = scope::split(&entry.key).1 else {
        return;
    };
    let known = pod.containers.iter().map(|container| &*container.name);
    let known: Vec<&str> = known.filter(|name| !name.is_empty()).collect();
    if !known.is_empty() && !known.contains(&name) {
        report.warning(
            entry.line,
            format!(
                "annotation {}: the pod has no container {name:?}, it has {}",
                entry.key,
                known.join(", ")
            ),
        );
    }
}

/// A key that is one of ours but for a few letters.
fn near_miss(entry: &Entry, report: &mut Report) {
    if let Some(known) = nearest(&entry.key) {
        report.warning(
            entry.line,
            format!(
                "annotation {}: not a key of execblock, it has no effect; is it {known}?",
                entry.key
            ),
        );
    }
}

/// Letters that a misspelt key may differ by.
const NEAR: usize = 3;

fn nearest(written: &str) -> Option<String> {
    // Long keys are no misspelling, and comparing costs their length.
    if written.len() > 100 {
        return None;
    }
    let (key, container) = scope::split(written);
    let key = key.to_ascii_lowercase();
    // Another project's key may be near by chance: its domain is not.
    let (domain, _) = key.split_once('/').unwrap_or((&key, ""));
    let ours = PREFIX.trim_end_matches('/');
    if !domain.contains(ours) && strsim::damerau_levenshtein(domain, ours) > 2 {
        return None;
    }
    let distance = |known: &&&str| strsim::damerau_levenshtein(&key, known);
    let known = KEYS.iter().min_by_key(distance)?;
    let container = container.map_or_else(String::new, |name| format!("{SCOPE}{name}"));
    (distance(&known) <= NEAR).then(|| format!("{known}{container}"))
}

fn misplaced(found: &Found, report: &mut Report) {
    for (entry, place) in &found.misplaced {
        if entry.key.starts_with(PREFIX) {
            report.error(
                entry.line,
                format!(
                    "annotation {}: does not reach the pods here; expected in {place}",
                    entry.key
                ),
            );
        }
    }
    for entry in found
        .labels
        .iter()
        .filter(|entry| entry.key.starts_with(PREFIX))
    {
        report.error(
            entry.line,
            format!("label {}: has no effect, expected an annotation", entry.key),
        );
    }
}

#[cfg(test)]
mod tests;
