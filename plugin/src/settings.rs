//! The daemon's own tables of `/etc/execblock/config.toml`: how it logs, and what
//! it tells others of itself.
//!
//! They are read once, when it starts. What holds for containers stands in the
//! same file and is read by `execblock::node`, for each container anew.

use std::{
    fmt,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
};

use execblock::{
    config::{self, TextError},
    node::{FileError, Node},
};
use serde::Deserialize;
use toml::{Spanned, Value};

use crate::{inject::Injection, logging::Format};

/// What the journal of events may be long, in bytes.
const JOURNAL_BYTES: RangeInclusive<u64> = 64 << 10..=1 << 30;

/// All of them, with what holds where a key is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) format: Format,
    pub(crate) metrics: Exposed,
    /// Most bytes of the journal of events.
    pub(crate) journal_bytes: u64,
    /// Whether refusals are posted as Kubernetes Events.
    pub(crate) kubernetes_events: bool,
    /// Whether containers are given our OCI hook when they are created.
    pub(crate) injection: Injection,
}

/// What is told in metrics, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exposed {
    /// Nowhere where it is `None`.
    pub(crate) listen: Option<Listen>,
    /// Whether counts are told apart by container.
    pub(crate) container_labels: bool,
    /// Whether denials are told apart by rule.
    pub(crate) rule_labels: bool,
}

/// Where metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            format: Format::Text,
            metrics: Exposed::default(),
            journal_bytes: 8 << 20,
            kubernetes_events: false,
            injection: Injection::Off,
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected ADDRESS:PORT, such as 127.0.0.1:9643, or unix:/PATH";
        match text.strip_prefix("unix:") {
            Some(path) if Path::new(path).is_absolute() => Ok(Self::Unix(PathBuf::from(path))),
            Some(_) => Err(expected.to_owned()),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_no_address| expected.to_owned()),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// The whole file can't be followed. Containers whose annotations ask for
    /// rules are refused because of it, by a daemon that runs: it goes on without
    /// settings.
    #[error(transparent)]
    File(FileError),
    /// A table of the daemon's is not understood: it does not start.
    #[error(transparent)]
    Table(FileError),
}

impl Settings {
    /// Reads them from the node's configuration.
    pub(crate) fn read(node: &Node) -> Result<Self, SettingsError> {
        let Some(text) = node.config_text().map_err(SettingsError::File)? else {
            return Ok(Self::default());
        };
        config::parse::<toml::Table>(&text)
            .map_err(|error| SettingsError::File(node.not_understood(error)))?;
        Self::parse(&text).map_err(|error| SettingsError::Table(node.not_understood(error)))
    }

    /// Reads them from the text of a config.toml.
    pub(crate) fn parse(text: &str) -> Result<Self, TextError> {
        let raw: Raw = config::parse(text)?;
        let default = Self::default();
        let listen = |value: &Value| match value {
            Value::String(text) => text.parse().map(Some),
            _ => Listen::from_str("").map(Some),
        };
        let key = |name| Key { name, text };
        Ok(Self {
            format: key("log.format").or(raw.log.format, default.format, format)?,
            metrics: Exposed {
                listen: key("metrics.listen").or(raw.metrics.listen, None, listen)?,
                container_labels: key("metrics.container_labels").or(
                    raw.metrics.container_labels,
                    false,
                    boolean,
                )?,
                rule_labels: key("metrics.rule_labels").or(
                    raw.metrics.rule_labels,
                    false,
                    boolean,
                )?,
            },
            journal_bytes: key("events.journal_bytes").or(
                raw.events.journal_bytes,
                default.journal_bytes,
                journal_bytes,
            )?,
            kubernetes_events: key("kubernetes.events").or(
                raw.kubernetes.events,
                default.kubernetes_events,
                built_in,
            )?,
            injection: Injection::new(
                key("nri.inject_hook").or(raw.nri.inject_hook, false, boolean)?,
                key("nri.hook").or(raw.nri.hook, None, program)?,
            ),
        })
    }
}

fn format(value: &Value) -> Result<Format, String> {
    let expected = "expected \"text\" or \"json\"";
    match value.as_str() {
        Some("text") => Ok(Format::Text),
        Some("json") => Ok(Format::Json),
        _ => Err(expected.to_owned()),
    }
}

fn boolean(value: &Value) -> Result<bool, String> {
    value
        .as_bool()
        .ok_or_else(|| "expected true or false".to_owned())
}

/// Where it is, is for the runtime to see, which may have other mounts.
fn program(value: &Value) -> Result<Option<String>, String> {
    let path = value.as_str().filter(|path| Path::new(path).is_absolute());
    path.map(|path| Some(path.to_owned()))
        .ok_or_else(|| "expected the absolute path of execblock-hook".to_owned())
}

/// Better than to say nothing where somebody counts on it.
fn built_in(value: &Value) -> Result<bool, String> {
    match boolean(value)? {
        true if !cfg!(feature = "kubernetes") => Err("not built in, expected false".to_owned()),
        asked => Ok(asked),
    }
}

fn journal_bytes(value: &Value) -> Result<u64, String> {
    value
        .as_integer()
        .and_then(|bytes| u64::try_from(bytes).ok())
        .filter(|bytes| JOURNAL_BYTES.contains(bytes))
        .ok_or_else(|| {
            format!(
                "expected a number of bytes from {} to {}",
                JOURNAL_BYTES.start(),
                JOURNAL_BYTES.end()
            )
        })
}

/// A key with its table, and the text that it stands in.
struct Key<'a> {
    name: &'a str,
    text: &'a str,
}

impl Key<'_> {
    /// What `read` makes of its value; `absent` where it has none.
    fn or<T>(
        &self,
        value: Option<Spanned<Value>>,
        absent: T,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Result<T, TextError> {
        let Some(value) = value else {
            return Ok(absent);
        };
        let span = value.span();
        read(value.get_ref()).map_err(|problem| {
            // As it is written, but on one line.
            let written = self.text.get(span.clone()).unwrap_or_default();
            let shown: String = written
                .chars()
                .take(80)
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect();
            let problem = format!("{} = {shown}: {problem}", self.name);
            TextError::at(self.text, span.start, problem)
        })
    }
}

/// Other tables are other readers' to check.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw {
    log: RawLog,
    metrics: RawMetrics,
    events: RawEvents,
    kubernetes: RawKubernetes,
    nri: RawNri,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawLog {
    format: Option<Spanned<Value>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawMetrics {
    listen: Option<Spanned<Value>>,
    container_labels: Option<Spanned<Value>>,
    rule_labels: Option<Spanned<Value>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawEvents {
    journal_bytes: Option<Spanned<Value>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawKubernetes {
    events: Option<Spanned<Value>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawNri {
    inject_hook: Option<Spanned<Value>>,
    hook: Option<Spanned<Value>>,
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
