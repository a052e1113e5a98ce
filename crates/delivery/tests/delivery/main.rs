//! The worker on real sockets: a queue of the tests' own in memory, a name server, and mail
//! servers that say what a test tells them to (see [`kit::sink`]; none of them is a real one,
//! those are met in the workspace's tests).

// A test that meets what it did not expect ends there.
#![allow(clippy::unwrap_used)]

mod connections;
mod content;
mod conversation;
mod dns;
mod kit;
mod mailbox;
mod notifications;
mod outcomes;
mod tls;
