//! The Redis store against a real server.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod durability;
mod faults;
mod instances;
