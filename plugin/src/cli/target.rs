//! Which container the command line means.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use execblock::{
    annotation::{self, Annotation, Spec},
    bind::Place,
    cgroup::Init,
    lookup::{self, Found, Sources},
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

/// What the annotations that the engine recorded ask for.
pub(crate) fn annotations(found: &Found) -> Result<Option<Spec>, annotation::AnnotationError> {
    annotation::parse(found.annotations.iter().map(|(key, value)| Annotation {
        written: key,
        key,
        value,
    }))
}

impl Target {
    pub(crate) fn place(&self) -> Place<'_> {
        match &self.place {
            lookup::Place::Init { pid, cgroups_path } => Place::Init(Init {
                pid: *pid,
                cgroups_path: cgroups_path.as_deref(),
            }),
            lookup::Place::Cgroup(path) => Place::Cgroup(path),
            // Only what runs is found.
            lookup::Place::Nowhere => Place::Cgroup(""),
        }
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
        let id = super::short_id(container);
        if name.is_empty() || name == container {
            format!("{id} ({engine})")
        } else {
            format!("{name} ({id}, {engine})")
        }
    }
}
