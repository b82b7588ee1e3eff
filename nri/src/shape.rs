//! How outgoing bytes may be cut into frames so that a runtime can read them.
//!
//! Runtimes are written in Go. Their end of a connection hands out whole frames
//! and gives up on the plugin, for good, if one is longer than the buffer it is
//! read into. That buffer is one of 4096 bytes, as long as the reader doesn't
//! know how long the message is; then it is what remains of the message. So
//!
//! - a frame that begins within a message's header is at most 4096 bytes long;
//! - no frame goes beyond the end of the message that it begins in.
//!
//! [`Shape`] keeps to these rules however the RPC layer cuts its writes.

use crate::frame::PAYLOAD_MAX;

/// Size of the buffer of Go's `bufio.Reader`, through which ttrpc reads.
pub(crate) const GO_BUFFER: usize = 4096;

/// ttrpc's header: length u32, stream id u32, type u8, flags u8.
const HEADER: usize = 10;
/// What of the header is its length field.
const LENGTH: usize = 4;

/// Where in a connection's outgoing messages the next byte stands.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    length: [u8; LENGTH],
    /// Bytes of this message already passed on.
    offset: usize,
    /// Bytes of this message, with its header; known once the length field is passed.
    total: Option<usize>,
}

impl Shape {
    /// How many bytes from the front of `bytes` to send as one frame, which
    /// counts them as sent. Not 0, unless `bytes` is empty.
    pub(crate) fn cut(&mut self, bytes: &[u8]) -> usize {
        if let Some(missing) = self.length.get_mut(self.offset..) {
            let known = missing.len().min(bytes.len());
            missing[..known].copy_from_slice(&bytes[..known]);
            if known == missing.len() {
                self.total = Some(HEADER + u32::from_be_bytes(self.length) as usize);
            }
        }
        let within_message = match self.total {
            Some(total) => total - self.offset,
            None => LENGTH - self.offset,
        };
        let most = if self.offset < HEADER {
            GO_BUFFER
        } else {
            PAYLOAD_MAX
        };
        let cut = bytes.len().min(within_message).min(most);
        self.offset += cut;
        if Some(self.offset) == self.total {
            *self = Self::default();
        }
        cut
    }
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
