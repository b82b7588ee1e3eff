//! `execblock setup`

mod crio;
mod required;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::{Args as ClapArgs, ValueEnum};

use super::{FAILED, Failure};
use crate::{
    engines::{
        self, EditError, containerd, docker,
        files::{self, Edit},
        hooks_d,
    },
    installed::{self, NotInstalled},
};

/// Tell an engine to have its annotated containers bound.
///
/// Shows what changes, keeps what was there in FILE.execblock-backup, and changes
/// nothing that it does not understand. Doing it twice changes nothing.
#[derive(Debug, ClapArgs)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Args {
    engine: Engine,
    /// Show what would change.
    #[arg(long)]
    dry_run: bool,
    /// Take out what setup puts in.
    #[arg(long)]
    remove: bool,
    /// The engine's configuration, where it is not in its usual place.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// containerd 2.2, CRI-O 1.34 and later: no container is created while execblock
    /// nri is not registered, unless its pod tolerates that.
    #[arg(long)]
    required: bool,
    /// Docker: also make it the runtime of containers that name none.
    #[arg(long)]
    default: bool,
    /// Where execblock-runc is installed.
    #[arg(long, value_name = "PATH")]
    wrapper: Option<PathBuf>,
    /// Where execblock-hook is installed.
    #[arg(long, value_name = "PATH")]
    hook: Option<PathBuf>,
    /// Below which directory the files are; no engine is asked then.
    #[arg(long, hide = true)]
    root: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    Containerd,
    Crio,
    Podman,
    Docker,
}

impl Engine {
    /// What must be done for a change to be seen.
    fn next_step(self) -> &'static str {
        match self {
            Self::Containerd => "next: systemctl restart containerd, then run execblock nri",
            Self::Crio => "next: systemctl restart crio",
            Self::Podman => {
                "next: nothing to restart, containers made from now on have the hook; rootless \
                 Podman is not covered: its hooks can't write root's maps"
            }
            // runtimes and default-runtime are among what dockerd reloads.
            Self::Docker => "next: systemctl reload docker, then docker run --runtime execblock …",
        }
    }
}

