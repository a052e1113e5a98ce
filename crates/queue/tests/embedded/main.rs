//! The embedded store against a real disk: what it promises, after crashes and faults.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod ahead;
mod commits;
mod crashes;
mod damage;
mod faults;
mod flow;
mod keeping;
mod kit;
mod order;
mod power;
mod recovery;
