//! The whole system, end to end, with peers and clients that nobody here wrote.
//!
//! Run by `cargo xtask e2e`, which fetches the peers and builds the binaries first. Each file is
//! one subject. Nothing is skipped: what is missing fails.

// A test that cannot go on says where and why; that is what `unwrap` does.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod clients;
mod crash;
mod deploy;
mod fetchers;
mod foreign_messages;
mod hostile_grpc;
mod idle;
mod later;
mod loops;
mod postfix;
mod reload;
mod rolling;
mod traces;
mod world;
