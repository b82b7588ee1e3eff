//! Commands that are killed at each step from the lock on: what held before holds, and
//! the next one finds nothing in its way.

use std::{
    collections::HashMap,
    fs,
    os::unix::process::ExitStatusExt as _,
    process::{Command, Output},
};

use libtest_mimic::Failed;

use crate::{Running, execblock, text};

/// A system call, and how often it was made by then.
type Step = (String, u32);

fn strace(arguments: &[&str]) -> Command {
    let mut command = Command::new("strace");
    command.args(arguments).arg(env!("CARGO_BIN_EXE_execblock"));
    command
}

fn done(output: &Output, what: &str) -> Result<(), Failed> {
    let err = text(&output.stderr);
    ensure!(output.status.success(), "{what}: {:?} {err}", output.status);
    Ok(())
}

/// What the command does from the first line on that has the text.
fn steps(command: &[&str], from: &str) -> Result<Vec<Step>, Failed> {
    let trace = tempfile::NamedTempFile::new()?;
    let path = trace.path().to_string_lossy();
    done(&strace(&["-o", &path]).args(command).output()?, "traced")?;
    let mut made: HashMap<String, u32> = HashMap::new();
    let (mut steps, mut begun) = (Vec::new(), false);
    for line in fs::read_to_string(trace.path())?.lines() {
        let Some((name, _)) = line.split_once('(') else {
            continue;
        };
        let nth = made.entry(name.to_owned()).or_default();
        *nth += 1;
        begun |= line.contains(from);
        if begun {
            steps.push((name.to_owned(), *nth));
        }
    }
    ensure!(steps.len() > 20, "{command:?}: {steps:?} from {from}");
    Ok(steps)
}

/// Those that change something, of commands that take long: between two of them one
/// place is as good as another. Of each kind that is made many times, every sixth,
/// unless the environment asks for all.
fn changes(mut steps: Vec<Step>) -> Vec<Step> {
    const CHANGES: [&str; 8] = [
        "bpf",
        "flock",
        "mkdir",
        "rename",
        "renameat2",
        "rmdir",
        "unlink",
        "write",
    ];
    let all = std::env::var_os("EXECBLOCK_ALL_STEPS").is_some();
    let mut kinds: HashMap<String, u32> = HashMap::new();
    steps.retain(|(name, _)| {
        let nth = kinds.entry(name.clone()).or_default();
        *nth += 1;
        CHANGES.contains(&name.as_str()) && (all || *nth < 3 || nth.is_multiple_of(6))
    });
    steps
}

/// Whether it was killed; not where it came to its end without that step.
fn is_killed(command: &[&str], (name, nth): &Step) -> Result<bool, Failed> {
    let inject = format!("inject={name}:signal=SIGKILL:when={nth}");
    let output = strace(&["-o", "/dev/null", "-e", &inject])
        .args(command)
        .output()?;
    if output.status.signal() == Some(9) {
        return Ok(true);
    }
    done(&output, &inject)?;
    Ok(false)
}

#[expect(clippy::print_stdout, reason = "says how much was tried")]
fn say(what: &str, killed: usize, steps: usize) -> Result<(), Failed> {
    println!("{what}: killed at {killed} of {steps} steps");
    ensure!(
        killed + 5 > steps,
        "{what}: killed at {killed} of {steps} steps"
    );
    Ok(())
}

/// A change that is cut off leaves the rules before, or those after it.
pub(crate) fn change_killed_at_each_step() -> Result<(), Failed> {
    let running = Running::new("crash-change")?;
    running.order("deny", &["whoami"])?;
    let query = running.query();
    let deny = ["deny", &query, "uname"];
    let steps = steps(&deny, "flock(")?;
    running.order("allow", &["uname"])?;
    let mut killed = 0;
    for step in &steps {
        if is_killed(&deny, step)? {
            killed += 1;
        }
        ensure!(!running.runs("whoami")?, "{step:?}: whoami ran");
        ensure!(running.runs("id")?, "{step:?}: id did not run");
        running.order("deny", &["uname"])?;
        ensure!(
            !running.runs("whoami")? && !running.runs("uname")?,
            "{step:?}: not under its rules after a second command"
        );
        running.order("allow", &["uname"])?;
    }
    say("deny", killed, steps.len())
}

/// Programs are refused by the old ones or the new ones, and the next `load` puts right
/// what is left.
pub(crate) fn replace_killed_at_each_step() -> Result<(), Failed> {
    let running = Running::new("crash-replace")?;
    running.order("deny", &["whoami"])?;
    let replace = ["load", "--replace"];
    let steps = changes(steps(&replace, "/sys/fs/bpf/execblock-new\", 0700")?);
    let mut killed = 0;
    for step in &steps {
        if is_killed(&replace, step)? {
            killed += 1;
        }
        ensure!(!running.runs("whoami")?, "{step:?}: whoami ran");
        ensure!(running.runs("id")?, "{step:?}: id did not run");
        done(&execblock().arg("load").output()?, "load")?;
        ensure!(
            !running.runs("whoami")?,
            "{step:?}: whoami ran after a second load"
        );
        for left in ["/sys/fs/bpf/execblock-new", "/sys/fs/bpf/execblock-old"] {
            ensure!(!fs::exists(left)?, "{step:?}: {left} is left");
        }
    }
    say("load --replace", killed, steps.len())
}

/// A first `load` that is cut off leaves nothing that the next one stumbles over.
pub(crate) fn load_killed_at_each_step() -> Result<(), Failed> {
    execblock().arg("unload").output()?;
    let steps = changes(steps(&["load"], "BPF_OBJ_PIN")?);
    let mut killed = 0;
    for step in &steps {
        execblock().arg("unload").output()?;
        if is_killed(&["load"], step)? {
            killed += 1;
        }
        let refused = crate::run("whoami", &["whoami"]);
        ensure!(
            matches!(refused.status.code(), Some(126 | 137)) && refused.stdout.is_empty(),
            "{step:?}: {refused:?}"
        );
    }
    execblock().arg("unload").output()?;
    say("load", killed, steps.len())
}
