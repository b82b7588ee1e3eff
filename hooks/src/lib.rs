//! What `execblock-hook` and `execblock-runc` are made of. Both bind a container
//! before its first program runs, where no NRI does: engines call them.
//!
//! Neither needs a daemon, and neither does more for a container without our
//! annotations than find out that it has none, and that the node has no defaults.

pub mod args;
pub mod bind;
pub mod caller;
pub mod hook;
pub mod inject;
pub mod known;
pub mod logger;
pub mod real;
pub mod report;
pub mod wrapper;
