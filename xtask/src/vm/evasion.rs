//! `cargo xtask vm evasion`: the evasion suite under each mechanism, its outcome as a table, as JSON,
//! and as the table of docs/threat-model.md.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Cache, Pair, Payload, Selection, kernel, report::Listener, userland};
use crate::{host, pages};

/// Each mechanism once, and the preferred one on a second kernel. The guest's program knows which
/// it tries where.
const MACHINES: &[(&str, &str)] = &[
    ("6.12", "trixie"),
    ("6.12-nolsm", "trixie"),
    (kernel::OVERRIDE, "trixie"),
    ("7.3", "forky"),
];
const MECHANISMS: [&str; 4] = ["lsm", "fmod_ret", "kprobe", "signal"];
const FILTER: &str = "evasion/";
/// What a guest's lines about techniques begin with.
pub(super) const MARK: &str = "evasion ";

const PAGE: &str = "docs/threat-model.md";
const BEGIN: &str = "<!-- made by `cargo xtask vm evasion --write-docs` -->";
const END: &str = "<!-- end of what is made -->";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Write the table of docs/threat-model.md anew
    #[arg(long)]
    write_docs: bool,
    /// Virtual machines at a time
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Kernel to boot, of those that the suite runs on; may be repeated
    #[arg(long, value_name = "KERNEL")]
    kernel: Vec<String>,
}

/// A technique against one policy, as the guest's program describes it.
#[derive(Debug, Deserialize)]
struct Row {
    id: String,
    about: String,
    needs: String,
    policy: String,
    runs: bool,
    escapes: BTreeMap<String, String>,
}

/// What one machine said of one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Finding {
    machine: String,
    mechanism: String,
    id: String,
    verdict: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<bool> {
    super::check_tools()?;
    let cache = Cache::open()?;
    let payload = Payload::build(&cache)?;
    let rows: Vec<Row> =
        serde_json::from_str(&payload.describe_evasion()?).context("the suite's description")?;
    let (findings, failures) = boot(&cache, &payload, arguments)?;
    let ran = !findings.is_empty();
    for finding in &findings {
        let Finding {
            machine,
            mechanism,
            id,
            verdict,
        } = finding;
        println!("evasion {machine} {mechanism} {id}: {verdict}");
    }
    let findings = kept(findings)?;
    let table = table(&rows, &findings);
    println!("\n{table}\n");
    for (name, reason) in &failures {
        println!("failed: {name}: {reason}");
    }
    println!("{}", summary(&findings));
    if arguments.write_docs {
        write_page(&table)?;
    }
    Ok(failures.is_empty() && ran)
}

/// Writes the findings down. What the file has of machines that were not booted stays, so that one
/// can be run at a time.
fn kept(new: Vec<Finding>) -> Result<Vec<Finding>> {
    let file = host::checkout().join("target/vm/evasion.json");
    fs::create_dir_all(file.with_file_name(""))?;
    let mut findings: Vec<Finding> = match fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    findings.retain(|old| new.iter().all(|one| one.machine != old.machine));
    findings.extend(new);
    fs::write(&file, serde_json::to_vec_pretty(&findings)?)?;
    Ok(findings)
}

type Failures = Vec<(String, String)>;

fn boot(
    cache: &Cache,
    payload: &Payload,
    arguments: &Arguments,
) -> Result<(Vec<Finding>, Failures)> {
    let selection = Selection::of_evasion(arguments.jobs, FILTER);
    let (mut ready, mut findings, mut failures) = (VecDeque::new(), Vec::new(), Vec::new());
    for &(kernel, userland) in MACHINES {
        if !arguments.kernel.is_empty() && !arguments.kernel.iter().any(|one| one == kernel) {
            continue;
        }
        let pair = Pair {
            kernel: kernel::by_name(kernel)?,
            userland: userland::by_name(userland)?,
        };
        let _lock = cache.lock()?;
        match super::prepare(cache, pair)? {
            Ok(parts) => ready.push_back((pair, parts)),
            Err(reason) => {
                Listener::new(pair.label(), false).skip(FILTER, &reason);
                failures.push((pair.label(), reason));
            }
        }
    }
    for (_, outcome) in super::boot_all(cache, payload, &selection, ready) {
        findings.extend(outcome.evasion.iter().filter_map(|line| read(line)));
        failures.extend(outcome.failures);
    }
    Ok((findings, failures))
}

/// Reads `MACHINE MECHANISM GROUP/NAME@POLICY: VERDICT`.
fn read(line: &str) -> Option<Finding> {
    let (head, verdict) = line.split_once(": ")?;
    let mut words = head.split(' ').map(ToOwned::to_owned);
    Some(Finding {
        machine: words.next()?,
        mechanism: words.next()?,
        id: words.next()?,
        verdict: verdict.to_owned(),
    })
}

