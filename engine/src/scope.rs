//! Which annotations of an OCI configuration apply to its container. Pure.
//!
//! There is one set of them: an engine that knows pods has merged the pod's into
//! the container's. So `KEY.container.NAME` is another container's unless NAME is
//! this one's name; where it is, it wins over `KEY`.

use std::collections::BTreeMap;

use crate::annotation::{Annotation, PREFIX, SCOPE};

/// An annotation is for one container by name, and this one's name is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "annotation {0}: is for one container by its name, and the engine does not tell this \
     container's name; set the key without {SCOPE}NAME"
)]
pub struct NoName(pub String);

/// Whether any key is ours: whatever fails for such a container refuses it.
#[must_use]
pub fn has_ours(annotations: &BTreeMap<String, String>) -> bool {
    ours(annotations).next().is_some()
}

/// The annotations that hold for the container `name` (empty where it is not
/// known). None where none is ours, or all of ours are for other containers.
///
/// # Errors
///
/// Fails closed: the caller refuses the container.
pub fn holding<'a>(
    annotations: &'a BTreeMap<String, String>,
    name: &str,
) -> Result<Vec<Annotation<'a>>, NoName> {
    let mut holding: BTreeMap<&str, (bool, Annotation<'_>)> = BTreeMap::new();
    for (written, value) in ours(annotations) {
        let (key, scoped) = match split(written) {
            (key, None) => (key, false),
            // Closed: it may be meant for this one.
            (_, Some(_)) if name.is_empty() => return Err(NoName(written.to_owned())),
            (key, Some(scope)) if scope == name => (key, true),
            (_, Some(_)) => continue,
        };
        let annotation = Annotation {
            written,
            key,
            value,
        };
        let stronger = holding.get(key).is_none_or(|(there, _)| scoped || !there);
        if stronger {
            holding.insert(key, (scoped, annotation));
        }
    }
    let holding = holding.into_values();
    Ok(holding.map(|(_, annotation)| annotation).collect())
}

/// Splits a key into the key itself and the container that it is for. Names of
/// containers have no dots, so the last [`SCOPE`] counts; one without a name
/// after it is a part of a key that nobody knows.
#[must_use]
pub fn split(written: &str) -> (&str, Option<&str>) {
    match written.rsplit_once(SCOPE) {
        Some((key, name)) if !name.is_empty() => (key, Some(name)),
        Some(_) | None => (written, None),
    }
}

fn ours(annotations: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    let all = annotations.iter();
    all.map(|(key, value)| (key.as_str(), value.as_str()))
        .filter(|(key, _)| key.starts_with(PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(annotations: &[(&str, &str)]) -> BTreeMap<String, String> {
        let all = annotations.iter();
        all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// The values that hold, in the order of their keys.
    fn values(annotations: &[(&str, &str)], name: &str) -> Result<Vec<String>, NoName> {
        let annotations = of(annotations);
        let holding = holding(&annotations, name)?.into_iter();
        Ok(holding.map(|one| one.value.to_owned()).collect())
    }

    #[test]
    fn the_key_for_this_container_wins() {
        let both = [
            ("execblock/deny", "id"),
            ("execblock/deny.container.web", "whoami"),
            ("execblock/deny.container.db", "a/b is not looked at"),
            ("example.org/deny.container.web", "ls"),
        ];
        assert_eq!(values(&both, "web").unwrap(), ["whoami"]);
        assert_eq!(values(&both, "other").unwrap(), ["id"]);
        assert_eq!(values(&both[2..], "web").unwrap(), [""; 0]);
        assert_eq!(values(&[], "").unwrap(), [""; 0]);
    }

    #[test]
    fn a_bare_key_that_sorts_later_does_not_win() {
        // The scoped mode sorts after the bare one, the scoped list before a
        // bare key of another length: order must not decide.
        for mode in ["execblock/mode.container.a", "execblock/mode.container.zz"] {
            let name = mode.rsplit('.').next().unwrap();
            let annotations = [
                ("execblock/deny", "id"),
                ("execblock/mode", "enforce"),
                (mode, "audit"),
            ];
            assert_eq!(values(&annotations, name).unwrap(), ["id", "audit"]);
        }
    }

    #[test]
    fn what_can_not_be_told_is_refused() {
        let scoped = [
            ("execblock/deny", "id"),
            ("execblock/deny.container.web", "whoami"),
        ];
        let error = values(&scoped, "").unwrap_err().to_string();
        assert!(error.contains("execblock/deny.container.web"), "{error}");
        // No name after it: no scope, and a key that nobody knows.
        for key in [
            "execblock/deny.container.",
            "execblock/deny.container.a.container.web",
        ] {
            let annotations = of(&[(key, "id")]);
            let holding = holding(&annotations, "web").unwrap();
            assert!(!crate::annotation::KEYS.contains(&holding[0].key), "{key}");
        }
    }
}
