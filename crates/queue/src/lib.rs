//! The queue: what was accepted and has not ended.
//!
//! Lives here: the [`store`] trait with its embedded and Redis forms, leases and scheduling,
//! the retry schedule, stored bodies, journeys, and the services `Queue` and `QueueAdmin` over
//! them. Must not live here: SMTP, DNS, anything about how a delivery is attempted.
//!
//! Three layers, each of which knows only the one below:
//! - [`QueueService`] speaks to the outside: it checks what comes in and answers.
//! - `dispatch` holds the conversations with delivery workers: who gets which destination, how
//!   much is on its way to whom, what a silent worker loses.
//! - [`store::Store`] keeps everything that matters, in atomic steps.
//!
//! Start reading at [`store::Store`]: its promises are the product.

mod admin;
mod bodies;
mod config;
mod dispatch;
pub mod metrics;
pub mod retry;
mod service;
pub mod store;
mod validate;

pub use config::{
    BodiesConfig, EmbeddedConfig, JourneysConfig, QueueConfig, RetryConfig, StoreKind,
};
pub use service::QueueService;
