//! What became of a technique, read from what it said; and whether that is what was expected.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::technique::Expect;
use crate::machine::Mechanism;

/// What the program says that must not run, and what an applet of `BusyBox` says.
const MARKS: [&str; 2] = ["EVASION-MARK", "root"];
/// What a technique begins a line with that can't be tried here.
const NOT_APPLICABLE: &str = "N/A ";

/// Raw: how it ended and what it said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Said {
    /// `exit N`, `signal N` or `late`.
    pub(super) end: String,
    pub(super) output: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The program ran.
    Escaped,
    /// Refused with `EPERM`.
    Stopped,
    /// Ended before its first instruction.
    Killed,
    /// It can't be tried here.
    NotApplicable(String),
    /// It neither ran nor was refused.
    Unclear(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Escaped => out.write_str("escaped"),
            Self::Stopped => out.write_str("stopped"),
            Self::Killed => out.write_str("killed"),
            Self::NotApplicable(why) => write!(out, "n/a {why}"),
            Self::Unclear(said) => write!(out, "unclear: {said}"),
        }
    }
}

impl Said {
    pub(super) fn verdict(&self) -> Verdict {
        let mut lines = self.output.lines();
        if lines.any(|line| MARKS.contains(&line.trim())) {
            return Verdict::Escaped;
        }
        let mut lines = self.output.lines();
        if let Some(why) = lines.find_map(|line| line.strip_prefix(NOT_APPLICABLE)) {
            return Verdict::NotApplicable(why.to_owned());
        }
        // The dynamic loader names what it could not map, and not why.
        let refused = ["Operation not permitted", "failed to map segment"];
        if refused.iter().any(|text| self.output.contains(text)) {
            return Verdict::Stopped;
        }
        // An image whose loader is refused has lost its memory already, and ends by SIGSEGV.
        let killed = [
            "by signal 9",
            "by signal 11",
            "Killed",
            "Segmentation fault",
        ];
        let ends = ["signal 9", "signal 11", "exit 137", "exit 139"];
        if killed.iter().any(|text| self.output.contains(text)) || ends.contains(&&*self.end) {
            return Verdict::Killed;
        }
        Verdict::Unclear(format!("{}, {:?}", self.end, self.output))
    }
}

/// What is wrong with the verdict, if anything is. `alone` is what became of the technique where no
/// rules hold: one that does not run the program there proves nothing.
pub(super) fn judge(
    mechanism: Mechanism,
    expect: Expect,
    alone: &Verdict,
    bound: &Verdict,
) -> Option<String> {
    match alone {
        Verdict::Escaped => {}
        Verdict::NotApplicable(_) => return None,
        other => return Some(format!("proves nothing, without rules it is {other}")),
    }
    if expect == Expect::Runs {
        return (*bound != Verdict::Escaped).then(|| format!("must run, and is {bound}"));
    }
    match (expect.escape(mechanism), bound) {
        (None, Verdict::Stopped | Verdict::Killed) | (Some(_), Verdict::Escaped) => None,
        (None, Verdict::Escaped) => Some("escaped".to_owned()),
        (Some(why), other) => Some(format!(
            "is {other}; documented as an escape ({why}), which it no longer is"
        )),
        (None, other) => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(end: &str, output: &str) -> Verdict {
        let said = Said {
            end: end.to_owned(),
            output: output.to_owned(),
        };
        said.verdict()
    }

    #[test]
    fn what_was_said_makes_the_verdict() {
        for (end, output, expected) in [
            ("exit 0", "EVASION-MARK\n", Verdict::Escaped),
            (
                "exit 126",
                "sh: x: Operation not permitted\n",
                Verdict::Stopped,
            ),
            (
                "exit 0",
                "once: Operation not permitted\nroot\n",
                Verdict::Escaped,
            ),
            ("exit 137", "", Verdict::Killed),
            ("exit 0", "Killed\n", Verdict::Killed),
            ("signal 11", "", Verdict::Killed),
            (
                "exit 0",
                "N/A no x32\n",
                Verdict::NotApplicable("no x32".into()),
            ),
        ] {
            assert_eq!(verdict(end, output), expected, "{end} {output:?}");
        }
        assert!(matches!(
            verdict("exit 1", "not found"),
            Verdict::Unclear(_)
        ));
        assert!(matches!(verdict("late", ""), Verdict::Unclear(_)));
        // A name is no mark.
        assert!(matches!(verdict("exit 0", "rooted"), Verdict::Unclear(_)));
    }

    #[test]
    fn an_escape_must_be_documented_and_a_documented_one_must_escape() {
        let judge = |expect, bound: &Verdict| {
            judge(Mechanism::Lsm, expect, &Verdict::Escaped, bound).is_none()
        };
        let nature = Expect::Escapes("by nature");
        let elsewhere = Expect::EscapesIn(&[Mechanism::Signal], "not seen there");
        assert!(judge(Expect::Held, &Verdict::Stopped));
        assert!(judge(Expect::Held, &Verdict::Killed));
        assert!(!judge(Expect::Held, &Verdict::Escaped));
        assert!(!judge(Expect::Held, &Verdict::Unclear("?".into())));
        assert!(judge(nature, &Verdict::Escaped));
        assert!(!judge(nature, &Verdict::Stopped));
        assert!(judge(elsewhere, &Verdict::Stopped));
        assert!(!judge(elsewhere, &Verdict::Escaped));
        assert!(judge(Expect::Runs, &Verdict::Escaped));
        assert!(!judge(Expect::Runs, &Verdict::Stopped));
    }

    #[test]
    fn what_does_not_run_without_rules_proves_nothing() {
        let judge = |alone| judge(Mechanism::Lsm, Expect::Held, &alone, &Verdict::Stopped);
        assert!(judge(Verdict::Escaped).is_none());
        assert!(judge(Verdict::NotApplicable("no".into())).is_none());
        assert!(judge(Verdict::Stopped).is_some());
    }
}
