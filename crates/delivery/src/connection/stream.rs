//! A socket, plain or under TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use postrider_protocol::net::BoxIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What a connection reads from and writes to.
pub(crate) enum Stream {
    Plain(TcpStream),
    /// Not a socket of the system.
    Other(BoxIo),
    Tls(Box<TlsStream<TcpStream>>),
    /// Nothing: it is being replaced, or is gone.
    Gone,
}

impl Stream {
    /// Connects, from the first of `sources` that is of the same kind.
    pub(crate) async fn connect(address: SocketAddr, sources: &[IpAddr]) -> io::Result<Self> {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if let Some(source) = sources
            .iter()
            .find(|source| source.is_ipv4() == address.is_ipv4())
        {
            socket.bind(SocketAddr::new(*source, 0))?;
        }
        let stream = socket.connect(address).await?;
        // Each write is a whole group of commands: waiting for more only costs time.
        stream.set_nodelay(true)?;
        Ok(Self::Plain(stream))
    }

    /// Does the TLS handshake. The stream is of no use if it fails.
    pub(crate) async fn start_tls(
        &mut self,
        config: Arc<ClientConfig>,
        host: &str,
        address: IpAddr,
    ) -> io::Result<()> {
        let Self::Plain(plain) = std::mem::replace(self, Self::Gone) else {
            return Err(io::Error::other("it is under TLS already"));
        };
        let name = ServerName::try_from(host.to_owned())
            .unwrap_or_else(|_| ServerName::IpAddress(address.into()));
        let stream = TlsConnector::from(config).connect(name, plain).await?;
        *self = Self::Tls(Box::new(stream));
        Ok(())
    }

    /// "TLSv1.3", "TLSv1.2"; empty if it is plain.
    pub(crate) fn tls_version(&self) -> &'static str {
        let Self::Tls(stream) = self else {
            return "";
        };
        match stream.get_ref().1.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLS",
        }
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the connection is gone")
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Other(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Other(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Other(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Other(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}
