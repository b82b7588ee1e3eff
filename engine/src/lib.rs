//! Binds containers to rules that the kernel enforces.
//!
//! ```text
//! annotations ──► annotation::Spec ─┐
//! command line ──► order::Orders ────┴──► policy::Policy ─┐
//! pid, container id ──► cgroup::Cgroup ────────────────────┴─► bind::Binder ──► pinned maps
//! ```
//!
//! [`annotation`], [`order`], [`policy`] and [`matching`] are pure. [`cgroup`] is the only module that
//! touches cgroupfs, [`kernel`] the only one that knows eBPF. Everything that
//! binds (the NRI plugin, hooks, the command line) goes through
//! [`bind::Binder`].

pub mod annotation;
pub mod bind;
pub mod canary;
pub mod cgroup;
pub mod clock;
pub mod config;
mod entry;
pub mod groups;
pub mod kernel;
#[cfg(feature = "lint")]
pub mod lint;
pub mod lock;
#[cfg(feature = "lookup")]
pub mod lookup;
pub mod matching;
pub mod merge;
pub mod node;
pub mod oci;
pub mod order;
pub mod origin;
#[cfg(feature = "lookup")]
pub mod outcome;
mod owner;
pub mod policy;
pub mod probe;
#[cfg(feature = "lookup")]
pub mod program;
pub mod record;
pub mod records;
pub mod release;
pub mod root;
pub mod scope;
pub mod setup;
pub mod site;
mod trusted;

/// The example in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
