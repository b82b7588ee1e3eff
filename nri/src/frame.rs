//! Frames of the trunk, as pure functions over bytes.
//!
//! ```text
//! trunk := { connection id: u32 | length: u32 | length bytes }*    big endian
//! ```
//!
//! A frame is a piece of a connection's byte stream, not a message: a message
//! may span frames, and a frame may hold the end of one and the start of the next.

/// Bytes before a frame's payload.
pub(crate) const HEADER: usize = 8;

/// Longest payload: a ttrpc message of 4 MiB with its header, which is what
/// runtimes with NRI 0.7 or later send. Bounds what a broken peer can make us
/// allocate for one frame.
pub(crate) const PAYLOAD_MAX: usize = (4 << 20) + 10;

/// What a received byte sequence violates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame longer than any that a runtime sends.
    #[error("frame of {length} bytes for connection {connection}, expected at most {max}")]
    TooLong {
        /// The connection it is for.
        connection: u32,
        /// Its length by its header.
        length: usize,
        /// The longest accepted.
        max: usize,
    },
    /// The stream ended within a frame.
    #[error("stream ended within a frame: {missing} bytes missing")]
    CutShort {
        /// Of the header, or of the payload if the header was whole.
        missing: usize,
    },
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) connection: u32,
    pub(crate) payload: Vec<u8>,
}

/// A frame as it goes over the wire. `payload` is at most [`PAYLOAD_MAX`] long.
pub(crate) fn encode(connection: u32, payload: &[u8]) -> Vec<u8> {
    debug_assert!(payload.len() <= PAYLOAD_MAX);
    #[expect(clippy::cast_possible_truncation, reason = "at most PAYLOAD_MAX")]
    let length = payload.len() as u32;
    let mut frame = Vec::with_capacity(HEADER + payload.len());
    frame.extend_from_slice(&connection.to_be_bytes());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Cuts a byte stream, which arrives in pieces of any size, into frames.
#[derive(Debug)]
pub(crate) enum Decoder {
    /// So many bytes of a header have arrived.
    Header { bytes: [u8; HEADER], filled: usize },
    /// A header and a part of its payload have arrived.
    Payload {
        connection: u32,
        payload: Vec<u8>,
        missing: usize,
    },
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self::Header {
            bytes: [0; HEADER],
            filled: 0,
        }
    }

    /// Takes bytes from the front of `input` up to the end of a frame, and
    /// returns the frame when it is whole. Call it until `input` is empty.
    pub(crate) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        if let Self::Header { bytes, filled } = self {
            let piece = take(input, HEADER - *filled);
            bytes[*filled..*filled + piece.len()].copy_from_slice(piece);
            *filled += piece.len();
            if *filled < HEADER {
                return Ok(None);
            }
            // Both fields at once, as the halves of one big-endian number.
            let both = u64::from_be_bytes(*bytes);
            #[expect(clippy::cast_possible_truncation, reason = "takes the halves")]
            let (connection, length) = ((both >> 32) as u32, both as u32 as usize);
            if length > PAYLOAD_MAX {
                return Err(FrameError::TooLong {
                    connection,
                    length,
                    max: PAYLOAD_MAX,
                });
            }
            let payload = Vec::with_capacity(length);
            *self = Self::Payload {
                connection,
                payload,
                missing: length,
            };
        }
        if let Self::Payload {
            connection,
            payload,
            missing,
        } = self
        {
            let piece = take(input, *missing);
            payload.extend_from_slice(piece);
            *missing -= piece.len();
            if *missing == 0 {
                let frame = Frame {
                    connection: *connection,
                    payload: std::mem::take(payload),
                };
                *self = Self::new();
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// The stream has ended: fine between frames, an error within one.
    pub(crate) fn finish(&self) -> Result<(), FrameError> {
        match *self {
            Self::Header { filled: 0, .. } => Ok(()),
            Self::Header { filled, .. } => Err(FrameError::CutShort {
                missing: HEADER - filled,
            }),
            Self::Payload { missing, .. } => Err(FrameError::CutShort { missing }),
        }
    }
}

/// Splits off the first `most` bytes of `input`, or all if it has fewer.
fn take<'a>(input: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (piece, rest) = input.split_at(most.min(input.len()));
    *input = rest;
    piece
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
