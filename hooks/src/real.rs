//! The runtime that the wrapper stands in front of.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// The wrapper's configuration.
pub const CONFIG: &str = "/etc/execblock/config.toml";
/// Where a runtime is looked for besides `PATH`: engines start theirs with few
/// or no directories in it.
const DIRECTORIES: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Runtimes to take where nothing says which.
const USUAL: [&str; 2] = ["runc", "crun"];
/// What names of links to the wrapper begin with: `execblock-crun` is crun.
const LINK_PREFIX: &[u8] = b"execblock-";
/// Says who executed the runtime, so that it does not come back here.
pub const LOOP_VAR: &str = "EXECBLOCK_RUNC_PID";

/// Why no runtime was found or taken.
#[derive(Debug, thiserror::Error)]
pub enum RealError {
    /// None there.
    #[error(
        "no OCI runtime found: looked for {names} in {places}; install one, or set runtime in \
         [wrapper] of {CONFIG}"
    )]
    NotFound {
        /// What was looked for.
        names: String,
        /// Where.
        places: String,
    },
    /// The configured one is no program.
    #[error("{CONFIG}: [wrapper] runtime = {0:?} is not an executable file other than this one")]
    NotRunnable(PathBuf),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It came back.
    #[error(
        "the runtime {0} leads back to this wrapper; set runtime in [wrapper] of {CONFIG} to the \
         path of runc or crun"
    )]
    Loop(String),
}

/// Why the configuration is not followed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Somebody else could have written it.
    #[error(
        "{path}: is of user {uid} with mode {mode:04o}, expected root's and writable by root alone \
         (chown root {path} && chmod 0644 {path})"
    )]
    NotRoots {
        /// The file.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its permissions.
        mode: u32,
    },
    /// Not what was expected.
    #[error("{path}: {problem}; expected [wrapper] with runtime = \"/path/of/runtime or name\"")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

#[derive(Default, Deserialize)]
struct RawConfig {
    wrapper: Option<RawWrapper>,
}

#[derive(Deserialize)]
struct RawWrapper {
    runtime: Option<PathBuf>,
}

/// The runtime that the configuration names; `None` where it names none.
///
/// # Errors
///
/// Where it can't be trusted or understood.
pub fn configured(path: &Path) -> Result<Option<PathBuf>, ConfigError> {
    let failed = |source| ConfigError::Io {
        path: path.to_owned(),
        source,
    };
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let found = file.metadata().map_err(failed)?;
    if found.uid() != 0 || found.mode() & 0o022 != 0 {
        return Err(ConfigError::NotRoots {
            path: path.to_owned(),
            uid: found.uid(),
            mode: found.mode() & 0o7777,
        });
    }
    let wrong = |problem: String| ConfigError::Syntax {
        path: path.to_owned(),
        problem,
    };
    let text = io::read_to_string(file).map_err(failed)?;
    let config: RawConfig =
        toml::from_str(&text).map_err(|error| wrong(error.message().to_owned()))?;
    let runtime = config.wrapper.and_then(|wrapper| wrapper.runtime);
    if let Some(runtime) = &runtime
        && !runtime.is_absolute()
        && (runtime.as_os_str().is_empty() || runtime.components().count() != 1)
    {
        return Err(wrong(format!("found {:?}", runtime.display().to_string())));
    }
    Ok(runtime)
}

/// Finds the runtime: by the name that the wrapper was called by, by the
/// configuration, else the first of the usual ones.
///
/// # Errors
///
/// Where there is none.
pub fn find(called: &OsStr) -> Result<PathBuf, RealError> {
    let names = match linked(called) {
        Some(name) => vec![name],
        None => match configured(Path::new(CONFIG))? {
            Some(path) if path.is_absolute() => {
                return runnable(&path, this_program())
                    .then_some(path.clone())
                    .ok_or(RealError::NotRunnable(path));
            }
            Some(name) => vec![name.into_os_string()],
            None => usual(),
        },
    };
    first(&names)
}

/// The first of the usual runtimes, whatever the configuration says.
///
/// # Errors
///
/// Where there is none.
pub fn find_usual() -> Result<PathBuf, RealError> {
    first(&usual())
}

