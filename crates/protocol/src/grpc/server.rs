//! What a process offers to the other services.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::server::{Connected, TcpIncoming};

use super::admin::AdminAdapter;
use super::config::ServicesConfig;
use super::directory::DirectoryAdapter;
use super::error::SetupError;
use super::mailbox::MailboxAdapter;
use super::queue::QueueAdapter;
use super::{CONNECTION_WINDOW, FRAME, MAX_MESSAGE, STREAM_WINDOW, deadline};
use crate::api::{Directory, Mailbox, Queue, QueueAdmin};
use crate::mailbox_v1::directory_server::DirectoryServer;
use crate::mailbox_v1::mailbox_server::MailboxServer;
use crate::net::BoxIo;
use crate::queue_v1::queue_admin_server::QueueAdminServer;
use crate::queue_v1::queue_server::QueueServer;

/// Calls that one connection may have under way.
const STREAMS: u32 = 2048;

/// Collects what a process offers, then takes an address.
pub struct Server {
    routes: RoutesBuilder,
    drain: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            routes: RoutesBuilder::default(),
            drain: deadline::DRAIN,
        }
    }
}

impl Server {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits so long for open calls when it stops; 20 s otherwise.
    #[must_use]
    pub fn drain(mut self, time: Duration) -> Self {
        self.drain = time;
        self
    }

    /// Offers a queue to edge and delivery.
    #[must_use]
    pub fn queue(mut self, queue: Arc<dyn Queue>) -> Self {
        self.routes.add_service(
            QueueServer::new(QueueAdapter(queue))
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        );
        self
    }

    /// Offers a queue to operators.
    #[must_use]
    pub fn queue_admin(mut self, queue: Arc<dyn QueueAdmin>) -> Self {
        self.routes.add_service(
            QueueAdminServer::new(AdminAdapter::new(queue)).max_encoding_message_size(MAX_MESSAGE),
        );
        self
    }

    /// Offers a directory to the edge.
    #[must_use]
    pub fn directory(mut self, directory: Arc<dyn Directory>) -> Self {
        self.routes
            .add_service(DirectoryServer::new(DirectoryAdapter(directory)));
        self
    }

    /// Offers mailboxes to delivery.
    #[must_use]
    pub fn mailbox(mut self, mailbox: Arc<dyn Mailbox>) -> Self {
        self.routes.add_service(
            MailboxServer::new(MailboxAdapter(mailbox)).max_decoding_message_size(MAX_MESSAGE),
        );
        self
    }

    /// Takes `address`, which the key `services.<key>` names.
    ///
    /// # Errors
    /// It is taken, it is not on loopback and there is no mutual TLS, or the certificates are
    /// wrong.
    pub async fn bind(
        self,
        key: &str,
        address: SocketAddr,
        config: &ServicesConfig,
    ) -> Result<Bound, SetupError> {
        config.check_listen(key, address)?;
        let mut transport = transport();
        if let Some(pem) = config.read_tls()? {
            transport = transport
                .tls_config(pem.server())
                .map_err(SetupError::Tls)?;
        }
        let listen_error = |source| SetupError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen_error)?;
        let local_addr = listener.local_addr().map_err(listen_error)?;
        Ok(Bound {
            transport,
            listener,
            local_addr,
            routes: self.routes,
            drain: self.drain,
        })
    }

    /// Serves on connections that were accepted elsewhere: for networks that are not the system's. Ends
    /// like [`Bound::serve`].
    ///
    /// # Errors
    /// The transport failed.
    pub async fn serve_on(
        self,
        connections: impl Stream<Item = io::Result<BoxIo>> + Send + 'static,
        shutdown: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let incoming = connections.map(|accepted| accepted.map(Accepted));
        serve(transport(), self.routes, incoming, self.drain, shutdown).await
    }
}

fn transport() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(deadline::PROBE))
        .http2_keepalive_timeout(Some(deadline::PROBE_ANSWER))
}

/// A server that has its address and does not serve yet.
pub struct Bound {
    transport: tonic::transport::Server,
    listener: TcpListener,
    local_addr: SocketAddr,
    routes: RoutesBuilder,
    drain: Duration,
}

impl Bound {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown`, then lets open calls finish. A conversation with a worker
    /// ends when the queue ends it.
    ///
    /// # Errors
    /// The transport failed.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), tonic::transport::Error> {
        let incoming = TcpIncoming::from(self.listener).with_nodelay(Some(true));
        serve(self.transport, self.routes, incoming, self.drain, shutdown).await
    }
}

async fn serve<C>(
    mut transport: tonic::transport::Server,
    mut routes: RoutesBuilder,
    incoming: impl Stream<Item = io::Result<C>>,
    drain: Duration,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error>
where
    C: AsyncRead + AsyncWrite + Connected + Send + Unpin + 'static,
{
    let (health, health_service) = tonic_health::server::health_reporter();
    routes.add_service(health_service);
    let routes: Routes = routes.routes();
    let stopped = shutdown.clone();
    let serving = transport
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, async move {
            stopped.cancelled().await;
            health
                .set_service_status("", tonic_health::ServingStatus::NotServing)
                .await;
        });
    within_drain(serving, drain, shutdown).await
}

/// A connection that was accepted elsewhere. Nothing is known of who is at its other end.
struct Accepted(BoxIo);

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Stops waiting for open calls some time after `shutdown`.
async fn within_drain(
    serving: impl Future<Output = Result<(), tonic::transport::Error>>,
    drain: Duration,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    tokio::select! {
        result = serving => result,
        () = async {
            shutdown.cancelled().await;
            tokio::time::sleep(drain).await;
        } => {
            tracing::warn!("some calls of other services were still open at the end");
            Ok(())
        }
    }
}
