//! `execblock why`: what would become of a program in a container, and which rule
//! says so. Changes nothing.

mod json;
mod report;

use std::{ffi::OsString, path::Path, process::ExitCode};

use clap::Args as ClapArgs;
use execblock::{
    annotation::{Drift, Mode},
    bind::{BindError, Binder, Bound},
    cgroup::Cgroup,
    clock,
    kernel::PinError,
    lookup,
    order::{Line, Orders},
    outcome::Case,
    policy::Rules,
    program::View,
    record::Owner,
    root::{self, Links},
};
use plugin_common::{Container, DRIFT_AUDIT, DRIFT_DENY, DRIFT_OFF, MODE_AUDIT, MODE_ENFORCE};

use self::report::Report;
use super::{
    FAILED, Failure, USAGE,
    target::{self, Target},
};

/// Say what would become of a program in a container, and which rule says so.
///
/// The program is looked up as the container's first process would find it: its
/// PATH, its working directory, its links, its interpreters. Nothing is executed
/// and nothing is changed.
///
/// The exit status is 0 where the program is allowed, 1 where it is denied, and 2
/// where there is no such container or program, or it can't be told.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  execblock why web whoami
  execblock why web busybox whoami")]
pub(crate) struct Args {
    /// Its id, the beginning of one, its name, POD/NAME, NAMESPACE/POD/NAME, or
    /// cgroup:/PATH.
    container: String,
    /// The program and its arguments; options of why stand before it.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PROGRAM"
    )]
    command: Vec<OsString>,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: target::TargetArgs,
}

/// What holds for a container.
struct Terms {
    /// Who it is by its record, where it is bound.
    owner: Option<Owner>,
    /// Whether it is bound; where it is not, this is what its annotations ask for.
    is_bound: bool,
    lines: Vec<Line>,
    /// With the paths that they stand for in this container.
    rules: Rules,
    /// Its mode and drift.
    container: Container,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    // 1 says that the program is denied: whatever goes wrong has another status.
    answer(args).map_err(|failure| Failure {
        status: USAGE,
        ..failure
    })
}

fn answer(args: &Args) -> Result<ExitCode, Failure> {
    let (word, arguments) = args
        .command
        .split_first()
        .ok_or_else(|| Failure::new(USAGE, "no program"))?;
    let target = args.target.find(&args.container)?;
    let binder = Binder::new()?;
    let cgroup = binder.cgroup(&target.owner, target.place())?;
    let pid = target
        .pid()
        .or_else(|| binder.hierarchy().any_process(&cgroup))
        .ok_or_else(|| {
            let who = target.describe();
            Failure::new(
                USAGE,
                format!("{who}: no process is in it to look a program up as"),
            )
        })?;
    let terms = terms(&binder, &target, &cgroup, pid)?;
    let view = View::of_process(pid)?;
    let program = view.program(word, arguments);
    let links = binder.pins().link_names();
    let case = Case {
        program: &program,
        rules: &terms.rules,
        container: &terms.container,
        now: clock::now(),
        maps: links.iter().any(|name| name.ends_with("_mmap")),
    };
    let report = Report {
        word,
        target: &target,
        terms: &terms,
        case: &case,
        loaded: binder.pins().mechanism(),
    };
    report.print(args.json)
}

fn terms(binder: &Binder, target: &Target, cgroup: &Cgroup, pid: i32) -> Result<Terms, Failure> {
    let bound = match binder.bound() {
        Err(BindError::Pin(PinError::NotLoaded(_))) => Vec::new(),
        bound => bound?,
    };
    let now = clock::now();
    let bound = nearest(binder, bound, cgroup);
    let is_bound = bound.is_some();
    let mut owner = None;
    let mut known = Links::new();
    let (orders, spec, container) = match bound {
        Some(Bound {
            record: Some(record),
            container,
            ..
        }) => {
            let terms = (record.orders()?, record.spec()?, container);
            owner = Some(record.owner);
            known = record.links;
            terms
        }
        Some(Bound { cgroup, .. }) => {
            return Err(Failure::new(
                USAGE,
                format!(
                    "cgroup {cgroup} is bound and its record is lost: which rules it has is not \
                     known; execblock clear and deny give it new ones"
                ),
            ));
        }
        None => {
            let spec = target.annotations.clone();
            let container = as_kernel(
                spec.as_ref()
                    .map(|spec| (spec.mode, spec.drift))
                    .unwrap_or_default(),
            );
            (Orders::default(), spec, container)
        }
    };
    let rules = orders.rules(spec.as_ref(), now);
    let root = format!("/proc/{pid}/root");
    let links = root::links(&rules, &known, Path::new(&root))
        .map_err(|error| Failure::new(FAILED, format!("{root}: {error}")))?;
    Ok(Terms {
        owner,
        is_bound,
        lines: orders.lines(spec.as_ref(), now),
        rules: root::rules_in(rules, spec.is_some_and(|spec| spec.bounded), &links),
        container,
    })
}

fn as_kernel((mode, drift): (Mode, Drift)) -> Container {
    Container {
        mode: match mode {
            Mode::Enforce => MODE_ENFORCE,
            Mode::Audit => MODE_AUDIT,
        },
        drift: match drift {
            Drift::Off => DRIFT_OFF,
            Drift::Audit => DRIFT_AUDIT,
            Drift::Deny => DRIFT_DENY,
        },
        ..Container::default()
    }
}

/// The nearest cgroup above that is bound, as the kernel side looks for it.
fn nearest(binder: &Binder, mut bound: Vec<Bound>, cgroup: &Cgroup) -> Option<Bound> {
    let mut path = cgroup.path.clone();
    let mut id = cgroup.id;
    loop {
        if let Some(index) = bound.iter().position(|bound| bound.cgroup == id) {
            return Some(bound.swap_remove(index));
        }
        let (above, _) = path.rsplit_once('/')?;
        // Those above this process's own cgroup are never bound.
        let above = binder.hierarchy().cgroup(above).ok()?;
        (path, id) = (above.path, above.id);
    }
}

impl Target {
    /// Its first process, where its engine knows it.
    fn pid(&self) -> Option<i32> {
        match self.found_place() {
            lookup::Place::Init { pid, .. } => Some(*pid),
            lookup::Place::Cgroup(_) | lookup::Place::Nowhere => None,
        }
    }
}
