//! The answer, for programs.

use execblock::{
    kernel::Mechanism,
    matching::Whence,
    order::{In, Origin},
    outcome::{Effect, Finding, Outcome, Reason},
    program::File,
    record::Owner,
};
use plugin_common::{DRIFT_AUDIT, DRIFT_OFF, MODE_AUDIT, Source};
use serde::Serialize;

use super::report::{Report, Verdict, shown};

/// The answer for programs.
#[derive(Debug, Serialize)]
pub(super) struct Json<'a> {
    program: String,
    verdict: Verdict,
    container: &'a Owner,
    bound: bool,
    mode: &'static str,
    drift: &'static str,
    /// The mechanism that is loaded now.
    loaded: Option<&'static str>,
    /// The files that the kernel goes through.
    files: Vec<JsonFile>,
    /// Why the kernel doesn't run it, whatever the rules.
    fails: Option<&'a str>,
    mechanisms: Vec<JsonOutcome>,
}

#[derive(Debug, Serialize)]
struct JsonFile {
    /// `program`, `interpreter`, `loader`, `handed`.
    what: &'static str,
    requested: String,
    path: String,
    /// `image`, `upper`, `elsewhere`, `unlinked`, `unknown`.
    lies: &'static str,
}

#[derive(Debug, Serialize)]
struct JsonOutcome {
    name: &'static str,
    loaded: bool,
    /// `runs`, `eperm`, `killed`, `crashes`, `not-loaded`, `fails`, `unknown`.
    effect: &'static str,
    /// What it is refused or reported for.
    findings: Vec<JsonFinding>,
}

#[derive(Debug, Serialize)]
struct JsonFinding {
    /// `rule`, `unlisted`, `drift`, `unknown-drift`.
    reason: &'static str,
    rule: Option<String>,
    origin: Option<Origin>,
    /// `requested`, `resolved`, `applet`, `mapped`, `loaded`.
    matched: Option<&'static str>,
    audited: bool,
}

impl Report<'_> {
    pub(super) fn json(&self) -> Json<'_> {
        let program = self.case.program;
        let file = |what, requested: &[u8], file: &File| JsonFile {
            what,
            requested: shown(requested),
            path: shown(&file.path),
            lies: match file.whence {
                Whence::Image => "image",
                Whence::Upper => "upper",
                Whence::Elsewhere => "elsewhere",
                Whence::Unlinked => "unlinked",
                Whence::Unknown => "unknown",
            },
        };
        let levels = program.levels.iter().enumerate().map(|(index, level)| {
            let what = if index == 0 { "program" } else { "interpreter" };
            file(what, &level.requested, &level.file)
        });
        let mapped = [("loader", &program.loader), ("handed", &program.handed)];
        let mapped = mapped.into_iter().filter_map(|(what, mapped)| {
            let mapped = mapped.as_ref()?;
            Some(file(what, &mapped.requested, &mapped.file))
        });
        Json {
            program: shown(self.word.as_encoded_bytes()),
            verdict: self.verdict(),
            container: self.terms.owner.as_ref().unwrap_or(&self.target.owner),
            bound: self.terms.is_bound,
            mode: if self.terms.container.mode == MODE_AUDIT {
                "audit"
            } else {
                "enforce"
            },
            drift: match self.terms.container.drift {
                DRIFT_OFF => "off",
                DRIFT_AUDIT => "audit",
                _ => "deny",
            },
            loaded: self.loaded.map(Mechanism::name),
            files: levels.chain(mapped).collect(),
            fails: program.fails.as_deref(),
            mechanisms: Mechanism::ALL
                .map(|mechanism| self.json_outcome(mechanism))
                .into(),
        }
    }

    fn json_outcome(&self, mechanism: Mechanism) -> JsonOutcome {
        let outcome: Outcome<'_> = self.case.under(mechanism);
        JsonOutcome {
            name: mechanism.name(),
            loaded: self.loaded == Some(mechanism),
            effect: match outcome.effect {
                _ if outcome.is_unknown() => "unknown",
                Effect::Runs => "runs",
                Effect::Eperm => "eperm",
                Effect::Killed => "killed",
                Effect::Crashes => "crashes",
                Effect::NotLoaded => "not-loaded",
                Effect::Fails => "fails",
            },
            findings: outcome
                .findings
                .iter()
                .map(|found| self.json_finding(found))
                .collect(),
        }
    }

    fn json_finding(&self, found: &Finding<'_>) -> JsonFinding {
        let (reason, by) = match found.reason {
            Reason::Rule(by) => ("rule", Some(by)),
            Reason::Unlisted => ("unlisted", None),
            Reason::Drift => ("drift", None),
            Reason::UnknownDrift => ("unknown-drift", None),
        };
        let line = by.and_then(|by| self.line(In::Deny, by.id));
        JsonFinding {
            reason,
            rule: line.map(|line| line.rule.to_string()),
            origin: line.map(|line| line.origin.clone()),
            matched: by.map(|by| match by.source {
                Source::Requested => "requested",
                Source::Resolved => "resolved",
                Source::Applet => "applet",
                Source::Mapped => "mapped",
                Source::Loaded => "loaded",
            }),
            audited: found.audited,
        }
    }
}
