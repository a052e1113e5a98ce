//! One config file, one section a service.
//!
//! Lives here: reading the file and the environment into sections ([`Document`]), the section
//! that all services share ([`ServerConfig`]), value types (durations, sizes). A service's own
//! section is a struct in that service's `config.rs`; its doc comments are the reference.

mod document;
mod server;
pub mod values;

pub use document::{ConfigError, Document};
pub use server::ServerConfig;
