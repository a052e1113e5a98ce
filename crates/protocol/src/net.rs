//! Connections that are not the system's sockets, such as those of a simulated network.
//!
//! The services use TCP; where they are to run on something else, whoever composes them hands over
//! connections that were accepted, and a [`Dialer`] for those to be made.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Any connection.
pub type BoxIo = Box<dyn Io>;

/// Makes connections.
#[async_trait]
pub trait Dialer: Send + Sync + 'static {
    /// Connects to an address.
    ///
    /// # Errors
    /// Nobody is there, or it cannot be reached.
    async fn dial(&self, address: SocketAddr) -> io::Result<BoxIo>;
}

/// Any dialer.
pub type AnyDialer = Arc<dyn Dialer>;
