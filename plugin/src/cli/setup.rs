//! `execblock setup`

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::{Args as ClapArgs, ValueEnum};

use super::{FAILED, Failure};
use crate::engines::{
    EditError, containerd, docker,
    files::{self, Edit},
    hooks_d,
};

/// Tell an engine to have its annotated containers bound.
///
/// Shows what changes, keeps what was there in FILE.execblock-backup, and changes
/// nothing that it does not understand. Doing it twice changes nothing.
#[derive(Debug, ClapArgs)]
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

/// Read after most others, so that the others' directories are known.
const CRIO_DROP_IN: &str = "/etc/crio/crio.conf.d/90-execblock.conf";

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
        let wanted = edit.after.as_deref().is_some_and(has);
        if self.engine == Engine::Containerd && wanted && !has(&dump) {
            return Err(Failure::new(
                FAILED,
                format!(
                    "{path}: a file under `imports` replaces the table with our runtime: name that \
                     file by --config; nothing was changed"
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
            return edit(path, before, after.map(Some));
        };
        let drop_in = self.drop_in(&path, &dir);
        let after = containerd::drop_in(main, &wrapper);
        let mut edits = edit(drop_in.clone(), files::read(&drop_in)?, after.map(Some))?;
        let after = containerd::add(before.as_deref(), 3, None);
        edits.extend(edit(path, before, after.map(Some))?);
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
        let dirs = dirs(files.into_iter().chain(drop_ins), hooks_d::podman_dirs)?;
        let usual = vec![hooks_d::DIR.into()];
        let dir = dirs.unwrap_or(usual).pop();
        let dir = dir.unwrap_or_else(|| hooks_d::DIR.into());
        let dir = self.below_root(&dir.to_string_lossy());
        if self.remove && self.below_root(CRIO_DROP_IN).exists() {
            log::warn!(
                "{} stays: CRI-O reads it too (execblock setup crio --remove)",
                dir.display()
            );
            return Ok(Vec::new());
        }
        self.hook_edit(&dir)
    }

    fn crio(&self) -> Result<Vec<Edit>, Failure> {
        let drop_in = self.below_root(CRIO_DROP_IN);
        let main = self.config("/etc/crio/crio.conf");
        let others = drop_ins(&self.below_root("/etc/crio/crio.conf.d"))
            .into_iter()
            .filter(|path| *path != drop_in);
        let others: Vec<PathBuf> = others.collect();
        let later = others.iter().filter(|path| **path > drop_in).cloned();
        if let Some(last) = dirs(later, hooks_d::crio_dirs)?
            && !last.iter().any(|dir| dir == Path::new(hooks_d::DIR))
            && !self.remove
        {
            // Closed: the later one would win, and no hook be called.
            return Err(Failure::new(
                FAILED,
                format!(
                    "a file after {} sets crio.runtime.hooks_dir to {last:?}: add {:?} to it",
                    drop_in.display(),
                    hooks_d::DIR
                ),
            ));
        }
        let dirs = dirs([main].into_iter().chain(others), hooks_d::crio_dirs)?;
        let dirs = dirs.unwrap_or_else(|| vec![hooks_d::PACKAGED_DIR.into()]);
        let before = files::read(&drop_in)?;
        let after = (!self.remove).then(|| hooks_d::crio_drop_in(&dirs));
        let mut edits = self.hook_edit(&self.below_root(hooks_d::DIR))?;
        edits.extend(edit(drop_in, before, Ok(after))?);
        Ok(edits)
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
        let usual = ["/usr/local/bin/execblock-runc", "/usr/bin/execblock-runc"];
        let path = installed(self.wrapper.as_ref(), "execblock-runc", "--wrapper", &usual)?;
        Ok(path.to_string_lossy().into_owned())
    }

    fn hook(&self) -> Result<PathBuf, Failure> {
        let usual = [
            "/usr/local/libexec/execblock/execblock-hook",
            "/usr/libexec/execblock/execblock-hook",
        ];
        installed(self.hook.as_ref(), "execblock-hook", "--hook", &usual)
    }
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

/// `hooks_dir` of the last file that has one.
fn dirs(
    files: impl Iterator<Item = PathBuf>,
    dirs: fn(&str) -> Result<Option<Vec<PathBuf>>, EditError>,
) -> Result<Option<Vec<PathBuf>>, Failure> {
    let mut last = None;
    for path in files {
        let text = files::read(&path)?.unwrap_or_default();
        let found = dirs(&text).map_err(|error| refused(&path, &error))?;
        last = found.or(last);
    }
    Ok(last)
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

/// Where a program of ours is: as told, beside this one, or in a usual place.
fn installed(
    told: Option<&PathBuf>,
    name: &str,
    flag: &str,
    usual: &[&str],
) -> Result<PathBuf, Failure> {
    let mut places = Vec::new();
    if let Some(path) = told {
        places.push(path.clone());
    } else {
        if let Some(dir) = env::current_exe()?.parent() {
            places.push(dir.join(name));
            places.push(dir.join("../libexec/execblock").join(name));
        }
        places.extend(usual.iter().map(PathBuf::from));
    }
    let found = places.iter().find_map(|path| path.canonicalize().ok());
    found.ok_or_else(|| {
        let places: Vec<String> = places
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        Failure::new(
            FAILED,
            format!(
                "{name} is not installed; looked at {} ({flag} PATH names another)",
                places.join(", ")
            ),
        )
    })
}

/// The version of the file that this machine's containerd would write: 3 from
/// containerd 2 on.
fn config_version() -> i64 {
    let output = Command::new("containerd").arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    // "containerd github.com/containerd/containerd/v2 2.1.4 75cb2b7…"
    let old = text.is_ok_and(|text| {
        let mut words = text.split_whitespace();
        words.any(|word| word.trim_start_matches('v').starts_with("1."))
    });
    if old { 2 } else { 3 }
}
