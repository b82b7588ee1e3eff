//! Events of this machine's own kernel, by `signal`.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::{Running, execblock, text};

/// The schema that docs/events.md promises.
fn schema() -> Result<jsonschema::Validator, Failed> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/events.md");
    let page = fs::read_to_string(page)?;
    let (_, schema) = page.split_once("```json\n").ok_or("no schema")?;
    let (schema, _) = schema.split_once("\n```").ok_or("an endless schema")?;
    let schema: Value = serde_json::from_str(schema)?;
    Ok(jsonschema::draft202012::new(&schema)?)
}

fn events(arguments: &[&str]) -> Result<Vec<Value>, Failed> {
    let output = execblock()
        .args(["events", "-o", "json"])
        .args(arguments)
        .output()?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    let schema = schema()?;
    let mut events = Vec::new();
    for line in text(&output.stdout).lines() {
        let event: Value = serde_json::from_str(line)?;
        if let Err(error) = schema.validate(&event) {
            return Err(format!("{line}: {error}").into());
        }
        events.push(event);
    }
    Ok(events)
}

/// A copy of whoami, whose name marks the events of one test.
fn program(dir: &tempfile::TempDir, name: &str) -> Result<String, Failed> {
    let path = dir.path().join(name);
    fs::copy("/usr/bin/whoami", &path)?;
    Ok(path.display().to_string())
}

/// A name that no run before had: the journal is the machine's.
fn own(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

/// What a command was refused is told after it, and after all of execblock is gone.
pub(crate) fn outlive_the_command() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let name = own("event-alone");
    let program = program(&dir, &name)?;
    execblock().arg("unload").output()?;
    let script = format!("{program} x; true");
    let run = ["run", "--deny", "event-*", "--", "sh", "-c", &script];
    execblock().args(run).output()?;
    let events = events(&[])?;
    let of_program = |event: &&Value| event["resolved"] == name.as_str();
    let found: Vec<&Value> = events.iter().filter(of_program).collect();
    ensure!(found.len() == 1, "{found:?} of {} events", events.len());
    let event = found[0];
    for (field, expected) in [
        ("event", "exec"),
        ("verdict", "killed"),
        ("mechanism", "signal"),
        ("rule", "event-*"),
        ("origin", "command-line"),
        ("requested", &program),
        ("argv0", &program),
        ("parent_program", "sh"),
        ("engine", "execblock run"),
        ("name", "sh"),
    ] {
        ensure!(event[field] == expected, "{field}: {event}");
    }
    let text_form = execblock().arg("events").output()?;
    ensure!(
        text(&text_form.stdout).contains("killed  \"/") && !text_form.stdout.contains(&0x1b),
        "{}",
        text(&text_form.stdout)
    );
    Ok(())
}

/// Names that are no text, and longer than what is told.
pub(crate) fn forge_nothing() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let program = program(&dir, "event-\n\u{1b}[2J\u{2028}\"")?;
    let long = format!("{}{program}", "/.".repeat(200));
    let output = execblock()
        .args(["run", "--deny", "event-*", "--", "sh", "-c"])
        .args(["\"$0\" a; exit 0", &long])
        .output()?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    let events = events(&["--since", "1m"])?;
    let cut = events.iter().rfind(|event| event["requested_cut"] == true);
    let cut = cut.ok_or("no long one")?;
    ensure!(
        cut["requested"]
            .as_str()
            .is_some_and(|name| name.len() == 255),
        "{cut}"
    );
    let shown = execblock().args(["events", "--since", "1m"]).output()?;
    let shown = text(&shown.stdout);
    ensure!(shown.contains("event-\\n\\u{1b}[2J"), "{shown}");
    ensure!(!shown.contains("\u{1b}[2J"), "{shown}");
    ensure!(
        shown.lines().all(|line| line.starts_with("20")),
        "a forged line: {shown}"
    );
    Ok(())
}

/// Two followers at once, of which one takes the events out of the kernel. When that
/// one is killed the other takes over.
pub(crate) fn have_many_readers() -> Result<(), Failed> {
    execblock().arg("load").output()?;
    let result = with_readers();
    execblock().arg("unload").output()?;
    result
}

struct Reader {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Reader {
    fn start() -> Result<Self, Failed> {
        let mut command = execblock();
        command.args(["events", "--follow", "-o", "json"]);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        Ok(Self { child, lines })
    }

    /// Reads up to an event of this program.
    fn sees(&mut self, name: &str) -> Result<(), Failed> {
        for line in self.lines.by_ref() {
            let event: Value = serde_json::from_str(&line?)?;
            if event["resolved"] == name {
                return Ok(());
            }
        }
        Err(format!("it ended before it told of {name}").into())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

/// The program is denied in the cgroup, and refused.
fn refused(running: &Running, dir: &tempfile::TempDir, name: &str) -> Result<(), Failed> {
    running.order("deny", &[name])?;
    ensure!(!running.runs(&program(dir, name)?)?, "{name} ran");
    Ok(())
}

fn with_readers() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    // Not by `run`, which takes its own events out of the kernel.
    let running = Running::new("event-readers")?;
    let refuse = |name: &str| refused(&running, &dir, name);
    let names = ["event-first", "event-second", "event-third"].map(own);
    let [one, two, three] = &names;
    let (mut first, mut second) = (Reader::start()?, Reader::start()?);
    refuse(one)?;
    first.sees(one)?;
    second.sees(one)?;
    drop(first);
    refuse(two)?;
    second.sees(two)?;
    let mut third = Reader::start()?;
    refuse(three)?;
    second.sees(three)?;
    third.sees(three)?;
    // Each was written once.
    for name in &names {
        let all = events(&[])?;
        let is_it = |event: &&Value| event["resolved"] == name.as_str();
        let count = all.iter().filter(is_it).count();
        ensure!(count == 1, "{name}: {count} times");
    }
    Ok(())
}

/// A reader whose pipe is closed ends by itself.
pub(crate) fn end_with_their_pipe() -> Result<(), Failed> {
    let Reader { child, lines } = &mut Reader::start()?;
    drop(std::mem::replace(lines, empty()?));
    let status = child.wait()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

fn empty() -> Result<std::io::Lines<BufReader<std::process::ChildStdout>>, Failed> {
    let mut child = Command::new("true").stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    child.wait()?;
    Ok(lines)
}

/// A reader goes on when the programs were unloaded and others were loaded, and when
/// others took their place.
pub(crate) fn go_on_after_a_reload() -> Result<(), Failed> {
    let result = reloaded();
    execblock().arg("unload").output()?;
    result
}

fn reloaded() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    // Nothing is loaded yet.
    execblock().arg("unload").output()?;
    let mut reader = Reader::start()?;
    let running = Running::new("event-reload")?;
    for turn in ["event-load", "event-reload"].map(own) {
        execblock().arg("load").output()?;
        refused(&running, &dir, &turn)?;
        reader.sees(&turn)?;
        execblock().arg("unload").output()?;
    }
    let [before, after] = ["event-before", "event-after"].map(own);
    execblock().arg("load").output()?;
    refused(&running, &dir, &before)?;
    reader.sees(&before)?;
    let load = execblock().args(["load", "--replace"]).output()?;
    ensure!(load.status.success(), "{}", text(&load.stderr));
    refused(&running, &dir, &after)?;
    reader.sees(&after)
}
