//! The table of `execblock status`: a line a container, and its rules below it.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use execblock::{order::In, record::Owner};

use super::shown::Shown;
use crate::cli::span;

const HEADER: [&str; 9] = [
    "CONTAINER",
    "NAME",
    "ENGINE",
    "POD",
    "POLICY",
    "MODE",
    "SINCE",
    "HITS",
    "LAST",
];

const BAD: Style = AnsiColor::Red.on_default().bold();
const HEAD: Style = Style::new().bold();

/// Styled; whoever writes to no terminal strips that.
pub(super) fn table(shown: &[Shown], brief: bool) -> String {
    let mut table = comfy_table::Table::new();
    table
        .load_preset(comfy_table::presets::NOTHING)
        .set_content_arrangement(comfy_table::ContentArrangement::Disabled)
        .set_header(HEADER)
        .add_rows(shown.iter().map(row));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    let mut lines = table.lines();
    let mut line = |line: &str, style: Style| {
        let line = line.trim_end();
        // Writing to a string does not fail.
        let _written = writeln!(text, "{style}{line}{style:#}");
    };
    line(&lines.next().unwrap_or_default(), HEAD);
    for (row, shown) in lines.zip(shown) {
        let style = if shown.bound { Style::new() } else { BAD };
        line(&row, style);
        if let Some(problem) = &shown.problem {
            line(&format!("    {problem}"), style);
        }
        if brief {
            continue;
        }
        let rules = shown.rules.iter().map(|rule| rule.text.clone());
        for below in rules.chain(beside(shown)) {
            line(&format!("    {below}"), style);
        }
    }
    text
}

/// `3 containers bound, 1 UNPROTECTED, 12 hits`
pub(super) fn summary(shown: &[Shown]) -> String {
    let bound = shown.iter().filter(|shown| shown.bound).count();
    let hits: u64 = shown.iter().map(|shown| shown.hits).sum();
    let unprotected = match shown.len() - bound {
        0 => String::new(),
        count => format!(", {BAD}{count} UNPROTECTED{BAD:#}"),
    };
    let containers = if bound == 1 {
        "container"
    } else {
        "containers"
    };
    format!("{bound} {containers} bound{unprotected}, {hits} hits")
}

/// What holds beside the rules that somebody wrote.
fn beside(shown: &Shown) -> Vec<String> {
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
    if shown.events_lost != 0 {
        lines.push(format!("{} events lost", shown.events_lost));
    }
    lines
}

/// `deny 2, allow 3, drift`: how many rules of each list it has.
fn policy(shown: &Shown) -> String {
    let count = |list| shown.rules.iter().filter(|rule| rule.list == list).count();
    let lists = [("deny", count(In::Deny)), ("allow", count(In::Allow))];
    let lists = lists.into_iter().filter(|(_, count)| *count != 0);
    let mut parts: Vec<String> = lists
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if !matches!(shown.drift, "" | "off") {
        parts.push("drift".to_owned());
    }
    parts.join(", ")
}

fn row(shown: &Shown) -> [String; 9] {
    let Owner {
        container,
        name,
        engine,
        pod,
        namespace,
        ..
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
            plain(shown.owner.short_id())
        },
        or_dash(name),
        or_dash(engine),
        if pod.is_empty() {
            "-".to_owned()
        } else {
            plain(&format!("{namespace}/{pod}"))
        },
        or_dash(&policy(shown)),
        if shown.bound {
            shown.mode.to_owned()
        } else {
            "NOT BOUND".to_owned()
        },
        or_dash(shown.since.as_deref().unwrap_or_default()),
        if shown.bound {
            shown.hits.to_string()
        } else {
            "-".to_owned()
        },
        match shown.last_ago {
            Some(ago) => format!("{} ago", span(ago)),
            None => "-".to_owned(),
        },
    ]
}
