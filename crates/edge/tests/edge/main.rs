//! The edge on real sockets.
//!
//! The queue and the directory here are fakes that live in this process (`support/queue.rs`,
//! `support/directory.rs`): they show what the edge asks of them and can fail on demand. The
//! real ones are met in the workspace's own tests.

// Helpers of tests may fail like tests.
#![allow(clippy::unwrap_used)]

mod auth;
mod content;
mod drain;
mod hostile;
mod limits;
mod mail;
mod memory;
mod queue_trouble;
mod reload;
mod support;
mod tls;
mod wishes;
