//! How many connections are open, in all and from each client.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::policy::Client;

/// Counts open connections.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    in_all: u32,
    per_client: HashMap<IpAddr, u32>,
}

impl Admission {
    /// Counts a connection for as long as the ticket lives.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Ticket {
        let key = Client::limit_key(address);
        let mut open = self.lock();
        open.in_all += 1;
        let of_client = open.per_client.entry(key).or_default();
        *of_client += 1;
        let connections_of_client = *of_client;
        Ticket {
            admission: Arc::clone(self),
            key,
            connections: open.in_all,
            connections_of_client,
        }
    }

    // Nothing can panic while the lock is held, and counts are valid at every moment.
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One counted connection.
#[derive(Debug)]
pub(crate) struct Ticket {
    admission: Arc<Admission>,
    key: IpAddr,
    /// Connections in all when this one came, itself included.
    pub(crate) connections: u32,
    /// Connections of its client when this one came, itself included.
    pub(crate) connections_of_client: u32,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self.admission.lock();
        open.in_all -= 1;
        if let Entry::Occupied(mut entry) = open.per_client.entry(self.key) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_in_goes_out() {
        let admission = Arc::new(Admission::default());
        let here: IpAddr = "192.0.2.1".parse().unwrap();
        let first = admission.enter(here);
        let second = admission.enter("::ffff:192.0.2.1".parse().unwrap());
        let other = admission.enter("2001:db8::1".parse().unwrap());
        assert_eq!((first.connections, first.connections_of_client), (1, 1));
        assert_eq!((second.connections, second.connections_of_client), (2, 2));
        assert_eq!((other.connections, other.connections_of_client), (3, 1));
        drop((first, second));
        let again = admission.enter(here);
        assert_eq!((again.connections, again.connections_of_client), (2, 1));
        drop((again, other));
        let open = admission.lock();
        assert_eq!((open.in_all, open.per_client.len()), (0, 0));
    }
}
