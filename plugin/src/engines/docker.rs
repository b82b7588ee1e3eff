//! Docker's daemon.json: a runtime named `execblock`, by choice the default one.
//! Keys keep their order, and the file its indentation.

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::{Value, json, ser::PrettyFormatter, value::RawValue};

use super::{EditError, is_wrapper};

const NAME: &str = "execblock";
const RUNTIMES: &str = "runtimes";
const DEFAULT: &str = "default-runtime";

type Object = IndexMap<String, Part>;

/// A value of the file.
#[derive(Serialize)]
#[serde(untagged)]
enum Part {
    /// Stays letter by letter as it is: a number of more digits than [`Value`] keeps too.
    Theirs(Box<RawValue>),
    /// One of which we know what is in it.
    Read(Object),
    /// Put in.
    New(Value),
}

/// Adds the runtime. `None` stands for a file that is not there.
pub(crate) fn add(
    text: Option<&str>,
    wrapper: &str,
    as_default: bool,
) -> Result<String, EditError> {
    let mut config = parse(text)?;
    let mut runtimes = runtimes(&config)?.unwrap_or_default();
    match runtimes.get(NAME).map(value) {
        Some(there) if there["path"] == wrapper => {}
        Some(there) if !is_ours(&there) => {
            return Err(EditError::Shape {
                at: format!("{RUNTIMES}.{NAME}"),
                found: there.to_string(),
                expected: "none, or one whose path is execblock-runc",
            });
        }
        _ => {
            let ours = Part::New(json!({ "path": wrapper }));
            runtimes.insert(NAME.to_owned(), ours);
            config.insert(RUNTIMES.to_owned(), Part::Read(runtimes));
        }
    }
    if as_default {
        match config.get(DEFAULT).map(value) {
            None => {}
            Some(Value::String(name)) if name == "runc" || name == NAME => {}
            Some(other) => {
                return Err(EditError::Shape {
                    at: DEFAULT.to_owned(),
                    found: other.to_string(),
                    expected: "none or \"runc\", which execblock-runc stands for",
                });
            }
        }
        config.insert(DEFAULT.to_owned(), Part::New(NAME.into()));
    }
    print(text, &config)
}

/// Takes out what [`add`] puts in. `None`: nothing is left of the file.
pub(crate) fn remove(text: Option<&str>) -> Result<Option<String>, EditError> {
    let Some(text) = text else { return Ok(None) };
    let mut config = parse(Some(text))?;
    let mut changed = false;
    if config.get(DEFAULT).is_some_and(|name| value(name) == NAME) {
        config.shift_remove(DEFAULT);
        changed = true;
    }
    if let Some(mut runtimes) = runtimes(&config)?
        && runtimes
            .get(NAME)
            .is_some_and(|there| is_ours(&value(there)))
    {
        runtimes.shift_remove(NAME);
        if runtimes.is_empty() {
            config.shift_remove(RUNTIMES);
        } else {
            config.insert(RUNTIMES.to_owned(), Part::Read(runtimes));
        }
        changed = true;
    }
    if !changed {
        return Ok(Some(text.to_owned()));
    }
    if config.is_empty() {
        return Ok(None);
    }
    print(Some(text), &config).map(Some)
}

fn is_ours(runtime: &Value) -> bool {
    runtime["path"].as_str().is_some_and(is_wrapper)
}

/// What a part of the file says. Null for what can't be read at all, which no part
/// of ours is.
fn value(part: &Part) -> Value {
    match part {
        Part::Theirs(raw) => serde_json::from_str(raw.get()).unwrap_or_default(),
        Part::Read(object) => serde_json::to_value(object).unwrap_or_default(),
        Part::New(value) => value.clone(),
    }
}

fn parse(text: Option<&str>) -> Result<Object, EditError> {
    let text = text.unwrap_or_default();
    if text.trim().is_empty() {
        return Ok(Object::new());
    }
    let file: &RawValue =
        serde_json::from_str(text).map_err(|error| EditError::Syntax(error.to_string()))?;
    object(file).ok_or_else(|| EditError::Shape {
        at: "the file".into(),
        found: "another value".into(),
        expected: "a JSON object",
    })
}

