//! What the annotations of a pod do to one of its containers.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    Report, known,
    pod::{Command, Container, Pod},
    rules::{self, List, Of},
};
use crate::{
    annotation::{self, ALLOW, Asked, DENY, DRIFT, Drift, MODE, PROFILE, Rule, Spec},
    config::Subject,
    merge::covers,
    node::{Node, SpecError},
    scope,
};

/// Lines of the annotations that hold for a container, by key without scope.
struct Lines<'a>(BTreeMap<&'a str, (usize, &'a str)>);

impl Lines<'_> {
    /// The line of a list, or of what it comes from.
    fn of(&self, key: &str) -> usize {
        let keys = [key, PROFILE, DENY, ALLOW, DRIFT, MODE];
        let mut lines = keys.iter().filter_map(|key| self.0.get(key));
        lines.next().map_or(0, |(line, _)| *line)
    }

    /// `annotation execblock/deny`, as it was written.
    fn named(&self, key: &str) -> String {
        let written = self.0.get(key).map_or(key, |(_, written)| written);
        format!("annotation {written}")
    }
}

/// Checks what holds for a container. `ours` are the pod's annotations that
/// were understood one by one.
pub(super) fn container(
    pod: &Pod,
    container: &Container,
    ours: &BTreeMap<String, String>,
    node: &Node,
    report: &mut Report,
) {
    // A container without a name has the keys that are for all.
    let name = if container.name.is_empty() {
        " "
    } else {
        &container.name
    };
    let Ok(holding) = scope::holding(ours, name) else {
        return;
    };
    let line_of = |written: &str| {
        let mut entries = pod.annotations.iter();
        entries
            .find(|entry| entry.key == written)
            .map_or(0, |entry| entry.line)
    };
    let lines = Lines(
        holding
            .iter()
            .map(|one| (one.key, (line_of(one.written), one.written)))
            .collect(),
    );
    let asked = match annotation::read(holding.iter().copied()) {
        Ok(asked) => asked,
        Err(error) => {
            report.error(line_of(&error.key), error.to_string());
            return;
        }
    };
    if asked.is_empty() {
        return;
    }
    let Some(spec) = holds(&asked, pod, &lines, node, report) else {
        return;
    };
    for (key, list, written) in [
        (DENY, List::Deny, &asked.deny),
        (ALLOW, List::Allow, &asked.allow),
    ] {
        let of = Of {
            spec: &spec,
            list,
            who: lines.named(key),
            line: lines.of(key),
        };
        rules::check(written, &of, report);
    }
    for command in &container.commands {
        self::command(container, command, &spec, &lines, report);
    }
}

/// What holds with profiles and the node's defaults.
fn holds(
    asked: &Asked,
    pod: &Pod,
    lines: &Lines<'_>,
    node: &Node,
    report: &mut Report,
) -> Option<Spec> {
    let subject = Subject {
        // Where the file leaves it open, kubectl takes this one.
        namespace: if pod.namespace.is_empty() {
            "default"
        } else {
            &pod.namespace
        },
        labels: Some(&pod.labels),
    };
    match node.merged(asked, subject) {
        Ok(merged) => {
            for note in merged.notes {
                report.warning(lines.of(MODE), note.to_string());
            }
            Some(merged.spec)
        }
        Err(SpecError::NoProfile { name, .. }) if !node.has_profiles() => {
            report.warning(
                lines.of(PROFILE),
                format!(
                    "{}: profile {name:?} was not looked up, there are no profiles here; \
                     --config-dir names a directory that has profiles/",
                    lines.named(PROFILE)
                ),
            );
            None
        }
        Err(error) => {
            let line = match &error {
                SpecError::Merge(_) => lines.of(ALLOW),
                _ => lines.of(PROFILE),
            };
            report.error(line, error.to_string());
            None
        }
    }
}

/// Whether a container's own program could run.
fn command(
    container: &Container,
    command: &Command,
    spec: &Spec,
    lines: &Lines<'_>,
    report: &mut Report,
) {
    let who = format!("container {:?}: its {} runs", container.name, command.what);
    for program in programs(&command.words) {
        if let Some(rule) = denies(spec, &program) {
            report.warning(
                command.line,
                format!(
                    "{who} {program}, which {rule} denies (line {})",
                    lines.of(DENY)
                ),
            );
        }
    }
    let Some(first) = command.words.first() else {
        return;
    };
    if !spec.allow.is_empty() && !allows(spec, first) {
        let mut message = format!("{who} {first}, which the allow-list does not have");
        if let Some(behind) = behind(name_of(first)) {
            // Writing to a String does not fail.
            write!(
                message,
                "; it is usually a link, and what is behind counts: {behind}"
            )
            .ok();
        }
        report.warning(command.line, message);
    }
    let mut mounts = container.mounts.iter();
    let on_volume = mounts.any(|mount| {
        let below = first.strip_prefix(mount.trim_end_matches('/'));
        below.is_some_and(|below| below.starts_with('/'))
    });
    let admits = |rule: &Rule| match rule {
        Rule::Path(path) => path == first,
        Rule::Directory(directory) => first.starts_with(directory.as_str()),
        _ => false,
    };
    if spec.drift == Drift::Deny && on_volume && !spec.allow.iter().any(admits) {
        report.warning(
            command.line,
            format!(
                "{who} {first}, which lies on a volume: drift refuses it; {ALLOW} with that path \
                 admits it"
            ),
        );
    }
}

