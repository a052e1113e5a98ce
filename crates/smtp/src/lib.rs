//! SMTP without I/O: the protocol as pure functions and state machines.
//!
//! What lives here: the grammar of commands and ESMTP parameters ([`command`]), mailbox
//! addresses ([`address`]), replies with enhanced status codes ([`reply`], [`status`]), the
//! transparency of mail content ([`data`]), and both ends of the dialogue: the receiving
//! [`server::Session`] and the sending [`client::Session`].
//!
//! What must not live here: sockets, clocks, resolvers, stores, policy, an async runtime. The
//! crate is `no_std`, so the compiler keeps them out. A *driver* (the edge, a delivery worker)
//! owns the socket; it feeds bytes to a session, writes what the session put into the
//! [`Output`](output::Output), and carries out what the session's events ask. Time is an input
//! too: a driver that waited too long says `timed_out()`.
//!
//! Where to start: the pseudo-drivers at the top of [`server`] and [`client`] show how a session
//! is used. The dialogues in `tests/dialogues/` show what it says.
//!
//! Two promises hold throughout. Memory is bounded whatever the other side sends: a session
//! keeps no input, lines and replies have limits, content flows past. And only CRLF.CRLF ends
//! a message: a bare CR or LF never ends a line, neither in content nor in commands.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod address;
mod ascii;
pub mod client;
pub mod command;
pub mod credentials;
pub mod data;
pub mod datetime;
pub mod envelope;
pub mod extension;
pub mod outline;
pub mod output;
pub mod parameter;
pub mod reply;
pub mod server;
pub mod status;
pub mod xtext;
