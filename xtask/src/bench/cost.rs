//! Instructions that an exec costs, held against those that are committed.

use std::{fs, io::ErrorKind};

use anyhow::{Context, Result};

use super::{chart, mechanisms_or_all, page};
use crate::{
    host,
    vm::cost::{self, Figure, Figures},
};

/// Figures that are committed, below the checkout.
pub(super) const BASELINE: &str = "bench/baseline.json";

#[derive(Debug, Default, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) machines: super::Machines,
    /// Only what every change can wait for
    #[arg(long, conflicts_with = "write")]
    few: bool,
    /// Fail where something costs over 2 % more than the committed figures say
    #[arg(long)]
    check: bool,
    /// Commit these figures: write bench/baseline.json
    #[arg(long, conflicts_with = "check")]
    write: bool,
}

/// Measures, and prints it beside what is committed; whether `--check` has nothing to say.
pub(super) fn run(arguments: &Arguments) -> Result<(Figures, bool)> {
    let super::Machines { mechanism, jobs } = &arguments.machines;
    let now = cost::measure(&mechanisms_or_all(mechanism), arguments.few, *jobs)?;
    let before = committed()?.unwrap_or_default();
    print(&before, &now);
    let (worse, unknown) = cost::compare(&before, &now);
    for line in &unknown {
        println!("not compared: {line}");
    }
    for line in &worse {
        println!("worse: {line}");
    }
    if arguments.write {
        keep(before, &now)?;
    }
    Ok((now, !arguments.check || worse.is_empty()))
}

fn print(before: &Figures, now: &Figures) {
    println!(
        "{:10} {:36} {:>8} {:>8} {:>9}  programs",
        "", "instructions an exec", "now", "before", "whole"
    );
    for figure in &now.figures {
        let known = before.figures.iter().find(|other| other.is_of(figure));
        let known = known.map_or_else(String::new, |known| known.exec.to_string());
        let programs = figure.programs.iter();
        let programs: Vec<String> = programs
            .map(|(name, each)| format!("{name} {each}"))
            .collect();
        println!(
            "{:10} {:36} {:>8} {known:>8} {:>9}  {}",
            figure.mechanism,
            figure.what,
            figure.exec,
            figure.whole,
            programs.join(", ")
        );
    }
}

/// What of the committed figures was not measured now stays.
fn keep(mut kept: Figures, now: &Figures) -> Result<()> {
    let is_old = |figure: &Figure| !now.kernels.contains_key(&figure.mechanism);
    kept.figures.retain(is_old);
    kept.figures.extend(now.figures.iter().cloned());
    kept.kernels.extend(now.kernels.clone());
    let text = serde_json::to_string_pretty(&kept)?;
    let baseline = host::checkout().join(BASELINE);
    fs::write(&baseline, text + "\n").context(BASELINE)?;
    draw(&kept)
}

/// What is committed, if anything is.
pub(super) fn committed() -> Result<Option<Figures>> {
    match fs::read(host::checkout().join(BASELINE)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text).context(BASELINE)?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(BASELINE),
    }
}

/// The chart and the page's table.
pub(super) fn draw(figures: &Figures) -> Result<()> {
    page::write(figures)?;
    let file = host::checkout().join(chart::CHART);
    fs::write(&file, chart::of(figures)?).with_context(|| file.display().to_string())
}
