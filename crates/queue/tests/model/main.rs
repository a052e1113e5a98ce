//! Random histories on a real store, held against a plain model.
//!
//! - [`operation`] says what can happen, [`call`] does it to a store, [`play`] judges the answers by the
//!   model (crate `postrider-model`), [`history`] plays histories and shrinks one that fails, [`found`]
//!   has those that once failed, [`subject`] is the store under test. The model is one of the
//!   subjects: it must pass as well.
//!
//! Environment: `POSTRIDER_MODEL_HISTORIES` (how many), `POSTRIDER_MODEL_STEPS` (operations of each),
//! `POSTRIDER_MODEL_FROM` (the seed of the first; otherwise by chance), `POSTRIDER_MODEL_SEED` (play this
//! one only; a failure prints it).
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod call;
mod embedded;
mod found;
mod history;
mod itself;
mod kind;
mod operation;
mod play;
mod redis;
mod subject;
