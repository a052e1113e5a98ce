//! One client's connection: bytes in, bytes out, each with a deadline.
//!
//! Nothing is buffered here. A read fills a buffer on the stack of the poll and copies out what
//! came, so a connection that waits holds no buffer at all.

use std::future::{Future as _, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use postrider_protocol::net::BoxIo;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::stop::Stop;

/// Octets taken from the socket at once.
const READ: usize = 32 * 1024;
/// How long, and for how many octets, a closed connection still listens. A socket that is closed
/// while octets wait to be read is reset, and a reset may overtake the last reply.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_OCTETS: usize = 1024 * 1024;

/// A connection, plain or under TLS.
pub(crate) struct Connection {
    stream: Stream,
    timer: Pin<Box<Sleep>>,
    stop: Stop,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// What it reads from and writes to.
pub(crate) enum Stream {
    Plain(TcpStream),
    /// Not a socket of the system.
    Other(BoxIo),
    // Boxed: a TLS session is far larger than a socket, and most connections wait.
    Tls(Box<TlsStream<TcpStream>>),
    /// A failed handshake has used the socket up.
    Closed,
}

/// What came of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// Octets were appended.
    Data,
    /// The client has closed its side, or the connection is lost.
    Closed,
    /// The client was silent for too long.
    TimedOut,
    /// The server stops.
    Stopping,
}

/// Why a handshake did not lead to TLS.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    /// The client spoke no TLS, or none that we speak.
    Failed(io::Error),
    /// It took too long, for the client or for the server that stops.
    TimedOut,
}

impl Connection {
    pub(crate) fn new(stream: Stream, stop: Stop) -> Self {
        Self {
            stream,
            // Set at each use.
            timer: Box::pin(sleep(Duration::ZERO)),
            stopping: Box::pin(stop.begun()),
            stop,
        }
    }

    /// Reads once, until `deadline` at the latest.
    pub(crate) async fn read(&mut self, into: &mut BytesMut, deadline: Instant) -> Read {
        self.timer.as_mut().reset(deadline);
        poll_fn(|cx| self.poll_read(cx, into)).await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<Read> {
        let mut space = [const { MaybeUninit::<u8>::uninit() }; READ];
        let mut buffer = ReadBuf::uninit(&mut space);
        match self.stream.poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Read::Closed),
            Poll::Ready(Ok(())) => {
                into.extend_from_slice(buffer.filled());
                return Poll::Ready(Read::Data);
            }
            Poll::Ready(Err(_)) => return Poll::Ready(Read::Closed),
            Poll::Pending => {}
        }
        if self.stopping.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Read::Stopping);
        }
        self.timer.as_mut().poll(cx).map(|()| Read::TimedOut)
    }

    /// The stop has begun, but this session may go on until the drain ends: from now on only
    /// that end makes a read say [`Read::Stopping`].
    pub(crate) fn go_on_until_drained(&mut self) {
        self.stopping = Box::pin(self.stop.drained());
    }

    /// Writes everything, for as long as `wait`. Returns whether it went out.
    pub(crate) async fn write(&mut self, mut octets: &[u8], wait: Duration) -> bool {
        self.timer.as_mut().reset(Instant::now() + wait);
        let written = poll_fn(|cx| {
            let result = self.stream.poll_write_all(cx, &mut octets);
            if result.is_pending() && self.timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            result
        });
        written.await.is_ok()
    }

    /// Turns a plain connection into one with TLS.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub(crate) async fn start_tls(
        &mut self,
        config: Arc<rustls::ServerConfig>,
        wait: Duration,
    ) -> Result<(), HandshakeError> {
        let Stream::Plain(stream) = std::mem::replace(&mut self.stream, Stream::Closed) else {
            return Err(HandshakeError::Failed(io::ErrorKind::NotConnected.into()));
        };
        let handshake = timeout(wait, Box::pin(TlsAcceptor::from(config).accept(stream)));
        tokio::select! {
            done = handshake => match done {
                Ok(Ok(stream)) => {
                    self.stream = Stream::Tls(Box::new(stream));
                    Ok(())
                }
                Ok(Err(error)) => Err(HandshakeError::Failed(error)),
                Err(_) => Err(HandshakeError::TimedOut),
            },
            // Within a handshake there is no way to say 421.
            () = self.stop.drained() => Err(HandshakeError::TimedOut),
        }
    }

    /// "TLSv1.3" and the like; `None` on a plain connection.
    pub(crate) fn tls_version(&self) -> Option<&'static str> {
        let Stream::Tls(stream) = &self.stream else {
            return None;
        };
        Some(match stream.get_ref().1.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLS",
        })
    }

    /// Closes so that what was written last arrives: sends what is left, ends our side, and
    /// listens for a moment until the client has ended its own.
    pub(crate) async fn close(mut self) {
        let farewell = async {
            let shutdown = poll_fn(|cx| self.stream.poll_shutdown(cx)).await;
            let mut left = LINGER_OCTETS;
            while shutdown.is_ok() && left > 0 {
                let read = poll_fn(|cx| self.stream.poll_discard(cx)).await;
                match read {
                    Ok(octets) if octets > 0 => left = left.saturating_sub(octets),
                    _ => break,
                }
            }
        };
        // Whether it ended or ran out of time, the connection is closed now.
        let _in_time: Result<(), _> = timeout(LINGER, farewell).await;
    }
}

impl Stream {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Other(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [const { MaybeUninit::<u8>::uninit() }; READ];
        let mut buffer = ReadBuf::uninit(&mut space);
        self.poll_read(cx, &mut buffer)
            .map_ok(|()| buffer.filled().len())
    }

    /// Writes what is left of `octets` and, under TLS, makes it leave.
    fn poll_write_all(&mut self, cx: &mut Context<'_>, octets: &mut &[u8]) -> Poll<io::Result<()>> {
        while !octets.is_empty() {
            let written = match self {
                Self::Plain(stream) => Pin::new(stream).poll_write(cx, octets),
                Self::Other(stream) => Pin::new(stream).poll_write(cx, octets),
                Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, octets),
                Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            };
            match std::task::ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => *octets = &octets[written..],
            }
        }
        match self {
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Self::Other(stream) => Pin::new(stream).poll_flush(cx),
            Self::Plain(_) | Self::Closed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Other(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}
