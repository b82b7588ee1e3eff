//! `cargo xtask fuzz`: the fuzz targets for a while, as many at once as is said,
//! and one line of what came of each.

mod libfuzzer;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    thread,
};

use anyhow::{Context, Result, bail};

use self::libfuzzer::Summary;
use crate::host;

/// Bytes in memory, in MiB, and seconds for one input, at which a target is taken to
/// have failed.
const MEMORY: u32 = 2048;
const PATIENCE: u32 = 10;

/// The target's triple, which fuzz/.cargo/config.toml names too.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only these targets [default: all]
    targets: Vec<String>,
    /// How long each of them runs
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
    /// How many run at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
}

pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let fuzz = host::checkout().join("fuzz");
    let targets = chosen(all(&fuzz.join("src/bin"))?, &arguments.targets)?;
    build(&fuzz, &targets)?;
    // What a run writes besides: of it there is much, and none of it is kept.
    let memory = Path::new("/dev/shm");
    let scratch = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }?;
    let queue = Mutex::new(targets.into_iter());
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    let work = || -> Result<bool> {
        let mut good = true;
        while let Some(target) = next() {
            good &= one(&fuzz, &target, arguments.minutes, scratch.path())?;
        }
        Ok(good)
    };
    println!("{}", libfuzzer::HEADER);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.jobs).map(|_| scope.spawn(work)).collect();
        let mut good = true;
        for worker in workers {
            good &= worker.join().ok().context("a thread panicked")??;
        }
        Ok(good)
    })
}

/// The names of all targets: of their programs' sources.
fn all(sources: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(sources).with_context(|| sources.display().to_string())?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        names.extend(
            path.file_stem()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    names.sort_unstable();
    Ok(names)
}

fn chosen(all: Vec<String>, wanted: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        bail!("no target {unknown:?}: there are {}", all.join(", "));
    }
    let is_wanted = |name: &String| wanted.is_empty() || wanted.contains(name);
    Ok(all.into_iter().filter(is_wanted).collect())
}

fn build(fuzz: &Path, targets: &[String]) -> Result<()> {
    let mut cargo = host::cargo();
    cargo.args(["build", "--profile", "fuzz", "--features", "libfuzzer"]);
    for target in targets {
        cargo.args(["--bin", target]);
    }
    // From there, for its own flags.
    host::run(cargo.current_dir(fuzz))
}

/// Runs a target and says what came of it; whether nothing was found.
fn one(fuzz: &Path, target: &str, minutes: u32, scratch: &Path) -> Result<bool> {
    let corpus = fuzz.join("corpus").join(target);
    let found = fuzz.join("findings").join(target);
    for folder in [&corpus, &found] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let log = found.join("log");
    let output = File::create(&log).with_context(|| log.display().to_string())?;
    let program = fuzz.join("target").join(TRIPLE).join("fuzz").join(target);
    let mut command = Command::new(&program);
    command
        .arg(&corpus)
        .arg(fuzz.join("seeds").join(target))
        .arg(format!("-dict={}", fuzz.join("words.dict").display()))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .arg(format!("-max_total_time={}", u64::from(minutes) * 60))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-timeout={PATIENCE}"))
        .arg("-print_final_stats=1")
        .current_dir(fuzz)
        .env("TMPDIR", scratch)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let status = command
        .status()
        .with_context(|| program.display().to_string())?;
    let text = fs::read(&log).with_context(|| log.display().to_string())?;
    let summary = Summary::of(&String::from_utf8_lossy(&text));
    println!("{}", summary.line(target));
    if status.success() {
        return Ok(true);
    }
    println!("  {}: {status}, see {}", target, log.display());
    let input = summary.input.map(PathBuf::from);
    if let Some(input) = input {
        println!("  {}", summary.reason);
        println!("  again: {} {}", program.display(), input.display());
        println!("  to keep: fuzz/seeds/{target}/, with the change that mends it");
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_chosen_by_name() -> Result<()> {
        let all = || vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(chosen(all(), &[])?, all());
        assert_eq!(chosen(all(), &["b".to_owned()])?, ["b"]);
        let error = chosen(all(), &["c".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "no target \"c\": there are a, b");
        Ok(())
    }

    #[test]
    fn each_target_has_seeds() -> Result<()> {
        let fuzz = host::checkout().join("fuzz");
        let targets = all(&fuzz.join("src/bin"))?;
        assert!(targets.contains(&"nri".to_owned()), "{targets:?}");
        for target in targets {
            assert!(fuzz.join("seeds").join(&target).is_dir(), "{target}");
        }
        Ok(())
    }
}
