//! Which of all containers is meant. Pure.

use super::{Found, Looked, LookupError};
use crate::record::Owner;

/// Candidates that an error names.
const SHOWN: usize = 10;

/// How a container may be called, the surest first.
const WAYS: [fn(&Owner, &str) -> bool; 3] = [
    |owner, query| owner.container == query,
    is_named,
    |owner, query| owner.container.starts_with(query),
];

/// The one that is called so: by the surest way that finds any. Of these the ones
/// that run, since engines keep ended containers of the same name.
pub(super) fn select(
    query: &str,
    all: &[Found],
    looked_at: Vec<Looked>,
) -> Result<Found, LookupError> {
    let called = |way: &fn(&Owner, &str) -> bool| -> Vec<Found> {
        let those = all.iter().filter(|found| way(&found.owner, query));
        those.cloned().collect()
    };
    let mut found = match WAYS.iter().map(called).find(|found| !found.is_empty()) {
        Some(found) if !query.is_empty() => found,
        _ => {
            return Err(LookupError::NotFound {
                query: query.to_owned(),
                looked_at,
            });
        }
    };
    if found.iter().any(Found::is_running) {
        found.retain(Found::is_running);
    }
    if found.len() > 1 {
        let mut candidates: Vec<String> = found
            .iter()
            .take(SHOWN)
            .map(|found| describe(&found.owner))
            .collect();
        if found.len() > SHOWN {
            candidates.push(format!("and {} more", found.len() - SHOWN));
        }
        return Err(LookupError::Ambiguous {
            query: query.to_owned(),
            candidates,
        });
    }
    match found.pop() {
        Some(found) if found.is_running() => Ok(found),
        Some(found) => Err(LookupError::NotRunning(describe(&found.owner))),
        None => Err(LookupError::NotFound {
            query: query.to_owned(),
            looked_at,
        }),
    }
}

/// `NAME`, `POD/NAME`, `NAMESPACE/POD/NAME`; without a pod `NAMESPACE/NAME` and
/// `NAMESPACE/ID`.
fn is_named(owner: &Owner, query: &str) -> bool {
    let Owner {
        container,
        name,
        pod,
        namespace,
        ..
    } = owner;
    let is = |parts: &[&str]| parts.iter().all(|part| !part.is_empty()) && query == parts.join("/");
    let qualified = if pod.is_empty() {
        is(&[namespace, name]) || is(&[namespace, container])
    } else {
        is(&[pod, name]) || is(&[namespace, pod, name])
    };
    is(&[name]) || qualified
}

/// `0123456789ab web (containerd, pod default/site)`
fn describe(owner: &Owner) -> String {
    let Owner {
        name,
        engine,
        pod,
        namespace,
        ..
    } = owner;
    let place = match (pod.as_str(), namespace.as_str()) {
        ("", "") => String::new(),
        ("", namespace) => format!(", namespace {namespace}"),
        (pod, namespace) => format!(", pod {namespace}/{pod}"),
    };
    let id = owner.short_id();
    let name = if name.is_empty() {
        String::new()
    } else {
        format!(" {name}")
    };
    format!("{id}{name} ({engine}{place})")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::lookup::Place;

    fn found(container: &str, name: &str, pod: &str, runs: bool) -> Found {
        Found {
            owner: Owner {
                container: container.to_owned(),
                name: name.to_owned(),
                engine: "containerd".into(),
                pod: pod.to_owned(),
                namespace: "default".into(),
                ..Owner::default()
            },
            place: if runs {
                Place::Cgroup("/x".into())
            } else {
                Place::Nowhere
            },
            annotations: BTreeMap::new(),
        }
    }

    fn all() -> Vec<Found> {
        vec![
            found("abc111", "web", "site", true),
            found("abc222", "web", "shop", true),
            found("abc222dd", "db", "shop", true),
            found("web", "alone", "", true),
            found("old1", "job", "batch", false),
            found("old2", "job", "batch", true),
            found("old3", "gone", "batch", false),
        ]
    }

    fn select(query: &str) -> Result<String, LookupError> {
        let found = super::select(query, &all(), Vec::new())?;
        Ok(found.owner.container)
    }

    #[test]
    fn the_surest_way_decides() {
        for (query, container) in [
            // An id wins over two names.
            ("web", "web"),
            ("abc222", "abc222"),
            ("abc222d", "abc222dd"),
            ("db", "abc222dd"),
            ("site/web", "abc111"),
            ("default/shop/web", "abc222"),
            ("default/web", "web"),
            ("default/alone", "web"),
            // The one that runs.
            ("job", "old2"),
            ("abc1", "abc111"),
        ] {
            assert_eq!(select(query).unwrap(), container, "{query}");
        }
    }

    #[test]
    fn more_than_one_is_listed() {
        let error = select("abc").unwrap_err().to_string();
        for part in ["abc111 web (containerd, pod default/site)", "abc222dd db"] {
            assert!(error.contains(part), "{error}");
        }
        let many = (0..15).map(|n| found(&format!("x{n}"), "", "", true));
        let error = super::select("x", &many.collect::<Vec<_>>(), Vec::new()).unwrap_err();
        assert!(error.to_string().ends_with("and 5 more"), "{error}");
    }

    #[test]
    fn what_is_not_there_says_where_it_looked() {
        let looked = Looked {
            source: "Docker /d".into(),
            answer: "not there".into(),
        };
        let error = super::select("zz", &all(), vec![looked.clone()]).unwrap_err();
        assert!(
            error.to_string().contains("Docker /d: not there"),
            "{error}"
        );
        // Nothing is not the beginning of everything.
        assert!(super::select("", &all(), vec![looked]).is_err());
    }

    #[test]
    fn what_does_not_run_says_so() {
        let error = select("gone").unwrap_err();
        assert!(matches!(error, LookupError::NotRunning(_)), "{error}");
    }
}
