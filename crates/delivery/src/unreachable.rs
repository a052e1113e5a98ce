//! A short memory of addresses that could not be reached.
//!
//! Without it, two hundred messages for a dead host would each wait out their own connect
//! time-out, and hold slots and sockets meanwhile.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// More than a worker meets in a minute; beyond it, the memory starts afresh.
const MOST: usize = 10_000;

/// Addresses that are passed over for a while, and why.
#[derive(Default)]
pub(crate) struct Unreachable {
    known: Mutex<HashMap<SocketAddr, (Instant, String)>>,
}

impl Unreachable {
    /// Why the address is passed over now, if it is.
    pub(crate) fn reason(&self, address: SocketAddr) -> Option<String> {
        let mut known = self.lock();
        let (until, reason) = known.get(&address)?;
        if *until > Instant::now() {
            return Some(reason.clone());
        }
        known.remove(&address);
        None
    }

    /// Passes the address over from now on.
    pub(crate) fn note(&self, address: SocketAddr, reason: String, time: Duration) {
        if time.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut known = self.lock();
        if known.len() >= MOST {
            known.retain(|_, (until, _)| *until > now);
        }
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(address, (now + time, reason));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, (Instant, String)>> {
        self.known
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_passed_over_for_its_time_only() {
        let memory = Unreachable::default();
        let address = SocketAddr::from(([192, 0, 2, 1], 25));
        assert_eq!(memory.reason(address), None);
        memory.note(address, "refused".to_owned(), Duration::from_secs(60));
        assert_eq!(memory.reason(address).as_deref(), Some("refused"));
        memory.note(address, "refused".to_owned(), Duration::from_nanos(1));
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(memory.reason(address), None);
    }

    #[test]
    fn the_memory_is_bounded() {
        let memory = Unreachable::default();
        for number in 0..(MOST as u32 + 10) {
            let address = SocketAddr::from((number.to_be_bytes(), 25));
            memory.note(address, String::new(), Duration::from_secs(60));
        }
        assert!(memory.lock().len() <= MOST);
    }
}
