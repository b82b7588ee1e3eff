//! CRI-O's drop-in: the directory of our hook, NRI switched on, and where it is asked
//! for a plugin without which no container is created (CRI-O 1.34).

use std::path::PathBuf;

use serde::Deserialize;
use toml_edit::{Array, Value};

use super::{
    EditError, hooks_d,
    required::{TOLERATION, names_us},
};

/// What a file of CRI-O's configuration says of what we add to. The last file that
/// has a key wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    /// Where it looks for hooks.
    pub(crate) hooks_dir: Option<Vec<PathBuf>>,
    /// Plugins without which it creates no container.
    pub(crate) required: Option<Vec<String>>,
    /// The annotation of pods that may start without them.
    pub(crate) toleration: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw {
    crio: RawCrio,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawCrio {
    runtime: RawRuntime,
    nri: RawNri,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawRuntime {
    hooks_dir: Option<Vec<PathBuf>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawNri {
    default_validator: RawValidator,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawValidator {
    nri_validator_required_plugins: Option<Vec<String>>,
    nri_validator_tolerate_missing_plugins_annotation: Option<String>,
}

impl Config {
    /// Of one file.
    pub(crate) fn parse(text: &str) -> Result<Self, EditError> {
        let raw: Result<Raw, _> = toml::from_str(text);
        let crio = raw
            .map_err(|error| EditError::Syntax(error.to_string()))?
            .crio;
        let validator = crio.nri.default_validator;
        Ok(Self {
            hooks_dir: crio.runtime.hooks_dir,
            required: validator.nri_validator_required_plugins,
            toleration: validator.nri_validator_tolerate_missing_plugins_annotation,
        })
    }

    /// With those of a file that is read later.
    pub(crate) fn then(self, later: Self) -> Self {
        Self {
            hooks_dir: later.hooks_dir.or(self.hooks_dir),
            required: later.required.or(self.required),
            toleration: later.toleration.or(self.toleration),
        }
    }

    /// Whether our plugin is among those that are required.
    pub(crate) fn requires_us(&self) -> bool {
        let required = self.required.iter().flatten();
        names_us(required.map(String::as_str))
    }
}

/// Our drop-in, beside what the other files say. NRI reports and binds earlier; the
/// hook is what refuses, since CRI-O starts a container whatever a plugin says.
pub(crate) fn drop_in(others: &Config, require: bool) -> String {
    let packaged = [PathBuf::from(hooks_d::PACKAGED_DIR)];
    let known = others.hooks_dir.as_deref().unwrap_or(&packaged);
    let mut dirs: Vec<String> = known.iter().map(|dir| dir.display().to_string()).collect();
    if !dirs.iter().any(|dir| dir == hooks_d::DIR) {
        dirs.push(hooks_d::DIR.to_owned());
    }
    // As TOML quotes, which is not as Rust does.
    let dirs = Array::from_iter(dirs);
    let text = format!(
        "# Written by execblock setup.\n[crio.runtime]\nhooks_dir = {dirs}\n\n[crio.nri]\nenable_nri = \
         true\n"
    );
    if !require {
        return text;
    }
    let mut plugins = others.required.clone().unwrap_or_default();
    if !others.requires_us() {
        plugins.push("execblock".to_owned());
    }
    let plugins = Array::from_iter(plugins);
    let toleration = Value::from(toleration(others));
    format!(
        "{text}\n[crio.nri.default_validator]\nnri_enable_default_validator = true\n\
         nri_validator_required_plugins = {plugins}\n\
         nri_validator_tolerate_missing_plugins_annotation = {toleration}\n"
    )
}

/// Another key where pods carry it already.
pub(crate) fn toleration(others: &Config) -> &str {
    let known = others.toleration.as_deref();
    known.filter(|key| !key.is_empty()).unwrap_or(TOLERATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_any_name_is_read_back() {
        let odd = PathBuf::from("/\u{6dd}\u{301}\u{7f}\"\\\n'\u{202e}");
        let others = Config {
            hooks_dir: Some(vec![odd.clone()]),
            required: Some(vec!["\u{301}\"".to_owned()]),
            toleration: Some("a'\u{7f}\"".to_owned()),
        };
        let text = drop_in(&others, true);
        let found = Config::parse(&text).unwrap();
        assert_eq!(found.hooks_dir.unwrap()[0], odd, "{text}");
        assert_eq!(found.required.unwrap()[0], "\u{301}\"", "{text}");
        assert_eq!(found.toleration, others.toleration, "{text}");
    }

    #[test]
    fn directories_are_read_and_ours_is_added_once() {
        let others = Config::parse("[crio.runtime]\nhooks_dir = [\"/a\"]\nother = 1\n").unwrap();
        assert_eq!(others.hooks_dir, Some(vec!["/a".into()]));
        assert_eq!(Config::parse("[crio]\n").unwrap(), Config::default());
        let ours = Config::parse(&drop_in(&others, false)).unwrap();
        let both: Vec<PathBuf> = vec!["/a".into(), hooks_d::DIR.into()];
        assert_eq!(ours.hooks_dir, Some(both.clone()));
        assert_eq!(ours.required, None);
        let again = Config::parse(&drop_in(&ours, false)).unwrap();
        assert_eq!(again.hooks_dir, Some(both));
        let usual = Config::parse(&drop_in(&Config::default(), false)).unwrap();
        assert_eq!(usual.hooks_dir.unwrap().len(), 2);
        assert!(Config::parse("[crio.runtime]\nhooks_dir = 1\n").is_err());
    }

    #[test]
    fn others_stay_required_and_keep_their_toleration() {
        let ours = Config::parse(&drop_in(&Config::default(), true)).unwrap();
        assert_eq!(ours.required, Some(vec!["execblock".to_owned()]));
        assert_eq!(ours.toleration.as_deref(), Some(TOLERATION));
        let others = Config::parse(
            "[crio.nri.default_validator]\nnri_validator_required_plugins = [\"a\"]\n\
             nri_validator_tolerate_missing_plugins_annotation = \"ops/x\"\n",
        )
        .unwrap();
        let both = Config::parse(&drop_in(&others, true)).unwrap();
        assert_eq!(
            both.required,
            Some(vec!["a".to_owned(), "execblock".to_owned()])
        );
        assert_eq!(both.toleration.as_deref(), Some("ops/x"));
        let later = Config {
            required: Some(vec!["90-execblock".to_owned()]),
            ..Config::default()
        };
        let both = others.then(later);
        assert!(both.requires_us());
        assert_eq!(both.toleration.as_deref(), Some("ops/x"));
    }
}
