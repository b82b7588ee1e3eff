//! The answer, for people.

use std::{
    ffi::OsStr,
    io::{self, Write as _},
    process::ExitCode,
};

use execblock::{
    annotation,
    kernel::Mechanism,
    matching::{self, Whence},
    order::{In, Line, Origin},
    outcome::{Case, Effect, Finding, Reason, Step},
    policy::rule_id,
    program::File,
};
use plugin_common::{DRIFT_OFF, MODE_AUDIT, Source};
use serde::Serialize;

use super::{
    super::{DONE, FAILED, Failure, USAGE, target::Target},
    Terms,
};

/// What is told.
pub(super) struct Report<'a> {
    pub(super) word: &'a OsStr,
    pub(super) target: &'a Target,
    pub(super) terms: &'a Terms,
    pub(super) case: &'a Case<'a>,
    pub(super) loaded: Option<Mechanism>,
}

/// The answer in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// It runs.
    Allowed,
    /// It runs and is reported.
    Audited,
    /// It is refused or killed.
    Denied,
    /// The kernel doesn't run it, whatever the rules.
    Fails,
    /// That can't be told from here.
    Unknown,
}

/// A line of the text.
struct Row {
    label: String,
    value: String,
    note: String,
}

impl Report<'_> {
    pub(super) fn print(&self, json: bool) -> Result<ExitCode, Failure> {
        let mut out = io::stdout().lock();
        if json {
            serde_json::to_writer_pretty(&mut out, &self.json())?;
            writeln!(out)?;
        } else {
            write!(out, "{}", self.text())?;
        }
        let status = match self.verdict() {
            Verdict::Allowed | Verdict::Audited => DONE,
            Verdict::Denied => FAILED,
            Verdict::Fails | Verdict::Unknown => USAGE,
        };
        Ok(ExitCode::from(status))
    }

    /// What becomes of it under what is loaded. Without a binding no rule holds.
    pub(super) fn verdict(&self) -> Verdict {
        match self.loaded.filter(|_| self.terms.is_bound) {
            Some(mechanism) => self.verdict_under(mechanism),
            None if self.case.program.fails.is_some() => Verdict::Fails,
            None => Verdict::Allowed,
        }
    }

    fn verdict_under(&self, mechanism: Mechanism) -> Verdict {
        let outcome = self.case.under(mechanism);
        match outcome.effect {
            _ if outcome.is_unknown() => Verdict::Unknown,
            Effect::Fails => Verdict::Fails,
            Effect::Runs if outcome.findings.is_empty() => Verdict::Allowed,
            Effect::Runs => Verdict::Audited,
            Effect::Eperm | Effect::Killed | Effect::Crashes | Effect::NotLoaded => Verdict::Denied,
        }
    }

    fn text(&self) -> String {
        let who = self.who();
        let word = shown(self.word.as_encoded_bytes());
        let verdict = said(self.verdict());
        let mut text = format!("{word} {verdict} in {who}\n");
        let mut add = |line: &str| {
            text.push_str("  ");
            text.push_str(line.trim_end());
            text.push('\n');
        };
        if !self.terms.is_bound {
            add("the container is not bound: no rule holds for it");
            if !self.terms.lines.is_empty() || self.terms.container.drift != DRIFT_OFF {
                let would = said(self.verdict_under(self.loaded.unwrap_or(Mechanism::Lsm)));
                add(&format!("if its annotations held: {word} {would}"));
            }
        } else if self.terms.container.mode == MODE_AUDIT {
            add("its mode is audit: what is denied runs and is reported");
        }
        let mut rows = self.files();
        rows.extend(self.arguments());
        if let Some(why) = &self.case.program.fails {
            rows.push(row(
                "kernel",
                format!("does not run it: {why}"),
                String::new(),
            ));
        }
        rows.extend(Mechanism::ALL.map(|mechanism| self.mechanism(mechanism)));
        let width = |of: fn(&Row) -> &String| {
            let widths = rows.iter().map(|row| of(row).chars().count());
            widths.max().unwrap_or(0)
        };
        let label = width(|row| &row.label);
        let noted = rows.iter().filter(|row| !row.note.is_empty());
        let value = noted
            .map(|row| row.value.chars().count())
            .max()
            .unwrap_or(0);
        for row in &rows {
            add(&format!(
                "{:label$}  {:value$}   {}",
                row.label, row.value, row.note
            ));
        }
        if self.loaded.is_none() {
            add("no mechanism is loaded: execblock load pins one");
        }
        text
    }

    fn who(&self) -> String {
        let owner = self.terms.owner.as_ref().unwrap_or(&self.target.owner);
        if owner.pod.is_empty() {
            self.target.describe()
        } else {
            owner.describe()
        }
    }

    /// The files that the kernel goes through, each with what is found about it.
    fn files(&self) -> Vec<Row> {
        let program = self.case.program;
        let hook = self.loaded.unwrap_or(Mechanism::Lsm);
        let mut rows = Vec::new();
        for (index, level) in program.levels.iter().enumerate() {
            let found = self.case.at(Step::Level(index), hook);
            let is_requested = found.is_some_and(
                |found| matches!(found.reason, Reason::Rule(by) if by.source == Source::Requested),
            );
            let note = |at| self.note(found.filter(|_| is_requested == at));
            let (label, asked) = if index == 0 {
                ("requested", self.requested())
            } else {
                ("interpreter", shown(&level.requested))
            };
            let resolved = self.resolved(&level.file, note(false));
            if level.file.path == level.requested && !is_requested {
                rows.push(row(label, asked, resolved.note));
                continue;
            }
            rows.push(row(label, asked, note(true)));
            if level.file.path != level.requested || !resolved.note.is_empty() {
                rows.push(resolved);
            }
        }
        if program.levels.is_empty() {
            let found = self.case.at(Step::Syscall, hook);
            rows.push(row("requested", self.requested(), self.note(found)));
        }
        let mapped = [
            ("loader", Step::Loader, &program.loader),
            ("loads", Step::Handed, &program.handed),
        ];
        for (label, step, mapped) in mapped {
            let Some(mapped) = mapped else { continue };
            let note = self.note(self.case.at(step, hook));
            let asked = shown(&mapped.requested);
            let path = shown(&mapped.file.path);
            let value = if asked == path {
                asked
            } else {
                format!("{asked} → {path}")
            };
            rows.push(row(
                label,
                value,
                with_place(note, self.place(&mapped.file)),
            ));
        }
        rows
    }

    /// `whoami → /bin/whoami`
    fn requested(&self) -> String {
        let word = shown(self.word.as_encoded_bytes());
        let requested = shown(&self.case.program.requested);
        if word == requested || self.case.program.levels.is_empty() {
            word
        } else {
            format!("{word} → {requested}")
        }
    }

    fn resolved(&self, file: &File, mut note: String) -> Row {
        if note.is_empty()
            && let Some(listed) = self.listed(file)
        {
            note = listed;
        }
        row(
            "resolved",
            shown(&file.path),
            with_place(note, self.place(file)),
        )
    }

    /// The item of the allow-list that admits the file.
    fn listed(&self, file: &File) -> Option<String> {
        let asked = matching::Asked::Level {
            requested: b"",
            file: file.facts(),
        };
        let found = matching::find(self.case.rules, &asked, self.case.now).listed?;
        let line = self.line(In::Allow, found.id)?;
        Some(format!(
            "allowed by {:?} ({})",
            line.rule.to_string(),
            origin(line)
        ))
    }

    /// Where a file lies, where that is asked for and is no matter of course.
    fn place(&self, file: &File) -> Option<String> {
        if self.terms.container.drift == DRIFT_OFF {
            return None;
        }
        Some(match file.whence {
            Whence::Image => return None,
            Whence::Upper => "on the upper layer".to_owned(),
            Whence::Elsewhere => "on another file system than the root".to_owned(),
            Whence::Unlinked => "without a link".to_owned(),
            Whence::Unknown => format!(
                "drift not known: {}",
                file.unknown
                    .as_deref()
                    .unwrap_or("not to be seen from here")
            ),
        })
    }

    /// The program that an argument asks for, where that is denied.
    fn arguments(&self) -> Option<Row> {
        let hook = self.loaded.unwrap_or(Mechanism::Lsm);
        let found = self.case.at(Step::Image, hook)?;
        let Reason::Rule(by) = found.reason else {
            return None;
        };
        let label = match by.source {
            Source::Applet => "applet",
            // Else its file has a line already.
            Source::Loaded if self.case.program.handed.is_none() => "loads",
            _ => return None,
        };
        let program = self.case.program;
        let words: Vec<&[u8]> = program.arguments.iter().map(Vec::as_slice).collect();
        let name = program
            .levels
            .last()
            .and_then(|level| matching::program(&level.file.name, &words));
        let value = match name {
            Some((name, _)) if self.names(by.rule, name) => name,
            _ => words.first()?,
        };
        Some(row(label, shown(value), self.note(Some(found))))
    }

    /// Whether a rule is for this string.
    fn names(&self, rule: &annotation::Rule, text: &[u8]) -> bool {
        let asked = matching::Asked::Syscall { requested: text };
        let found = matching::find(self.case.rules, &asked, self.case.now).denied;
        found.is_some_and(|found| found.rule == rule)
    }

    /// Which rule, and where it comes from.
    fn note(&self, found: Option<Finding<'_>>) -> String {
        let Some(found) = found else {
            return String::new();
        };
        let text = match found.reason {
            Reason::Rule(by) => match self.line(In::Deny, by.id) {
                Some(line) => format!("rule {:?} ({})", line.rule.to_string(), origin(line)),
                None => format!("rule {:?}", by.rule.to_string()),
            },
            Reason::Unlisted => "not in the allow-list".to_owned(),
            Reason::Drift | Reason::UnknownDrift => "drift".to_owned(),
        };
        if found.audited {
            format!("{text}, reported")
        } else {
            text
        }
    }

    /// The rule as it was written: the paths that it stands for have its id.
    pub(super) fn line(&self, list: In, id: u32) -> Option<&Line> {
        let mut lines = self.terms.lines.iter();
        lines.find(|line| line.list == list && rule_id(&line.rule) == id)
    }

    fn mechanism(&self, mechanism: Mechanism) -> Row {
        let outcome = self.case.under(mechanism);
        let effect = match outcome.effect {
            _ if outcome.is_unknown() => "not known",
            Effect::Runs if outcome.findings.is_empty() => "runs",
            Effect::Runs => "runs and is reported",
            Effect::Eperm => "EPERM",
            Effect::Killed => "killed before its first instruction",
            Effect::Crashes => "SIGSEGV: it or its loader can't be mapped",
            Effect::NotLoaded => "starts, and can't map the program",
            Effect::Fails => "does not run",
        };
        let is_loaded = self.loaded == Some(mechanism);
        let loaded = if is_loaded { "   (loaded)" } else { "" };
        row(mechanism.name(), format!("{effect}{loaded}"), String::new())
    }
}

fn said(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allowed => "is allowed",
        Verdict::Audited => "runs and is reported",
        Verdict::Denied => "is denied",
        Verdict::Fails => "does not run, whatever the rules,",
        Verdict::Unknown => "may be denied, which can't be told from here,",
    }
}

fn origin(line: &Line) -> String {
    match &line.origin {
        Origin::Annotation => {
            let key = match line.list {
                In::Deny => annotation::DENY,
                In::Allow => annotation::ALLOW,
            };
            format!("annotation {key}")
        }
        other => other.to_string(),
    }
}

fn row(label: &str, value: String, note: String) -> Row {
    Row {
        label: label.to_owned(),
        value,
        note,
    }
}

fn with_place(note: String, place: Option<String>) -> String {
    match place {
        None => note,
        Some(place) if note.is_empty() => place,
        Some(place) => format!("{note}: {place}"),
    }
}

/// A name may hold anything; it must not forge a line.
pub(super) fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace(char::is_control, "\u{fffd}")
}
