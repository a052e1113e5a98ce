//! POP3 (RFC 1939): a session without I/O, and what gives it a socket.
//!
//! [`step`](step::step) is the dialogue: a session and one input make the next session, replies,
//! and one action for the driver to carry out. `driver` reads bytes, calls it and obeys;
//! `listener` accepts connections within the limits. Extensions: CAPA and pipelining (RFC 2449),
//! STLS (RFC 2595), AUTH PLAIN (RFC 5034), response codes (RFC 2449, RFC 3206).

mod command;
mod driver;
mod limits;
mod line;
mod listener;
mod session;
mod step;
mod stream;

pub use listener::{Pop3, Pop3Reloader};

#[cfg(test)]
mod dialogues;
