//! `execblock groups`: what the groups of the language stand for.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Args as ClapArgs;
use execblock::groups::{self, GROUPS, Group, SIGN};
use serde_json::json;

use super::{Failure, USAGE};

/// Show the groups that lists may name, or the programs of one.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// A group, such as @shells.
    name: Option<String>,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let one = args.name.as_deref().map(find).transpose()?;
    let mut out = io::stdout().lock();
    if args.json {
        let shown = |group: &Group| {
            json!({
                "name": format!("{SIGN}{}", group.name),
                "about": group.about,
                "members": group.members,
            })
        };
        let value = match one {
            Some(group) => shown(group),
            None => GROUPS.iter().map(shown).collect(),
        };
        serde_json::to_writer_pretty(&mut out, &value)?;
        writeln!(out)?;
    } else if let Some(group) = one {
        for member in group.members {
            writeln!(out, "{member}")?;
        }
    } else {
        for group in GROUPS {
            writeln!(
                out,
                "{:18} {:3} names  {}",
                format!("{SIGN}{}", group.name),
                group.members.len(),
                group.about
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn find(name: &str) -> Result<&'static Group, Failure> {
    groups::find(name.trim_start_matches(SIGN)).ok_or_else(|| {
        Failure::new(
            USAGE,
            format!(
                "unknown group {name:?}, expected one of {}",
                groups::names()
            ),
        )
    })
}
