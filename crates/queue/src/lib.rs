//! The queue: what was accepted and has not ended.
//!
//! Lives here: the [`store`] trait with its embedded and Redis forms, leases and scheduling,
//! the retry schedule, stored bodies, journeys, and the services `Queue` and `QueueAdmin` over
//! them. Must not live here: SMTP, DNS, anything about how a delivery is attempted.
//!
//! Three layers, each of which knows only the one below:
//! - [`QueueService`] speaks to the outside: it checks what comes in and answers. `acts` carries out
//!   what operators do to many deliveries at once, also beyond the call and the process that began it.
//! - `dispatch` holds the conversations with delivery workers: who gets which destination, how
//!   much is on its way to whom, what a silent worker loses.
//! - [`store::Store`] keeps everything that matters, in atomic steps.
//!
//! Start reading at [`store::Store`]: its promises are the product.

mod acts;
mod admin;
mod bodies;
pub mod check;
mod config;
mod dispatch;
mod holder;
pub mod metrics;
mod open;
pub mod policy;
pub mod retry;
mod service;
pub mod store;
pub mod transfer;
mod validate;

pub use bodies::config::{BodiesConfig, BodiesKind, S3Config};
pub use config::{
    DelayWarning, EmbeddedConfig, JourneysConfig, PolicyConfig, PolicyRetryConfig, QueueConfig,
    RetryConfig, StoreKind, TenantConfig, UnknownConfig,
};
pub use service::QueueService;
