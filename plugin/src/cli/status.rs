//! `execblock status`

use std::{io::Write as _, process::ExitCode};

use clap::Args as ClapArgs;
use execblock::{
    bind::{BindError, Binder, Bound},
    clock,
    kernel::PinError,
    lookup::Found,
    order::{In, Line, Origin},
    policy::rule_id,
    record::{Owner, RecordError},
};
use plugin_common::{DRIFT_AUDIT, DRIFT_OFF, Hit, MODE_AUDIT, RULE_DRIFT, RULE_UNLISTED};
use serde::Serialize;

use super::{FAILED, Failure, span, target, time};

/// Show what is bound: each container, its rules, where they come from, and what
/// they did.
///
/// Annotated containers that run without being bound are listed first.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// One container, as for deny; all without.
    container: Option<String>,
    /// For programs.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: target::TargetArgs,
}

/// One container.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    owner: Owner,
    /// The bound cgroup; 0 where it is not bound.
    cgroup: u64,
    /// Its path in the v2 hierarchy.
    path: String,
    /// `enforce` or `audit`; empty where it is not bound.
    mode: &'static str,
    /// `off`, `audit` or `deny`; empty where it is not bound.
    drift: &'static str,
    /// Programs that no item of its allow-list held for.
    unlisted: u64,
    /// Programs and libraries that did not come with its image.
    drifted: u64,
    /// Whether its rules hold.
    bound: bool,
    /// Since when: RFC 3339.
    since: Option<String>,
    /// The policy's id in the maps.
    policy: u32,
    rules: Vec<ShownRule>,
    /// Why it is not bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// One rule of a container.
#[derive(Debug, Serialize)]
struct ShownRule {
    /// `deny` or `allow`.
    list: In,
    rule: String,
    /// `annotation`, `command-line`, `profile:NAME` or `default:NAME`.
    origin: Origin,
    /// Whether it is in force now.
    holds: bool,
    /// When it begins to hold again: RFC 3339.
    from: Option<String>,
    /// When it ends: RFC 3339.
    until: Option<String>,
    /// Programs refused, killed or audited.
    hits: u64,
    /// When the last of them was: RFC 3339.
    last_hit: Option<String>,
    #[serde(skip)]
    text: String,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let binder = Binder::new()?;
    let mut bound = match binder.bound() {
        Err(BindError::Pin(error @ PinError::NotLoaded(_))) => {
            log::warn!("{error}");
            Vec::new()
        }
        bound => bound?,
    };
    let mut shown = Vec::new();
    if let Some(query) = &args.container {
        let target = args.target.find(query)?;
        let cgroup = binder.cgroup(&target.owner, target.place())?.id;
        bound.retain(|bound| bound.cgroup == cgroup);
        if bound.is_empty() {
            return Err(Failure::new(
                FAILED,
                format!("{query}: the container is not bound, no rule holds for it"),
            ));
        }
    } else {
        shown.extend(unprotected(&args.target, &binder, &bound));
    }
    bound.sort_by_key(|bound| bound.container.bound_at);
    for bound in &bound {
        shown.push(show(bound)?);
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &shown)?;
        writeln!(out)?;
    } else if shown.is_empty() {
        writeln!(out, "no container is bound")?;
    } else {
        write!(out, "{}", table(&shown))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Containers that their engines know to be annotated and that are not bound.
fn unprotected(args: &target::TargetArgs, binder: &Binder, bound: &[Bound]) -> Vec<Shown> {
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
            bound: false,
            since: None,
            policy: 0,
            rules: Vec::new(),
        })
        .collect()
}

fn show(bound: &Bound) -> Result<Shown, RecordError> {
    let now = clock::now();
    let reserved = |rule| bound.hits.get(&rule).copied().unwrap_or_default();
    let lines = match &bound.record {
        Some(record) => record.orders()?.lines(record.spec()?.as_ref(), now),
        None => Vec::new(),
    };
    Ok(Shown {
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
        problem: None,
    })
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

/// A line a container, and its rules below it.
fn table(shown: &[Shown]) -> String {
    let mut table = comfy_table::Table::new();
    table
        .load_preset(comfy_table::presets::NOTHING)
        .set_content_arrangement(comfy_table::ContentArrangement::Disabled)
        .set_header(["CONTAINER", "NAME", "ENGINE", "POD", "MODE", "SINCE"])
        .add_rows(shown.iter().map(row));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    let mut lines = table.lines();
    let mut line = |line: &str| {
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(&lines.next().unwrap_or_default());
    for (row, shown) in lines.zip(shown) {
        line(&row);
        let rules = shown.rules.iter().map(|rule| rule.text.clone());
        for below in rules.chain(reserved(shown)).chain(shown.problem.clone()) {
            line(&format!("    {below}"));
        }
    }
    text
}

/// What holds beside the rules that somebody wrote.
fn reserved(shown: &Shown) -> Vec<String> {
    let hits = |count| match count {
        0 => "no hits".to_owned(),
        1 => "1 hit".to_owned(),
        count => format!("{count} hits"),
    };
    let mut lines = Vec::new();
    if shown.rules.iter().any(|rule| rule.list == In::Allow) {
        lines.push(format!("deny all else, {}", hits(shown.unlisted)));
    }
    if !matches!(shown.drift, "" | "off") {
        lines.push(format!("drift {}, {}", shown.drift, hits(shown.drifted)));
    }
    lines
}

fn row(shown: &Shown) -> [String; 6] {
    let Owner {
        container,
        name,
        engine,
        pod,
        namespace,
    } = &shown.owner;
    // A cgroup's name may hold anything; it must not forge a line.
    let plain = |text: &str| text.replace(char::is_control, "\u{fffd}");
    let or_dash = |text: &str| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            plain(text)
        }
    };
    [
        if container.is_empty() {
            format!("cgroup {}", shown.cgroup)
        } else {
            shown.owner.short_id().to_owned()
        },
        or_dash(name),
        or_dash(engine),
        if pod.is_empty() {
            "-".to_owned()
        } else {
            plain(&format!("{namespace}/{pod}"))
        },
        if shown.bound {
            shown.mode.to_owned()
        } else {
            "NOT BOUND".to_owned()
        },
        or_dash(shown.since.as_deref().unwrap_or_default()),
    ]
}