fn usual() -> Vec<OsString> {
    USUAL.map(OsString::from).to_vec()
}

fn first(names: &[OsString]) -> Result<PathBuf, RealError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let this = this_program();
    let directories: Vec<PathBuf> = env::split_paths(&path)
        .chain(env::split_paths(DIRECTORIES))
        .filter(|directory| directory.is_absolute())
        .collect();
    let candidates = names.iter().flat_map(|name| {
        directories
            .iter()
            .map(move |directory| directory.join(name))
    });
    candidates
        .into_iter()
        .find(|path| runnable(path, this))
        .ok_or_else(|| RealError::NotFound {
            names: names.join(OsStr::new(", ")).to_string_lossy().into_owned(),
            places: directories
                .iter()
                .map(|directory| directory.to_string_lossy())
                .collect::<Vec<_>>()
                .join(":"),
        })
}

/// The name in `execblock-NAME`. The program's own name says nothing: it stands
/// in front of whatever the configuration says.
fn linked(called: &OsStr) -> Option<OsString> {
    let name = Path::new(called).file_name()?.as_bytes();
    let name = name.strip_prefix(LINK_PREFIX)?;
    (!name.is_empty() && name != b"runc").then(|| OsStr::from_bytes(name).to_owned())
}

/// Device and inode of this program.
fn this_program() -> Option<(u64, u64)> {
    let found = fs::metadata("/proc/self/exe").ok()?;
    Some((found.dev(), found.ino()))
}

fn runnable(path: &Path, this: Option<(u64, u64)>) -> bool {
    fs::metadata(path).is_ok_and(|found| {
        found.is_file() && found.mode() & 0o111 != 0 && this != Some((found.dev(), found.ino()))
    })
}

/// Whether the runtime that this process executed, or its parent did, is this
/// program again: through a script that calls it by name.
///
/// # Errors
///
/// Then.
pub fn refuse_loop(real: &Path) -> Result<(), RealError> {
    let Some(marked) = env::var_os(LOOP_VAR) else {
        return Ok(());
    };
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    let is = |pid: i32| marked == *pid.to_string();
    if is(own) || parent.is_some_and(is) {
        return Err(RealError::Loop(real.display().to_string()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_link_names_the_runtime() {
        for (called, name) in [
            ("execblock-runc", None),
            ("/usr/bin/execblock-runc", None),
            ("execblock-crun", Some("crun")),
            ("/x/execblock-my.runtime", Some("my.runtime")),
            ("execblock-", None),
            ("runc", None),
            ("", None),
        ] {
            let found = linked(OsStr::new(called));
            assert_eq!(found.as_deref(), name.map(OsStr::new), "{called}");
        }
    }

    #[test]
    fn a_configuration_is_roots_and_understood() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        assert_eq!(configured(&path).unwrap(), None);
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped the rest: root's file can't be made");
            return;
        }
        for (text, runtime) in [
            ("", None),
            ("[other]\nx = 1\n[wrapper]\nnew = 2", None),
            ("[wrapper]\nruntime = \"/opt/crun\"", Some("/opt/crun")),
            ("[wrapper]\nruntime = \"crun\"", Some("crun")),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            let found = configured(&path).unwrap();
            assert_eq!(found.as_deref(), runtime.map(Path::new), "{text}");
        }
        for text in [
            "[wrapper]\nruntime = 7",
            "[wrapper]\nruntime = \"\"",
            "[wrapper]\nruntime = \"a/b\"",
            "[wrapper",
        ] {
            fs::write(&path, text).unwrap();
            let error = configured(&path).unwrap_err().to_string();
            assert!(error.contains("expected [wrapper] with runtime"), "{error}");
        }
        fs::write(&path, "").unwrap();
        for mode in [0o664, 0o646] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = configured(&path).unwrap_err().to_string();
            assert!(error.contains("writable by root alone"), "{error}");
        }
    }

    #[test]
    fn this_program_is_no_runtime() {
        let this = fs::read_link("/proc/self/exe").unwrap();
        assert!(!runnable(&this, this_program()));
        assert!(runnable(&this, None));
        assert!(!runnable(Path::new("/etc/passwd"), None));
        assert!(!runnable(Path::new("/bin"), None));
    }
}
