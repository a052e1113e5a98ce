//! Chaos: real processes under load, with random troubles, and what must hold all the same.
//!
//! [`run`] starts a system ([`system`], [`database`]) with a proxy on every way between its parts
//! ([`proxy`]), a load ([`sources`]) and its destinations ([`sinks`]); does what a seeded [`plan`]
//! says; and gathers a [`history`] from what sources and sinks have seen and what the queue tells
//! ([`journeys`]). [`checker`] says what does not hold of it. `cargo xtask chaos` runs it.

pub mod checker;
#[cfg(test)]
mod checker_tests;
pub mod database;
pub mod history;
pub mod journeys;
pub mod kernel;
pub mod parse;
pub mod pauses;
pub mod plan;
pub mod proxy;
pub mod run;
pub mod sinks;
pub mod sources;
pub mod system;