fn summary(findings: &[Finding]) -> String {
    let mut counts: BTreeMap<(&str, &str), BTreeMap<&str, usize>> = BTreeMap::new();
    for finding in findings {
        let verdict = finding.verdict.split([' ', ':']).next().unwrap_or_default();
        *counts
            .entry((&finding.mechanism, &finding.machine))
            .or_default()
            .entry(verdict)
            .or_default() += 1;
    }
    let lines = counts.iter().map(|((mechanism, machine), counts)| {
        let counts: Vec<_> = counts
            .iter()
            .map(|(verdict, count)| format!("{count} {verdict}"))
            .collect();
        format!("{mechanism} ({machine}): {}", counts.join(", "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What stands in the table for a row under a mechanism.
fn cell(row: &Row, mechanism: &str, findings: &[Finding]) -> String {
    let mut shown: Vec<(&str, &str)> = Vec::new();
    for finding in findings {
        if finding.mechanism == mechanism && finding.id == row.id {
            let verdict = match finding.verdict.split([' ', ':']).next() {
                Some("escaped") if row.runs => "ran",
                Some("escaped") => "**escaped**",
                Some(other) => other,
                None => "",
            };
            shown.push((&finding.machine, verdict));
        }
    }
    match shown[..] {
        [] => String::new(),
        [(_, first), ref rest @ ..] if rest.iter().all(|(_, other)| *other == first) => {
            first.to_owned()
        }
        _ => shown
            .iter()
            .map(|(machine, verdict)| format!("{verdict} ({machine})"))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

const HEAD: &str = "\
| technique | against | what it does | needs | lsm | fmod_ret | kprobe | signal | why it escapes |
|---|---|---|---|---|---|---|---|---|";

/// A line for each technique; policies under which it comes to the same share one.
fn table(rows: &[Row], findings: &[Finding]) -> String {
    let mut lines: Vec<(&str, Vec<String>, Vec<&str>)> = Vec::new();
    for row in rows {
        let name = row.id.split('@').next().unwrap_or_default();
        let mut cells = vec![row.about.clone(), row.needs.clone()];
        cells.extend(MECHANISMS.map(|mechanism| cell(row, mechanism, findings)));
        cells.push(row.escapes.values().next().cloned().unwrap_or_default());
        match lines.iter_mut().find(|(n, c, _)| *n == name && *c == cells) {
            Some((_, _, policies)) => policies.push(&row.policy),
            None => lines.push((name, cells, vec![&row.policy])),
        }
    }
    let mut text = vec![HEAD.to_owned()];
    text.extend(lines.into_iter().map(|(name, cells, policies)| {
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!(
            "| {name} | {} | {} |",
            policies.join(", "),
            cells.join(" | ")
        )
    }));
    text.join("\n")
}

fn write_page(table: &str) -> Result<()> {
    let file = host::checkout().join(PAGE);
    let page = fs::read_to_string(&file).context(PAGE)?;
    let page = pages::replaced(&page, BEGIN, END, table)
        .with_context(|| format!("{PAGE} has no lines `{BEGIN}` and `{END}`"))?;
    fs::write(&file, page)?;
    println!("wrote {PAGE}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(policy: &str) -> Row {
        Row {
            id: format!("links/hard-link@{policy}"),
            about: "a | b".to_owned(),
            needs: "nothing".to_owned(),
            policy: policy.to_owned(),
            runs: false,
            escapes: BTreeMap::new(),
        }
    }

    #[test]
    fn a_line_of_the_guest_is_read() {
        let found = read("6.12/trixie lsm links/symlink@name: n/a no x: y").unwrap();
        assert_eq!(found.machine, "6.12/trixie");
        assert_eq!(found.id, "links/symlink@name");
        assert_eq!(found.verdict, "n/a no x: y");
        assert_eq!(read("6.12/trixie lsm"), None);
    }

    #[test]
    fn policies_that_come_to_the_same_share_a_line() {
        let findings: Vec<_> = [
            "a lsm links/hard-link@name: escaped",
            "a lsm links/hard-link@path: escaped",
            "a lsm links/hard-link@drift: stopped",
            "b lsm links/hard-link@drift: killed",
        ]
        .iter()
        .filter_map(|line| read(line))
        .collect();
        let table = table(&[row("name"), row("path"), row("drift")], &findings);
        let lines: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(lines.len(), 2, "{table}");
        assert!(lines[0].contains("| name, path | a \\| b | nothing | **escaped** |"));
        assert!(lines[1].contains("stopped (a), killed (b)"));
    }
}
