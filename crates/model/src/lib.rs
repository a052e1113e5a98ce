//! What a queue's store must do, in the plainest way. For tests only: no product links it.
//!
//! - [`Model`] is a store's whole state with every step that it can take: one step at a time, no haste,
//!   no disk. It says what must be, not how: where `postrider_queue::store` leaves a choice (which
//!   destination is granted, what is pulled first), the model is told what was chosen, and says whether
//!   that was right.
//! - [`view`] is what a store must answer about that state.
//! - [`invariant`] is what must hold at any time, whatever happened.
//! - [`ModelStore`] is the model as a `Store`, for simulations: on any clock, with failures to order, and
//!   alive while the processes that use it die.
//!
//! The queue's own tests hold the real stores against the model; the simulation runs the services on it.
#![allow(clippy::unwrap_used)]

pub mod invariant;
mod model;
mod store;
pub mod view;

pub use model::{Delivery, Event, Lease, Message, Model, Ruling, State, Totals, Verdict};
pub use store::{Faults, ModelStore};
