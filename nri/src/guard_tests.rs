//! Tests of the module `guard`.

use std::io;

use super::*;

#[test]
fn a_handler_has_four_fifths_of_the_shorter_timeout() {
    let seconds = Duration::from_secs;
    assert_eq!(limit(None, 0), Duration::from_millis(1600));
    assert_eq!(limit(Some(seconds(10)), 0), seconds(8));
    assert_eq!(limit(Some(seconds(10)), 5_000_000_000), seconds(4));
    assert_eq!(
        limit(Some(seconds(1)), 5_000_000_000),
        Duration::from_millis(800)
    );
    assert_eq!(limit(Some(seconds(10)), -1), seconds(8));
}

fn message<T: std::fmt::Debug>(answer: ttrpc::Result<T>) -> String {
    match answer {
        Err(ttrpc::Error::RpcStatus(status)) => {
            assert_eq!(status.code(), Code::INTERNAL);
            status.message
        }
        other => panic!("{other:?}"),
    }
}

const LONG: Duration = Duration::from_mins(1);

#[tokio::test]
async fn errors_are_told_with_their_sources() {
    #[derive(Debug, thiserror::Error)]
    #[error("read profile")]
    struct Outer(#[source] io::Error);

    let outer = Outer(io::Error::other("disk is gone"));
    let refused = run::<()>("x", LONG, async { Err(outer.into()) }).await;
    assert_eq!(message(refused), "read profile: disk is gone");
    let refused = run::<()>("x", LONG, async { Err("no".into()) }).await;
    assert_eq!(message(refused), "no");
}

#[tokio::test]
async fn a_panic_is_an_error() {
    let answer = run::<()>("x", LONG, async { panic!("at the {}", "disco") }).await;
    assert_eq!(message(answer), "panicked: at the disco");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_too_long_is_an_error_and_ends() {
    struct Dropped(Option<tokio::sync::oneshot::Sender<()>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.take().map(|sender| sender.send(()));
        }
    }

    let (sender, dropped) = tokio::sync::oneshot::channel();
    let guard = Dropped(Some(sender));
    let limit = Duration::from_secs(1);
    let answer = run::<()>("x", limit, async move {
        let _guard = guard;
        std::future::pending().await
    });
    assert_eq!(message(answer.await), "not done within 1s");
    dropped.await.unwrap();
}

/// The worker that runs the handler is stuck; another one answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_is_an_error_in_time() {
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let answer = run("x", Duration::from_millis(50), async move {
        blocked.recv().ok();
        Ok(())
    });
    assert_eq!(message(answer.await), "not done within 50ms");
    drop(release);
}

#[tokio::test]
async fn a_handler_outlives_its_call() {
    let (started, has_started) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = tokio::sync::oneshot::channel();
    let (done, is_done) = tokio::sync::oneshot::channel();
    let mut call = Box::pin(run("x", LONG, async move {
        started.send(()).unwrap();
        may_go_on.await?;
        done.send(()).unwrap();
        Ok(())
    }));
    tokio::select! {
        biased;
        answer = &mut call => panic!("{answer:?}"),
        started = has_started => started.unwrap(),
    }
    // The connection is lost.
    drop(call);
    go_on.send(()).unwrap();
    is_done.await.unwrap();
}
