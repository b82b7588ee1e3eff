//! On this machine's own kernel, with whatever mechanism works here: real
//! programs, real cgroups, real refusals.
//!
//! Needs root, BTF and a cgroup v2 mount. Where `doctor` says that nothing works
//! the test says so and counts as skipped by name; it never passes silently on
//! a machine that has protection to show.

// Before the modules that use it.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+).into());
        }
    };
}

#[path = "native/crash.rs"]
mod crash;
#[path = "native/crowd.rs"]
mod crowd;
#[path = "native/daemon.rs"]
mod daemon;
#[path = "native/events.rs"]
mod events;
#[path = "native/limits.rs"]
mod limits;
#[path = "native/modes.rs"]
mod modes;
#[path = "native/orders.rs"]
mod orders;
#[path = "native/site.rs"]
mod site;
#[path = "native/why.rs"]
mod why;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

use execblock::cgroup::Hierarchy;
use libtest_mimic::{Arguments, Failed, Trial};

fn execblock() -> Command {
    Command::new(env!("CARGO_BIN_EXE_execblock"))
}

fn run(deny: &str, command: &[&str]) -> Output {
    let mut run = execblock();
    run.args(["run", "--deny", deny, "--"]).args(command);
    run.output().expect("execblock starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The name of a test, and what it does.
type Case = (&'static str, fn() -> Result<(), Failed>);

const CASES: &[Case] = &[
    ("denied_program_does_not_run", denied_program_does_not_run),
    ("denied_command_itself_fails", denied_command_itself_fails),
    ("every_spelling_is_refused", every_spelling_is_refused),
    (
        "path_rule_holds_for_its_path_alone",
        path_rule_holds_for_its_path_alone,
    ),
    ("child_cgroup_does_not_escape", child_cgroup_does_not_escape),
    ("exit_status_is_the_commands", exit_status_is_the_commands),
    (
        "strace_refuses_the_clone_into_a_cgroup",
        a_refused_clone_is_no_reason,
    ),
    ("signal_reaches_the_command", signal_reaches_the_command),
    ("nothing_is_left_behind", nothing_is_left_behind),
    ("pins_hold_without_a_process", pins_hold_without_a_process),
    ("foreign_pins_are_refused", foreign_pins_are_refused),
    ("full_map_is_refused", full_map_is_refused),
    ("full_map_forgets_the_dead", full_map_forgets_the_dead),
    (
        "running_cgroup_gets_rules",
        orders::running_cgroup_gets_rules,
    ),
    ("rule_ends_by_itself", orders::rule_ends_by_itself),
    ("change_leaves_no_gap", orders::change_leaves_no_gap),
    ("command_is_in_the_status", orders::command_is_in_the_status),
    ("ten_thousand_are_told_of", crowd::ten_thousand_are_told_of),
    (
        "what_differs_is_bound_anew",
        crowd::what_differs_is_bound_anew,
    ),
    (
        "a_record_alone_protects_nobody",
        crowd::a_record_alone_protects_nobody,
    ),
    ("two_daemons_at_once", crowd::two_daemons_at_once),
    (
        "daemon_binds_where_it_is_loaded_now",
        crowd::binds_where_it_is_loaded_now,
    ),
    ("daemon_tells_of_itself", daemon::tells_of_itself),
    ("events_outlive_the_command", events::outlive_the_command),
    ("events_forge_nothing", events::forge_nothing),
    ("events_have_many_readers", events::have_many_readers),
    ("events_end_with_their_pipe", events::end_with_their_pipe),
    ("events_go_on_after_a_reload", events::go_on_after_a_reload),
    ("a_thousand_rules_hold", limits::a_thousand_rules_hold),
    (
        "names_of_any_length_compare_whole",
        limits::names_of_any_length_compare_whole,
    ),
    (
        "names_of_any_length_compare_from_their_end",
        limits::names_of_any_length_compare_from_their_end,
    ),
    (
        "names_of_any_length_are_taken_over",
        limits::names_of_any_length_are_taken_over,
    ),
    (
        "an_empty_argument_is_no_reason",
        limits::an_empty_argument_is_no_reason,
    ),
    (
        "no_depth_escapes_a_directory",
        limits::no_depth_escapes_a_directory,
    ),
    (
        "no_level_is_too_deep_unsaid",
        limits::no_level_is_too_deep_unsaid,
    ),
    (
        "what_we_make_is_roots_alone",
        modes::what_we_make_is_roots_alone,
    ),
    (
        "no_record_goes_through_a_link",
        modes::no_record_goes_through_a_link,
    ),
    ("an_order_keeps_the_site", site::an_order_keeps_it),
    (
        "change_killed_at_each_step",
        crash::change_killed_at_each_step,
    ),
    ("load_killed_at_each_step", crash::load_killed_at_each_step),
    (
        "replace_killed_at_each_step",
        crash::replace_killed_at_each_step,
    ),
    ("why_says_what_happens", why::says_what_happens),
    ("why_knows_an_allow_list", why::knows_an_allow_list),
    ("why_knows_drift", why::knows_drift),
    ("why_changes_nothing", why::changes_nothing),
    (
        "allow_adds_to_an_allow_list",
        why::allow_adds_to_an_allow_list,
    ),
];

fn main() {
    LazyLock::force(&BEFORE);
    let mut arguments = Arguments::from_args();
    // They share the machine's one set of pins.
    arguments.test_threads = Some(1);
    let doctor = execblock()
        .args(["doctor", "--json"])
        .output()
        .expect("doctor starts");
    let able = doctor.status.success();
    if able {
        // What a run of other programs has left is replaced, not tested.
        let loaded = execblock().arg("load").output().expect("load starts");
        assert!(loaded.status.success(), "{}", text(&loaded.stderr));
    } else {
        #[expect(clippy::print_stdout, reason = "says why all is skipped")]
        {
            println!("skipped, nothing works here:\n{}", text(&doctor.stdout));
        }
    }
    let strace = Command::new("strace").arg("-V").output().is_ok();
    if !strace {
        #[expect(clippy::print_stdout, reason = "says why some are skipped")]
        {
            println!("skipped those that kill and refuse calls: no strace here");
        }
    }
    let trials = CASES
        .iter()
        .map(|&(name, case)| {
            let uses_strace = name.contains("killed") || name.contains("strace");
            let able = able && (strace || !uses_strace);
            Trial::test(name, case).with_ignored_flag(!able)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}

/// Asserts that `sh -c script` printed just `expected`.
fn prints(deny: &str, script: &str, expected: &str) -> Result<(), Failed> {
    let output = run(deny, &["sh", "-c", script]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    ensure!(
        out == expected,
        "{script}: printed {out:?}, expected {expected:?}; stderr {err:?}"
    );
    Ok(())
}

fn denied_program_does_not_run() -> Result<(), Failed> {
    // 126 where exec gave EPERM, 137 where it was killed: both leave no output.
    let script = "id -u; whoami; s=$?; [ $s = 126 ] || [ $s = 137 ] && echo refused";
    prints("whoami", script, "0\nrefused\n")
}

fn denied_command_itself_fails() -> Result<(), Failed> {
    let output = run("whoami", &["whoami"]);
    let code = output.status.code();
    ensure!(matches!(code, Some(126 | 137)), "exit status {code:?}");
    ensure!(output.stdout.is_empty(), "it ran: {}", text(&output.stdout));
    Ok(())
}

fn every_spelling_is_refused() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let link = dir.path().join("other");
    std::os::unix::fs::symlink("/usr/bin/whoami", &link)?;
    let alias = dir.path().join("whoami");
    std::os::unix::fs::symlink("/usr/bin/id", &alias)?;
    let long = format!("/{}usr/bin/whoami", "./".repeat(1_500));
    for program in [
        "/usr/bin/whoami",
        "/usr//bin/./whoami",
        "/usr/bin/../bin/whoami",
        &long,
        &link.to_string_lossy(),
        &alias.to_string_lossy(),
    ] {
        prints("whoami", &format!("{program}; echo end"), "end\n")?;
    }
    Ok(())
}

fn path_rule_holds_for_its_path_alone() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let copy = dir.path().join("whoami");
    fs::copy("/usr/bin/whoami", &copy)?;
    let script = format!("cd /usr/bin; ./whoami; {}", copy.display());
    prints("/usr/bin/whoami", &script, "root\n")?;
    // The directory is a link on merged-usr machines; the rule means both.
    prints("/bin/whoami", "/usr/bin/whoami; echo end", "end\n")
}

fn child_cgroup_does_not_escape() -> Result<(), Failed> {
    let script = "\
        own=$(sed -n s/^0:://p /proc/self/cgroup); \
        mount=$(awk '$3 == \"cgroup2\" { print $2; exit }' /proc/mounts); \
        mkdir -p $mount$own/a/b && echo $$ > $mount$own/a/b/cgroup.procs && echo moved; \
        whoami; echo $$ > $mount$own/cgroup.procs; rmdir $mount$own/a/b $mount$own/a; echo end";
    prints("whoami", script, "moved\nend\n")
}

fn exit_status_is_the_commands() -> Result<(), Failed> {
    for (script, expected) in [("exit 0", 0), ("exit 7", 7), ("kill -USR1 $$", 128 + 10)] {
        let code = run("whoami", &["sh", "-c", script]).status.code();
        ensure!(
            code == Some(expected),
            "{script}: {code:?}, expected {expected}"
        );
    }
    let missing = run("whoami", &["/nonexistent/program"]);
    ensure!(
        missing.status.code() == Some(127),
        "missing program: {:?}",
        missing.status
    );
    ensure!(
        text(&missing.stderr).contains("/nonexistent/program: No such file"),
        "{}",
        text(&missing.stderr)
    );
    Ok(())
}

/// As where a seccomp filter does not know clone3.
fn a_refused_clone_is_no_reason() -> Result<(), Failed> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "inject=clone3:error=ENOSYS", "-o", "/dev/null"]);
    let script =
        "sed -n s/^0::.*execblock-run-[0-9]*$/joined/p /proc/self/cgroup; whoami; echo end";
    strace.arg(env!("CARGO_BIN_EXE_execblock"));
    strace.args(["run", "--deny", "whoami", "--", "sh", "-c", script]);
    let output = strace.output()?;
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    ensure!(out == "joined\nend\n", "printed {out:?}; stderr {err:?}");
    Ok(())
}

fn signal_reaches_the_command() -> Result<(), Failed> {
    let script = "trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = execblock()
        .args(["run", "--deny", "whoami", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    ensure!(
        lines.next().transpose()?.as_deref() == Some("ready"),
        "it did not start"
    );
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id())?).ok_or("no pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    ensure!(
        lines.next().transpose()?.as_deref() == Some("got"),
        "the signal did not arrive"
    );
    let status = child.wait()?;
    ensure!(
        status.code() == Some(5),
        "{status} (signal {:?})",
        status.signal()
    );
    Ok(())
}

fn nothing_is_left_behind() -> Result<(), Failed> {
    execblock().arg("unload").output()?;
    prints("whoami", "echo $$ >/dev/null; echo end", "end\n")?;
    ensure!(!fs::exists("/sys/fs/bpf/execblock")?, "the pins are left");
    let left = &our_cgroups()? - &BEFORE;
    ensure!(left.is_empty(), "cgroups are left: {left:?}");
    Ok(())
}

/// What others left there is not ours to judge.
static BEFORE: LazyLock<BTreeSet<String>> =
    LazyLock::new(|| our_cgroups().expect("find lists cgroups"));

fn our_cgroups() -> io::Result<BTreeSet<String>> {
    let output = Command::new("sh")
        .args(["-c", "find /sys/fs/cgroup -name 'execblock-*'"])
        .output()?;
    Ok(text(&output.stdout).lines().map(str::to_owned).collect())
}

/// A process in a bound cgroup stays under the rules when `execblock run` is
/// killed, and the pins keep fields that bpftool can print.
fn pins_hold_without_a_process() -> Result<(), Failed> {
    let script = "read go; whoami; echo status $?";
    let mut child = execblock()
        .args([
            "run",
            "--deny",
            "whoami",
            "--",
            "sh",
            "-c",
            &format!("echo ready; {script}"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    ensure!(
        lines.next().transpose()?.as_deref() == Some("ready"),
        "it did not start"
    );
    // SIGKILL: it can neither forward nor clean up. Its pipe end stays open in
    // the command, which is a child of its own.
    let stdin = child.stdin.take();
    child.kill()?;
    child.wait()?;
    drop(stdin);
    let line = lines.next().transpose()?;
    let refused = matches!(line.as_deref(), Some("status 126" | "status 137"));
    ensure!(refused, "after the kill: {line:?}");
    // The next command cleans up.
    execblock().arg("unload").output()?;
    nothing_is_left_behind()
}

fn foreign_pins_are_refused() -> Result<(), Failed> {
    execblock().arg("load").output()?;
    let result = with_foreign_abi();
    execblock().arg("unload").output()?;
    result
}

fn with_foreign_abi() -> Result<(), Failed> {
    // A config value whose first field is another ABI version.
    let mut value = vec!["0"; 24];
    value[0] = "99";
    let mut bpftool = Command::new("bpftool");
    bpftool.args(["map", "update", "pinned", "/sys/fs/bpf/execblock/config"]);
    bpftool
        .args(["key", "0", "0", "0", "0", "value"])
        .args(value);
    let output = bpftool.output()?;
    ensure!(output.status.success(), "bpftool: {}", text(&output.stderr));
    for arguments in [&["load"][..], &["run", "--deny", "whoami", "--", "true"]] {
        let output = execblock().args(arguments).output()?;
        let err = text(&output.stderr);
        ensure!(
            output.status.code() == Some(1),
            "{arguments:?}: {:?}",
            output.status
        );
        ensure!(
            err.contains("ABI version 99, expected 6: a newer execblock made them"),
            "{arguments:?}: {err}"
        );
    }
    Ok(())
}

fn full_map_is_refused() -> Result<(), Failed> {
    execblock().arg("unload").output()?;
    let load = execblock().args(["load", "--max-rules", "32"]).output()?;
    let result = (|| {
        ensure!(load.status.success(), "load: {}", text(&load.stderr));
        let many: Vec<String> = (0..33).map(|n| format!("program{n}")).collect();
        let output = run(&many.join(","), &["true"]);
        let err = text(&output.stderr);
        ensure!(output.status.code() == Some(1), "{:?}", output.status);
        ensure!(err.contains("the map rules is full"), "{err}");
        // Nothing half-applied: what fits still does.
        prints("whoami", "whoami; echo end", "end\n")
    })();
    execblock().arg("unload").output()?;
    result
}

/// A cgroup with a process in it, as any engine makes one.
struct Running {
    place: Place,
    child: Child,
}

impl std::ops::Deref for Running {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

/// A cgroup: its directory, and its path in the hierarchy.
struct Place {
    dir: PathBuf,
    path: String,
}

impl Running {
    fn new(name: &str) -> Result<Self, Failed> {
        Self::with(name, |_| {})
    }

    /// With a process as `configure` makes it.
    fn with(name: &str, configure: impl FnOnce(&mut Command)) -> Result<Self, Failed> {
        let path = format!("/execblock-test-{name}");
        let dir = Hierarchy::find()?.mount().join(&path[1..]);
        fs::create_dir_all(&dir)?;
        let mut command = Command::new("sleep");
        command.arg("1000");
        configure(&mut command);
        let child = joining(&mut command, &dir).spawn()?;
        let place = Place { dir, path };
        Ok(Self { place, child })
    }
}

impl Place {
    fn query(&self) -> String {
        format!("cgroup:{}", self.path)
    }

    /// `execblock VERB` on it, which must succeed.
    fn order(&self, verb: &str, arguments: &[&str]) -> Result<String, Failed> {
        let mut command = execblock();
        command.args([verb, &self.query()]).args(arguments);
        let output = command.output()?;
        ensure!(
            output.status.success(),
            "{verb} {arguments:?}: {}",
            text(&output.stderr)
        );
        Ok(text(&output.stdout))
    }

    /// Whether the program runs in it.
    fn runs(&self, program: &str) -> Result<bool, Failed> {
        runs_in(&self.dir, program)
    }
}

/// Whether the program runs in the cgroup of that directory.
fn runs_in(dir: &Path, program: &str) -> Result<bool, Failed> {
    let mut command = Command::new(program);
    command.stdout(Stdio::piped());
    match joining(&mut command, dir).output() {
        Ok(output) if output.status.success() => Ok(true),
        Ok(output) if output.status.signal() == Some(9) => Ok(false),
        Ok(output) => Err(format!("{program}: {:?}", output.status).into()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        execblock().args(["clear", &self.query()]).output().ok();
        fs::remove_dir(&self.dir).ok();
    }
}

/// The command joins the cgroup before it execs.
fn joining<'a>(command: &'a mut Command, dir: &Path) -> &'a mut Command {
    use std::os::unix::process::CommandExt as _;
    let procs = dir.join("cgroup.procs");
    // SAFETY: only opens and writes a file.
    unsafe { command.pre_exec(move || fs::write(&procs, "0")) }
}

/// A map that only the dead fill takes one more, and that one's record stays.
fn full_map_forgets_the_dead() -> Result<(), Failed> {
    execblock().arg("unload").output()?;
    let load = execblock()
        .args(["load", "--max-containers", "1"])
        .output()?;
    ensure!(load.status.success(), "load: {}", text(&load.stderr));
    let result = (|| {
        let mut gone = Running::new("gone")?;
        gone.order("deny", &["id"])?;
        gone.child.kill()?;
        gone.child.wait()?;
        let began = Instant::now();
        while fs::remove_dir(&gone.dir).is_err() {
            ensure!(began.elapsed() < Duration::from_mins(1), "it stays");
        }
        let next = Running::new("next")?;
        next.order("deny", &["whoami"])?;
        ensure!(!next.runs("whoami")?, "not bound");
        let status = next.order("status", &[])?;
        ensure!(status.contains("deny whoami, command line"), "{status}");
        Ok(())
    })();
    execblock().arg("unload").output()?;
    result
}
