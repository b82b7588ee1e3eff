//! What is checked is deploy/, and what checks it are this crate's tests.
