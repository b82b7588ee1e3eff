//! The decision: facts in, verdict out. The same code runs in every eBPF
//! program and in the tests on the host.

use crate::{Container, MODE_AUDIT};

/// What the lookups found for one program that is about to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Rule that names what exec was asked for; 0 where none does.
    pub requested: u32,
    /// Rule that names the file that was found; 0 where none does.
    pub resolved: u32,
}

/// By which of its names a program was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Source {
    /// The string given to exec.
    Requested = 0,
    /// The file behind it.
    Resolved = 1,
}

/// What becomes of the exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Allow,
    /// It is refused because of this rule.
    Deny(u32, Source),
    /// It goes on and is reported because of this rule.
    Audit(u32, Source),
}

/// Decides on one program of one container.
///
/// A name that could not be read counts as not found, which fails open: a deny
/// list lets pass what it does not know. The caller counts it.
#[expect(
    clippy::inline_always,
    reason = "a call would cost the eBPF side stack and the verifier time"
)]
#[inline(always)]
#[must_use]
pub fn decide(container: &Container, findings: Findings) -> Verdict {
    let (rule, source) = if findings.resolved != 0 {
        (findings.resolved, Source::Resolved)
    } else {
        (findings.requested, Source::Requested)
    };
    if rule == 0 {
        Verdict::Allow
    } else if container.mode == MODE_AUDIT {
        Verdict::Audit(rule, source)
    } else {
        // Any other mode enforces: an unknown one fails closed.
        Verdict::Deny(rule, source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MODE_ENFORCE;

    fn verdict(mode: u32, requested: u32, resolved: u32) -> Verdict {
        let container = Container {
            mode,
            ..Container::default()
        };
        decide(
            &container,
            Findings {
                requested,
                resolved,
            },
        )
    }

    #[test]
    fn nothing_found_is_allowed_in_every_mode() {
        assert_eq!(verdict(MODE_ENFORCE, 0, 0), Verdict::Allow);
        assert_eq!(verdict(MODE_AUDIT, 0, 0), Verdict::Allow);
    }

    #[test]
    fn either_name_denies_and_the_file_is_reported_first() {
        assert_eq!(
            verdict(MODE_ENFORCE, 3, 0),
            Verdict::Deny(3, Source::Requested)
        );
        assert_eq!(
            verdict(MODE_ENFORCE, 0, 4),
            Verdict::Deny(4, Source::Resolved)
        );
        assert_eq!(
            verdict(MODE_ENFORCE, 3, 4),
            Verdict::Deny(4, Source::Resolved)
        );
    }

    #[test]
    fn audit_reports_and_an_unknown_mode_enforces() {
        assert_eq!(
            verdict(MODE_AUDIT, 3, 0),
            Verdict::Audit(3, Source::Requested)
        );
        assert_eq!(verdict(99, 3, 0), Verdict::Deny(3, Source::Requested));
    }
}
