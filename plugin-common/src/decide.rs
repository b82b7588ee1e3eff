//! The decision: facts in, verdict out. The same code runs in every eBPF
//! program and in the tests on the host.

use crate::{Container, DRIFT_AUDIT, DRIFT_OFF, MODE_AUDIT, RULE_DRIFT, RULE_UNLISTED};

/// What the lookups found for one program that is about to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Rule that denies it; 0 where none does.
    pub denied: u32,
    /// By what it was recognised, as a number of [`Source`]; 0 where it was not.
    pub source: u32,
    /// 1 where its container has an allow-list that it is not in.
    pub unlisted: u32,
    /// 1 where its container looks at drift and the file did not come with the
    /// image.
    pub drifted: u32,
}

/// By which of its names a program was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Source {
    /// The string given to exec.
    Requested = 0,
    /// The file behind it.
    Resolved = 1,
    /// The name it was given as its first argument, or the applet that a
    /// multi-call binary was asked for.
    Applet = 2,
    /// The file, mapped executable: by the dynamic loader.
    Mapped = 3,
    /// The program that the dynamic loader was asked to run.
    Loaded = 4,
}

impl Source {
    /// All of them, by number.
    pub const ALL: [Self; 5] = [
        Self::Requested,
        Self::Resolved,
        Self::Applet,
        Self::Mapped,
        Self::Loaded,
    ];
}

/// What becomes of the exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Allow,
    /// It is refused because of this rule.
    Deny(u32),
    /// It goes on and is reported because of this rule.
    Audit(u32),
}

/// Decides on one program of one container. The rule that a user wrote is named
/// before a reserved one.
///
/// For a deny list what could not be read counts as not found, which fails open:
/// it lets pass what it does not know. For allow-lists and drift it counts as
/// unlisted and drifted, which fails closed. The caller counts it.
#[expect(
    clippy::inline_always,
    reason = "a call would cost the eBPF side stack and the verifier time"
)]
#[inline(always)]
#[must_use]
pub fn decide(container: &Container, findings: Findings) -> Verdict {
    let drifted = findings.drifted != 0 && container.drift != DRIFT_OFF;
    let rule = if findings.denied != 0 {
        findings.denied
    } else if drifted && container.drift != DRIFT_AUDIT {
        // Any other value denies: an unknown one fails closed.
        RULE_DRIFT
    } else if findings.unlisted != 0 {
        RULE_UNLISTED
    } else if drifted {
        return Verdict::Audit(RULE_DRIFT);
    } else {
        return Verdict::Allow;
    };
    if container.mode == MODE_AUDIT {
        Verdict::Audit(rule)
    } else {
        // Any other mode enforces: an unknown one fails closed.
        Verdict::Deny(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DRIFT_DENY, MODE_ENFORCE};

    fn verdict(mode: u32, drift: u32, findings: Findings) -> Verdict {
        let container = Container {
            mode,
            drift,
            ..Container::default()
        };
        decide(&container, findings)
    }

    const NOTHING: Findings = Findings {
        denied: 0,
        source: 0,
        unlisted: 0,
        drifted: 0,
    };
    const DENIED: Findings = Findings {
        denied: 33,
        ..NOTHING
    };
    const UNLISTED: Findings = Findings {
        unlisted: 1,
        ..NOTHING
    };
    const DRIFTED: Findings = Findings {
        drifted: 1,
        ..NOTHING
    };

    #[test]
    fn nothing_found_is_allowed_in_every_mode() {
        for mode in [MODE_ENFORCE, MODE_AUDIT, 99] {
            for drift in [DRIFT_OFF, DRIFT_AUDIT, DRIFT_DENY, 99] {
                assert_eq!(verdict(mode, drift, NOTHING), Verdict::Allow);
            }
        }
    }

    #[test]
    fn the_rule_of_the_user_is_named_first() {
        let all = Findings {
            unlisted: 1,
            drifted: 1,
            ..DENIED
        };
        assert_eq!(verdict(MODE_ENFORCE, DRIFT_DENY, all), Verdict::Deny(33));
        assert_eq!(verdict(MODE_AUDIT, DRIFT_DENY, all), Verdict::Audit(33));
        let both = Findings {
            unlisted: 1,
            ..DRIFTED
        };
        assert_eq!(
            verdict(MODE_ENFORCE, DRIFT_DENY, both),
            Verdict::Deny(RULE_DRIFT)
        );
        // Drift that is only looked at does not hide a refusal.
        assert_eq!(
            verdict(MODE_ENFORCE, DRIFT_AUDIT, both),
            Verdict::Deny(RULE_UNLISTED)
        );
    }

    #[test]
    fn drift_has_a_mode_of_its_own_below_the_mode() {
        assert_eq!(verdict(MODE_ENFORCE, DRIFT_OFF, DRIFTED), Verdict::Allow);
        assert_eq!(
            verdict(MODE_ENFORCE, DRIFT_AUDIT, DRIFTED),
            Verdict::Audit(RULE_DRIFT)
        );
        assert_eq!(
            verdict(MODE_ENFORCE, DRIFT_DENY, DRIFTED),
            Verdict::Deny(RULE_DRIFT)
        );
        assert_eq!(
            verdict(MODE_AUDIT, DRIFT_DENY, DRIFTED),
            Verdict::Audit(RULE_DRIFT)
        );
    }

    #[test]
    fn an_unknown_mode_or_drift_enforces() {
        assert_eq!(verdict(99, DRIFT_OFF, DENIED), Verdict::Deny(33));
        assert_eq!(
            verdict(99, DRIFT_OFF, UNLISTED),
            Verdict::Deny(RULE_UNLISTED)
        );
        assert_eq!(
            verdict(MODE_ENFORCE, 99, DRIFTED),
            Verdict::Deny(RULE_DRIFT)
        );
    }
}
