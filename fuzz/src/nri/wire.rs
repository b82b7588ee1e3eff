//! Both directions of the wire: frames around a fuzzer's payloads, and what a Go
//! runtime makes of the answers (nri/src/shape.rs).

use std::collections::HashMap;

use crate::bytes;

/// Of the mux: connection and length.
const FRAME: usize = 8;
/// Of ttrpc: length, stream, type, flags.
const HEADER: usize = 10;
/// Go's buffer, which a frame that begins in a header must fit into.
const GO_BUFFER: usize = 4096;
/// ttrpc's longest message.
const MESSAGE_MAX: usize = 4 << 20;

const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

const PLUGIN: u32 = 1;
const RUNTIME: u32 = 2;

const SERVICE: &str = "nri.pkg.api.v1alpha1.Plugin";
/// What a runtime calls, and what none does.
const METHODS: [&str; 17] = [
    "Configure",
    "Synchronize",
    "CreateContainer",
    "StartContainer",
    "RemoveContainer",
    "StateChange",
    "StopContainer",
    "UpdateContainer",
    "PostCreateContainer",
    "PostStartContainer",
    "PostUpdateContainer",
    "RunPodSandbox",
    "StopPodSandbox",
    "RemovePodSandbox",
    "Shutdown",
    "ValidateContainerAdjustment",
    "",
];

/// What goes out at once.
#[derive(Default)]
pub(super) struct Sent {
    pub(super) bytes: Vec<u8>,
    /// The stream of a call, which is answered soon.
    pub(super) request: Option<u32>,
    /// Whether it may have begun what looks like another call, or spoilt one.
    pub(super) loose: bool,
}

/// The next of what a runtime sends: a letter, two bytes of length, and as many of
/// payload.
///
/// | letter | payload |
/// |---|---|
/// | `A`, … | a message: the call of that number in [`METHODS`] |
/// | `a`, … | the same, in frames of seven bytes |
/// | `0` | the answer to the registration |
/// | `1` | a ttrpc request, in a message |
/// | `2` | bytes of the plugin's connection, in a frame |
/// | `3` | bytes of the runtime's connection, in a frame |
/// | `4` | bytes of the trunk |
pub(super) fn next(data: &mut &[u8], stream: &mut u32) -> Option<Sent> {
    let kind = bytes::byte(data)?;
    let length = usize::try_from(bytes::number(data, 2)).unwrap_or(0);
    let payload = bytes::take(data, length);
    let mut sent = Sent::default();
    let method = |first: u8| METHODS.get(usize::from(kind.wrapping_sub(first)));
    match kind {
        b'0' => frames(
            &mut sent,
            RUNTIME,
            &message(1, RESPONSE, payload),
            usize::MAX,
        ),
        b'1' => {
            sent.request = Some(*stream);
            frames(
                &mut sent,
                PLUGIN,
                &message(*stream, REQUEST, payload),
                usize::MAX,
            );
            *stream += 2;
        }
        b'2' | b'3' => {
            let connection = if kind == b'2' { PLUGIN } else { RUNTIME };
            frames(&mut sent, connection, payload, usize::MAX);
            sent.loose = true;
        }
        b'4' => {
            sent.bytes.extend_from_slice(payload);
            sent.loose = true;
        }
        _ => {
            let (method, most) = match (method(b'A'), method(b'a')) {
                (Some(method), _) => (method, usize::MAX),
                (None, Some(method)) => (method, 7),
                (None, None) => return Some(sent),
            };
            // One that hangs is answered later than anybody waits here.
            sent.request = (*method != "StopContainer").then_some(*stream);
            let request = request(method, payload);
            frames(
                &mut sent,
                PLUGIN,
                &message(*stream, REQUEST, &request),
                most,
            );
            *stream += 2;
        }
    }
    Some(sent)
}

fn frames(sent: &mut Sent, connection: u32, bytes: &[u8], most: usize) {
    for piece in bytes.chunks(most.max(1)) {
        sent.bytes.extend_from_slice(&connection.to_be_bytes());
        sent.bytes.extend_from_slice(&length(piece));
        sent.bytes.extend_from_slice(piece);
    }
}

