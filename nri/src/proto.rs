//! The messages of NRI's protocol, generated from `proto/nri.proto`.
//!
//! They are [`protobuf`] messages: a nested message is a
//! [`protobuf::MessageField`], which is `None` or derefs to the message.

#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    missing_debug_implementations,
    unreachable_pub,
    unused,
    rustdoc::all,
    reason = "generated code"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/modules.rs"));
}

pub use self::generated::nri::{
    Container, ContainerAdjustment, ContainerState, Event, Hook, Hooks, Image, KeyValue,
    LinuxContainer, LinuxNamespace, LinuxPodSandbox, Mount, OptionalInt, POSIXRlimit, PodSandbox,
    User,
};
pub(crate) use self::generated::{nri::*, nri_ttrpc};
