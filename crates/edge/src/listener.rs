//! Listening sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

/// Connections that the kernel completes while we are busy.
const BACKLOG: i32 = 1_024;
/// Wait after the process or the system ran out of file descriptors or memory. Without it the
/// loop would spin, because the connection that could not be accepted stays at the head of the
/// queue.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Binds an address.
///
/// # Errors
/// The address is taken, not ours, or not allowed.
pub(crate) fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = match listen(address) {
        Err(error) if address.ip().is_unspecified() && address.is_ipv6() && no_ipv6(&error) => {
            debug!(%address, "no IPv6 here, taking IPv4 only");
            listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        bound => bound,
    };
    bound.with_context(|| format!("cannot listen on {address}"))
}

fn no_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    // A restart must not wait for the connections of the process before to time out.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Waits for the next connection, whatever happens. Cancel safe.
pub(crate) async fn accept(listener: &TcpListener) -> (TcpStream, IpAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Some(accepted) = accepted(stream, peer) {
                    return accepted;
                }
            }
            // The client left before it was accepted.
            Err(error) if is_the_clients(&error) => debug!(%error, "connection not accepted"),
            Err(error) => {
                warn!(%error, "cannot accept connections now");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

/// Closes a listener. Gives the connections that the system had completed and nobody had accepted,
/// which would be reset.
pub(crate) fn close(listener: TcpListener) -> Vec<(TcpStream, IpAddr)> {
    // Asked directly: the runtime may not have heard of them yet.
    let listener = match listener.into_std() {
        Ok(listener) => listener,
        Err(error) => {
            warn!(%error, "a listener is closed as it is");
            return Vec::new();
        }
    };
    let mut waiting = Vec::new();
    // No more than can have waited, so that who keeps connecting does not keep this up.
    for _ in 0..BACKLOG {
        let next = listener.accept().and_then(|(stream, peer)| {
            stream.set_nonblocking(true)?;
            Ok((TcpStream::from_std(stream)?, peer))
        });
        match next {
            Ok((stream, peer)) => waiting.extend(accepted(stream, peer)),
            Err(error) if is_the_clients(&error) => {}
            // None waits, or none can be had.
            Err(_) => break,
        }
    }
    waiting
}

fn accepted(stream: TcpStream, peer: SocketAddr) -> Option<(TcpStream, IpAddr)> {
    // Replies are written whole, one write a batch: there is nothing to gather, and gathering would
    // add the other side's delayed ACK to every round trip.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "the client left at once");
        return None;
    }
    Some((stream, peer.ip().to_canonical()))
}

fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn any_address_takes_ipv4() {
        let listener = bind("[::]:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (stream, peer) = accept(&listener).await;
        assert_eq!(peer, client.local_addr().unwrap().ip());
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_taken_address_is_an_error_that_names_it() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address).unwrap_err();
        assert!(format!("{error:#}").contains(&address.to_string()));
    }
}
