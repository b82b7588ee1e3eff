//! A stub for plugins of the Node Resource Interface (NRI).
//!
//! Through NRI, containerd and CRI-O tell plugins of pods and containers, and ask
//! them before they create and start one. A plugin implements [`Plugin`] and is
//! handed to [`run`]:
//!
//! ```no_run
//! use std::{future, sync::Arc};
//! use nri::{Events, HandlerResult, Options, Plugin, proto::{Container, PodSandbox}};
//!
//! struct NoTelnet;
//!
//! impl Plugin for NoTelnet {
//!     fn events(&self) -> Events {
//!         Events::START_CONTAINER
//!     }
//!
//!     async fn start_container(&self, _: PodSandbox, container: Container) -> HandlerResult {
//!         match container.args.first() {
//!             Some(program) if program == "telnetd" => Err("telnetd is not allowed".into()),
//!             _ => Ok(()),
//!         }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), nri::Error> {
//! let options = match Options::pre_installed()? {
//!     Some(options) => options,
//!     None => Options::external("no-telnet", "50")?,
//! };
//! nri::run(Arc::new(NoTelnet), options, future::pending()).await
//! # }
//! ```
//!
//! # External and pre-installed plugins
//!
//! | | external | pre-installed |
//! |---|---|---|
//! | is started by | you | the runtime, from `/opt/nri/plugins/NN-NAME` |
//! | connection | to [`DEFAULT_SOCKET`] | descriptor `NRI_PLUGIN_SOCKET` |
//! | name and index | its own | `NRI_PLUGIN_NAME`, `NRI_PLUGIN_IDX`; no other variable is set, not even `PATH` |
//! | [`Runtime::config`] | empty | `/etc/nri/conf.d/NN-NAME.conf` or `NAME.conf` |
//! | when the connection ends | connects again | ends; the runtime does not start it again |
//!
//! The runtime makes its socket anew when it starts: into a container, mount the
//! directory, not the socket.
//!
//! # When it fails
//!
//! NRI is made to fail open. A runtime takes a plugin for a refusal only if it
//! gets an error for an answer; this crate therefore turns all that it can into
//! one.
//!
//! | the plugin | the runtime sees | the container |
//! |---|---|---|
//! | returns an error | an error (`INTERNAL`) | is refused; a start on CRI-O is logged and goes on |
//! | panics | the same | the same |
//! | takes longer than 80 % of the timeout | the same | the same |
//! | answers with more than 4 MiB | an error (`INVALID_ARGUMENT`) | the same |
//! | returns an error from `configure` or `synchronize` | an error | starts, the plugin is not asked |
//! | blocks all threads of its tokio runtime | a timeout | starts, the plugin is dropped |
//! | is killed, aborts, is not there | a closed connection or none | starts, the plugin is not asked |
//!
//! With `panic = "abort"` in the profile, a panic is the last row. Against it
//! help a container's OCI hook, set by [`Plugin::create_container`], and a
//! runtime (NRI 0.10 or later) whose default validator has the plugin among its
//! `required_plugins`.
//!
//! # The protocol
//!
//! All of it goes over one Unix socket. There are layers:
//!
//! ```text
//! trunk  := { u32 connection | u32 length | length bytes }*             big endian
//! ttrpc  := { u32 length | u32 stream | u8 type | u8 flags | payload }*  big endian
//!            type 1: Request { 1 service, 2 method, 3 payload, 4 timeout in ns }
//!            type 2: Response { 1 status { 1 code, 2 message }, 2 payload }
//! payload := a message of nri.pkg.api.v1alpha1 (proto3), see `proto/nri.proto`
//! ```
//!
//! Connection 1 carries `Plugin`, which the plugin serves; connection 2 carries
//! `Runtime`, which the runtime serves. Neither is opened or closed on the wire;
//! frames for other connections are dropped. A frame is a piece of a connection's
//! bytes: messages span frames, and a frame may hold parts of two messages.
//!
//! ```text
//! plugin                                runtime
//!   │ connect                              │
//!   │──── Runtime.RegisterPlugin ─────────►│  within its registration timeout, 5 s
//!   │◄─── Plugin.Configure ────────────────│  may come before the answer to the former
//!   │──── events, a bit mask ─────────────►│
//!   │◄─── Plugin.Synchronize {more: true} ─│  as often as it takes; one message if below 4 MiB
//!   │──── {more: true} ───────────────────►│
//!   │◄─── Plugin.Synchronize ──────────────│
//!   │◄─── Plugin.StartContainer, … ────────│  one at a time
//! ```
//!
//! What there is to stumble over, and how this crate does not:
//!
//! - **Frames of more than 4096 bytes.** A Go runtime reads a message's header
//!   through a buffer of that size, and gives up on the plugin when a frame does
//!   not fit. The payload that remains may come in one frame of any length up to
//!   4 MiB + 10. A frame that begins in a header is therefore at most 4096 bytes
//!   long, and none goes past the end of its message.
//! - **Many small frames** are no way out: 256 that wait end the connection.
//! - **Empty frames** carry nothing, and are not the end of the stream.
//! - **Events** that a runtime doesn't know make it refuse the plugin, and an
//!   empty mask means all events: [`Events`] can be neither.
//! - **Methods** that a plugin doesn't have must be answered `UNIMPLEMENTED`:
//!   on that code alone does NRI 0.12 fall back to `StateChange`.
//! - **Chunks** of `Synchronize` must be answered with `more: true`, and
//!   a container's pod may be in a later chunk: the plugin is called once, with
//!   all of them.
//! - **Timeouts** are given in `Configure` since NRI 0.7 and are 2 s by default,
//!   for all chunks together. On a node with many containers, raise
//!   `plugin_request_timeout`.
//!
//! # Versions
//!
//! | NRI | containerd | CRI-O | |
//! |---|---|---|---|
//! | 0.6 | 1.7.14 to 1.7.25 | 1.29 to 1.31 | no chunks, no timeouts in `Configure`; pre-installed plugins aren't synchronized; a container that starts while a plugin registers is missed |
//! | 0.8 | 1.7.26 and later, 2.0, 2.1 | 1.32, 1.33 (0.9) | |
//! | 0.10, 0.11 | 2.2 | 1.34 to 1.36 | `required_plugins` |
//! | 0.12 | 2.3 | | a method for each event, in place of `StateChange` |
//!
//! `ctr`, nerdctl and podman don't go through NRI. Docker does since 29.2, but
//! sends `CreateContainer` alone.
//!
//! # Not implemented
//!
//! Updates of other containers, adjustments of Linux resources and CDI devices,
//! updates of pods, validation.

#![warn(clippy::missing_errors_doc, missing_docs)]

pub mod annotation;
mod backoff;
mod dispatch;
mod error;
mod events;
mod frame;
mod guard;
mod mux;
mod options;
mod plugin;
pub mod proto;
#[cfg(feature = "runtime")]
pub mod runtime;
mod service;
mod session;
mod shape;
#[cfg(test)]
mod tests;

pub use self::{
    backoff::Backoff,
    error::Error,
    events::Events,
    frame::FrameError,
    options::{DEFAULT_REGISTRATION_TIMEOUT, DEFAULT_SOCKET, Options},
    plugin::{ConnectionEvent, HandlerResult, Plugin, Runtime},
    session::run,
};

/// [`proto`]'s messages are of this crate's version.
pub use protobuf;

/// Tells the plugin of its connection. That it panics changes nothing.
fn notify(plugin: &impl Plugin, event: &ConnectionEvent<'_>) {
    let told = std::panic::AssertUnwindSafe(|| plugin.connection(event));
    if let Err(panic) = std::panic::catch_unwind(told) {
        log::error!("connection: panicked: {}", guard::panic_text(&*panic));
    }
}

/// The examples in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
