//! The operators' commands, one file each.

pub mod account;
pub mod certificates;
pub mod config;
pub mod health;
pub mod journey;
pub mod password;
pub mod queue;
pub mod store;
mod store_check;

use std::process::ExitCode;

/// It was done.
pub const OK: ExitCode = ExitCode::SUCCESS;

/// What was asked for is not there, or the answer is no.
#[must_use]
pub fn nothing() -> ExitCode {
    ExitCode::from(1)
}
