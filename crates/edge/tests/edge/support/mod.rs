//! A running edge, and clients that talk to it.

mod client;
mod directory;
mod queue;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use postrider_config::ServerConfig;
use postrider_edge::config::ListenerConfig;
use postrider_edge::{Edge, EdgeConfig, Reloader, Role};
use postrider_tls::{ServerCertificate, TlsConfig};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(crate) use client::{Client, base64, plain_auth};
pub(crate) use directory::FakeDirectory;
pub(crate) use queue::{FakeQueue, Trouble};

/// Longer than anything here should take, so that a test fails and does not hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running edge with its fakes.
pub(crate) struct World {
    pub(crate) queue: Arc<FakeQueue>,
    pub(crate) directory: Arc<FakeDirectory>,
    pub(crate) certificate: Arc<ServerCertificate>,
    pub(crate) reloader: Reloader,
    addresses: Vec<(Role, SocketAddr)>,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
    _data: TempDir,
}

/// A config with one listener of each role on loopback.
pub(crate) fn config() -> EdgeConfig {
    EdgeConfig {
        listeners: [Role::Mx, Role::Submission, Role::Submissions]
            .into_iter()
            .map(|role| ListenerConfig {
                address: "127.0.0.1:0".parse().unwrap(),
                role,
            })
            .collect(),
        ..EdgeConfig::default()
    }
}

/// The same, with loopback as a trusted network.
pub(crate) fn trusting() -> EdgeConfig {
    EdgeConfig {
        trusted_networks: vec!["127.0.0.0/8".parse().unwrap()],
        ..config()
    }
}

impl World {
    /// An edge with the defaults.
    pub(crate) async fn new() -> Self {
        Self::with(config()).await
    }

    /// An edge with this config.
    pub(crate) async fn with(config: EdgeConfig) -> Self {
        let data = tempfile::tempdir().unwrap();
        let certificate = certificate(data.path());
        let queue = Arc::new(FakeQueue::default());
        let directory = Arc::new(FakeDirectory::default());
        let server = ServerConfig {
            hostname: "mx.here.test".to_owned(),
            domains: vec!["here.test".to_owned()],
            data_dir: data.path().to_owned(),
        };
        let edge = Edge::bind(
            &server,
            config,
            Arc::clone(&certificate),
            queue.clone(),
            directory.clone(),
        )
        .unwrap();
        let shutdown = CancellationToken::new();
        Self {
            queue,
            directory,
            certificate,
            reloader: edge.reloader(),
            addresses: edge.local_addrs(),
            serving: tokio::spawn(edge.serve(shutdown.clone())),
            shutdown,
            _data: data,
        }
    }

    pub(crate) fn address(&self, role: Role) -> SocketAddr {
        let found = self.addresses.iter().find(|(known, _)| *known == role);
        found.unwrap().1
    }

    /// A client that has connected, and has read nothing.
    pub(crate) async fn connect(&self, role: Role) -> Client {
        Client::connect(self.address(role)).await
    }

    /// A client whose connection the system has made, while nothing here had a chance to run.
    pub(crate) fn connect_unnoticed(&self, role: Role) -> Client {
        let stream = std::net::TcpStream::connect(self.address(role)).unwrap();
        stream.set_nonblocking(true).unwrap();
        Client::on(tokio::net::TcpStream::from_std(stream).unwrap())
    }

    /// A client that was greeted.
    pub(crate) async fn greeted(&self, role: Role) -> Client {
        let mut client = self.connect(role).await;
        client.expect("220").await;
        client
    }

    /// A client of the MX role that has said EHLO.
    pub(crate) async fn mx(&self) -> Client {
        let mut client = self.greeted(Role::Mx).await;
        client.say("EHLO client.example", "250").await;
        client
    }

    /// A client that submits over implicit TLS as bob.
    pub(crate) async fn bob(&self) -> Client {
        let client = self.connect(Role::Submissions).await;
        let mut client = client.tls().await;
        client.expect("220").await;
        client.say("EHLO laptop", "250").await;
        client
            .say(&plain_auth("bob@here.test", "secret-of-bob"), "235")
            .await;
        client
    }

    /// The next client is served, whatever happened before.
    pub(crate) async fn assert_serves(&self) {
        let mut client = self.mx().await;
        client
            .send_message("alice@here.test", "Subject: alive\r\n\r\nx\r\n")
            .await;
        client.say("QUIT", "221").await;
    }

    /// Begins to stop.
    pub(crate) fn stop(&self) {
        self.shutdown.cancel();
    }

    /// Waits until the edge has stopped.
    pub(crate) async fn stopped(self) {
        timeout(PATIENCE, self.serving)
            .await
            .expect("the edge stops in time")
            .unwrap();
    }
}

fn certificate(data: &Path) -> Arc<ServerCertificate> {
    ServerCertificate::load(&TlsConfig::default(), "mx.here.test", data).unwrap()
}
