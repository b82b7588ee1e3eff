//! Which annotations of a pod apply to one of its containers.
//!
//! An annotation of a pod is for all of its containers, unless its key ends in
//! `.container.NAME`: then it is for the container of that name alone, and wins.
//! An annotation that the container has itself wins over its pod's. So, from
//! strongest to weakest, the value of `example.org/level` for container `web` is
//! that of
//!
//! 1. the container's `example.org/level.container.web`,
//! 2. the container's `example.org/level`,
//! 3. the pod's `example.org/level.container.web`,
//! 4. the pod's `example.org/level`.
//!
//! (The suffix `/container.NAME`, which some plugins of the NRI project use,
//! would not fit a key that has a slash: Kubernetes allows one.)
//!
//! Kubernetes hands a pod's annotations to the pod, not to its containers. CRI-O
//! copies them, and labels too, into those of the container.
//!
//! ```
//! use std::collections::HashMap;
//! use nri::annotation::{Annotations, Source};
//!
//! let pod = HashMap::from([
//!     ("example.org/level".to_owned(), "low".to_owned()),
//!     ("example.org/level.container.web".to_owned(), "high".to_owned()),
//! ]);
//! let container = HashMap::new();
//!
//! let web = Annotations::new(&pod, &container, "web").effective("example.org/level").unwrap();
//! assert_eq!((web.value, web.source, web.scoped), ("high", Source::Pod, true));
//! let db = Annotations::new(&pod, &container, "db").effective("example.org/level").unwrap();
//! assert_eq!((db.value, db.source, db.scoped), ("low", Source::Pod, false));
//! ```

use std::{cmp::Reverse, collections::HashMap};

use crate::proto::{Container, PodSandbox};

/// Between a key and the name of the container that it is for.
pub const SCOPE: &str = ".container.";

/// Label that Kubernetes gives containers.
const NAME_LABEL: &str = "io.kubernetes.container.name";

/// On what an annotation was found; the later wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// On the pod.
    Pod,
    /// On the container itself.
    Container,
}

/// An annotation that applies to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Annotation<'a> {
    /// The key without its scope.
    pub key: &'a str,
    /// The key as it was written.
    pub written: &'a str,
    /// The value.
    pub value: &'a str,
    /// On what it was found.
    pub source: Source,
    /// Whether it is for this container alone.
    pub scoped: bool,
}

impl Annotation<'_> {
    /// Of two annotations with the same key, the greater wins.
    fn strength(&self) -> (Source, bool) {
        (self.source, self.scoped)
    }
}

/// The annotations of a container and of its pod.
#[derive(Clone, Copy, Debug)]
pub struct Annotations<'a> {
    pod: &'a HashMap<String, String>,
    container: &'a HashMap<String, String>,
    name: &'a str,
}

impl<'a> Annotations<'a> {
    /// Those of the container `name`, and of its pod.
    #[must_use]
    pub fn new(
        pod: &'a HashMap<String, String>,
        container: &'a HashMap<String, String>,
        name: &'a str,
    ) -> Self {
        Self {
            pod,
            container,
            name,
        }
    }

    /// Those of a container and its pod, as handlers are given them, for its
    /// [`name`].
    #[must_use]
    pub fn of(pod: &'a PodSandbox, container: &'a Container) -> Self {
        Self::new(&pod.annotations, &container.annotations, name(container))
    }

    /// The annotation that holds for `key`, if there is any.
    #[must_use]
    pub fn effective(&self, key: &str) -> Option<Annotation<'a>> {
        self.all()
            .filter(|annotation| annotation.key == key)
            .max_by_key(Annotation::strength)
    }

    /// All annotations whose key begins with `prefix`, in order of their keys and
    /// of those with the same key the strongest first.
    ///
    /// Those that don't hold are included, so that a caller can reject them if
    /// they make no sense. Those of other containers are not.
    #[must_use]
    pub fn with_prefix(&self, prefix: &str) -> Vec<Annotation<'a>> {
        let mut found: Vec<_> = self
            .all()
            .filter(|annotation| annotation.key.starts_with(prefix))
            .collect();
        found.sort_by_key(|annotation| (annotation.key, Reverse(annotation.strength())));
        found
    }

    /// The annotations whose key begins with `prefix`, in order of their keys,
    /// and of those with the same key the one that holds.
    #[must_use]
    pub fn effective_with_prefix(&self, prefix: &str) -> Vec<Annotation<'a>> {
        let mut found = self.with_prefix(prefix);
        found.dedup_by_key(|annotation| annotation.key);
        found
    }

    /// All that apply to the container, in no order.
    fn all(&self) -> impl Iterator<Item = Annotation<'a>> {
        let name = self.name;
        let of = move |annotations: &'a HashMap<String, String>, source| {
            annotations.iter().filter_map(move |(written, value)| {
                let (key, scoped) = match split(written) {
                    (key, None) => (key, false),
                    (key, Some(scope)) if scope == name => (key, true),
                    (_, Some(_)) => return None,
                };
                Some(Annotation {
                    key,
                    written,
                    value,
                    source,
                    scoped,
                })
            })
        };
        of(self.pod, Source::Pod).chain(of(self.container, Source::Container))
    }
}

/// The container's name. Where CRI-O leaves it out, on creation, it is taken from
/// the label that Kubernetes sets; empty where there is none either.
#[must_use]
pub fn name(container: &Container) -> &str {
    if container.name.is_empty() {
        container.labels.get(NAME_LABEL).map_or("", String::as_str)
    } else {
        &container.name
    }
}

/// Splits a key as it was written into the key and the container it is for.
///
/// Container names have no dots, so the last [`SCOPE`] counts. One without
/// a name after it is no scope, but a part of a key that nobody knows.
#[must_use]
pub fn split(written: &str) -> (&str, Option<&str>) {
    match written.rsplit_once(SCOPE) {
        Some((key, name)) if !name.is_empty() => (key, Some(name)),
        Some(_) | None => (written, None),
    }
}

#[cfg(test)]
#[path = "annotation_tests.rs"]
mod tests;
