//! What measurements and tests of many containers share: cgroups by the thousand, each with
//! a process, and a runtime that tells a plugin of them.

pub mod crowd;
pub mod runtime;
