//! Runs a plugin's handler so that it answers in time, whatever it does.
//!
//! A runtime that gets no answer goes on without the plugin (fails open); an
//! error is a refusal (fails closed). So everything here ends in an error.

use std::{any::Any, error::Error, fmt::Write as _, future::Future, time::Duration};

use tokio::time::{Instant, timeout_at};
use ttrpc::Code;

use crate::HandlerResult;

/// What the runtime waits if it doesn't say so (before NRI 0.7).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// The time a handler has: four fifths of what the runtime waits in general,
/// and of what it waits for this call.
pub(crate) fn limit(request_timeout: Option<Duration>, timeout_nano: i64) -> Duration {
    let general = request_timeout.unwrap_or(REQUEST_TIMEOUT);
    let least = match u64::try_from(timeout_nano) {
        Ok(nanos @ 1..) => general.min(Duration::from_nanos(nanos)),
        // The call has no timeout of its own.
        Ok(0) | Err(_) => general,
    };
    least / 5 * 4
}

/// Runs `handler` for at most `limit`.
///
/// It runs in a task of its own: so it outlives the connection, its panic is
/// caught, and its limit holds (on a multi-thread runtime) even if it blocks.
pub(crate) async fn run<T: Send + 'static>(
    call: &'static str,
    limit: Duration,
    handler: impl Future<Output = HandlerResult<T>> + Send + 'static,
) -> ttrpc::Result<T> {
    let deadline = Instant::now() + limit;
    // The limit is twice here: within, it ends a handler whose connection was
    // lost; without, one that blocks its thread.
    let task = tokio::spawn(timeout_at(deadline, handler));
    match timeout_at(deadline, task).await {
        Ok(Ok(Ok(Ok(answer)))) => Ok(answer),
        // Fails closed: the plugin refuses.
        Ok(Ok(Ok(Err(error)))) => Err(refuse(call, &with_sources(&*error))),
        // Fails closed: before the runtime's own timeout, which would not.
        Ok(Ok(Err(_))) | Err(_) => Err(refuse(call, &format!("not done within {limit:?}"))),
        // Fails closed: without an answer the runtime would wait and go on.
        Ok(Err(error)) => Err(match error.try_into_panic() {
            Ok(panic) => refuse(call, &format!("panicked: {}", panic_text(&*panic))),
            Err(_) => refuse(call, "cancelled"),
        }),
    }
}

/// The answer that makes a runtime refuse: a status that is neither a timeout
/// nor "unimplemented".
fn refuse(call: &'static str, message: &str) -> ttrpc::Error {
    log::warn!("{call}: answered with an error: {message}");
    status(Code::INTERNAL, message)
}

pub(crate) fn status(code: Code, message: &str) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, message))
}

fn with_sources(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // Writing to a String does not fail.
        let _infallible = write!(text, ": {error}");
        source = error.source();
    }
    text
}

/// What a panic was given: text, in all but exotic cases.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not a text")
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
