//! Registration, configuration, synchronization.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::{
    connect, options,
    plugin::Probe,
    ready,
    runtime::{FakeRuntime, Registration, soon, within},
    spawn,
};
use crate::{
    Error, Options,
    proto::{Container, PodSandbox, SynchronizeRequest},
};

/// Bytes in hexadecimal, with spaces anywhere.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Recorded between a plugin of that name and containerd 2.1.
#[tokio::test]
async fn byte_for_byte_as_recorded() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let (probe, mut log) = Probe::new();
    let options = Options::connected("execblock", "90", theirs.into_std().unwrap()).unwrap();
    let _session = spawn(probe, options);

    let registration = hex("00000002 00000049 0000003f 00000001 01 00
         0a1c 6e72692e706b672e6170692e7631616c706861312e52756e74696d65
         120e 5265676973746572506c7567696e
         1a0f 0a09 65786563626c6f636b 1202 3930");
    let mut received = vec![0; registration.len()];
    soon(ours.read_exact(&mut received)).await.unwrap();
    assert_eq!(received, registration);
    let accepted = hex("00000002 0000000a 00000000 00000001 02 00");
    ours.write_all(&accepted).await.unwrap();

    // Plugin.Configure of an old runtime: nothing but its name.
    let configure = hex("00000001 00000040 00000036 00000001 01 00
         0a1b 6e72692e706b672e6170692e7631616c706861312e506c7567696e
         1209 436f6e666967757265
         1a0c 120a 636f6e7461696e657264");
    ours.write_all(&configure).await.unwrap();
    // Status OK (left out or empty) and events 0x420.
    let mut header = [0; 18];
    soon(ours.read_exact(&mut header)).await.unwrap();
    assert_eq!(header[..4], hex("00000001"));
    assert_eq!(header[12..], hex("00000001 02 00"));
    let mut answer = vec![0; usize::from(header[7]) - 10];
    soon(ours.read_exact(&mut answer)).await.unwrap();
    assert!(answer.ends_with(&hex("1203 10a008")), "{answer:x?}");
    log.expect(&["connected 0", "configure"]).await;
    let runtime = log.runtime().await;
    assert_eq!(
        (runtime.name.as_str(), runtime.request_timeout),
        ("containerd", None)
    );
}

#[tokio::test]
async fn the_plugin_learns_of_the_runtime_and_the_runtime_of_the_events() {
    let mut pair = connect(Registration::Accept).await;
    assert_eq!(
        pair.runtime.registered().await,
        ("probe".to_owned(), "42".to_owned())
    );
    assert_eq!(pair.runtime.configure(2000).await, 0x420);
    let runtime = pair.log.runtime().await;
    assert_eq!(runtime.name, "containerd");
    assert_eq!(runtime.version, "v2.1.4");
    assert_eq!(runtime.nri_version, None);
    assert_eq!(runtime.config, "some: text");
    assert_eq!(runtime.registration_timeout, Some(Duration::from_secs(5)));
    assert_eq!(runtime.request_timeout, Some(Duration::from_secs(2)));
}

fn chunk(pods: &[&str], containers: &[&str], more: bool) -> SynchronizeRequest {
    let pod = |name: &&str| PodSandbox {
        name: (*name).into(),
        ..PodSandbox::default()
    };
    let container = |name: &&str| Container {
        name: (*name).into(),
        ..Container::default()
    };
    SynchronizeRequest {
        pods: pods.iter().map(pod).collect(),
        containers: containers.iter().map(container).collect(),
        more,
        ..SynchronizeRequest::default()
    }
}

#[tokio::test]
async fn chunks_are_collected_and_handed_over_once() {
    let mut pair = connect(Registration::Accept).await;
    pair.runtime.registered().await;
    pair.runtime.configure(2000).await;
    let chunks = [
        chunk(&["a"], &["a1", "b1"], true),
        chunk(&[], &[], true),
        chunk(&["b"], &["a2"], false),
        // Another one, as after the runtime has lost track: begins anew.
        chunk(&["c"], &[], false),
    ];
    for chunk in chunks {
        let answer = pair
            .runtime
            .plugin
            .synchronize(within(), &chunk)
            .await
            .unwrap();
        assert_eq!(answer.more, chunk.more);
    }
    pair.log
        .expect(&[
            "connected 0",
            "configure",
            "synchronize [a b] [a1 b1 a2]",
            "ready",
        ])
        .await;
    pair.log.expect(&["synchronize [c] []", "ready"]).await;
}

/// Many megabytes, in chunks that just fit a message.
#[tokio::test]
async fn large_chunks() {
    let mut pair = connect(Registration::Accept).await;
    pair.runtime.registered().await;
    pair.runtime.configure(20_000).await;
    let name = "n".repeat(1 << 20);
    for more in [true, true, false] {
        let chunk = chunk(&[], &[&name, &name, &name], more);
        pair.runtime
            .plugin
            .synchronize(within(), &chunk)
            .await
            .unwrap();
    }
    pair.log.expect(&["connected 0", "configure"]).await;
    let line = pair.log.next().await;
    assert_eq!(line.len(), "synchronize [] []".len() + 9 * name.len() + 8);
}

/// A runtime that always says that more will follow is told to stop, and may begin anew.
#[tokio::test]
async fn chunks_without_an_end() {
    let mut pair = connect(Registration::Accept).await;
    pair.runtime.registered().await;
    pair.runtime.configure(20_000).await;
    let name = "n".repeat(4_000_000);
    let chunk_of = |more| chunk(&[], &[&name], more);
    let mut taken = 0;
    let error = loop {
        let chunk = chunk_of(true);
        let answer = pair.runtime.plugin.synchronize(within(), &chunk).await;
        match answer {
            Ok(_) => taken += 1,
            Err(error) => break error.to_string(),
        }
    };
    // Of 256 MiB.
    assert_eq!(taken, 67);
    assert!(error.contains("of more than 268435456 bytes"), "{error}");
    let again = chunk(&["a"], &["b"], false);
    pair.runtime
        .plugin
        .synchronize(within(), &again)
        .await
        .unwrap();
    pair.log
        .expect(&["connected 0", "configure", "synchronize [a] [b]", "ready"])
        .await;
}

#[tokio::test]
async fn a_refused_registration_is_an_error() {
    let pair = connect(Registration::Refuse).await;
    let error = pair.session.ended().await.unwrap_err();
    assert_eq!(error.to_string(), "register plugin 42-probe");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("not today"), "{source}");
}

