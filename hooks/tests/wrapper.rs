//! `execblock-runc` in front of runtimes that are scripts: what reaches the
//! runtime, and what becomes of a container whose runtime is missing, crashes,
//! lies, or is the wrapper itself. Needs neither root nor eBPF.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

/// Notes how it was called; `$1` of the template is what it does for `state`.
const SCRIPT: &str = r#"#!/bin/sh
dir=$(dirname "$0")
{ printf '%s|' "$0" "$@"; echo; } >> "$dir/calls"
verb= ; for word; do case $word in state|start|run|restore|delete) verb=$word; break;; esac; done
[ "$verb" = state ] && { STATE; exit; }
exit 7
"#;

const ANNOTATED: &str = r#"{"id":"c1","status":"created","pid":4194305,"bundle":"/nowhere","annotations":{"execblock/deny":"whoami"}}"#;
const BARE: &str = r#"{"id":"c1","status":"created","pid":4194305,"bundle":"/nowhere"}"#;

/// A directory with a link to the wrapper and maybe the runtime that it names.
struct Place {
    dir: TempDir,
    name: &'static str,
}

impl Place {
    fn empty(name: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join(format!("execblock-{name}"));
        symlink(env!("CARGO_BIN_EXE_execblock-runc"), link).unwrap();
        Self { dir, name }
    }

    /// With a runtime that does `state` for that verb, and exits with 7 for others.
    fn with(state: &str) -> Self {
        let place = Self::empty("fake");
        place.script("fake", &SCRIPT.replace("STATE", state));
        place
    }

