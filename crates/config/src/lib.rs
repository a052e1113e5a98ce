//! One config file, one section a service.
//!
//! Lives here: reading the file and the environment into sections ([`Document`], [`Reader`]), the
//! section that all services share ([`ServerConfig`]), value types (durations, sizes), and
//! writing the reference of all sections from the doc comments of their structs ([`mod@reference`]).
//!
//! Must not live here: a service's own section. That is a struct in the service's `config.rs`, and its
//! doc comments are the reference.
//!
//! # How a mistake is found
//!
//! A section is checked twice. First against the schema that `schemars` derives from the struct:
//! this finds unknown keys (with the nearest known one), wrong types and numbers out of range,
//! all of them at once and in every kind of table. What is found is taken out, and
//! the rest goes through `serde`, which finds what only parsing can tell, such as a duration that
//! is none; its error is recorded, the culprit is taken out, and it tries again. So every problem
//! is reported in one go, with its line or its environment variable.
//!
//! # The environment
//!
//! `POSTRIDER__EDGE__LIMITS__RECIPIENTS=500` sets `recipients` in `[edge.limits]`: the prefix, then the key's
//! path, in upper case, joined by two underscores. The schema says what the text is:
//!
//! - text, numbers and booleans are written bare;
//! - a list is separated by commas (`a.example, b.example`) or written as TOML (`["a.example"]`);
//! - an element of a list is named by its number, from 0 (`POSTRIDER__EDGE__LISTENERS__0__ADDRESS`);
//! - a table is written as an inline table of TOML (`{ key = "value" }`);
//! - an empty text empties a list, and takes back what the file says of a value that may be unset.

mod check;
mod document;
mod environment;
mod node;
mod problem;
pub mod reference;
mod schema;
mod server;
pub mod testing;
pub mod values;

pub use document::{Document, Reader, SECTIONS};
pub use problem::ConfigError;
pub use server::ServerConfig;
