//! One SMTP client that tells how its session ended.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// For any answer: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a client reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The last line of a reply.
    Reply(String),
    /// The end of the connection.
    End,
}

impl Heard {
    pub(crate) fn is(&self, class: &str) -> bool {
        matches!(self, Self::Reply(line) if line.starts_with(class))
    }
}

/// A session that was greeted.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects and says EHLO. `None` where nobody takes the connection, or where the greeting is a
    /// 421; anything else than these is an error.
    pub(crate) async fn connect(server: SocketAddr) -> anyhow::Result<Option<Self>> {
        let Ok(stream) = TcpStream::connect(server).await else {
            return Ok(None);
        };
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            buffer: Vec::new(),
        };
        let greeting = client.hear().await;
        if !greeting.is("220") {
            anyhow::ensure!(greeting.is("421"), "instead of a greeting: {greeting:?}");
            return Ok(None);
        }
        client.send(b"EHLO source.test\r\n").await;
        let hello = client.hear().await;
        if !hello.is("250") {
            anyhow::ensure!(hello.is("421"), "to EHLO: {hello:?}");
            return Ok(None);
        }
        Ok(Some(client))
    }

    /// Sends; whether it arrives shows in what is heard next.
    pub(crate) async fn send(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).await.ok();
    }

    /// Reads a reply, or the end.
    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            while let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                if line.as_bytes().get(3) != Some(&b'-') {
                    return Heard::Reply(line);
                }
            }
            let read = self.stream.read_buf(&mut self.buffer);
            match tokio::time::timeout(PATIENCE, read).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) => return Heard::End,
                Err(_) => panic!("no reply within {PATIENCE:?}"),
            }
        }
    }

    /// Ends the session from this side.
    pub(crate) async fn quit(mut self) {
        self.send(b"QUIT\r\n").await;
        self.hear().await;
    }
}
