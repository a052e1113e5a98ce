//! How many connections there may be, in all and of one client.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts the connections that are open.
#[derive(Default)]
pub(crate) struct Connections {
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    all: u32,
    by_client: HashMap<IpAddr, u32>,
}

/// A connection's place, given back when it is dropped.
pub(crate) struct Place {
    connections: Arc<Connections>,
    client: IpAddr,
}

impl Connections {
    /// A place for a connection, if there is one.
    pub(crate) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        all: u32,
        per_client: u32,
    ) -> Option<Place> {
        let client = client(address);
        let mut counts = self.lock();
        if counts.all >= all {
            return None;
        }
        let of_client = counts.by_client.entry(client).or_default();
        if *of_client >= per_client {
            return None;
        }
        *of_client += 1;
        counts.all += 1;
        Some(Place {
            connections: self.clone(),
            client,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // The counts are changed together, with nothing between that could panic.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.connections.lock();
        counts.all = counts.all.saturating_sub(1);
        if let Some(of_client) = counts.by_client.get_mut(&self.client) {
            *of_client = of_client.saturating_sub(1);
            if *of_client == 0 {
                counts.by_client.remove(&self.client);
            }
        }
    }
}

/// Who counts as one client: an IPv4 address, or an IPv6 network of 64 bits, which is the least
/// that one customer gets.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let connections = Arc::new(Connections::default());
        let enter = |address: &str| connections.enter(address.parse().unwrap(), 4, 2);
        let _first = enter("2001:db8::1").unwrap();
        let second = enter("2001:db8::2").unwrap();
        assert!(enter("2001:db8::3").is_none());
        drop(second);
        let _second = enter("2001:db8::3").unwrap();
        let _third = enter("192.0.2.1").unwrap();
        let fourth = enter("::ffff:192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_none());
        assert!(enter("192.0.2.9").is_none());
        drop(fourth);
        assert!(enter("192.0.2.9").is_some());
        assert_eq!(connections.lock().by_client.len(), 2);
    }
}
