//! TODO
#![warn(clippy::missing_errors_doc, missing_docs)]

pub mod annotation;
mod backoff;
mod error;
mod events;
mod frame;
mod guard;
mod mux;
mod options;
mod plugin;
pub mod proto;
mod service;
mod session;
mod shape;

pub use self::{
    backoff::Backoff,
    error::Error,
    events::Events,
    frame::FrameError,
    options::{DEFAULT_REGISTRATION_TIMEOUT, DEFAULT_SOCKET, Options},
    plugin::{ConnectionEvent, HandlerResult, Plugin, Runtime},
    session::run,
};

/// Tells the plugin of its connection. That it panics changes nothing.
fn notify(plugin: &impl Plugin, event: &ConnectionEvent<'_>) {
    let told = std::panic::AssertUnwindSafe(|| plugin.connection(event));
    if let Err(panic) = std::panic::catch_unwind(told) {
        log::error!("connection: panicked: {}", guard::panic_text(&*panic));
    }
}
