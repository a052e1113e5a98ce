//! What the kernel knows of connections.

use std::collections::HashSet;

/// State of a connection that is open at both ends, in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";

/// The clients' ports of the connections to a port of 127.0.0.1 that are open at both ends. The kernel
/// tells line by line, which takes its time where many were closed lately: one may be told of twice, and
/// two that were never open together may both be.
#[must_use]
pub fn established(port: u16) -> HashSet<u16> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    table
        .lines()
        .skip(1)
        .filter_map(|line| parse(line, port))
        .collect()
}

/// `0: 0100007F:1F90 0100007F:D431 01 …`: the local end, the other end, the state.
fn parse(line: &str, port: u16) -> Option<u16> {
    let mut words = line.split_whitespace().skip(1);
    let number = |word: &str| u16::from_str_radix(word.rsplit_once(':')?.1, 16).ok();
    let (local, other, state) = (words.next()?, words.next()?, words.next()?);
    (state == ESTABLISHED && number(local)? == port).then_some(number(other)?)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connections_are_counted_while_they_are_open_at_both_ends() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        assert!(established(address.port()).is_empty());
        let first = TcpStream::connect(address).unwrap();
        let second = TcpStream::connect(address).unwrap();
        let ports = [&first, &second].map(|one| one.local_addr().unwrap().port());
        assert_eq!(established(address.port()), HashSet::from(ports));
        drop(first);
        assert_eq!(established(address.port()), HashSet::from([ports[1]]));
    }
}