fn name_of(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// The rule that denies a program as it is asked for.
fn denies(spec: &Spec, program: &str) -> Option<String> {
    let name = Rule::Name(name_of(program).to_owned());
    let path = Rule::Path(program.to_owned());
    let is_path = program.starts_with('/');
    let mut rules = spec.deny.iter();
    let rule = rules.find(|rule| covers(rule, &name) || is_path && covers(rule, &path))?;
    match spec.origins.deny.get(rule) {
        Some(origin) => Some(format!("the rule {rule} ({origin})")),
        None => Some(format!("the rule {rule}")),
    }
}

/// Whether an allow-list has a program, or may have: where a bare name is found
/// is the image's matter.
fn allows(spec: &Spec, program: &str) -> bool {
    let name = name_of(program);
    let is_path = program.starts_with('/');
    let one = |name: &str, rule: &Rule| covers(rule, &Rule::Name(name.to_owned()));
    let mut behind = known::LINKS.iter().filter(|(link, _)| *link == name);
    let behind = behind.next().map_or(&[][..], |(_, behind)| behind);
    let applet = known::APPLETS.binary_search(&name).is_ok();
    spec.allow.iter().any(|rule| match rule {
        Rule::Name(_) | Rule::Prefix(_) | Rule::Suffix(_) => {
            let is_behind = |behind: &&str| one(&known::example(behind), rule);
            one(name, rule) || applet && one("busybox", rule) || behind.iter().any(is_behind)
        }
        Rule::Path(path) => {
            path == program
                || !is_path && name_of(path) == name
                || behind.contains(&name_of(path))
                || applet && name_of(path) == "busybox"
        }
        Rule::Directory(directory) => !is_path || program.starts_with(directory.as_str()),
    })
}

/// What is usually behind a name.
fn behind(name: &str) -> Option<String> {
    let link = known::LINKS.iter().find(|(link, _)| *link == name);
    link.map(|(_, behind)| behind.join(", "))
}

/// The programs that a command line is sure or likely to run: its own, what it
/// launches, and what stands where a command does in a script for a shell.
fn programs(words: &[String]) -> Vec<String> {
    let mut programs = Vec::new();
    let mut left = words;
    while let Some((program, arguments)) = left.split_first() {
        programs.push(program.clone());
        let name = name_of(program);
        if known::SHELLS.contains(&name) {
            let script = arguments.iter().skip_while(|word| !is_script_flag(word));
            if let Some(script) = script.clone().nth(1) {
                programs.extend(commands_of(script));
                break;
            }
        }
        if !known::LAUNCHERS.contains(&name) {
            break;
        }
        let skipped = arguments
            .iter()
            .take_while(|word| word.starts_with('-') || word.contains('='))
            .count();
        left = arguments.get(skipped..).unwrap_or_default();
    }
    programs.sort();
    programs.dedup();
    programs
}

/// `-c`, `-ec`, …
fn is_script_flag(word: &str) -> bool {
    let letters = word.strip_prefix('-').unwrap_or_default();
    letters.ends_with('c') && letters.chars().all(|c| c.is_ascii_lowercase())
}

/// Words of a script in the place of a command. A guess: a warning hangs on it.
fn commands_of(script: &str) -> Vec<String> {
    const BEFORE: [&str; 9] = [
        "then", "do", "else", "exec", "if", "while", "until", "!", "elif",
    ];
    let parts = script.split(['\n', ';', '|', '&', '(', ')', '`', '{', '}']);
    let command = |part: &str| {
        let mut words = part
            .split_ascii_whitespace()
            .skip_while(|word| BEFORE.contains(word) || word.contains('='));
        let word = words.next()?.trim_matches(['"', '\'']);
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-[".contains(c);
        let is_program = !known::BUILTINS.contains(&word) && word.chars().all(plain);
        (is_program && !word.is_empty()).then(|| word.to_owned())
    };
    parts.filter_map(command).collect()
}
