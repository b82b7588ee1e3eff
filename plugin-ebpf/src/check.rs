//! From a hook's arguments to its verdict: container, facts, decision, report.

use core::mem::MaybeUninit;

use plugin_common::{MECHANISM_SIGNAL, Verdict, decide};

use crate::{
    container,
    facts::{self, Asked},
    report,
};

/// Whether the program is refused. Decided first, reported after.
#[inline(always)]
pub fn refuses(asked: &Asked, mechanism: u32) -> bool {
    let Some((container, cgroup)) = container::current() else {
        return false;
    };
    let mut key = MaybeUninit::uninit();
    let key = facts::empty_key(&mut key);
    let findings = asked.facts(container, key);
    report::count(|stats| &mut stats.checked);
    let verdict = decide(container, findings);
    let (rule, source, refused) = match verdict {
        Verdict::Allow => return false,
        Verdict::Deny(rule, source) => (rule, source, true),
        Verdict::Audit(rule, source) => (rule, source, false),
    };
    if !refused {
        report::count(|stats| &mut stats.audited);
    } else if mechanism != MECHANISM_SIGNAL {
        report::count(|stats| &mut stats.denied);
    }
    report::hit(cgroup, rule);
    report::event(key, cgroup, rule, source, mechanism, refused);
    refused
}
