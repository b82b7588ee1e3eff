//! What a runtime may put on the wire, and what it may not.

use protobuf::MessageField;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};
use ttrpc::{Request, context, proto::Codec as _};

use super::{
    Pair, ready,
    runtime::{soon, within},
};
use crate::{
    Error, FrameError,
    frame::{HEADER, PAYLOAD_MAX, encode},
    mux,
    proto::{Container, PodSandbox, StartContainerRequest},
};

fn start(name: &str) -> StartContainerRequest {
    let container = Container {
        name: name.into(),
        ..Container::default()
    };
    StartContainerRequest {
        pod: MessageField::some(PodSandbox::default()),
        container: MessageField::some(container),
        ..StartContainerRequest::default()
    }
}

/// The bytes of a call, which nobody waits for.
fn message(stream: u32, name: &str) -> Vec<u8> {
    let request = Request {
        service: "nri.pkg.api.v1alpha1.Plugin".into(),
        method: "StartContainer".into(),
        payload: start(name).encode().unwrap(),
        metadata: context::to_pb([("trace".to_owned(), vec!["1".to_owned()])].into()),
        ..Request::default()
    };
    let payload = request.encode().unwrap();
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[..], &stream.to_be_bytes(), &[1, 0], &payload].concat()
}

/// The session is as it was: it answers.
async fn still_works(pair: &mut Pair) {
    pair.runtime
        .plugin
        .start_container(within(), &start("still"))
        .await
        .unwrap();
    pair.log.expect(&["start_container /still 0"]).await;
}

#[tokio::test]
async fn frames_for_unknown_connections_are_dropped() {
    let mut pair = ready(2000).await;
    for unknown in [0, 3, u32::MAX] {
        pair.runtime
            .write_raw(&encode(unknown, &message(1001, "x")));
    }
    still_works(&mut pair).await;
}

/// To the RPC layer, an empty read is the end of the connection.
#[tokio::test]
async fn frames_without_payload_are_dropped() {
    let mut pair = ready(2000).await;
    pair.runtime.write_raw(&encode(1, &[]));
    pair.runtime.write_raw(&encode(2, &[]));
    still_works(&mut pair).await;
}

#[tokio::test]
async fn a_message_may_span_frames() {
    let mut pair = ready(2000).await;
    let message = message(1001, "spanning");
    for piece in message.chunks(7) {
        pair.runtime.write_raw(&encode(1, piece));
        // Others may come between, for the other connection or for none.
        pair.runtime.write_raw(&encode(3, piece));
    }
    pair.log.expect(&["start_container /spanning 0"]).await;
    still_works(&mut pair).await;
}

#[tokio::test]
async fn a_frame_may_hold_the_end_of_one_message_and_the_start_of_the_next() {
    let mut pair = ready(2000).await;
    let (first, second) = (message(1001, "first"), message(1003, "second"));
    let middle = [&first[20..], &second[..5]].concat();
    pair.runtime.write_raw(&encode(1, &first[..20]));
    pair.runtime.write_raw(&encode(1, &middle));
    pair.runtime.write_raw(&encode(1, &second[5..]));
    let mut lines = [pair.log.next().await, pair.log.next().await];
    // They are handled at the same time.
    lines.sort();
    assert_eq!(
        lines,
        ["start_container /first 0", "start_container /second 0"]
    );
    still_works(&mut pair).await;
}

#[tokio::test]
async fn a_frame_that_is_too_long_ends_the_connection() {
    let mut pair = ready(2000).await;
    pair.runtime.write_raw(&[0, 0, 0, 1, 0, 0x40, 0, 11]);
    let error = pair.session.ended().await.unwrap_err();
    let Error::Protocol(FrameError::TooLong {
        connection: 1,
        length,
        max,
    }) = error
    else {
        panic!("{error:?}");
    };
    assert_eq!((length, max), (PAYLOAD_MAX + 1, PAYLOAD_MAX));
    pair.log
        .expect(&["disconnected, end: read from the runtime"])
        .await;
}

#[tokio::test]
async fn a_frame_that_is_cut_short_is_told_from_a_closed_connection() {
    for (bytes, missing) in [(&[0, 0, 0][..], 5), (&[0, 0, 0, 1, 0, 0, 0, 9, 1, 2], 7)] {
        let pair = ready(2000).await;
        pair.runtime.write_raw(bytes);
        // Written before the end: the plugin answers what came before.
        pair.runtime.stop_after_writing().await;
        let error = pair.session.ended().await.unwrap_err();
        let Error::Protocol(error) = error else {
            panic!("{error:?}")
        };
        assert_eq!(error, FrameError::CutShort { missing });
    }
}

/// A connection that nobody reads any more must not look as if all were well.
#[tokio::test]
async fn an_abandoned_connection_ends_the_session() {
    let (mut runtime, socket) = UnixStream::pair().unwrap();
    let (mut trunk, plugin, _runtime) = mux::open(socket);
    drop(plugin);
    runtime.write_all(&encode(1, b"x")).await.unwrap();
    let reason = soon(trunk.closed()).await;
    assert!(
        matches!(reason, Error::Abandoned { connection: 1 }),
        "{reason:?}"
    );
}

/// A runtime that doesn't read: the writer waits, and nothing is lost.
#[tokio::test]
async fn a_slow_reader_is_waited_for() {
    const WRITES: usize = 64;
    let (mut runtime, socket) = UnixStream::pair().unwrap();
    let (mut trunk, mut plugin, other) = mux::open(socket);
    let mut message = vec![7; 50_010];
    message[..4].copy_from_slice(&50_000_u32.to_be_bytes());
    let sent = message.clone();
    let writer = tokio::spawn(async move {
        for _ in 0..WRITES {
            plugin.write_all(&sent).await.unwrap();
        }
    });
    drop(other);
    tokio::task::yield_now().await;
    assert!(!writer.is_finished());
    let mut received = Vec::new();
    for _ in 0..WRITES {
        let mut frames = vec![0; message.len() + 2 * HEADER];
        soon(runtime.read_exact(&mut frames)).await.unwrap();
        received.extend_from_slice(&frames[HEADER..HEADER + 4096]);
        received.extend_from_slice(&frames[2 * HEADER + 4096..]);
    }
    assert_eq!(received, message.repeat(WRITES));
    soon(writer).await.unwrap();
    soon(trunk.flush()).await;
}
