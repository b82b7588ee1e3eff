//! `execblock deny`, `allow` and `clear`: orders for a container that runs.

use std::{process::ExitCode, time::Duration};

use clap::Args as ClapArgs;
use execblock::{
    annotation::{self, Mode, Rule},
    bind::Binder,
    clock,
    order::{self, Change, Until},
    record::Record,
    setup::{Options, Setup},
};

use super::{
    Failure, USAGE, setup_failure,
    target::{self, Target},
};

/// Refuse programs in a container that runs, on top of its annotations.
///
/// Holds at once and until the container ends, whether or not any process of
/// execblock runs. One that is started again has its annotations alone.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  execblock deny web curl wget
  execblock deny default/shop/web @shells --for 10m
  execblock deny cgroup:/system.slice/x.service /usr/bin/id")]
pub(crate) struct Deny {
    /// Its id, the beginning of one, its name, POD/NAME, NAMESPACE/POD/NAME, or
    /// cgroup:/PATH.
    container: String,
    /// Names, paths, directories (/DIR/) or groups (@GROUP), as in the annotations.
    #[arg(required = true, value_name = "ITEM")]
    programs: Vec<String>,
    /// End by itself after this time, such as 10m or 1h30m.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    #[command(flatten)]
    target: target::TargetArgs,
}

/// Lift rules of a container that runs, or add programs to its allow-list.
///
/// What is denied is named as the rule that denies it is written, and lifted.
/// What is not denied is added to the allow-list of a container that has one.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  execblock allow web whoami --for 5m
  execblock allow web /opt/tools/")]
pub(crate) struct Allow {
    /// Its id, the beginning of one, its name, POD/NAME, NAMESPACE/POD/NAME, or
    /// cgroup:/PATH.
    container: String,
    /// Names, paths, directories (/DIR/) or groups (@GROUP), as in the annotations.
    #[arg(required = true, value_name = "ITEM")]
    programs: Vec<String>,
    /// Go back to what held before after this time, such as 10m or 1h30m.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    #[command(flatten)]
    target: target::TargetArgs,
}

/// Take back what deny and allow ordered: a container's annotations hold alone.
#[derive(Debug, ClapArgs)]
pub(crate) struct Clear {
    /// Its id, the beginning of one, its name, POD/NAME, NAMESPACE/POD/NAME, or
    /// cgroup:/PATH.
    container: String,
    #[command(flatten)]
    target: target::TargetArgs,
}

pub(crate) fn deny(args: &Deny) -> Result<ExitCode, Failure> {
    let rules = rules(&args.programs)?;
    refuse_no_time(args.time)?;
    // A container that is not there must not leave programs loaded.
    let target = args.target.find(&args.container)?;
    Setup::default()
        .load(&Options::default())
        .map_err(setup_failure)?;
    change(&target, &Change::Deny(rules, until(args.time)))
}

pub(crate) fn allow(args: &Allow) -> Result<ExitCode, Failure> {
    let rules = rules(&args.programs)?;
    refuse_no_time(args.time)?;
    let target = args.target.find(&args.container)?;
    change(&target, &Change::Allow(rules, until(args.time)))
}

pub(crate) fn clear(args: &Clear) -> Result<ExitCode, Failure> {
    change(&args.target.find(&args.container)?, &Change::Clear)
}

fn rules(programs: &[String]) -> Result<Vec<Rule>, Failure> {
    let list =
        annotation::parse_list(&programs.join(",")).map_err(|error| Failure::new(USAGE, error))?;
    Ok(list.into_iter().collect())
}

fn refuse_no_time(time: Option<Duration>) -> Result<(), Failure> {
    match time {
        Some(time) if time.is_zero() => Err(Failure::new(
            USAGE,
            "--for 0s: expected a time that is longer, such as 10m",
        )),
        _ => Ok(()),
    }
}

/// Counted from now: finding and loading may have taken a while.
fn until(time: Option<Duration>) -> Until {
    time.map_or(Until::Cleared, |time| Until::At(clock::after(time)))
}

#[expect(clippy::print_stdout, reason = "the answer to the user")]
fn change(target: &Target, change: &Change) -> Result<ExitCode, Failure> {
    let record = Binder::new()?.change(
        &target.owner,
        target.place(),
        target.annotations.as_ref(),
        change,
    )?;
    println!("{}", said(&target.describe(), change, record.as_ref()));
    if let Some(record) = record
        && matches!(change, Change::Deny(..))
        && record.mode()? == Mode::Audit
    {
        log::warn!(
            "{} is in audit mode (annotation {}): its rules report and refuse nothing",
            target.describe(),
            annotation::MODE
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The answer: what changed, and what holds then.
fn said(who: &str, change: &Change, record: Option<&Record>) -> String {
    let listed = |rules: &[Rule]| {
        let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
        order::some(&rules)
    };
    let end = |until: &Until| match until {
        Until::Cleared => String::new(),
        Until::At(at) => format!(" until {}", super::time(*at)),
    };
    let left = record.map_or_else(|| "no rule holds".to_owned(), left);
    match change {
        Change::Deny(rules, until) => format!("{who}: denied {}{}", listed(rules), end(until)),
        Change::Allow(rules, until) => {
            let said = allowed(rules, record);
            format!("{who}: {said}{}", end(until))
        }
        Change::Clear => format!("{who}: {left}"),
    }
}

/// What holds without any order.
fn left(record: &Record) -> String {
    let mut parts = Vec::new();
    if !record.deny.is_empty() {
        parts.push(format!("deny {}", order::some(&record.deny)));
    }
    if !record.allow.is_empty() {
        parts.push(format!("allow only {}", order::some(&record.allow)));
    }
    if !record.drift.is_empty() {
        parts.push(format!("set drift={}", record.drift));
    }
    format!("its annotations {}", parts.join("; "))
}

/// What `allow` came to: what the allow-list has by an order, and the rest, of which
/// what denied it is lifted.
fn allowed(rules: &[Rule], record: Option<&Record>) -> String {
    let is_listed = |rule: &&Rule| {
        let orders = record.map(|record| &record.orders);
        let order = orders.and_then(|orders| orders.get(&rule.to_string()));
        order.is_some_and(|order| order.list.is_some())
    };
    let (by_list, others): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(is_listed);
    let joined = |rules: &[&Rule]| {
        let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
        order::some(&rules)
    };
    match (others.is_empty(), by_list.is_empty()) {
        (_, true) => format!("allowed {}", joined(&others)),
        (true, false) => format!("allowed {} by its allow-list", joined(&by_list)),
        (false, false) => format!(
            "allowed {}, and {} by its allow-list",
            joined(&others),
            joined(&by_list)
        ),
    }
}
