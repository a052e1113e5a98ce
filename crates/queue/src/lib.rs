//! The queue: what was accepted and has not ended.
//!
//! Lives here: the [`store`] trait with its embedded and Redis forms, leases and scheduling,
//! the retry schedule, journeys, and the services `Queue` and `QueueAdmin` over them.
//! Must not live here: SMTP, DNS, anything about how a delivery is attempted.

pub mod store;
