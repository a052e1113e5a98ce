//! A client that says exactly what it is told to, and reads whole replies.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::PATIENCE;

trait Octets: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Octets for T {}

pub(crate) struct Client {
    stream: Box<dyn Octets>,
    read: Vec<u8>,
}

/// AUTH PLAIN with an initial response.
pub(crate) fn plain_auth(user: &str, password: &str) -> String {
    format!("AUTH PLAIN {}", base64(&format!("\0{user}\0{password}")))
}

pub(crate) fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).await.unwrap())
    }

    /// A client on a connection that is made already.
    pub(crate) fn on(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream: Box::new(stream),
            read: Vec::new(),
        }
    }

    /// Does a TLS handshake.
    pub(crate) async fn tls(self) -> Self {
        self.try_tls().await.expect("TLS is established")
    }

    pub(crate) async fn try_tls(self) -> std::io::Result<Self> {
        assert!(self.read.is_empty(), "octets before the handshake");
        let config = postrider_tls::client::TlsClient::new(None)
            .unwrap()
            .config(false);
        let name = ServerName::try_from("mx.here.test").unwrap();
        let connector = TlsConnector::from(Arc::clone(&config));
        let stream = timeout(PATIENCE, connector.connect(name, self.stream))
            .await
            .expect("the handshake ends in time")?;
        Ok(Self {
            stream: Box::new(stream),
            read: Vec::new(),
        })
    }

    /// Sends octets as they are.
    pub(crate) async fn send(&mut self, octets: impl AsRef<[u8]>) {
        self.try_send(octets).await.expect("the server takes it");
    }

    pub(crate) async fn try_send(&mut self, octets: impl AsRef<[u8]>) -> std::io::Result<()> {
        timeout(PATIENCE, async {
            self.stream.write_all(octets.as_ref()).await?;
            self.stream.flush().await
        })
        .await
        .expect("the server takes octets in time")
    }

    /// The next reply, all of its lines, without the last CRLF. Panics where the connection ends.
    pub(crate) async fn reply(&mut self) -> String {
        self.try_reply().await.expect("a reply, not the end")
    }

    /// The next reply, or `None` where the connection ends, cleanly or not.
    pub(crate) async fn try_reply(&mut self) -> Option<String> {
        loop {
            if let Some(end) = whole_reply(&self.read) {
                let reply = self.read.drain(..end).collect::<Vec<_>>();
                let reply = String::from_utf8(reply).expect("replies are ASCII");
                return Some(reply.trim_end().to_owned());
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.read))
                .await
                .expect("a reply in time");
            if !matches!(read, Ok(length) if length > 0) {
                assert!(self.read.is_empty(), "half a reply: {:?}", self.read);
                return None;
            }
        }
    }

    /// The next reply begins like this.
    pub(crate) async fn expect(&mut self, start: &str) -> String {
        let reply = self.reply().await;
        assert!(reply.starts_with(start), "expected {start}, got {reply}");
        reply
    }

    /// Sends a command; its reply begins like this.
    pub(crate) async fn say(&mut self, command: &str, start: &str) -> String {
        self.send(format!("{command}\r\n")).await;
        let reply = self.reply().await;
        assert!(
            reply.starts_with(start),
            "{command}: expected {start}, got {reply}"
        );
        reply
    }

    /// The server says nothing more and ends the connection without a reset.
    pub(crate) async fn expect_clean_end(&mut self) {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.read))
            .await
            .expect("the connection ends in time");
        assert_eq!(read.expect("no reset"), 0, "more: {:?}", self.read);
    }

    /// The server ends the connection, in whatever way.
    pub(crate) async fn expect_end(&mut self) {
        while self.try_reply().await.is_some() {}
    }

    /// The server ends the connection; what it sends before need not be SMTP.
    pub(crate) async fn expect_some_end(&mut self) {
        let mut rest = Vec::new();
        let end = timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await;
        // Cleanly or not: what matters is that it ends.
        drop(end.expect("the connection ends in time"));
    }

    /// Up to the 354.
    pub(crate) async fn begin(&mut self, from: &str, to: &str) {
        self.say(&format!("MAIL FROM:<{from}>"), "250").await;
        self.say(&format!("RCPT TO:<{to}>"), "250").await;
        self.say("DATA", "354").await;
    }

    /// One whole transaction; gives the queue id of the reply.
    pub(crate) async fn send_message(&mut self, to: &str, content: &str) -> String {
        self.begin("sender@elsewhere.example", to).await;
        self.send(content).await;
        self.say(".", "250 2.0.0")
            .await
            .rsplit(' ')
            .next()
            .unwrap()
            .to_owned()
    }
}

/// Length of the first reply in the octets, if all of its lines are there.
fn whole_reply(octets: &[u8]) -> Option<usize> {
    let mut start = 0;
    loop {
        let end = start
            + octets[start..]
                .windows(2)
                .position(|pair| pair == b"\r\n")?
            + 2;
        if octets.get(start + 3) != Some(&b'-') {
            return Some(end);
        }
        start = end;
    }
}
