//! A connection, plain or under TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Bytes that one read takes in at most. Commands are short.
const READ: usize = 1_024;

pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// While a handshake has it, and for ever if that fails.
    Gone,
}

impl Stream {
    /// Appends what the client sends next; 0 at the end. Cancel-safe. While a plain connection
    /// is idle it holds no buffer.
    pub(crate) async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => loop {
                stream.readable().await?;
                buffer.reserve(READ);
                match stream.try_read_buf(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return read,
                }
            },
            Self::Tls(stream) => {
                buffer.reserve(READ);
                stream.read_buf(buffer).await
            }
            Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Sends everything. The client must take in some of it within each `patience`.
    pub(crate) async fn write(&mut self, bytes: &[u8], patience: Duration) -> io::Result<()> {
        match self {
            Self::Plain(stream) => write_all(stream, bytes, patience).await,
            Self::Tls(stream) => {
                write_all(stream, bytes, patience).await?;
                timeout(patience, stream.flush()).await?
            }
            Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Shakes hands as the server. Only a plain connection can.
    pub(crate) async fn secure(
        &mut self,
        config: Arc<ServerConfig>,
        patience: Duration,
    ) -> io::Result<()> {
        let Self::Plain(stream) = std::mem::replace(self, Self::Gone) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let accept = TlsAcceptor::from(config).accept(stream);
        let stream = timeout(patience, Box::pin(accept)).await??;
        *self = Self::Tls(Box::new(stream));
        Ok(())
    }

    /// Says goodbye as TCP and TLS want it: a close that lost no reply.
    pub(crate) async fn close(&mut self, patience: Duration) {
        let closed = match self {
            Self::Plain(stream) => timeout(patience, stream.shutdown()).await,
            Self::Tls(stream) => timeout(patience, stream.shutdown()).await,
            Self::Gone => return,
        };
        // The client may have gone first.
        drop(closed);
    }
}

async fn write_all(
    stream: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    patience: Duration,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = timeout(patience, stream.write(bytes)).await??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
    }
    Ok(())
}
