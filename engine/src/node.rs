//! What holds for a container on this node: its annotations, the profiles that
//! they name and the node's defaults. The one place that reads
//! `/etc/execblock`; all that binds asks here.
//!
//! A node without `config.toml` costs a container without annotations one
//! failed open(2).

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    annotation::{self, Annotation, AnnotationError, Asked, Spec},
    config::{self, NodeConfig, Subject, TextError},
    merge::{self, Floor, Layer, MergeError, Merged, Voice},
    record::Owner,
    scope::{self, NoName},
    trusted::{self, TrustError},
};

/// Where profiles and defaults are.
pub const CONFIG_DIR: &str = "/etc/execblock";

/// The directory of profiles and defaults.
#[derive(Clone, Debug)]
pub struct Node {
    dir: PathBuf,
    /// Whose files are followed; `None`: everybody's.
    owner: Option<u32>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            dir: PathBuf::from(CONFIG_DIR),
            owner: Some(0),
        }
    }
}

/// Why it can't be told what holds. Fails closed: the caller refuses the
/// container.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// An annotation for a container whose name is not known.
    #[error(transparent)]
    Scope(#[from] NoName),
    /// An annotation that was not understood.
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
    /// A profile that is not there.
    #[error("{by}: there is no profile {name:?} on this node, expected {path}")]
    NoProfile {
        /// The annotation or default that names it.
        by: String,
        /// Its name.
        name: String,
        /// Its file.
        path: PathBuf,
    },
    /// A file of the node.
    #[error(transparent)]
    File(#[from] FileError),
    /// The pod and the defaults don't go together.
    #[error(transparent)]
    Merge(#[from] MergeError),
}

/// A profile or `config.toml` that can't be followed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be read, or is not to be trusted.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// It was not understood.
    #[error("{path}: {source}")]
    Text {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: TextError,
    },
}

impl Node {
    /// Files below another directory, whoever owns them: for a dry run.
    #[must_use]
    pub fn unchecked(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            owner: None,
        }
    }

    /// What holds for a container, by the annotations of its OCI configuration.
    ///
    /// # Errors
    ///
    /// Fails closed: the caller refuses the container.
    pub fn spec_of(
        &self,
        annotations: &BTreeMap<String, String>,
        owner: &Owner,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Result<Option<Spec>, SpecError> {
        let subject = Subject {
            namespace: &owner.namespace,
            labels,
        };
        self.spec(scope::holding(annotations, &owner.name)?, subject)
    }

    /// What holds for a container, by the annotations that hold for it. `None`
    /// where nothing does.
    ///
    /// # Errors
    ///
    /// Fails closed: the caller refuses the container.
    pub fn spec<'a>(
        &self,
        annotations: impl IntoIterator<Item = Annotation<'a>>,
        subject: Subject<'_>,
    ) -> Result<Option<Spec>, SpecError> {
        let merged = self.merged(&annotation::read(annotations)?, subject)?;
        for note in &merged.notes {
            log::warn!("{note}");
        }
        Ok(Some(merged.spec).filter(|spec| !spec.is_empty()))
    }

    /// As [`Self::spec`], with what the pod asked for and did not get.
    ///
    /// # Errors
    ///
    /// As [`Self::spec`].
    pub fn merged(&self, asked: &Asked, subject: Subject<'_>) -> Result<Merged, SpecError> {
        let config = match self.config() {
            Ok(config) => config.unwrap_or_default(),
            // Open: it can't be told for whom it is, and a container that asks
            // for nothing must start.
            Err(error) if asked.is_empty() => {
                log::error!("the defaults of this node do not hold: {error}");
                return Ok(Merged::default());
            }
            // Closed.
            Err(error) => return Err(error.into()),
        };
        let mut defaults = Vec::new();
        for default in &config.defaults {
            if default.is_for(subject) {
                let by = format!("node default {}", default.name);
                let profiles = self.profiles(&default.profiles, &by)?;
                defaults.push(Floor {
                    name: default.name.clone(),
                    voice: Voice::of_default(&default.name, &default.layer, &profiles),
                });
            }
        }
        let by = format!("annotation {}", annotation::PROFILE);
        let profiles = self.profiles(&asked.profiles, &by)?;
        let pod = Voice::of_pod(&Layer::from(asked), &profiles);
        Ok(merge::merge(pod, &defaults)?)
    }

    /// Whether this node has defaults, which hold for containers without
    /// annotations too. It has where that can't be told: whoever asks further is
    /// told why.
    #[must_use]
    pub fn has_defaults(&self) -> bool {
        self.config().map_or(true, |config| {
            config.is_some_and(|config| !config.defaults.is_empty())
        })
    }

    /// Whether this node has a directory of profiles.
    #[must_use]
    pub fn has_profiles(&self) -> bool {
        self.dir.join("profiles").exists()
    }

    /// The node's configuration; `None` where it has none.
    ///
    /// # Errors
    ///
    /// Where it is there and can't be followed.
    pub fn config(&self) -> Result<Option<NodeConfig>, FileError> {
        let Some(text) = self.config_text()? else {
            return Ok(None);
        };
        config::parse_config(&text)
            .map(Some)
            .map_err(|source| self.not_understood(source))
    }

    /// The text of the node's configuration, for whoever has tables of its own in
    /// it; `None` where it has none.
    ///
    /// # Errors
    ///
    /// Where it can't be read, or is not to be trusted.
    pub fn config_text(&self) -> Result<Option<String>, FileError> {
        Ok(trusted::read(&self.config_path(), self.owner)?)
    }

    /// The error of somebody who did not understand that text.
    #[must_use]
    pub fn not_understood(&self, source: TextError) -> FileError {
        FileError::Text {
            path: self.config_path(),
            source,
        }
    }

    fn config_path(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    fn profiles(&self, names: &[String], by: &str) -> Result<Vec<(String, Layer)>, SpecError> {
        let read = |name: &String| {
            // Names have no slash and do not begin with a dot.
            let path = self.dir.join("profiles").join(format!("{name}.toml"));
            // Closed: what was asked for is not known.
            let Some(text) = trusted::read(&path, self.owner).map_err(FileError::from)? else {
                return Err(SpecError::NoProfile {
                    by: by.to_owned(),
                    name: name.clone(),
                    path,
                });
            };
            match config::parse_profile(&text) {
                Ok(profile) => Ok((name.clone(), profile.layer)),
                Err(source) => Err(FileError::Text { path, source }.into()),
            }
        };
        names.iter().map(read).collect()
    }
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
