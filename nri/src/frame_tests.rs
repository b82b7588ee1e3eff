//! Tests of the module `frame`.

use proptest::prelude::*;

use super::*;

/// Decodes `bytes`, given to the decoder in pieces that end at `cuts`.
fn decode(bytes: &[u8], cuts: &[usize]) -> (Vec<Frame>, Decoder) {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    let ends = cuts.iter().copied().chain([bytes.len()]);
    let mut start = 0;
    for end in ends {
        let mut piece = &bytes[start..end];
        while !piece.is_empty() {
            frames.extend(decoder.next(&mut piece).unwrap());
        }
        start = end;
    }
    (frames, decoder)
}

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let payload = prop::collection::vec(any::<u8>(), 0..300);
    let frame = (any::<u32>(), payload).prop_map(|(connection, payload)| Frame {
        connection,
        payload,
    });
    prop::collection::vec(frame, 0..8)
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_however_it_is_split(
        frames in frames(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(|f| encode(f.connection, &f.payload)).collect();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let (decoded, decoder) = decode(&bytes, &cuts);
        prop_assert_eq!(decoded, frames);
        prop_assert_eq!(decoder.finish(), Ok(()));
    }

    #[test]
    fn a_stream_that_ends_within_a_frame_is_cut_short(
        payload in prop::collection::vec(any::<u8>(), 0..100),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = encode(1, &payload);
        // At least one byte of the frame, and not all.
        let end = 1 + cut.index(bytes.len() - 1);
        let (frames, decoder) = decode(&bytes[..end], &[]);
        prop_assert_eq!(frames, []);
        let whole = if end < HEADER { HEADER } else { bytes.len() };
        prop_assert_eq!(decoder.finish(), Err(FrameError::CutShort { missing: whole - end }));
    }
}

#[test]
fn fields_are_big_endian() {
    assert_eq!(encode(2, b"abc"), b"\0\0\0\x02\0\0\0\x03abc");
}

#[test]
fn the_longest_frame_is_taken_and_a_longer_one_is_not() {
    let mut header: &[u8] = &[0, 0, 0, 1, 0, 0x40, 0, 10];
    assert_eq!(Decoder::new().next(&mut header), Ok(None));
    let mut header: &[u8] = &[0, 0, 0, 1, 0, 0x40, 0, 11];
    let error = FrameError::TooLong {
        connection: 1,
        length: PAYLOAD_MAX + 1,
        max: PAYLOAD_MAX,
    };
    assert_eq!(Decoder::new().next(&mut header), Err(error));
    assert_eq!(
        error.to_string(),
        "frame of 4194315 bytes for connection 1, expected at most 4194314"
    );
}
