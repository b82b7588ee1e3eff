//! What `execblock status` tells of a container, for people and for programs.

use execblock::{
    bind::{Binder, Bound},
    clock,
    lookup::Found,
    order::{In, Line, Origin},
    policy::rule_id,
    record::{Owner, RecordError},
};
use plugin_common::{DRIFT_AUDIT, DRIFT_OFF, Hit, MODE_AUDIT, RULE_DRIFT, RULE_UNLISTED};
use serde::Serialize;

use crate::cli::{span, target, time};

/// One container.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    pub(super) owner: Owner,
    /// The bound cgroup; 0 where it is not bound.
    pub(super) cgroup: u64,
    /// Its path in the v2 hierarchy.
    pub(super) path: String,
    /// `enforce` or `audit`; empty where it is not bound.
    pub(super) mode: &'static str,
    /// `off`, `audit` or `deny`; empty where it is not bound.
    pub(super) drift: &'static str,
    /// Programs that no item of its allow-list held for.
    pub(super) unlisted: u64,
    /// Programs and libraries that did not come with its image.
    pub(super) drifted: u64,
    /// Programs refused, killed or audited, for whatever reason.
    pub(super) hits: u64,
    /// When the last of them was: RFC 3339.
    pub(super) last_hit: Option<String>,
    /// How long ago that was, in nanoseconds.
    #[serde(skip)]
    pub(super) last_ago: Option<u64>,
    /// Events of it that there was no room for.
    pub(super) events_lost: u64,
    /// Whether its rules hold.
    pub(super) bound: bool,
    /// Since when: RFC 3339.
    pub(super) since: Option<String>,
    /// The policy's id in the maps.
    pub(super) policy: u32,
    pub(super) rules: Vec<ShownRule>,
    /// Why it is not bound, or what of it can't be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<String>,
}

/// One rule of a container.
#[derive(Debug, Serialize)]
pub(super) struct ShownRule {
    /// `deny` or `allow`.
    pub(super) list: In,
    pub(super) rule: String,
    /// `annotation`, `command-line`, `profile:NAME` or `default:NAME`.
    pub(super) origin: Origin,
    /// Whether it is in force now.
    pub(super) holds: bool,
    /// When it begins to hold again: RFC 3339.
    pub(super) from: Option<String>,
    /// When it ends: RFC 3339.
    pub(super) until: Option<String>,
    /// Programs refused, killed or audited.
    pub(super) hits: u64,
    /// When the last of them was: RFC 3339.
    pub(super) last_hit: Option<String>,
    #[serde(skip)]
    pub(super) text: String,
}

/// Containers that their engines know to be annotated and that are not bound.
pub(super) fn unprotected(
    args: &target::TargetArgs,
    binder: &Binder,
    bound: &[Bound],
) -> Vec<Shown> {
    let (found, _) = args.sources().list();
    // By the cgroup: an id may be that of another engine's container as well.
    let is_bound = |found: &Found| {
        let cgroup = binder.cgroup(&found.owner, target::place(&found.place));
        cgroup.is_ok_and(|cgroup| bound.iter().any(|bound| bound.cgroup == cgroup.id))
    };
    let running = found.into_iter().filter(Found::is_running);
    let missing = running.filter_map(|found| {
        let problem = match target::annotations(&found) {
            Ok(None) => return None,
            Ok(Some(_)) => "annotated, but it started without its rules".to_owned(),
            Err(error) => error.to_string(),
        };
        (!is_bound(&found)).then_some((found, problem))
    });
    missing
        .map(|(found, problem)| Shown {
            problem: Some(problem),
            owner: found.owner,
            cgroup: 0,
            path: String::new(),
            mode: "",
            drift: "",
            unlisted: 0,
            drifted: 0,
            hits: 0,
            last_hit: None,
            last_ago: None,
            events_lost: 0,
            bound: false,
            since: None,
            policy: 0,
            rules: Vec::new(),
        })
        .collect()
}

/// A record that is not understood hides neither its container nor others.
pub(super) fn show(bound: &Bound) -> Shown {
    let now = clock::now();
    let reserved = |rule| bound.hits.get(&rule).copied().unwrap_or_default();
    let last = bound.hits.values().map(|hit| hit.last).max().unwrap_or(0);
    let lines = bound
        .record
        .as_ref()
        .map(|record| Ok::<_, RecordError>(record.orders()?.lines(record.spec()?.as_ref(), now)));
    let (lines, problem) = match lines.transpose() {
        Ok(lines) => (lines.unwrap_or_default(), None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    Shown {
        owner: bound
            .record
            .as_ref()
            .map_or_else(Owner::default, |record| record.owner.clone()),
        cgroup: bound.cgroup,
        path: bound
            .record
            .as_ref()
            .map_or_else(String::new, |record| record.path.clone()),
        mode: if bound.container.mode == MODE_AUDIT {
            "audit"
        } else {
            "enforce"
        },
        drift: match bound.container.drift {
            DRIFT_OFF => "off",
            DRIFT_AUDIT => "audit",
            // As the kernel side takes it.
            _ => "deny",
        },
        unlisted: reserved(RULE_UNLISTED).count,
        drifted: reserved(RULE_DRIFT).count,
        hits: bound.hits.values().map(|hit| hit.count).sum(),
        last_hit: (last != 0).then(|| time(last)),
        last_ago: (last != 0).then(|| now.saturating_sub(last)),
        events_lost: bound.flow.lost,
        bound: true,
        since: Some(time(bound.container.bound_at)),
        policy: bound.container.policy,
        rules: lines
            .iter()
            .map(|line| {
                let hit = bound.hits.get(&rule_id(&line.rule));
                rule(line, hit.copied().unwrap_or_default(), now)
            })
            .collect(),
        problem,
    }
}

fn rule(line: &Line, hit: Hit, now: u64) -> ShownRule {
    let instant = |instant: u64| (instant != 0).then(|| time(instant));
    let (from, until) = line
        .window
        .map_or((0, 0), |window| (window.from, window.until));
    let state = match line.window {
        None => "lifted".to_owned(),
        Some(window) if window.from > now => {
            format!("lifted for {}", span(window.from - now))
        }
        Some(window) if window.until != 0 => {
            format!("for {}", span(window.until.saturating_sub(now)))
        }
        Some(_) => String::new(),
    };
    let hits = match hit.count {
        // An item of an allow-list refuses nothing by itself.
        _ if line.list == In::Allow => String::new(),
        0 => "no hits".to_owned(),
        1 => format!("1 hit {} ago", span(now.saturating_sub(hit.last))),
        count => format!(
            "{count} hits, last {} ago",
            span(now.saturating_sub(hit.last))
        ),
    };
    let text = [
        format!("{} {}", line.list.name(), line.rule),
        line.origin.to_string(),
        state,
        hits,
    ];
    let text: Vec<String> = text.into_iter().filter(|part| !part.is_empty()).collect();
    ShownRule {
        list: line.list,
        rule: line.rule.to_string(),
        origin: line.origin.clone(),
        holds: line.window.is_some() && from <= now,
        from: instant(from),
        until: instant(until),
        hits: hit.count,
        last_hit: instant(hit.last),
        text: text.join(", "),
    }
}
