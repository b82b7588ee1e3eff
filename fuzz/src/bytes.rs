//! Takes a fuzzer's bytes apart.

/// Takes the next bytes; fewer where there are not as many.
pub(crate) fn take<'a>(data: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (piece, rest) = data.split_at(most.min(data.len()));
    *data = rest;
    piece
}

/// The next byte.
pub(crate) fn byte(data: &mut &[u8]) -> Option<u8> {
    let (first, rest) = data.split_first()?;
    *data = rest;
    Some(*first)
}

/// The next bytes as a number, in the order of the machine, with zeros behind them
/// where there are too few.
pub(crate) fn number(data: &mut &[u8], width: usize) -> u64 {
    let mut bytes = [0; 8];
    let piece = take(data, width.min(8));
    bytes[..piece.len()].copy_from_slice(piece);
    u64::from_le_bytes(bytes)
}

/// What the next byte says of the length, as a text.
pub(crate) fn text(data: &mut &[u8]) -> String {
    let len = byte(data).unwrap_or(0);
    String::from_utf8_lossy(take(data, len.into())).into_owned()
}
