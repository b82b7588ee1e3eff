//! `execblock lint`: what is wrong with annotations, before a container starts.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args as ClapArgs;
use execblock::{
    lint::{self, Finding, Level},
    node::{CONFIG_DIR, Node},
};
use serde::Serialize;

use super::{DONE, FAILED, Failure};
use crate::settings::Settings;

/// Look for mistakes in annotations, and for rules that don't hold or that break
/// their container.
///
/// Files are objects of Kubernetes in YAML (pods, and what has a template of
/// them), or with the ending .toml a profile or a config.toml. Exit status: 0
/// where there is no error, 1 where there is one.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  execblock lint pod.yaml
  execblock lint execblock/deny=curl,@shells
  kubectl get pod web -o yaml | execblock lint -")]
pub(crate) struct Args {
    /// Files, - for standard input, or annotations.
    #[arg(required = true, value_name = "FILE|KEY=VALUE")]
    targets: Vec<String>,
    /// Warnings count as errors do.
    #[arg(long)]
    strict: bool,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
    /// Where config.toml and profiles/ are.
    #[arg(long, value_name = "DIR", default_value = CONFIG_DIR)]
    config_dir: PathBuf,
}

/// A finding and its file.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    /// As it was given; empty for annotations of the command line.
    file: &'a str,
    #[serde(flatten)]
    finding: Finding,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    // Nothing is enforced by it: it may be anybody's directory.
    let node = Node::unchecked(&args.config_dir);
    let mut shown = Vec::new();
    let mut pairs = Vec::new();
    for target in &args.targets {
        let pair = target.split_once('=');
        if let Some((key, value)) = pair.filter(|_| !Path::new(target).exists()) {
            pairs.push((key.to_owned(), value.to_owned()));
            continue;
        }
        let text = read(target)?;
        let is_toml = Path::new(target)
            .extension()
            .is_some_and(|ending| ending == "toml");
        let findings = if is_toml {
            lint_toml(&text)
        } else {
            lint::lint_yaml(&text, &node)
        };
        shown.extend(findings.into_iter().map(|finding| Shown {
            file: target,
            finding,
        }));
    }
    let findings = lint::lint_pairs(&pairs, &node).into_iter();
    shown.extend(findings.map(|finding| Shown { file: "", finding }));
    print(&shown, args.json)?;
    let bad = |shown: &Shown<'_>| args.strict || shown.finding.level == Level::Error;
    let status = if shown.iter().any(bad) { FAILED } else { DONE };
    Ok(ExitCode::from(status))
}

/// A profile or a config.toml, which has tables of the daemon's as well.
fn lint_toml(text: &str) -> Vec<Finding> {
    let mut findings = lint::lint_toml(text);
    let understood = findings.iter().all(|one| one.level != Level::Error);
    if understood && let Err(error) = Settings::parse(text) {
        findings.push(Finding {
            line: error.line,
            level: Level::Error,
            message: error.problem,
        });
    }
    findings
}

fn read(target: &str) -> Result<String, Failure> {
    let text = if target == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(target)
    };
    text.map_err(|error| {
        Failure::new(
            FAILED,
            format!("{target}: {error}; expected a file of YAML or TOML, or KEY=VALUE"),
        )
    })
}

fn print(shown: &[Shown<'_>], json: bool) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, shown)?;
        writeln!(out)?;
        return Ok(());
    }
    for Shown { file, finding } in shown {
        let level = match finding.level {
            Level::Error => "error",
            Level::Warning => "warning",
        };
        // What a file holds must not forge a line.
        let message = finding.message.replace(char::is_control, "\u{fffd}");
        match (file.is_empty(), finding.line) {
            (true, _) => writeln!(out, "{level}: {message}")?,
            (false, 0) => writeln!(out, "{file}: {level}: {message}")?,
            (false, line) => writeln!(out, "{file}:{line}: {level}: {message}")?,
        }
    }
    Ok(())
}
