//! Our hook in a bundle's configuration, for verbs that create and start in one.

use std::{
    env, fs, io,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
};

use indexmap::IndexMap;
use serde::de::DeserializeOwned;
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

/// Name of the hook's program.
const HOOK: &str = "execblock-hook";
/// Where it may be besides the wrapper's own directory.
const DIRECTORIES: [&str; 2] = ["/usr/libexec/execblock", "/usr/local/libexec/execblock"];
/// The stages that it is for.
const STAGES: [&str; 2] = ["createRuntime", "poststop"];
/// Seconds after which a runtime gives the hook up, and refuses the container.
const TIMEOUT: u32 = 10;

/// Why the hook could not be put in.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// No hook.
    #[error("{HOOK} is not installed: looked in {0}; install it there")]
    NoHook(String),
    /// Not a configuration.
    #[error("{path}: {problem}; expected an object with hooks by stage")]
    Shape {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file.
    #[error("{call} {path}: {source}")]
    Io {
        /// The call that failed.
        call: &'static str,
        /// What it was called on.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Where the hook's program is.
///
/// # Errors
///
/// Where it is not installed.
pub fn hook() -> Result<PathBuf, InjectError> {
    let mut directories: Vec<PathBuf> = Vec::new();
    if let Ok(this) = env::current_exe()
        && let Some(own) = this.parent()
    {
        directories.push(own.to_owned());
        if let Some(prefix) = own.parent() {
            directories.push(prefix.join("libexec/execblock"));
        }
    }
    directories.extend(DIRECTORIES.map(PathBuf::from));
    let found = directories
        .iter()
        .map(|directory| directory.join(HOOK))
        .find(|path| fs::metadata(path).is_ok_and(|it| it.is_file() && it.mode() & 0o111 != 0));
    found.ok_or_else(|| {
        let places: Vec<_> = directories.iter().map(|at| at.to_string_lossy()).collect();
        InjectError::NoHook(places.join(", "))
    })
}

/// Puts the hook into the configuration at `path`, whose text is given: whole or
/// not at all, of the same owner and mode.
///
/// # Errors
///
/// Fails closed: the caller refuses the container.
pub fn inject(path: &Path, text: &[u8], hook: &Path) -> Result<(), InjectError> {
    let shape = |problem: String| InjectError::Shape {
        path: path.to_owned(),
        problem,
    };
    let hook = hook.to_str().ok_or_else(|| {
        shape(format!(
            "the path {} can't be written into it",
            hook.display()
        ))
    })?;
    let Some(text) = injected(text, hook).map_err(shape)? else {
        return Ok(());
    };
    // A link stays one.
    let path = &fs::canonicalize(path).map_err(failed("realpath", path))?;
    replace(path, &text)
}

/// An object whose values stay letter by letter as they are: a number of more digits
/// than [`Value`] keeps too.
type Object = IndexMap<String, Box<RawValue>>;

/// The text of a configuration with the hook in it, after those that are there;
/// `None` where it was there already. Pure.
///
/// # Errors
///
/// What is not as a configuration is.
pub fn injected(text: &[u8], hook: &str) -> Result<Option<Vec<u8>>, String> {
    let plain = |error: serde_json::Error| error.to_string();
    let mut config: Object = serde_json::from_slice(text).map_err(plain)?;
    let mut hooks: Object = part(&config, "hooks").map_err(|_other| "hooks is no object")?;
    let ours = json!({ "path": hook, "args": [HOOK], "timeout": TIMEOUT });
    let mut changed = false;
    for stage in STAGES {
        let mut all: Vec<Box<RawValue>> =
            part(&hooks, stage).map_err(|_other| format!("hooks.{stage} is no list"))?;
        if !all.iter().any(|one| is_of(one, hook)) {
            all.push(to_raw_value(&ours).map_err(plain)?);
            hooks.insert(stage.to_owned(), to_raw_value(&all).map_err(plain)?);
            changed = true;
        }
    }
    if !changed {
        return Ok(None);
    }
    config.insert("hooks".to_owned(), to_raw_value(&hooks).map_err(plain)?);
    serde_json::to_vec(&config).map(Some).map_err(plain)
}

/// What is there, where null counts as nothing.
fn part<T: DeserializeOwned + Default>(of: &Object, key: &str) -> serde_json::Result<T> {
    let Some(raw) = of.get(key) else {
        return Ok(T::default());
    };
    let found: Option<T> = serde_json::from_str(raw.get())?;
    Ok(found.unwrap_or_default())
}

fn is_of(one: &RawValue, hook: &str) -> bool {
    serde_json::from_str::<Value>(one.get()).is_ok_and(|one| one["path"] == hook)
}

fn replace(path: &Path, text: &[u8]) -> Result<(), InjectError> {
    let before = fs::metadata(path).map_err(failed("stat", path))?;
    let new = path.with_extension(format!("json.execblock-{}", std::process::id()));
    // Left by a process of our id that was killed.
    fs::remove_file(&new).ok();
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text)?;
        fchown(&file, Some(before.uid()), Some(before.gid()))?;
        file.set_permissions(before.permissions())
    };
    let done = write()
        .map_err(failed("write", &new))
        .and_then(|()| fs::rename(&new, path).map_err(failed("rename", path)));
    if done.is_err() {
        fs::remove_file(&new).ok();
    }
    done
}

