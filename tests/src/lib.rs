//! The whole system against software that nobody here wrote.
//!
//! Lives here: what the end-to-end tests (`tests/e2e`) and the load programs (`tests/bench`)
//! share: peers started by hand from their Debian packages ([`postfix`], [`redis`]), Postrider's
//! own processes ([`server`]), a numbered load ([`source`]) and where it ends
//! ([`sink`]); and what `cargo xtask chaos` is made of ([`chaos`]). Nothing here starts a process that it does not end, and nothing leaves loopback.
//!
//! A peer that is missing is a failure and never a skip: `cargo xtask test` fetches them.

pub mod chaos;
pub mod cpu;
pub mod http;
pub mod peers;
pub mod postfix;
pub mod redis;
pub mod server;
pub mod sink;
pub mod source;
