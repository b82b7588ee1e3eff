//! A container of the suite, which the runtime wrapper binds, and the run of a plan in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::image;
use super::technique::{Needs, Row};
use super::verdict::Said;
use crate::containerd;
use crate::process::{self, Output};
use crate::protocol;

const NAMESPACE: &str = "vmtest";
/// The volume: the plan goes in, the results come out, and programs lie in it.
pub(super) const VOLUME: &str = "/run/vmtest/evasion";
/// All of a plan, which is some hundred techniques.
const PLAN_LIMIT: Duration = Duration::from_mins(4);
/// One technique; those that lose a race on purpose take longest.
const TECHNIQUE_MILLIS: u32 = 10_000;

/// Has containerd running, and the image in its store.
pub(super) fn prepare() -> Result<()> {
    containerd::ensure()?;
    fs::create_dir_all(VOLUME)?;
    image::fill_volume(Path::new(VOLUME))?;
    let images = ctr(&["images", "list", "--quiet"])?.success()?;
    if !images.stdout.contains(image::NAME) {
        let path = format!("{}/evasion.tar", containerd::STATE);
        image::write(&path)?;
        ctr(&["images", "import", &path])?.success()?;
        fs::remove_file(&path)?;
    }
    Ok(())
}

fn ctr(args: &[&str]) -> Result<Output> {
    let mut command = process::command("ctr");
    process::run_within(
        command.args(["--namespace", NAMESPACE]).args(args),
        PLAN_LIMIT,
    )
}

/// Runs the techniques one after another as the only process of a container, which ends with them.
/// The container is privileged: what a technique does not need, it is run without.
pub(super) fn run(
    name: &str,
    annotations: &[(&str, &str)],
    on_host: bool,
    rows: &[Row],
) -> Result<BTreeMap<String, Said>> {
    let (plan, results) = (
        Path::new(VOLUME).join("plan"),
        Path::new(VOLUME).join("results"),
    );
    fs::write(&plan, write_plan(rows))?;
    if results.exists() {
        fs::remove_file(&results)?;
    }
    let command = ["/usr/bin/evade", "batch", "/vol/plan", "/vol/results"];
    let container = Container { name };
    let began = Instant::now();
    container
        .start("--rm", annotations, on_host, &command)?
        .success()
        .with_context(|| format!("a container with {annotations:?}"))?;
    let results = read_results(&fs::read(&results).context("results of the plan")?);
    protocol::note(format_args!(
        "{name}: {} techniques in {} ms",
        rows.len(),
        began.elapsed().as_millis()
    ));
    ensure!(
        results.len() == rows.len(),
        "{} results of {} techniques",
        results.len(),
        rows.len()
    );
    Ok(results)
}

/// One that stays, and in which the engine runs further programs.
pub(super) fn detached<'a>(name: &'a str, annotations: &[(&str, &str)]) -> Result<Container<'a>> {
    let container = Container { name };
    container
        .start("--detach", annotations, false, &["/usr/bin/evade", "idle"])?
        .success()?;
    Ok(container)
}

/// Removed when it is dropped.
pub(super) struct Container<'a> {
    name: &'a str,
}

impl Container<'_> {
    /// What the program says that the engine is asked to run in it.
    pub(super) fn exec(&self, id: &str, program: &str) -> Result<Output> {
        ctr(&["tasks", "exec", "--exec-id", id, self.name, program])
    }

    fn start(
        &self,
        flag: &str,
        annotations: &[(&str, &str)],
        on_host: bool,
        command: &[&str],
    ) -> Result<Output> {
        let pairs: Vec<_> = annotations
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let volume = format!("type=bind,src={VOLUME},dst=/vol,options=rbind:rw");
        let mut args = vec![
            "run",
            flag,
            "--privileged",
            "--runc-binary",
            containerd::WRAPPER,
            "--mount",
            &volume,
        ];
        if on_host {
            args.extend(["--with-ns", "pid:/proc/1/ns/pid"]);
        }
        args.extend(pairs.iter().flat_map(|pair| ["--annotation", pair]));
        args.extend([image::NAME, self.name]);
        args.extend(command);
        ctr(&args)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // Nothing is left of one that ran to its end.
        for args in [
            &["tasks", "rm", "--force", self.name][..],
            &["containers", "rm", self.name],
        ] {
            if let Err(error) = ctr(args) {
                protocol::log(format_args!("remove {}: {error:#}", self.name));
            }
        }
    }
}

/// As tests/helpers/evasion/batch.c reads it.
fn write_plan(rows: &[Row]) -> Vec<u8> {
    let mut plan = String::new();
    for row in rows {
        let needs = match row.technique.needs {
            Needs::Admin => "admin",
            Needs::Nothing | Needs::Userns => "nothing",
        };
        let script = row.script();
        for field in [&row.id(), needs, &TECHNIQUE_MILLIS.to_string(), &script] {
            plan.push_str(field);
            plan.push('\0');
        }
    }
    plan.into_bytes()
}

/// As it writes them.
fn read_results(bytes: &[u8]) -> BTreeMap<String, Said> {
    let text = String::from_utf8_lossy(bytes);
    let fields: Vec<&str> = text.split('\0').collect();
    fields
        .chunks_exact(3)
        .map(|field| {
            let said = Said {
                end: field[1].to_owned(),
                output: field[2].to_owned(),
            };
            (field[0].to_owned(), said)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_three_strings_each() {
        let results = read_results(b"a/b@name\0exit 0\0line\nline\n\0c/d@name\0late\0\0");
        assert_eq!(results.len(), 2);
        assert_eq!(results["a/b@name"].output, "line\nline\n");
        assert_eq!(results["c/d@name"].end, "late");
    }
}
