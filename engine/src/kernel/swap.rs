//! New pins in the place of old ones: both are there, with their programs attached,
//! until the old ones' are removed.
//!
//! ```text
//! execblock-new   made, pinned, complete; a kill here leaves the old ones
//! execblock       the old ones
//!                 renamed, each to where the other was
//! execblock       the new ones; a kill here leaves them
//! execblock-old   the old ones, to be removed
//! ```
//! Whoever does any of this has the lock of all writers. (BPF file systems have no
//! names with dots: `bpf_lookup` in kernel/bpf/inode.c.)

use std::{io, path::Path};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{PinError, PinState, Pins};

impl Pins {
    /// Where the next ones are made.
    #[must_use]
    pub fn next(&self) -> Self {
        self.beside("new")
    }

    /// Where those are that were replaced.
    fn retired(&self) -> Self {
        self.beside("old")
    }

    fn beside(&self, what: &str) -> Self {
        let mut name = self.dir().as_os_str().to_owned();
        name.push("-");
        name.push(what);
        Self::at(name)
    }

    /// Puts the [`next`](Self::next) pins, which are complete, in the place of these.
    /// Returns where these are then.
    ///
    /// # Errors
    ///
    /// Where the file system refuses it: these stay.
    pub fn swap(&self) -> Result<Self, PinError> {
        let (next, retired) = (self.next(), self.retired());
        match rename(next.dir(), self.dir(), RenameFlags::EXCHANGE) {
            Ok(()) => self.rename(&next, &retired)?,
            // Before Linux 5.17 bpffs does not exchange. Between the two renames
            // writers wait for the lock, and the programs know no paths.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.rename(self, &retired)?;
                self.rename(&next, self)?;
            }
            Err(error) => return Err(self.failed("rename", next.dir())(error)),
        }
        Ok(retired)
    }

    /// Puts right what a killed [`swap`](Self::swap) left where these pins should be.
    ///
    /// # Errors
    ///
    /// Where the file system refuses it.
    pub fn recover(&self) -> Result<(), PinError> {
        if self.dir().exists() {
            return Ok(());
        }
        let (next, retired) = (self.next(), self.retired());
        if next.is_complete()? {
            log::warn!("{}: an upgrade was cut off, going on", self.dir().display());
            self.rename(&next, self)?;
        } else if retired.is_complete()? {
            log::warn!(
                "{}: an upgrade was cut off, going back",
                self.dir().display()
            );
            self.rename(&retired, self)?;
        }
        Ok(())
    }

    /// Removes what a killed upgrade left beside these pins.
    ///
    /// # Errors
    ///
    /// Where the file system refuses it.
    pub fn remove_others(&self) -> Result<bool, PinError> {
        let mut any = false;
        for pins in [self.next(), self.retired()] {
            any |= pins.remove()?;
        }
        Ok(any)
    }

    fn is_complete(&self) -> Result<bool, PinError> {
        let state = self.state()?;
        Ok(matches!(state, PinState::Loaded(_) | PinState::Foreign(_)))
    }

    fn rename(&self, from: &Self, to: &Self) -> Result<(), PinError> {
        let none = RenameFlags::NOREPLACE;
        rename(from.dir(), to.dir(), none).map_err(self.failed("rename", from.dir()))
    }
}

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    Ok(renameat_with(CWD, from, CWD, to, flags)?)
}
