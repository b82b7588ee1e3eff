//! What is fetched or built once, kept for the next run.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{apt::Apt, kernel};
use crate::host;

/// As it is called in its package, and in the cache.
const UBUNTU_KEYRING: &str = "ubuntu-archive-keyring.gpg";

/// The folder of what is fetched or built once.
#[derive(Debug)]
pub(crate) struct Cache {
    pub(super) folder: PathBuf,
    pub(super) apt: Apt,
    /// For what is of Debian 11.
    pub(super) old_apt: Apt,
    ubuntu_apt: Apt,
}

impl Cache {
    pub(super) fn open() -> Result<Self> {
        let folder = env::var_os("EXECBLOCK_VM_DIR")
            .map_or_else(|| host::checkout().join("target/vm"), PathBuf::from);
        for child in [
            "kernels",
            "userlands",
            "logs",
            "scratch",
            "apt",
            "apt-old",
            "apt-ubuntu",
        ] {
            fs::create_dir_all(folder.join(child)).with_context(|| folder.display().to_string())?;
        }
        let folder = folder.canonicalize()?;
        let cache = Self {
            apt: Apt::new(folder.join("apt")),
            old_apt: Apt::old(folder.join("apt-old")),
            ubuntu_apt: Apt::ubuntu(folder.join("apt-ubuntu"), folder.join(UBUNTU_KEYRING)),
            folder,
        };
        cache.remove_leftovers()?;
        Ok(cache)
    }

    pub(super) fn kernels(&self) -> PathBuf {
        self.folder.join("kernels")
    }

    pub(super) fn userlands(&self) -> PathBuf {
        self.folder.join("userlands")
    }

    /// Where `build-kernel` leaves its kernel.
    pub(super) fn built_kernel(&self) -> PathBuf {
        self.kernels().join(format!("bzImage-{}", kernel::OVERRIDE))
    }

    /// A folder that is removed with its owner.
    pub(super) fn scratch(&self) -> Result<tempfile::TempDir> {
        let owner = format!("{}-", std::process::id());
        Ok(tempfile::Builder::new()
            .prefix(&owner)
            .tempdir_in(self.folder.join("scratch"))?)
    }

    /// Removes the scratch folders of runs that were killed.
    fn remove_leftovers(&self) -> Result<()> {
        for entry in fs::read_dir(self.folder.join("scratch"))? {
            let entry = entry?;
            let name = entry.file_name();
            let owner = name
                .to_string_lossy()
                .split('-')
                .next()
                .unwrap_or_default()
                .to_owned();
            if owner.is_empty() || !Path::new("/proc").join(owner).exists() {
                // Another run may be doing the same.
                drop(fs::remove_dir_all(entry.path()));
            }
        }
        Ok(())
    }

    /// Keeps two runs from fetching the same thing.
    pub(super) fn lock(&self) -> Result<File> {
        let file = File::create(self.folder.join("lock"))?;
        file.lock()?;
        Ok(file)
    }

    /// Ubuntu's archive.
    pub(super) fn ubuntu(&self) -> Result<&Apt> {
        self.ubuntu_keyring()?;
        Ok(&self.ubuntu_apt)
    }

    /// The keys of Ubuntu's archive, from Debian's.
    pub(super) fn ubuntu_keyring(&self) -> Result<PathBuf> {
        let keyring = self.folder.join(UBUNTU_KEYRING);
        if !keyring.exists() {
            let scratch = self.scratch()?;
            self.apt
                .unpack(&["ubuntu-keyring".into()], scratch.path())?;
            let keys = scratch
                .path()
                .join("usr/share/keyrings")
                .join(UBUNTU_KEYRING);
            fs::rename(&keys, &keyring).with_context(|| keys.display().to_string())?;
        }
        Ok(keyring)
    }

    /// A static `BusyBox`, the initrd's only program.
    pub(super) fn busybox(&self) -> Result<PathBuf> {
        let file = self.folder.join("busybox");
        if !file.exists() {
            let scratch = self.scratch()?;
            self.apt
                .unpack(&["busybox-static".into()], scratch.path())?;
            let found = ["usr/bin/busybox", "bin/busybox"]
                .map(|path| scratch.path().join(path))
                .into_iter()
                .find(|path| path.exists())
                .context("busybox-static has no busybox")?;
            fs::rename(found, &file)?;
        }
        Ok(file)
    }
}
