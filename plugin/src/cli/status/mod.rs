//! `execblock status`

mod shown;
mod table;

use std::{
    io::{self, IsTerminal as _, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Args as ClapArgs;
use execblock::{
    bind::{BindError, Binder},
    kernel::PinError,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::shown::Shown;
use super::{FAILED, Failure, target};

/// Show what is bound: each container, its rules, where they come from, and what
/// they did.
///
/// Annotated containers that run without being bound are listed first.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  execblock status
  execblock status --watch --brief
  execblock status web --json")]
pub(crate) struct Args {
    /// One container: its id, the beginning of one, its name, POD/NAME,
    /// NAMESPACE/POD/NAME, or cgroup:/PATH. All without.
    container: Option<String>,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
    /// Show it again and again until interrupted, each second or after this time.
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1s",
        value_parser = humantime::parse_duration
    )]
    watch: Option<Duration>,
    /// Leave the rules out: a line a container.
    #[arg(long, short)]
    brief: bool,
    #[command(flatten)]
    target: target::TargetArgs,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let binder = Binder::new()?;
    let stdout = io::stdout();
    let choice = if stdout.is_terminal() {
        anstream::AutoStream::choice(&stdout)
    } else {
        anstream::ColorChoice::Never
    };
    let mut out = anstream::AutoStream::new(stdout.lock(), choice);
    let Some(every) = args.watch else {
        print(&mut out, args, &all(&binder, args)?)?;
        return Ok(ExitCode::SUCCESS);
    };
    loop {
        let shown = all(&binder, args)?;
        match redraw(&mut out, args, &shown, every) {
            Ok(true) => {}
            // Whoever read it has gone.
            Ok(false) => return Ok(ExitCode::SUCCESS),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What there is to show, the unprotected first.
fn all(binder: &Binder, args: &Args) -> Result<Vec<Shown>, Failure> {
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
        shown.extend(shown::unprotected(&args.target, binder, &bound));
    }
    bound.sort_by_key(|bound| bound.container.bound_at);
    for bound in &bound {
        shown.push(shown::show(bound));
    }
    Ok(shown)
}

fn print(out: &mut impl Write, args: &Args, shown: &[Shown]) -> io::Result<()> {
    if args.json {
        serde_json::to_writer_pretty(&mut *out, shown)?;
        writeln!(out)
    } else if shown.is_empty() {
        writeln!(out, "no container is bound")
    } else {
        write!(out, "{}", table::table(shown, args.brief))
    }
}

/// Shows it in place of what was shown before, and waits; `false` where nobody reads
/// it any more.
fn redraw(out: &mut impl Write, args: &Args, shown: &[Shown], every: Duration) -> io::Result<bool> {
    /// Cursor to the first line; what is behind the text is erased after it, so that
    /// nothing flickers (ECMA-48 CUP, EL and ED).
    const TOP: &str = "\x1b[H";
    const END_OF_LINE: &str = "\x1b[K\n";
    const END_OF_SCREEN: &str = "\x1b[J";
    let on_terminal = io::stdout().is_terminal() && !args.json;
    let mut text = Vec::new();
    print(&mut text, args, shown)?;
    if on_terminal {
        let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let lines = lines.join(END_OF_LINE);
        let mut terminal = io::stdout();
        write!(
            terminal,
            "{TOP}{}: {now}{END_OF_LINE}{END_OF_LINE}{lines}{END_OF_LINE}{END_OF_SCREEN}",
            table::summary(shown)
        )?;
        terminal.flush()?;
    } else {
        out.write_all(&text)?;
        out.flush()?;
    }
    wait(every)
}

/// Waits; `false` where the reader of the output has gone.
fn wait(time: Duration) -> io::Result<bool> {
    use std::os::fd::AsFd as _;
    let stdout = io::stdout();
    let time = Timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    };
    // The end of a pipe is told without being asked for.
    let mut end = [PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty())];
    match poll(&mut end, Some(&time)) {
        Ok(ended) => Ok(ended == 0),
        Err(rustix::io::Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
