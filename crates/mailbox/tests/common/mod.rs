//! A mailbox service with POP3 on loopback, and a client that speaks line by line.

#![allow(clippy::unwrap_used)] // Outside of #[test] functions clippy does not see that this is a test.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use postrider_config::ServerConfig;
use postrider_config::values::Period;
use postrider_mailbox::accounts::AccountsFile;
use postrider_mailbox::{MailboxConfig, MailboxService, Pop3, Pop3Config, Pop3Listener, Pop3Role};
use postrider_protocol::QueueId;
use postrider_protocol::api::Mailbox;
use postrider_protocol::mailbox_v1::DeliverHeader;
use postrider_tls::{ServerCertificate, TlsConfig};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running service; it goes with its folder when it is dropped.
pub(crate) struct Server {
    pub(crate) folder: TempDir,
    pub(crate) service: Arc<MailboxService>,
    pub(crate) certificate: Arc<ServerCertificate>,
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
}

/// Limits that tests need not wait for.
pub(crate) fn quick() -> Pop3Config {
    let listener = |role| Pop3Listener {
        address: ([127, 0, 0, 1], 0).into(),
        role,
    };
    Pop3Config {
        listeners: vec![listener(Pop3Role::Pop3), listener(Pop3Role::Pop3s)],
        auth_failure_delay: Period(Duration::from_millis(20)),
        ..Pop3Config::default()
    }
}

pub(crate) fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

/// With the account alice@c.test, password "open sesame".
pub(crate) fn start(pop3: Pop3Config) -> Server {
    let folder = tempfile::tempdir().unwrap();
    start_in(folder, pop3)
}

pub(crate) fn start_in(folder: TempDir, pop3: Pop3Config) -> Server {
    let server = server_config(folder.path());
    let config = MailboxConfig {
        pop3: pop3.clone(),
        ..MailboxConfig::default()
    };
    let accounts = AccountsFile::new(&server, &config);
    if accounts.list().unwrap().is_empty() {
        accounts.add("alice", &secret("open sesame")).unwrap();
    }
    let certificate =
        ServerCertificate::load(&TlsConfig::default(), "localhost", folder.path()).unwrap();
    let service = MailboxService::open(&server, config).unwrap();
    let pop3 = Pop3::bind(&server, pop3, service.clone(), certificate.clone()).unwrap();
    let address = |wanted| {
        let found = pop3
            .local_addrs()
            .into_iter()
            .find(|(role, _)| *role == wanted);
        found.unwrap().1
    };
    let (plain, tls) = (address(Pop3Role::Pop3), address(Pop3Role::Pop3s));
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(pop3.serve(shutdown.clone()));
    Server {
        folder,
        service,
        certificate,
        plain,
        tls,
        shutdown,
        serving,
    }
}

pub(crate) fn server_config(folder: &Path) -> ServerConfig {
    ServerConfig {
        hostname: "localhost".to_owned(),
        domains: vec!["c.test".to_owned()],
        data_dir: folder.to_owned(),
    }
}

impl Server {
    /// Delivers to alice.
    pub(crate) async fn deliver(&self, content: &[u8]) {
        let queue_id = QueueId::new();
        let header = DeliverHeader {
            queue_id: queue_id.to_string(),
            delivery_id: format!("{queue_id}.0"),
            reverse_path: "bob@d.test".to_owned(),
            recipients: vec!["alice@c.test".to_owned()],
            size: content.len() as u64,
            ..DeliverHeader::default()
        };
        let body = stream::iter([Ok(Bytes::copy_from_slice(content))]).boxed();
        let results = self.service.deliver(header, body).await.unwrap();
        assert_eq!(results[0].reply_code, 250, "{results:?}");
    }

    pub(crate) async fn plain(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.plain).await.unwrap())
    }

    pub(crate) async fn tls(&self) -> Client<tokio_rustls::client::TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.tls).await.unwrap();
        Client::new(self.handshake(stream).await)
    }

    pub(crate) async fn handshake(
        &self,
        stream: TcpStream,
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.end_entity()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(postrider_tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector
            .connect("localhost".try_into().unwrap(), stream)
            .await
            .unwrap()
    }

    /// A session that has logged in.
    pub(crate) async fn login(&self) -> Client<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut client = self.tls().await;
        client.expect("+OK").await;
        client.send("USER alice\r\nPASS open sesame\r\n").await;
        client.expect("+OK").await;
        client.expect("+OK").await;
        client
    }
}

/// A client that fails the test when the server is silent.
pub(crate) struct Client<S> {
    pub(crate) stream: BufReader<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next line with its line end; `None` when the connection is closed.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.stream.read_until(b'\n', &mut line));
        match read.await.expect("the server says something") {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(String::from_utf8(line).unwrap()),
        }
    }

    pub(crate) async fn expect(&mut self, start: &str) -> String {
        let line = self.line().await;
        match line {
            Some(line) if line.starts_with(start) => line,
            other => panic!("{start:?} expected, not {other:?}"),
        }
    }

    /// The lines of a multi-line response, dots undone.
    pub(crate) async fn lines(&mut self) -> String {
        let mut text = String::new();
        loop {
            let line = self.line().await.expect("a final dot");
            if line == ".\r\n" {
                return text;
            }
            text.push_str(line.strip_prefix('.').unwrap_or(&line));
        }
    }

    pub(crate) async fn expect_end(&mut self) {
        assert_eq!(self.line().await, None);
    }
}
