//! Which container the command line means.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args as ClapArgs;
use execblock::{
    annotation::Spec,
    bind::Place,
    cgroup::Init,
    lookup::{self, Found, Sources},
    node::{Node, SpecError},
    record::Owner,
};

use super::{FAILED, Failure};

/// Where to look.
#[derive(Debug, ClapArgs)]
pub(crate) struct TargetArgs {
    /// containerd's socket, where it is not in a usual place.
    #[arg(long, value_name = "PATH")]
    containerd: Option<PathBuf>,
}

/// A container that runs.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) owner: Owner,
    place: lookup::Place,
    /// What its engine knows of our annotations.
    pub(crate) annotations: Option<Spec>,
}

impl TargetArgs {
    pub(crate) fn sources(&self) -> Sources {
        let sources = Sources::default();
        match &self.containerd {
            Some(socket) => sources.with_containerd(socket),
            None => sources,
        }
    }

    pub(crate) fn find(&self, query: &str) -> Result<Target, Failure> {
        let found = self.sources().find(query)?;
        let annotations = annotations(&found)
            .map_err(|error| Failure::new(FAILED, format!("{query}: {error}")))?;
        Ok(Target {
            owner: found.owner,
            place: found.place,
            annotations,
        })
    }
}

/// What the annotations that the engine recorded ask for, with profiles and the
/// node's defaults. The labels of its pod are not known here: a default that
/// asks for some does not count.
pub(crate) fn annotations(found: &Found) -> Result<Option<Spec>, SpecError> {
    Node::default().spec_of(&found.annotations, &found.owner, Some(&BTreeMap::new()))
}

/// Where it is, for the binder.
pub(crate) fn place(place: &lookup::Place) -> Place<'_> {
    match place {
        lookup::Place::Init { pid, cgroups_path } => Place::Init(Init {
            pid: *pid,
            cgroups_path: cgroups_path.as_deref(),
            root: None,
        }),
        lookup::Place::Cgroup(path) => Place::Cgroup(path),
        // Closed: the root, which is never bound. Only what runs is asked for.
        lookup::Place::Nowhere => Place::Cgroup("/"),
    }
}

impl Target {
    pub(crate) fn place(&self) -> Place<'_> {
        place(&self.place)
    }

    /// Where its engine, or who asked, says that it is.
    pub(crate) fn found_place(&self) -> &lookup::Place {
        &self.place
    }

    /// `web (0123456789ab, docker)`
    pub(crate) fn describe(&self) -> String {
        if let lookup::Place::Cgroup(path) = &self.place {
            return format!("cgroup {path}");
        }
        let Owner {
            container,
            name,
            engine,
            ..
        } = &self.owner;
        let id = self.owner.short_id();
        if name.is_empty() || name == container {
            format!("{id} ({engine})")
        } else {
            format!("{name} ({id}, {engine})")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(annotations: &[(&str, &str)]) -> Found {
        Found {
            owner: Owner {
                name: "web".into(),
                ..Owner::default()
            },
            place: lookup::Place::Nowhere,
            annotations: annotations
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn a_key_for_one_container_holds_for_that_one() {
        let own = found(&[("execblock/deny.container.web", "whoami")]);
        let spec = annotations(&own).unwrap().unwrap();
        assert_eq!(spec.deny.len(), 1);
        let others = found(&[("execblock/deny.container.db", "whoami")]);
        assert_eq!(annotations(&others).unwrap(), None);
        assert!(annotations(&found(&[("execblock/dney", "id")])).is_err());
    }
}