#[expect(clippy::print_stdout, reason = "the answer to the user")]
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if !args.dry_run && args.is_this_machine() && !rustix::process::geteuid().is_root() {
        return Err(Failure::new(
            FAILED,
            "an engine's configuration is root's: run it as root, or with --dry-run to see what it \
             would change",
        ));
    }
    if args.required {
        args.can_require()?;
    }
    let edits = match args.engine {
        Engine::Containerd => args.containerd()?,
        Engine::Docker => args.docker()?,
        Engine::Podman => args.podman()?,
        Engine::Crio => args.crio()?,
    };
    let edits: Vec<Edit> = edits.into_iter().filter(|edit| !edit.is_empty()).collect();
    if edits.is_empty() {
        println!("nothing to change");
        return Ok(ExitCode::SUCCESS);
    }
    for edit in &edits {
        print!("{}", edit.diff());
    }
    if args.dry_run {
        println!("nothing was changed: this was a dry run");
        return Ok(ExitCode::SUCCESS);
    }
    // All are written and checked before the first is put in place.
    let mut all_staged = Vec::new();
    for edit in &edits {
        let staged = edit.stage()?;
        if args.is_this_machine() && edit.after.is_some() {
            args.check(edit, staged.path())?;
        }
        all_staged.push(staged);
    }
    for (edit, staged) in edits.iter().zip(all_staged) {
        edit.apply(staged)?;
        if edit.before.is_some() {
            println!("what was there is in {}", edit.backup().display());
        }
    }
    println!("{}", args.engine.next_step());
    if let Some(key) = edits.iter().find_map(|edit| args.toleration(edit)) {
        println!("{}", required::who_must_tolerate(&key));
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn is_this_machine(&self) -> bool {
        self.root.is_none()
    }

    fn below_root(&self, path: &str) -> PathBuf {
        let root = self.root.as_deref().unwrap_or(Path::new("/"));
        root.join(path.trim_start_matches('/'))
    }

    /// Lets the engine read the new text, where it is installed and can. Closed:
    /// what it does not take is not put in place.
    fn check(&self, edit: &Edit, staged: &Path) -> Result<(), Failure> {
        let mut command = match self.engine {
            Engine::Containerd => Command::new("containerd"),
            Engine::Docker => Command::new("dockerd"),
            Engine::Crio | Engine::Podman => return Ok(()),
        };
        match self.engine {
            Engine::Containerd => command.arg("--config").arg(staged).args(["config", "dump"]),
            _ => command.args(["--validate", "--config-file"]).arg(staged),
        };
        let Ok(output) = command.output() else {
            log::warn!("{command:?} could not be started: the engine has not read the new file");
            return Ok(());
        };
        let said = String::from_utf8_lossy(&output.stderr);
        // Docker before 23 has no --validate.
        if said.contains("unknown flag: --validate") {
            return Ok(());
        }
        let path = edit.path.display();
        if !output.status.success() {
            let message = format!("{path}: the engine refuses the new text: {}", said.trim());
            return Err(Failure::new(
                FAILED,
                format!("{message}; nothing was changed"),
            ));
        }
        let dump = String::from_utf8_lossy(&output.stdout);
        let has = |text: &str| text.contains("runtimes.execblock");
        let is_required = |text: &str| engines::required::toleration(text).is_some();
        let wanted = edit.after.as_deref().is_some_and(has);
        let is_lost =
            wanted && !has(&dump) || self.toleration(edit).is_some() && !is_required(&dump);
        if self.engine == Engine::Containerd && is_lost {
            return Err(Failure::new(
                FAILED,
                format!(
                    "{path}: a file under `imports` replaces the table with our runtime or our \
                     plugin: name that file by --config; nothing was changed"
                ),
            ));
        }
        Ok(())
    }

    fn config(&self, usual: &str) -> PathBuf {
        let usual = || self.below_root(usual);
        self.config.clone().unwrap_or_else(usual)
    }

    fn containerd(&self) -> Result<Vec<Edit>, Failure> {
        let path = self.config("/etc/containerd/config.toml");
        let before = files::read(&path)?;
        let main = before.as_deref().unwrap_or_default();
        let dir = containerd::drop_in_dir(main).map_err(|error| refused(&path, &error))?;
        if self.remove && self.required {
            let after = engines::required::remove(before.as_deref());
            return edit(path, before, after);
        }
        if self.remove {
            let after = containerd::remove(before.as_deref());
            let mut edits = edit(path.clone(), before, after)?;
            if let Some(dir) = dir {
                let drop_in = self.drop_in(&path, &dir);
                let before = files::read(&drop_in)?;
                let after = containerd::remove(before.as_deref());
                edits.extend(edit(drop_in, before, after)?);
            }
            return Ok(edits);
        }
        let wrapper = self.wrapper()?;
        let Some(dir) = dir else {
            let version = config_version();
            let after = containerd::add(before.as_deref(), version, Some(&wrapper));
            return edit(path, before, self.require(after).map(Some));
        };
        let drop_in = self.drop_in(&path, &dir);
        let after = containerd::drop_in(main, &wrapper);
        let mut edits = edit(drop_in.clone(), files::read(&drop_in)?, after.map(Some))?;
        let after = containerd::add(before.as_deref(), 3, None);
        edits.extend(edit(path, before, self.require(after).map(Some))?);
        Ok(edits)
    }

    /// Our file in a directory that the main one imports; a relative one is beside
    /// it.
    fn drop_in(&self, main: &Path, dir: &Path) -> PathBuf {
        let dir = if dir.is_absolute() {
            self.below_root(&dir.to_string_lossy())
        } else {
            main.parent().unwrap_or(Path::new("/")).join(dir)
        };
        dir.join("90-execblock.toml")
    }

    fn docker(&self) -> Result<Vec<Edit>, Failure> {
        let path = self.config("/etc/docker/daemon.json");
        let before = files::read(&path)?;
        let after = if self.remove {
            docker::remove(before.as_deref())
        } else {
            docker::add(before.as_deref(), &self.wrapper()?, self.default).map(Some)
        };
        edit(path, before, after)
    }

    fn podman(&self) -> Result<Vec<Edit>, Failure> {
        let usual = "/etc/containers/containers.conf";
        let files = [
            self.below_root("/usr/share/containers/containers.conf"),
            self.config(usual),
        ];
        let drop_ins = drop_ins(&self.below_root("/etc/containers/containers.conf.d"));
        let mut dirs = None;
        for path in files.into_iter().chain(drop_ins) {
            let text = files::read(&path)?.unwrap_or_default();
            let found = hooks_d::podman_dirs(&text).map_err(|error| refused(&path, &error))?;
            dirs = found.or(dirs);
        }
        // Podman reads no other one by itself: a hook elsewhere is never called, and
        // annotated containers start unbound.
        let dir = dirs.and_then(|mut dirs| dirs.pop());
        let dir = dir.unwrap_or_else(|| hooks_d::PACKAGED_DIR.into());
        let dir = self.below_root(&dir.to_string_lossy());
        let shared = dir == self.below_root(hooks_d::DIR);
        if self.remove && shared && self.below_root(crio::DROP_IN).exists() {
            log::warn!(
                "{} stays: CRI-O reads it too (execblock setup crio --remove)",
                dir.display()
            );
            return Ok(Vec::new());
        }
        self.hook_edit(&dir)
    }

    /// The hook's file in a directory of hooks.
    fn hook_edit(&self, dir: &Path) -> Result<Vec<Edit>, Failure> {
        let path = dir.join("execblock.json");
        let before = files::read(&path)?;
        if before
            .as_deref()
            .is_some_and(|text| !hooks_d::is_ours(text))
        {
            return Err(Failure::new(
                FAILED,
                format!(
                    "{}: the hook in it is not execblock-hook; move the file away",
                    path.display()
                ),
            ));
        }
        let after = if self.remove {
            Ok(None)
        } else {
            hooks_d::hook_json(&self.hook()?).map(Some)
        };
        edit(path, before, after)
    }

    fn wrapper(&self) -> Result<String, Failure> {
        let path = installed::WRAPPER.find(self.wrapper.as_deref());
        let path = path.map_err(|error| named_by("--wrapper", &error))?;
        Ok(path.to_string_lossy().into_owned())
    }

    fn hook(&self) -> Result<PathBuf, Failure> {
        let path = installed::HOOK.find(self.hook.as_deref());
        path.map_err(|error| named_by("--hook", &error))
    }
}

fn named_by(flag: &str, error: &NotInstalled) -> Failure {
    Failure::new(FAILED, format!("{error} ({flag} PATH names another)"))
}

fn edit(
    path: PathBuf,
    before: Option<String>,
    after: Result<Option<String>, EditError>,
) -> Result<Vec<Edit>, Failure> {
    let after = after.map_err(|error| refused(&path, &error))?;
    Ok(vec![Edit {
        path,
        before,
        after,
    }])
}

fn refused(path: &Path, error: &EditError) -> Failure {
    let path = path.display();
    Failure::new(FAILED, format!("{path}: {error}; nothing was changed"))
}

/// The drop-ins of a directory, in the order in which they are read.
fn drop_ins(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "conf"))
        .collect();
    files.sort();
    files
}

/// The version of the file that this machine's containerd would write: 3 from
/// containerd 2 on.
fn config_version() -> i64 {
    let output = Command::new("containerd").arg("--version").output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let version = said.ok().and_then(|said| engines::version::of(&said));
    match version {
        Some((..=1, _)) => 2,
        _ => 3,
    }
}
