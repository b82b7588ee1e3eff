//! Why a container was not bound.

use std::{io, path::PathBuf};

use crate::{
    cgroup::CgroupError,
    kernel::{MapError, PinError},
    lock::LockError,
    order::NotDenied,
    record::RecordError,
    site::SiteError,
};

/// Why a container was not bound. Nothing is half-applied.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// No cgroup to bind.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// No pins, or unusable ones.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A map, most likely a full one.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Drift on a kernel that was not understood.
    #[error(
        "drift: this kernel's overlay file system is not laid out as expected, so that a file of \
         the image can't be told from a new one (execblock load says what was tried); leave drift \
         off"
    )]
    NoDrift,
    /// Its root, in which a path rule's directory may be a link.
    #[error("looking for the directories of path rules in {0}: {1}")]
    Root(PathBuf, io::Error),
    /// Where it lives.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// An order that can't be carried out.
    #[error(transparent)]
    Order(#[from] NotDenied),
}
