//! The Redis store against a real server.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod away;
mod cluster;
mod cost;
mod cuts;
mod durability;
mod fairness;
mod faults;
mod instances;
mod load;
mod moves;
mod outbox;
mod proxy;
mod sentinel;
mod tls;
mod wakes;
