//! Postrider in one process, and its command line.
//!
//! Lives here: putting the services together with calls in memory where the split mode has gRPC
//! ([`compose`], [`serve`]), the try-out ([`tryout`]), the demo ([`demo`]), the operators' commands
//! ([`commands`]) and what they draw with ([`diagram`], [`journey`], [`table`]). Must not live here:
//! anything that decides about mail. That is the services', and no feature may exist in this
//! process alone.
//!
//! Start reading at [`cli`] for what there is, then [`compose`].

pub mod cli;
pub mod commands;
pub mod compose;
pub mod demo;
pub mod diagram;
pub mod journey;
pub mod json;
pub mod out;
pub mod ports;
pub mod reload;
mod run;
pub mod serve;
pub mod settings;
pub mod source;
pub mod table;
pub mod term;
pub mod tryout;

pub use run::run;
