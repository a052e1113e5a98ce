//! A small authoritative name server, for the demo and for tests.
//!
//! It answers for the zones that it is given, over UDP and TCP on one port of loopback, can be
//! told to fail, and tells what it was asked. It is no resolver, transfers nothing and signs
//! nothing. Start reading at [`Zones`] (what it knows) and [`NameServer`] (how it runs).

mod answer;
mod zones;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use hickory_server::Server;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;

use answer::Answerer;
pub use zones::Zones;

/// Tries to find one port that is free for UDP and TCP alike.
const PORT_TRIES: usize = 20;

/// A question with the answer that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// When the question came in.
    pub asked: SystemTime,
    /// When the answer left.
    pub answered: SystemTime,
    /// E.g. "alice.test MX".
    pub question: String,
    /// E.g. "10 mx.alice.test"; empty if there is no such record.
    pub answers: Vec<String>,
}

/// A name server that runs until it is dropped.
pub struct NameServer {
    address: SocketAddr,
    _server: Server<Answerer>,
}

impl NameServer {
    /// Starts on a free port of loopback. What it is asked is told to `tell`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(zones: Zones, tell: mpsc::UnboundedSender<Lookup>) -> anyhow::Result<Self> {
        let (udp, tcp) = bind_both()
            .await
            .context("no free port for the name server")?;
        let address = udp.local_addr()?;
        let mut server = Server::new(Answerer { zones, tell });
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 32);
        Ok(Self {
            address,
            _server: server,
        })
    }

    /// Starts one whose questions nobody wants to hear of.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start_quiet(zones: Zones) -> anyhow::Result<Self> {
        Self::start(zones, mpsc::unbounded_channel().0).await
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn bind_both() -> std::io::Result<(UdpSocket, TcpListener)> {
    let mut tries = 0;
    loop {
        let udp = UdpSocket::bind(("127.0.0.1", 0)).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if tries == PORT_TRIES => return Err(error),
            Err(_) => tries += 1,
        }
    }
}
