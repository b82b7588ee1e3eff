//! The ring buffer of refusals, from its pin.

use std::{
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    path::Path,
};

use aya::maps::{Map, MapData, RingBuf};
use plugin_common::Event;

use super::{
    MapError,
    maps::{EVENTS, other},
};

/// Reads events; becomes readable (poll) when there are some.
pub struct Events {
    ring: RingBuf<MapData>,
    /// The kernel's id of the map.
    id: u32,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Events {
    /// Opens the pinned ring buffer. Each event goes to one reader alone.
    ///
    /// # Errors
    ///
    /// Where it is not there.
    pub fn open(dir: &Path) -> Result<Self, MapError> {
        let (data, id) = pinned(dir)?;
        let ring = RingBuf::try_from(Map::RingBuf(data)).map_err(other(EVENTS))?;
        Ok(Self { ring, id })
    }

    /// Whether it is the one that is pinned now: the programs may have been unloaded
    /// and loaded anew since it was opened.
    ///
    /// # Errors
    ///
    /// Where nothing is pinned, or the kernel does not tell.
    pub fn is_pinned(&self, dir: &Path) -> Result<bool, MapError> {
        let (_, id) = pinned(dir)?;
        Ok(id == self.id)
    }

    /// The next event, if there is one. A record of another size, which a
    /// foreign version may write, is skipped.
    pub fn take(&mut self) -> Option<Event> {
        loop {
            let item = self.ring.next()?;
            if item.len() == size_of::<Event>() {
                // SAFETY: as long as an Event, which is valid for all bytes;
                // read unaligned.
                return Some(unsafe { item.as_ptr().cast::<Event>().read_unaligned() });
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring buffer owns the descriptor and lives as long as self.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

/// The pinned map and its id.
fn pinned(dir: &Path) -> Result<(MapData, u32), MapError> {
    let data = MapData::from_pin(dir.join(EVENTS)).map_err(other(EVENTS))?;
    let id = data.info().map_err(other(EVENTS))?.id();
    Ok((data, id))
}