fn failed<'a>(call: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> InjectError + 'a {
    move |source| InjectError::Io {
        call,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const HOOK_PATH: &str = "/usr/libexec/execblock/execblock-hook";

    fn ours() -> Value {
        json!({ "path": HOOK_PATH, "args": ["execblock-hook"], "timeout": 10 })
    }

    #[test]
    fn the_hook_follows_those_that_are_there() {
        let theirs = json!({ "path": "/bin/x" });
        for (hooks, expected) in [
            (json!({}), json!([ours()])),
            (Value::Null, json!([ours()])),
            (json!({ "createRuntime": null }), json!([ours()])),
            (
                json!({ "createRuntime": [theirs], "prestart": [] }),
                json!([theirs, ours()]),
            ),
        ] {
            let text = json!({ "hooks": hooks }).to_string();
            let with = injected(text.as_bytes(), HOOK_PATH).unwrap().unwrap();
            let config: Value = serde_json::from_slice(&with).unwrap();
            assert_eq!(config["hooks"]["createRuntime"], expected);
            assert_eq!(config["hooks"]["poststop"], json!([ours()]));
            // Once is enough.
            assert_eq!(injected(&with, HOOK_PATH), Ok(None));
        }
        for (wrong, said) in [
            ("[]", "expected a map"),
            (r#"{ "hooks": [] }"#, "hooks is no object"),
            (
                r#"{ "hooks": { "poststop": {} } }"#,
                "hooks.poststop is no list",
            ),
        ] {
            let error = injected(wrong.as_bytes(), HOOK_PATH).unwrap_err();
            assert!(error.contains(said), "{wrong}: {error}");
        }
    }

    #[test]
    fn everything_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        // More digits than a float keeps, more than 64 bits, half of a pair.
        let text = r#"{"z":18446744073709551616,"a":{"y": -1.50,"b":"\u00e9\ud800"},"hooks":{"poststart":[ 1]},"k":555555555555555555555555555555555555555551e2}"#;
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let link = dir.path().join("link.json");
        std::os::unix::fs::symlink("config.json", &link).unwrap();
        inject(&link, text.as_bytes(), Path::new(HOOK_PATH)).unwrap();
        let hook = ours().to_string();
        let expected = text.replace(
            "[ 1]",
            &format!(r#"[ 1],"createRuntime":[{hook}],"poststop":[{hook}]"#),
        );
        let found = fs::read_to_string(&path).unwrap();
        assert_eq!(found, expected);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert!(link.is_symlink());
        // Nothing to do: the file is not touched.
        let before = fs::metadata(&path).unwrap().ino();
        inject(&path, found.as_bytes(), Path::new(HOOK_PATH)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), before);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, "{}").unwrap();
        let error = inject(&path, b"{", Path::new(HOOK_PATH)).unwrap_err();
        assert!(error.to_string().contains("config.json"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"{}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
