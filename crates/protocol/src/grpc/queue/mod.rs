//! The queue over gRPC.

mod batch;
mod client;
mod server;

pub use client::QueueClient;
pub(super) use server::QueueAdapter;