    fn saying(state: &str) -> Self {
        Self::with(&format!("echo '{state}'"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Written by another process: one that this one has open for writing can't
    /// be executed, and a test beside this one may have inherited it.
    fn script(&self, name: &str, text: &str) {
        let mut install = Command::new("install");
        install
            .args(["-m", "0755", "/dev/stdin"])
            .arg(self.path(name));
        let mut install = install.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = install.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin);
        assert!(install.wait().unwrap().success());
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.path(&format!("execblock-{}", self.name)));
        let path = format!("{}:/usr/bin:/bin", self.dir.path().display());
        command.env("PATH", path).args(args).current_dir(&self.dir);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// The words of each call of the runtime, the program's name first.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let name = format!("{}|", self.path("fake").display());
        calls
            .lines()
            .map(|line| {
                line.strip_prefix(&name)
                    .expect("argv[0] is its path")
                    .to_owned()
            })
            .collect()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn other_verbs_reach_the_runtime_byte_for_byte() {
    for args in [
        &["state", "c1"][..],
        &["--root", "/r", "exec", "c1", "sh", "-c", "run $x \"q\"\n"],
        &["kill", "start", "KILL"],
        &["--version"],
        &["create", "--bundle", "/nowhere", "c1"],
        &["features"],
        &["never heard of", "", "\u{e9}"],
        &[],
    ] {
        let place = Place::with("exit 7");
        let output = place.run(args);
        assert_eq!(
            output.status.code(),
            Some(7),
            "{args:?}: {}",
            stderr(&output)
        );
        let mut words = args.join("|");
        if !args.is_empty() {
            words.push('|');
        }
        let calls = fs::read_to_string(place.path("calls")).unwrap();
        let expected = format!("{}|{words}\n", place.path("fake").display());
        assert_eq!(calls, expected);
    }
}

#[test]
fn a_container_without_annotations_starts() {
    let place = Place::saying(BARE);
    let output = place.run(&["--debug", "--root", "/r", "start", "c1"]);
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    let calls = ["--debug|--root|/r|state|c1|", "--debug|--root|/r|start|c1|"];
    assert_eq!(place.calls(), calls);
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_refusal_is_printed_and_logged() {
    let place = Place::saying(ANNOTATED);
    let log = place.path("log.json");
    fs::write(&log, "{\"level\":\"debug\",\"msg\":\"old\"}\n").unwrap();
    let log_arg = log.to_string_lossy().into_owned();
    let output = place.run(&["--log", &log_arg, "--log-format", "json", "start", "c1"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        place.calls().len(),
        1,
        "start was called: {:?}",
        place.calls()
    );
    let err = stderr(&output);
    // As root the process is looked for; a user gets told that users can't.
    let told = err.contains("process 4194305 is gone") || err.contains("run the container as root");
    assert!(told && err.contains("refused container \"c1\""), "{err}");
    let log = fs::read_to_string(&log).unwrap();
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(last["level"], "error");
    assert_eq!(last["msg"].as_str().unwrap(), err.trim_end());
    assert_eq!(log.lines().count(), 2);
}

#[test]
fn annotations_that_make_no_sense_refuse() {
    for annotation in [
        r#""execblock/deny":"a/b""#,
        r#""execblock/unknown":"x""#,
        r#""execblock/deny":"""#,
        r#""execblock/deny.container.web":"id""#,
    ] {
        let state = format!(r#"{{"id":"c1","annotations":{{{annotation}}}}}"#);
        let output = Place::saying(&state).run(&["start", "c1"]);
        let err = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{annotation}: {err}");
        assert!(err.contains("annotation execblock/"), "{annotation}: {err}");
    }
}

#[test]
fn a_runtime_that_knows_no_such_container_says_so_itself() {
    let place = Place::with("exit 1");
    let output = place.run(&["start", "c1"]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(place.calls(), ["state|c1|", "start|c1|"]);
}

#[test]
fn a_runtime_that_makes_no_sense_starts_nothing() {
    for (state, reason) in [
        ("kill -9 $$", "crashed"),
        ("echo garbage", "not understood"),
        ("echo '[]'", "not understood"),
        ("exit 0", "not understood"),
        ("echo '{\"id\":\"c2\"}'", "it is of \"c2\""),
        ("exec cat /dev/zero", "more than 16777216 bytes"),
    ] {
        let place = Place::with(state);
        let output = place.run(&["start", "c1"]);
        let err = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{state}: {err}");
        assert!(err.contains(reason), "{state}: {err}");
        assert_eq!(place.calls().len(), 1, "{state}: start was called");
    }
}

#[test]
fn no_runtime_is_said_with_where_it_was_looked_for() {
    let place = Place::empty("no-such-runtime");
    let output = place.run(&["start", "c1"]);
    let err = stderr(&output);
    assert_eq!(output.status.code(), Some(127), "{err}");
    assert!(
        err.contains("looked for no-such-runtime in") && err.contains("/usr/bin"),
        "{err}"
    );
}

#[test]
fn the_wrapper_is_no_runtime_for_itself() {
    let place = Place::empty("fake");
    symlink(env!("CARGO_BIN_EXE_execblock-runc"), place.path("fake")).unwrap();
    let output = place.run(&["start", "c1"]);
    assert_eq!(output.status.code(), Some(127), "{}", stderr(&output));
}

#[test]
fn loops_are_cut() {
    // By exec, and as a child.
    for call in ["exec execblock-fake \"$@\"", "execblock-fake \"$@\""] {
        let place = Place::empty("fake");
        place.script("fake", &format!("#!/bin/sh\n{call}\n"));
        for args in [&["start", "c1"][..], &["kill", "c1"], &[]] {
            let output = place.run(args);
            let err = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{call} {args:?}: {err}");
            assert!(err.contains("leads back to this wrapper"), "{call}: {err}");
        }
    }
}

#[test]
fn the_mark_of_another_process_is_no_loop() {
    let place = Place::saying(BARE);
    let mut command = place.command(&["list"]);
    let output = command.env("EXECBLOCK_RUNC_PID", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
}

#[test]
fn a_bundle_without_annotations_is_not_touched() {
    let place = Place::with("exit 9");
    let text = "{ \"annotations\" : {\"a\":\"b\"},\n \"hooks\":{} }";
    fs::write(place.path("config.json"), text).unwrap();
    for args in [
        &["run", "c1"][..],
        &["run", "-d", "--bundle", ".", "c1"],
        &["restore", "c1"],
    ] {
        let output = place.run(args);
        assert_eq!(
            output.status.code(),
            Some(7),
            "{args:?}: {}",
            stderr(&output)
        );
    }
    assert_eq!(fs::read_to_string(place.path("config.json")).unwrap(), text);
    // Nor one that is not there: the runtime says so.
    let output = place.run(&["run", "-b", "/nowhere", "c1"]);
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn an_annotated_bundle_gets_the_hook_or_is_refused() {
    let config = r#"{"ociVersion":"1.0.2","annotations":{"execblock/deny":"id"},"x":1}"#;
    for (name, args) in [
        ("config.json", &["run", "c1"][..]),
        ("other.json", &["run", "-f", "other.json", "c1"]),
    ] {
        let place = Place::with("exit 9");
        fs::write(place.path(name), config).unwrap();
        let output = place.run(args);
        let (err, found) = (
            stderr(&output),
            fs::read_to_string(place.path(name)).unwrap(),
        );
        if output.status.code() == Some(7) {
            let found: serde_json::Value = serde_json::from_str(&found).unwrap();
            for stage in ["createRuntime", "poststop"] {
                let path = found["hooks"][stage][0]["path"].as_str().unwrap();
                assert!(path.ends_with("/execblock-hook"), "{path}");
            }
        } else {
            assert!(err.contains("run the container as root"), "{err}");
            assert_eq!(found, config);
        }
    }
    // Restored by a runtime of which it is not known that it runs hooks then.
    let place = Place::with("exit 9");
    fs::write(place.path("config.json"), config).unwrap();
    let output = place.run(&["restore", "--image-path", "/i", "c1"]);
    let err = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.contains("runs no hooks") || err.contains("as root"),
        "{err}"
    );
    assert_eq!(
        fs::read_to_string(place.path("config.json")).unwrap(),
        config
    );
    assert_eq!(place.calls(), [""; 0]);
    // What can't be read as a configuration can't be told from an annotated one.
    fs::write(place.path("config.json"), "{").unwrap();
    let output = place.run(&["run", "c1"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_delete_always_reaches_the_runtime() {
    let place = Place::saying(BARE);
    for args in [
        &["delete", "c1"][..],
        &["delete", "-f", "c1"],
        &["delete", "a/b"],
        &["delete"],
    ] {
        let output = place.run(args);
        assert_eq!(
            output.status.code(),
            Some(7),
            "{args:?}: {}",
            stderr(&output)
        );
    }
}
