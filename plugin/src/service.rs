//! What the service manager is told, by sd_notify(3). Without one, nothing
//! happens.

use std::{sync::mpsc::Sender, time::Duration};

use sd_notify::NotifyState;
use tokio::{sync::oneshot, time::MissedTickBehavior};

use crate::daemon::Event;

/// The daemon enforces and answers.
pub(crate) fn ready() {
    tell(NotifyState::Ready);
}

/// One line on what it does, for `systemctl status`.
pub(crate) fn status(text: &str) {
    // A line break would begin another assignment.
    tell(NotifyState::Status(&text.replace(char::is_control, " ")));
}

/// It is about to end.
pub(crate) fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        log::debug!("sd_notify: {error}");
    }
}

/// Whether the daemon's loop answers. Waits as long as it takes: a loop that
/// hangs gets no answer out of this.
pub(crate) async fn answers(daemon: &Sender<Event>) -> bool {
    let (reply, answer) = oneshot::channel();
    daemon.send(Event::Ping { reply }).is_ok() && answer.await.is_ok()
}

/// Tells the service manager that the daemon lives, as often as it wants to hear,
/// and only after the daemon's loop said so itself. Ends with the loop.
pub(crate) async fn watchdog(daemon: Sender<Event>) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return;
    };
    let mut ticks = tokio::time::interval(beat(limit));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if !answers(&daemon).await {
            return;
        }
        tell(NotifyState::Watchdog);
    }
}

/// Half of the limit, as sd_watchdog_enabled(3) asks for.
fn beat(limit: Duration) -> Duration {
    (limit / 2).max(Duration::from_micros(1))
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::mpsc::channel,
        task::{Context, Poll, Waker},
    };

    use super::*;

    #[test]
    fn the_watchdog_is_told_of_a_loop_that_answered_alone() {
        let mut context = Context::from_waker(Waker::noop());
        let (sender, receiver) = channel();
        let mut asked = pin!(answers(&sender));
        // It hangs.
        assert!(asked.as_mut().poll(&mut context).is_pending());
        let Ok(Event::Ping { reply }) = receiver.try_recv() else {
            panic!("the loop was not asked");
        };
        assert!(asked.as_mut().poll(&mut context).is_pending());
        reply.send(()).unwrap();
        assert_eq!(asked.poll(&mut context), Poll::Ready(true));
        // It ended, with the question or before.
        let mut asked = pin!(answers(&sender));
        assert!(asked.as_mut().poll(&mut context).is_pending());
        drop(receiver);
        assert_eq!(asked.poll(&mut context), Poll::Ready(false));
        assert_eq!(
            pin!(answers(&sender)).poll(&mut context),
            Poll::Ready(false)
        );
    }

    #[test]
    fn it_beats_at_half_of_the_limit() {
        assert_eq!(beat(Duration::from_secs(30)), Duration::from_secs(15));
        assert!(!beat(Duration::from_nanos(1)).is_zero());
    }
}