/// As runtimes do it: the answer is what counts, not the end that follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_the_reason_even_if_the_connection_is_closed_at_once() {
    for _ in 0..500 {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let (probe, _log) = Probe::new();
        let session = spawn(probe, options(theirs));
        // All of the registration, or closing would be seen as an error.
        let mut registration = [0; 8 + 10 + 30 + 16 + 13];
        soon(ours.read_exact(&mut registration)).await.unwrap();
        let refusal =
            b"\0\0\0\x02\0\0\0\x19\0\0\0\x0f\0\0\0\x01\x02\0\x0a\x0d\x08\x02\x12\x09not today";
        ours.write_all(refusal).await.unwrap();
        drop(ours);
        let error = session.ended().await.unwrap_err();
        assert!(matches!(error, Error::Register { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_registration_without_an_answer_is_an_error() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (probe, mut log) = Probe::new();
    let session = spawn(
        probe,
        options(theirs).registration_timeout(Duration::from_millis(50)),
    );
    let _runtime = FakeRuntime::new(ours, Registration::Ignore).await;
    let error = session.ended().await.unwrap_err();
    assert!(matches!(error, Error::RegisterTimeout { .. }), "{error:?}");
    let line = "disconnected, end: register plugin 42-probe: no answer within 50ms";
    log.expect(&["connected 0", line]).await;
}

#[tokio::test]
async fn a_connection_that_closes_before_the_registration_is_an_error() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(ours);
    let (probe, _log) = Probe::new();
    let error = crate::run(Arc::new(probe), options(theirs), std::future::pending());
    let error = soon(error).await.unwrap_err();
    assert!(
        matches!(error, Error::Closed | Error::Io { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_plugin_with_its_connection_ends_when_the_runtime_stops() {
    let mut pair = ready(2000).await;
    pair.runtime.stop().await;
    pair.session.ended().await.unwrap();
    pair.log
        .expect(&["disconnected, end: connection closed by the runtime"])
        .await;
}
