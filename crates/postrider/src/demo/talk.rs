//! A mail program's side of a dialogue, line by line, with every line told as it passes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use postrider_protocol::queue_v1::{DialogueLine, dialogue_line::From};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A server that needs longer than this for one line does not work.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any line of a reply or of the demo's message.
const LONGEST_LINE: usize = 4096;

/// What a connection reads and writes.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection to a server.
pub(super) struct Talk {
    wire: Option<BufReader<Box<dyn Wire>>>,
    clock: Instant,
    tell: mpsc::UnboundedSender<DialogueLine>,
}

impl Talk {
    /// Connects. Lines are told with their time since `clock`.
    ///
    /// # Errors
    /// Nobody listens.
    pub(super) async fn connect(
        address: std::net::SocketAddr,
        clock: Instant,
        tell: mpsc::UnboundedSender<DialogueLine>,
    ) -> anyhow::Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(address))
            .await
            .context("connecting takes too long")?
            .with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Wire> = Box::new(stream);
        Ok(Self {
            wire: Some(BufReader::new(stream)),
            clock,
            tell,
        })
    }

    /// Goes on under TLS, with the server's certificate checked against `name`. Returns the
    /// protocol's version.
    ///
    /// # Errors
    /// The handshake fails, or takes too long.
    pub(super) async fn start_tls(
        &mut self,
        config: Arc<rustls::ClientConfig>,
        name: &str,
    ) -> anyhow::Result<String> {
        let plain = self.wire.take().context("the connection is closed")?;
        if !plain.buffer().is_empty() {
            bail!("the server spoke before the TLS handshake");
        }
        let name = ServerName::try_from(name.to_owned()).context("the server's name")?;
        let handshake = TlsConnector::from(config).connect(name, plain.into_inner());
        let stream = timeout(PATIENCE, handshake)
            .await
            .context("the TLS handshake takes too long")?
            .context("the TLS handshake")?;
        let version = match stream.get_ref().1.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLS",
        };
        let stream: Box<dyn Wire> = Box::new(stream);
        self.wire = Some(BufReader::new(stream));
        self.note(&format!("{version} established, certificate checked"));
        Ok(version.to_owned())
    }

    /// Sends a command and tells it.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn say(&mut self, command: &str) -> anyhow::Result<()> {
        self.say_as(command, command).await
    }

    /// Sends a command and tells it with its secrets left out.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn say_as(&mut self, command: &str, told: &str) -> anyhow::Result<()> {
        self.told(From::Client, told);
        self.send(format!("{command}\r\n").as_bytes()).await
    }

    /// Sends octets as they are, untold.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn send(&mut self, octets: &[u8]) -> anyhow::Result<()> {
        let wire = self.wire.as_mut().context("the connection is closed")?;
        let write = async {
            wire.write_all(octets).await?;
            wire.flush().await
        };
        timeout(PATIENCE, write)
            .await
            .context("sending takes too long")?
            .context("sending")
    }

    /// Reads one line, untold, with its line end.
    ///
    /// # Errors
    /// The connection is lost, or the line is too long.
    pub(super) async fn line(&mut self) -> anyhow::Result<Vec<u8>> {
        let wire = self.wire.as_mut().context("the connection is closed")?;
        let mut line = Vec::new();
        let read = async {
            let mut bounded = tokio::io::AsyncReadExt::take(wire, LONGEST_LINE as u64);
            bounded.read_until(b'\n', &mut line).await
        };
        timeout(PATIENCE, read)
            .await
            .context("the server does not answer")?
            .context("reading")?;
        if !line.ends_with(b"\r\n") {
            bail!("the connection ended in the middle of a line, or the line is too long");
        }
        Ok(line)
    }

    /// Reads and tells one line of the server.
    ///
    /// # Errors
    /// As [`Talk::line`].
    pub(super) async fn hear(&mut self) -> anyhow::Result<String> {
        let line = self.line().await?;
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        self.told(From::Server, &text);
        Ok(text)
    }

    /// Reads and tells an SMTP reply, however many lines it has (RFC 5321 section 4.2.1), and
    /// checks its code. Returns the last line.
    ///
    /// # Errors
    /// Another reply than expected; the connection is lost.
    pub(super) async fn expect(&mut self, code: &str) -> anyhow::Result<String> {
        loop {
            let line = self.hear().await?;
            if !line.starts_with(code) {
                bail!("expected a reply {code}, the server said: {line}");
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line);
            }
        }
    }

    /// Tells something that neither side said.
    pub(super) fn note(&self, text: &str) {
        self.told(From::Note, text);
    }

    /// Tells a line of ours that was not a command.
    pub(super) fn told(&self, from: From, text: &str) {
        let line = DialogueLine {
            from: from.into(),
            text: text.to_owned(),
            at_us: u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX),
        };
        // Whoever draws may have given up; the dialogue goes on.
        self.tell.send(line).ok();
    }
}
