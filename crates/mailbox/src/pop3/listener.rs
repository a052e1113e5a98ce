//! Accepts POP3 connections within the limits, and sees them out when the service stops.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use postrider_config::ServerConfig;
use postrider_tls::ServerCertificate;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::driver::{Connection, Shared};
use super::limits::Connections;
use super::session::Ending;
use crate::config::{Pop3Config, Pop3Listener, Pop3Role};
use crate::service::MailboxService;

/// Connections that the kernel holds while we do not accept.
const BACKLOG: u32 = 1_024;
/// Wait after an accept that failed for want of something (file descriptors, memory).
const BREATH: Duration = Duration::from_millis(100);

/// The POP3 service: bound, and then served.
pub struct Pop3 {
    listeners: Vec<(Pop3Role, TcpListener)>,
    shared: Arc<Shared>,
    config: Arc<ArcSwap<Pop3Config>>,
    bound: Vec<Pop3Listener>,
}

impl Pop3 {
    /// Binds every listener, so that a taken port shows at the start. Must be called within a
    /// Tokio runtime.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub fn bind(
        server: &ServerConfig,
        config: Pop3Config,
        service: Arc<MailboxService>,
        certificate: Arc<ServerCertificate>,
    ) -> anyhow::Result<Self> {
        postrider_process::raise_open_files();
        let mut listeners = Vec::new();
        for Pop3Listener { address, role } in &config.listeners {
            let listener = listen(*address).with_context(|| format!("POP3 on {address}"))?;
            listeners.push((*role, listener));
        }
        Ok(Self {
            listeners,
            shared: Arc::new(Shared {
                service,
                certificate,
                hostname: server.hostname.clone(),
            }),
            bound: config.listeners.clone(),
            config: Arc::new(ArcSwap::from_pointee(config)),
        })
    }

    /// Where it listens, with the ports that the system chose for port 0.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<(Pop3Role, SocketAddr)> {
        let address = |(role, listener): &(Pop3Role, TcpListener)| {
            listener.local_addr().ok().map(|address| (*role, address))
        };
        self.listeners.iter().filter_map(address).collect()
    }

    /// A handle that gives new settings to connections that are accepted from then on.
    #[must_use]
    pub fn reloader(&self) -> Pop3Reloader {
        Pop3Reloader {
            config: self.config.clone(),
            bound: self.bound.clone(),
        }
    }

    /// Accepts until told to stop; then idle sessions are closed at once, and others when the
    /// command that they are at is done, or at the end of the drain timeout.
    pub async fn serve(self, shutdown: CancellationToken) {
        let sessions = TaskTracker::new();
        let cut = CancellationToken::new();
        let connections = Arc::new(Connections::default());
        let acceptors = self.listeners.into_iter().map(|(role, listener)| {
            let acceptor = Acceptor {
                role,
                shared: self.shared.clone(),
                config: self.config.clone(),
                connections: connections.clone(),
                sessions: sessions.clone(),
                stop: shutdown.clone(),
                cut: cut.clone(),
            };
            acceptor.run(listener)
        });
        futures_util::future::join_all(acceptors).await;
        // A service without listeners stops when it is told to, like any other.
        shutdown.cancelled().await;
        sessions.close();
        let drain = self.config.load().drain_timeout.0;
        if tokio::time::timeout(drain, sessions.wait()).await.is_err() {
            warn!(sessions = sessions.len(), "POP3 sessions cut off");
            cut.cancel();
            sessions.wait().await;
        }
    }
}

/// Gives new settings to a running [`Pop3`].
#[derive(Clone)]
pub struct Pop3Reloader {
    config: Arc<ArcSwap<Pop3Config>>,
    bound: Vec<Pop3Listener>,
}

impl Pop3Reloader {
    /// Takes over limits and timeouts, for new connections. Names what only a restart can change.
    pub fn reload(&self, config: Pop3Config) -> Vec<String> {
        let mut problems = Vec::new();
        if config.listeners != self.bound {
            problems.push("mailbox.pop3.listeners takes effect at the next start".to_owned());
        }
        self.config.store(Arc::new(config));
        problems
    }
}

/// One listener's loop.
struct Acceptor {
    role: Pop3Role,
    shared: Arc<Shared>,
    config: Arc<ArcSwap<Pop3Config>>,
    connections: Arc<Connections>,
    sessions: TaskTracker,
    /// Asks sessions to end.
    stop: CancellationToken,
    /// Ends them.
    cut: CancellationToken,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        if let Ok(address) = listener.local_addr() {
            info!(%address, role = ?self.role, "POP3 listens");
        }
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    warn!(%error, "cannot accept POP3 connections for the moment");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let config = self.config.load_full();
        let client = peer.ip().to_canonical();
        let (all, each) = (
            config.connections.get(),
            config.connections_per_client.get(),
        );
        let Some(place) = self.connections.enter(client, all, each) else {
            debug!(%client, "too many POP3 connections");
            self.turn_away(&stream);
            return;
        };
        // Replies are written whole: waiting to fill a packet only costs time.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let connection = Connection::new(self.shared.clone(), config, client, stream);
        let (role, stop, cut) = (self.role, self.stop.clone(), self.cut.clone());
        self.sessions.spawn(async move {
            let serving = connection.serve(role, &stop);
            cut.run_until_cancelled(serving).await;
            drop(place);
        });
    }

    fn turn_away(&self, stream: &TcpStream) {
        let metrics = &self.shared.service.metrics;
        metrics.session_began();
        metrics.session_ended(Ending::Refused.label());
        if self.role == Pop3Role::Pop3 {
            // The new socket's buffer takes this at once, or the client does without.
            let words = b"-ERR [SYS/TEMP] Too many connections, try later\r\n";
            drop(stream.try_write(words));
        }
    }
}

/// A connection that was given up before it was accepted is no trouble of ours.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Binds; where the machine has no IPv6, "every address" means every IPv4 address.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match bind(address) {
        Err(error)
            if address.is_ipv6()
                && address.ip().is_unspecified()
                && error.kind() != io::ErrorKind::AddrInUse =>
        {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into()).map_err(|_| error)
        }
        bound => bound,
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
