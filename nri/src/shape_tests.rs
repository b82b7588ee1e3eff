//! Tests of the module `shape`.

use proptest::prelude::*;

use super::*;

/// A message as ttrpc writes it: header, payload.
fn message(length: usize) -> Vec<u8> {
    let mut message = vec![0xee; HEADER + length];
    message[..LENGTH].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
    message
}

/// Passes writes through a [`Shape`] as `Connection::poll_write` does, whose
/// caller repeats what was not taken.
fn frames(writes: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut shape = Shape::default();
    let mut frames = Vec::new();
    for mut write in writes.iter().copied() {
        while !write.is_empty() {
            let cut = shape.cut(write);
            assert_ne!(cut, 0);
            frames.push(write[..cut].to_vec());
            write = &write[cut..];
        }
    }
    frames
}

/// Go's `bufio.Reader` and `io.ReadFull` over a connection that hands out whole
/// frames: reads messages, or says which frame did not fit its buffer.
fn read_like_go(frames: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, usize> {
    let mut messages = Vec::new();
    let mut buffered: &[u8] = &[];
    let mut next = 0;
    while next < frames.len() || !buffered.is_empty() {
        let mut message: Vec<u8> = Vec::new();
        let mut end = HEADER;
        while message.len() < end {
            let wanted = end - message.len();
            if buffered.is_empty() {
                let Some(frame) = frames.get(next) else {
                    return Ok(messages);
                };
                // A long read goes past the buffer.
                if frame.len() > wanted.max(GO_BUFFER) {
                    return Err(frame.len());
                }
                buffered = frame;
                next += 1;
            }
            let (taken, rest) = buffered.split_at(wanted.min(buffered.len()));
            message.extend_from_slice(taken);
            buffered = rest;
            if message.len() == HEADER && end == HEADER {
                let length = [message[0], message[1], message[2], message[3]];
                end += u32::from_be_bytes(length) as usize;
            }
        }
        messages.push(message);
    }
    Ok(messages)
}

proptest! {
    #[test]
    fn go_can_read_messages_however_they_are_written(
        lengths in prop::collection::vec(
            prop_oneof![0_usize..40, 4070_usize..4110, 8150_usize..8230, 10_000_usize..50_000],
            1..5,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let messages: Vec<_> = lengths.iter().map(|&length| message(length)).collect();
        let bytes = messages.concat();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let writes: Vec<_> = cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
        let frames = frames(&writes);
        prop_assert_eq!(frames.concat(), bytes);
        prop_assert_eq!(read_like_go(&frames), Ok(messages));
    }
}

#[test]
fn the_model_of_go_refuses_what_go_refuses() {
    // 5000 bytes in one frame, as a pump between two sockets makes them: seen
    // to end a plugin's connection to containerd.
    assert_eq!(read_like_go(&[message(5000)]), Err(5010));
    // The end of a message and the start of the next, in one long frame.
    let (first, second) = (message(5000), message(5000));
    let frames = [
        first[..4096].to_vec(),
        [&first[4096..], &second[..]].concat(),
    ];
    assert_eq!(read_like_go(&frames), Err(914 + 5010));
}

#[test]
fn a_message_is_cut_at_the_buffer_and_nowhere_else() {
    let long = message(3 << 20);
    let lengths = |writes: &[&[u8]]| frames(writes).iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(lengths(&[&long]), [4096, long.len() - 4096]);
    assert_eq!(lengths(&[&message(4086)]), [4096]);
    // What ttrpc 0.10 writes, and what 0.9 wrote.
    assert_eq!(
        lengths(&[&long[..4096], &long[4096..]]),
        [4096, long.len() - 4096]
    );
    let pieces = [
        &long[..4],
        &long[4..8],
        &long[8..9],
        &long[9..10],
        &long[10..],
    ];
    assert_eq!(lengths(&pieces), [4, 4, 1, 1, long.len() - 10]);
}
