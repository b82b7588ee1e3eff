//! `execblock run`: one command under rules, without any engine.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{ExitCode, ExitStatus},
};

use clap::Args as ClapArgs;
use execblock::{
    annotation::{self, Drift, Mode, Rule},
    bind::Binder,
    cgroup::{Program, Scratch, SpawnError, Spawned},
    order::Orders,
    record::Owner,
    setup::{Options, Setup},
};
use rustix::process::{Signal, kill_process};
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2},
    iterator::{SignalsInfo, exfiltrator::WithOrigin},
    low_level::siginfo::Cause,
};

use super::{FAILED, Failure, MechanismArg, USAGE, setup_failure};
use crate::events;

/// What `status` shows as the engine of a command.
const ENGINE: &str = "execblock run";

/// What cgroups of commands begin with.
const CGROUP_PREFIX: &str = "execblock-run-";

/// Run a command that can't execute some programs, it and all it starts.
///
/// One of --deny, --allow and --drift is needed. --allow is asked about the command
/// itself too.
///
/// The exit status is the command's; 128 and the signal's number where it was
/// killed; 126 where it can't be executed, 127 where it was not found.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  execblock run --deny whoami -- sh -c 'id -un; whoami'
  execblock run --deny @network-tools,@shells -- ./build
  execblock run --allow make,dash,cc --audit -- make")]
pub(crate) struct Args {
    /// Programs that may not be executed: a list as in the annotation
    /// execblock/deny. May be repeated.
    #[arg(long, value_name = "LIST", required_unless_present_any = ["allow", "drift"])]
    deny: Vec<String>,
    /// The only programs that may be executed: a list as in execblock/allow. May be
    /// repeated.
    #[arg(long, value_name = "LIST")]
    allow: Vec<String>,
    /// What becomes of files that did not come with the root file system, an
    /// overlay: deny, audit (run and report) or off.
    #[arg(long, value_name = "MODE", value_parser = drift)]
    drift: Option<Drift>,
    /// Let denied programs run and report them.
    #[arg(long)]
    audit: bool,
    /// auto takes the first that works of lsm, fmod_ret, kprobe, signal.
    #[arg(long, default_value = "auto", value_name = "MECHANISM")]
    mechanism: MechanismArg,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let orders = orders(args)?;
    let drift = args.drift.unwrap_or_default();
    if orders.is_empty() && drift == Drift::Off {
        return Err(Failure::new(
            USAGE,
            "--drift off: nothing would be refused, expected --deny or --allow beside it",
        ));
    }
    let mode = if args.audit {
        Mode::Audit
    } else {
        Mode::Enforce
    };
    let (program, arguments) = args
        .command
        .split_first()
        .ok_or_else(|| Failure::new(USAGE, "no command"))?;

    let setup = Setup::default();
    let options = Options {
        choice: args.mechanism.0,
        transient: true,
        ..Options::default()
    };
    setup.load(&options).map_err(setup_failure)?;
    let result = Binder::new().map_err(Failure::from).and_then(|binder| {
        binder.hierarchy().remove_left(CGROUP_PREFIX);
        let name = format!("{CGROUP_PREFIX}{}", std::process::id());
        let scratch = binder.hierarchy().create(&name)?;
        let owner = Owner {
            // Not the process's id, which is another's in another pid namespace.
            container: format!("run-{}", scratch.cgroup().id),
            name: file_name(program),
            engine: ENGINE.to_owned(),
            ..Owner::default()
        };
        binder.bind_own(&owner, scratch.cgroup(), &orders, mode, drift)?;
        let result = supervise(&scratch, program, arguments);
        finish(&binder, &scratch, &owner);
        result
    });
    // Whatever happened: what was loaded for this command alone goes.
    if let Err(error) = setup.unload_if_unused() {
        log::warn!("{error}");
    }
    result
}

/// The lists of the command line.
fn orders(args: &Args) -> Result<Orders, Failure> {
    let list = |option: &str, lists: &[String]| -> Result<BTreeSet<Rule>, Failure> {
        if lists.is_empty() {
            return Ok(BTreeSet::new());
        }
        annotation::parse_list(&lists.join(","))
            .map_err(|error| Failure::new(USAGE, format!("{option}: {error}")))
    };
    let deny = list("--deny", &args.deny)?;
    let allow = list("--allow", &args.allow)?;
    Ok(Orders::of_command(deny, allow))
}

/// `--drift`
fn drift(text: &str) -> Result<Drift, String> {
    let mut all = Drift::ALL.into_iter();
    all.find(|drift| drift.name() == text)
        .ok_or_else(|| format!("unknown mode {text:?}, expected deny, audit or off"))
}

fn file_name(program: &OsString) -> String {
    let name = Path::new(program).file_name().unwrap_or(program);
    name.to_string_lossy().into_owned()
}

/// Forgets the cgroup, unless the command left something running in it: that
/// stays under its rules, and is collected later.
fn finish(binder: &Binder, scratch: &Scratch, owner: &Owner) {
    events::keep(binder);
    if scratch.is_populated() {
        log::warn!(
            "processes are left in {}, they stay under the rules",
            scratch.cgroup().path
        );
        return;
    }
    let unbound = binder
        .unbind_container(&owner.container)
        .and_then(|_known| binder.collect());
    if let Err(error) = unbound {
        log::warn!("{error}");
    }
}

fn supervise(
    scratch: &Scratch,
    program: &OsString,
    arguments: &[OsString],
) -> Result<ExitCode, Failure> {
    // Taken before the command starts, so that none ends this process alone.
    let mut signals = SignalsInfo::<WithOrigin>::new(forwarded()?)?;
    let program = Program {
        path: program,
        args: arguments,
        alone: false,
    };
    let mut child = scratch.spawn(program).map_err(|error| match error {
        SpawnError::Exec(error) => {
            let status = if error.kind() == io::ErrorKind::NotFound {
                127
            } else {
                126
            };
            Failure::new(
                status,
                format!("{}: {}", program.path.display(), reason(&error)),
            )
        }
        error @ SpawnError::Join { .. } => Failure::new(FAILED, error),
    })?;
    let status = wait(&mut child, &mut signals)?;
    Ok(exit_code(status))
}

/// Signals that go to the command: not those that stop a job, which the
/// terminal sends to both of us, and not those that were ignored when we were
/// started (nohup), which the command inherits.
fn forwarded() -> Result<Vec<i32>, Failure> {
    let ignored = procfs::process::Process::myself()
        .and_then(|process| process.status())?
        .sigign;
    let signals = [SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];
    let heard = |signal: &i32| *signal == SIGCHLD || ignored & (1 << (signal - 1)) == 0;
    Ok(signals.into_iter().filter(heard).collect())
}

fn wait(child: &mut Spawned, signals: &mut SignalsInfo<WithOrigin>) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        for origin in signals.wait() {
            // What the terminal sends reaches the whole foreground group, and
            // so the command, by itself.
            if matches!(origin.cause, Cause::Sent(_)) {
                pass_on(child, origin.signal);
            }
        }
    }
}

fn pass_on(child: &Spawned, signal: i32) {
    if let Some(signal) = Signal::from_named_raw(signal)
        && let Err(error) = kill_process(child.pid(), signal)
    {
        log::debug!("signal {signal:?}: {error}");
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, signal) => 128 + signal.unwrap_or(0),
    };
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// The message as a shell prints it: without "(os error 1)".
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
