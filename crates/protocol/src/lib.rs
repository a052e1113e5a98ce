//! What the services say to each other.
//!
//! Lives here: the generated types of `proto/` ([`queue_v1`], [`mailbox_v1`]), the names that
//! all services share ([`QueueId`], [`DeliveryId`], [`Destination`]), the traits through which
//! services meet ([`api`]), and the gRPC wiring (TLS between services, deadlines, health,
//! trace context) that turns a trait object into a server and a channel into a trait object.
//!
//! Must not live here: anything that decides about mail. Start reading at [`api`].

pub mod api;
pub mod destination;
pub mod grpc;
pub mod ids;
pub mod net;
mod secret;

pub use destination::Destination;
pub use ids::{DeliveryId, QueueId};
pub use tonic::{Code, Status};

/// Recipients of one message. The queue takes no more, which keeps one request bounded.
pub const MOST_RECIPIENTS: usize = 50_000;

/// Types and services of the package `postrider.queue.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::large_futures,
    rustdoc::all
)]
pub mod queue_v1 {
    tonic::include_proto!("postrider.queue.v1");
}

/// Types and services of the package `postrider.mailbox.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::large_futures,
    rustdoc::all
)]
pub mod mailbox_v1 {
    tonic::include_proto!("postrider.mailbox.v1");
}

/// The compiled descriptors of all protos, for compatibility checks.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
