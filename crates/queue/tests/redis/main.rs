//! The Redis store against a real server.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod cost;
mod durability;
mod faults;
mod instances;
