//! Random histories on a real store, held against a plain model.
//!
//! - [`operation`] says what can happen, [`model`] what it must lead to, [`invariant`] what must hold
//!   whatever happens, [`history`] plays histories and shrinks one that fails, [`subject`] is the
//!   store under test.
//!
//! Environment: `POSTRIDER_MODEL_HISTORIES` (how many), `POSTRIDER_MODEL_STEPS` (operations of each),
//! `POSTRIDER_MODEL_SEED` (play this one only; a failure prints it).
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod embedded;
mod history;
mod invariant;
mod model;
mod operation;
mod play;
mod redis;
mod subject;
