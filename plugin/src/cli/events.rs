//! `execblock events`

use std::{
    io::{self, IsTerminal as _, Write as _},
    os::fd::AsFd as _,
    process::ExitCode,
    thread,
    time::SystemTime,
};

use clap::{Args as ClapArgs, ValueEnum};
use execblock::{bind::Binder, kernel::PinError};
use rustix::event::{PollFd, PollFlags, poll};

use super::Failure;
use crate::events::{self, DrainError, Report, Tail};

/// Show what was refused or audited: one line each.
///
/// Shows what the journal has, and with --follow what comes. Any number may run at
/// a time, beside the daemon or without it; as long as none of them runs, the
/// kernel keeps the first few hundred events and counts the rest.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  execblock events --since 1h
  execblock events --follow --container default/web
  execblock events --output json | jq .")]
pub(crate) struct Args {
    /// Go on with what comes, until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// Of one container alone: its id or the beginning of it, its name, its pod or
    /// NAMESPACE/POD. It need not run any more.
    #[arg(long, short, value_name = "CONTAINER")]
    container: Option<String>,
    /// Not older than this: a time such as 10m or 2h, or an instant in RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<SystemTime>,
    /// A line for people, or a JSON object a line (docs/events.md).
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn since(text: &str) -> Result<SystemTime, String> {
    if let Ok(age) = humantime::parse_duration(text) {
        let now = SystemTime::now();
        return now
            .checked_sub(age)
            .ok_or_else(|| format!("{text} is before all time"));
    }
    humantime::parse_rfc3339_weak(text)
        .map_err(|_error| "expected a time such as 10m, or 2026-01-31T23:59:00Z".to_owned())
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let binder = Binder::new()?;
    let bytes = events::journal_bytes();
    if !args.follow {
        match events::drain_once(&binder, bytes) {
            // What was refused before the programs were unloaded is in the journal.
            Ok(()) | Err(DrainError::Pin(PinError::NotLoaded(_))) => {}
            // As is what was taken out of the kernel before this.
            Err(error) => log::error!("the newest refusals are left out: {error}"),
        }
    }
    let mut tail = Tail::from_start(binder.run_dir())?;
    if args.follow {
        drain(binder, bytes)?;
    }
    match show(args, &mut tail) {
        // Whoever read it has gone, which is how `| head` ends.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}

/// Takes the events out of the kernel as soon and as long as nobody else does.
fn drain(binder: Binder, bytes: u64) -> io::Result<()> {
    let run = move || events::drain(&binder, bytes);
    let thread = thread::Builder::new().name("drain".to_owned());
    thread.spawn(run).map(drop)
}

fn show(args: &Args, tail: &mut Tail) -> io::Result<()> {
    let stdout = io::stdout();
    let choice = if stdout.is_terminal() {
        anstream::AutoStream::choice(&stdout)
    } else {
        anstream::ColorChoice::Never
    };
    let mut out = anstream::AutoStream::new(stdout.lock(), choice);
    loop {
        for line in tail.lines().map_err(io::Error::other)? {
            let Ok(report) = serde_json::from_str::<Report>(&line) else {
                // Cut short by the death of whoever wrote it, or a newer version's.
                continue;
            };
            if !args.wants(&report) {
                continue;
            }
            match args.output {
                Format::Json => writeln!(out, "{line}")?,
                Format::Text => writeln!(out, "{}", events::line(&report))?,
            }
        }
        out.flush()?;
        if !args.follow {
            return Ok(());
        }
        if !wait(tail)? {
            return Ok(());
        }
    }
}

/// Waits for more; `false` where nobody reads what is written.
fn wait(tail: &Tail) -> io::Result<bool> {
    let stdout = io::stdout();
    let mut ready = [
        PollFd::from_borrowed_fd(tail.watch(), PollFlags::IN),
        // The end of a pipe is told without being asked for.
        PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty()),
    ];
    rustix::io::retry_on_intr(|| poll(&mut ready, None))?;
    tail.heard();
    let ended = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    Ok(!ready[1].revents().intersects(ended))
}

impl Args {
    fn wants(&self, report: &Report) -> bool {
        let named = self
            .container
            .as_ref()
            .is_none_or(|query| is_of(report, query));
        let recent = self.since.is_none_or(|since| {
            // One whose time is not understood is shown.
            humantime::parse_rfc3339(&report.time).map_or(true, |time| time >= since)
        });
        named && recent
    }
}

fn is_of(report: &Report, query: &str) -> bool {
    let owner = &report.owner;
    let pod = format!("{}/{}", owner.namespace, owner.pod);
    let qualified = format!("{pod}/{}", owner.name);
    let names = [&owner.name, &owner.pod, &pod, &qualified];
    names.into_iter().any(|name| name == query)
        || (!query.is_empty() && owner.container.starts_with(query))
        || query.strip_prefix("cgroup:") == Some(report.cgroup.to_string().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_an_age_or_an_instant() {
        assert!(since("10m").unwrap() < SystemTime::now());
        let instant = since("2026-01-31T23:59:00Z").unwrap();
        let text = humantime::format_rfc3339_seconds(instant).to_string();
        assert_eq!(text, "2026-01-31T23:59:00Z");
        for wrong in ["", "yesterday", "10", "2026"] {
            assert!(since(wrong).unwrap_err().contains("expected"), "{wrong}");
        }
    }
}
