//! The simulated network, as the services take it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_util::Stream;
use postrider_protocol::net::{BoxIo, Dialer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use crate::ledger::Ledger;

/// Where every host listens.
pub(crate) const EVERYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Dials on the simulated network.
pub(crate) struct Plain;

#[async_trait]
impl Dialer for Plain {
    async fn dial(&self, address: SocketAddr) -> io::Result<BoxIo> {
        let stream = TcpStream::connect(address).await?;
        Ok(Box::new(stream))
    }
}

/// Dials, and counts in the ledger what is open to whom: a limit holds at every moment.
pub(crate) struct Counting {
    pub(crate) ledger: Ledger,
    pub(crate) limit: u32,
}

#[async_trait]
impl Dialer for Counting {
    async fn dial(&self, address: SocketAddr) -> io::Result<BoxIo> {
        let to = turmoil::reverse_lookup(address.ip()).unwrap_or_else(|| address.to_string());
        // From the attempt on, not only once it succeeds: the other side may see it earlier.
        let open = Open::new(self.ledger.clone(), to, self.limit);
        let stream = TcpStream::connect(address).await?;
        Ok(Box::new(Counted {
            stream,
            _open: open,
        }))
    }
}

struct Open {
    ledger: Ledger,
    to: String,
}

impl Open {
    fn new(ledger: Ledger, to: String, limit: u32) -> Self {
        let mut book = ledger.book();
        let open = book.open.entry(to.clone()).or_insert(0);
        *open += 1;
        let now = *open;
        let most = book.most_open.entry(to.clone()).or_insert(0);
        *most = now.max(*most);
        if now > limit {
            book.problems
                .push(format!("{now} connections to {to}, {limit} are allowed"));
        }
        drop(book);
        Self { ledger, to }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut book = self.ledger.book();
        if let Some(open) = book.open.get_mut(&self.to) {
            *open -= 1;
        }
    }
}

struct Counted {
    stream: TcpStream,
    _open: Open,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Connections as they come in.
pub(crate) fn incoming(
    listener: TcpListener,
) -> impl Stream<Item = io::Result<BoxIo>> + Send + 'static {
    futures_util::stream::unfold(Arc::new(listener), |listener| async move {
        let accepted = listener.accept().await;
        let accepted = accepted.map(|(stream, _)| Box::new(stream) as BoxIo);
        Some((accepted, listener))
    })
}
