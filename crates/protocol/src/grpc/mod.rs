//! The traits of [`crate::api`] over gRPC.
//!
//! [`Server`] serves trait objects; [`queue`] and [`mailbox`] give clients that are trait objects
//! again. What every call between services needs is here, once: TLS on both sides
//! ([`ServicesConfig`]), a deadline, the trace context, keep-alives that notice a dead peer,
//! windows that keep a fast link busy, and patience while a neighbour restarts.
//!
//! Read [`server`] for what a process offers, [`link`] for what it uses, and
//! [`queue::batch`](self::queue) for how single messages become batches.

mod admin;
mod body;
mod config;
mod deadline;
mod directory;
mod error;
mod link;
mod mailbox;
pub mod metrics;
mod queue;
mod server;
mod trace;

use std::net::SocketAddr;

use crate::net::AnyDialer;

pub use config::ServicesConfig;
pub use error::SetupError;
pub use mailbox::MailboxClient;
pub use queue::QueueClient;
pub use server::{Bound, Server};

/// Largest gRPC message either way. A batch of inline bodies must fit; larger bodies stream.
const MAX_MESSAGE: usize = 64 << 20;
/// What a stream, and a connection, may have under way before the reader has read.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// HTTP/2 frames: few enough for a batch, short enough for a lone reply to slip between.
const FRAME: u32 = 128 << 10;

/// A client of the queue: [`Queue`](crate::api::Queue) and [`QueueAdmin`](crate::api::QueueAdmin). It
/// connects when it is first used, and again whenever it must.
///
/// # Errors
/// The section's address or certificates are wrong.
pub fn queue(config: &ServicesConfig) -> Result<QueueClient, SetupError> {
    Ok(QueueClient::new(link::Link::new(
        "queue",
        &config.queue,
        config,
    )?))
}

/// A client of the queue at an address, over connections that `dialer` makes: for networks that are not
/// the system's.
///
/// # Errors
/// The address cannot be one of gRPC.
pub fn queue_over(address: SocketAddr, dialer: AnyDialer) -> Result<QueueClient, SetupError> {
    Ok(QueueClient::new(link::Link::over(
        "queue", address, dialer,
    )?))
}

/// A client of the mailboxes: [`Directory`](crate::api::Directory) and
/// [`Mailbox`](crate::api::Mailbox). It connects when it is first used, and again whenever it must.
///
/// # Errors
/// The section's address or certificates are wrong.
pub fn mailbox(config: &ServicesConfig) -> Result<MailboxClient, SetupError> {
    Ok(MailboxClient::new(link::Link::new(
        "mailbox",
        &config.mailbox,
        config,
    )?))
}