fn message(stream: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    [
        &length(payload)[..],
        &stream.to_be_bytes(),
        &[kind, 0],
        payload,
    ]
    .concat()
}

fn length(of: &[u8]) -> [u8; 4] {
    u32::try_from(of.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// A request of ttrpc: service, method, payload.
fn request(method: &str, payload: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    for (field, value) in [
        (1, SERVICE.as_bytes()),
        (2, method.as_bytes()),
        (3, payload),
    ] {
        request.push(field << 3 | 2);
        let mut rest = value.len();
        while rest >= 0x80 {
            request.push((rest & 0x7f | 0x80).to_le_bytes()[0]);
            rest >>= 7;
        }
        request.push(rest.to_le_bytes()[0]);
        request.extend_from_slice(value);
    }
    request
}

/// What the plugin sent.
#[derive(Default)]
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    /// Streams of calls that must be answered.
    pub(super) requests: Vec<u32>,
    /// Whether something else was sent, or the session had ended by itself: then not
    /// all need be answered.
    pub(super) loose: bool,
}

/// How far a connection's current message has come.
#[derive(Default)]
struct Reader {
    message: Vec<u8>,
}

impl Received {
    /// Panics at what a Go runtime would die of.
    pub(super) fn check(&self) {
        let mut readers: HashMap<u32, Reader> = HashMap::new();
        let mut answered = Vec::new();
        let mut rest = self.bytes.as_slice();
        while let Some((header, behind)) = rest.split_first_chunk::<FRAME>() {
            let (connection, length) = header.split_at(4);
            let connection = be(connection);
            let length = be(length) as usize;
            assert!(
                matches!(connection, PLUGIN | RUNTIME),
                "connection {connection}"
            );
            assert!(
                (1..=MESSAGE_MAX + HEADER).contains(&length),
                "a frame of {length}"
            );
            let Some((frame, behind)) = behind.split_at_checked(length) else {
                // The session was ended in the middle of it.
                return;
            };
            rest = behind;
            let reader = readers.entry(connection).or_default();
            if let Some((stream, payload)) = reader.take(connection, frame)
                && connection == PLUGIN
            {
                response(&payload);
                answered.push(stream);
            }
        }
        if !self.loose {
            for stream in &self.requests {
                let times = answered.iter().filter(|answer| *answer == stream).count();
                assert_eq!(times, 1, "answers to the call of stream {stream}");
            }
        }
    }
}

impl Reader {
    /// A frame; the stream and payload of the message that it ends.
    fn take(&mut self, connection: u32, frame: &[u8]) -> Option<(u32, Vec<u8>)> {
        if self.message.len() < HEADER {
            assert!(
                frame.len() <= GO_BUFFER,
                "{} bytes from a header on",
                frame.len()
            );
        }
        self.message.extend_from_slice(frame);
        let (header, payload) = self.message.split_first_chunk::<HEADER>()?;
        let length = be(&header[..4]) as usize;
        assert!(length <= MESSAGE_MAX, "a message of {length}");
        assert!(payload.len() <= length, "a frame goes beyond its message");
        if payload.len() < length {
            return None;
        }
        let (stream, kind) = (be(&header[4..8]), header[8]);
        let expected = if connection == PLUGIN {
            RESPONSE
        } else {
            REQUEST
        };
        assert_eq!(kind, expected, "on connection {connection}");
        let payload = payload.to_vec();
        self.message.clear();
        Some((stream, payload))
    }
}

/// A response: status and payload, nothing else.
fn response(mut payload: &[u8]) {
    while let Some(tag) = bytes::byte(&mut payload) {
        assert!(matches!(tag, 0x0a | 0x12), "field {tag:#x} in a response");
        let mut length = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes::byte(&mut payload).expect("a length");
            length |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        assert_eq!(bytes::take(&mut payload, length).len(), length);
    }
}

fn be(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |all, byte| all << 8 | u32::from(*byte))
}