fn object(raw: &RawValue) -> Option<Object> {
    let parts: IndexMap<String, Box<RawValue>> = serde_json::from_str(raw.get()).ok()?;
    let parts = parts.into_iter();
    Some(parts.map(|(key, raw)| (key, Part::Theirs(raw))).collect())
}

fn runtimes(config: &Object) -> Result<Option<Object>, EditError> {
    let Some(Part::Theirs(raw)) = config.get(RUNTIMES) else {
        return Ok(None);
    };
    let found = object(raw).ok_or_else(|| EditError::Shape {
        at: RUNTIMES.to_owned(),
        found: raw.get().to_owned(),
        expected: "an object",
    })?;
    Ok(Some(found))
}

fn print(like: Option<&str>, config: &Object) -> Result<String, EditError> {
    let like = like.unwrap_or_default();
    // What stands before the first key.
    let indent = like
        .lines()
        .find(|line| line.trim_start().starts_with('"'))
        .map(|line| &line[..line.len() - line.trim_start().len()])
        .filter(|indent| !indent.is_empty())
        .unwrap_or("  ");
    let mut out = Vec::new();
    let formatter = PrettyFormatter::with_indent(indent.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    config
        .serialize(&mut serializer)
        .map_err(|error| EditError::Syntax(error.to_string()))?;
    let mut text = String::from_utf8_lossy(&out).into_owned();
    if like.is_empty() || like.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRAPPER: &str = "/usr/bin/execblock-runc";

    fn added(text: &str) -> String {
        add(Some(text), WRAPPER, false).unwrap()
    }

    #[test]
    fn files_come_back_as_they_were() {
        for text in [
            "{\n  \"log-driver\": \"journald\",\n  \"data-root\": \"/srv/docker\"\n}\n",
            "{\n    \"runtimes\": {\n        \"nvidia\": {\n            \"path\": \"nvidia-container-runtime\",\n            \"runtimeArgs\": []\n        }\n    },\n    \"z\": 1,\n    \"a\": [\n        1.5,\n        null\n    ]\n}\n",
            "{\n\t\"debug\": true\n}",
            // Not as we would write it: more digits than a float keeps, one line.
            "{\n  \"runtimes\": {\n    \"a\": {\"path\":\"b\"}\n  },\n  \"z\": 555555555555555555551e2,\n  \"y\": [1, 2]\n}\n",
        ] {
            let with = added(text);
            assert_eq!(added(&with), with, "idempotent");
            assert!(with.contains(WRAPPER));
            assert_eq!(remove(Some(&with)).unwrap().as_deref(), Some(text));
            assert_eq!(
                remove(Some(text)).unwrap().as_deref(),
                Some(text),
                "nothing to do"
            );
            let default = add(Some(text), WRAPPER, true).unwrap();
            assert!(default.contains("\"default-runtime\": \"execblock\""));
            assert_eq!(remove(Some(&default)).unwrap().as_deref(), Some(text));
        }
    }

    #[test]
    fn no_file_becomes_one_and_goes_again() {
        let with = add(None, WRAPPER, false).unwrap();
        let expected = "{\n  \"runtimes\": {\n    \"execblock\": {\n      \"path\": \"/usr/bin/execblock-runc\"\n    }\n  }\n}\n";
        assert_eq!(with, expected);
        assert_eq!(remove(Some(&with)).unwrap(), None);
    }

    #[test]
    fn a_wrapper_that_moved_is_followed() {
        let moved = add(Some(&added("{}")), "/opt/execblock-runc", false).unwrap();
        assert!(moved.contains("/opt/execblock-runc") && !moved.contains("/usr/bin"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (text, part) in [
            ("[]", "expected a JSON object"),
            ("{ // comment\n}", "line 1"),
            ("{\"runtimes\": []}", "runtimes: found []"),
            (
                "{\"runtimes\": {\"execblock\": {\"path\": \"/other\"}}}",
                "runtimes.execblock",
            ),
        ] {
            let error = add(Some(text), WRAPPER, false).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let other = "{\"default-runtime\": \"kata\"}";
        let error = add(Some(other), WRAPPER, true).unwrap_err().to_string();
        assert!(error.contains("default-runtime: found \"kata\""), "{error}");
    }
}
