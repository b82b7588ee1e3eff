//! The ring buffer of refusals, from its pin.

use std::{
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    path::Path,
};

use aya::maps::{Map, MapData, RingBuf};
use plugin_common::Event;

use super::{MapError, maps::EVENTS};

/// Reads events; becomes readable (poll) when there are some.
pub struct Events(RingBuf<MapData>);

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Events").field(&self.0.as_raw_fd()).finish()
    }
}

impl Events {
    /// Opens the pinned ring buffer. Each event goes to one reader alone.
    ///
    /// # Errors
    ///
    /// Where it is not there.
    pub fn open(dir: &Path) -> Result<Self, MapError> {
        let other = |source| MapError::Other {
            map: EVENTS,
            source: Box::new(source),
        };
        let data = MapData::from_pin(dir.join(EVENTS)).map_err(other)?;
        RingBuf::try_from(Map::RingBuf(data))
            .map(Self)
            .map_err(other)
    }

    /// The next event, if there is one. A record of another size, which a
    /// foreign version may write, is skipped.
    pub fn take(&mut self) -> Option<Event> {
        loop {
            let item = self.0.next()?;
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
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}
