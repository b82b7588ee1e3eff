//! Binds containers to rules that the kernel enforces.
//!
//! ```text
//! annotations ──► annotation::Spec ─┐
//! command line ──► order::Orders ────┴──► policy::Policy ─┐
//! pid, container id ──► cgroup::Cgroup ────────────────────┴─► bind::Binder ──► pinned maps
//! ```
//!
//! [`annotation`], [`order`] and [`policy`] are pure. [`cgroup`] is the only module that
//! touches cgroupfs, [`kernel`] the only one that knows eBPF. Everything that
//! binds (the NRI plugin, hooks, the command line) goes through
//! [`bind::Binder`].

pub mod annotation;
pub mod bind;
pub mod canary;
pub mod cgroup;
pub mod clock;
mod entry;
pub mod kernel;
pub mod lock;
#[cfg(feature = "lookup")]
pub mod lookup;
pub mod oci;
pub mod order;
pub mod policy;
pub mod probe;
pub mod record;
pub mod root;
pub mod scope;
pub mod setup;
pub mod site;
