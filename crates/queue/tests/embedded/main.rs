//! The embedded store against a real disk: what it promises, after crashes and faults.
#![allow(clippy::unwrap_used)]

mod commits;
mod faults;
mod flow;
mod kit;
mod recovery;
