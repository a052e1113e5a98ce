//! Suspensions in memory, and what each of them stops, without reading a message.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use hashbrown::HashMap;
use postrider_protocol::queue_v1::Suspension;

use crate::store::filter::AddressPattern;

/// Hashes of addresses and domains, without regard to ASCII case. They hold for this process only:
/// nobody outside can find addresses that share one.
#[derive(Debug, Default)]
pub(super) struct Hashes(RandomState);

/// A sender as it is known in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SenderHash {
    pub(super) address: u64,
    pub(super) domain: u64,
}

impl Hashes {
    pub(super) fn of(&self, text: &str) -> u64 {
        match text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => self.0.hash_one(text.to_ascii_lowercase().as_bytes()),
            false => self.0.hash_one(text.as_bytes()),
        }
    }

    /// The hashes of a reverse-path.
    pub(super) fn sender(&self, address: &str) -> SenderHash {
        let domain = address.rfind('@').map_or("", |at| &address[at..]);
        SenderHash {
            address: self.of(address),
            domain: self.of(domain),
        }
    }

    /// Bits that are set for every recipient: a message without one of an address's bits does
    /// not go to it.
    pub(super) fn recipient_bits(&self, address: &str) -> u64 {
        let hash = self.of(address);
        (0..4).fold(0, |bits, part| bits | 1 << (hash >> (6 * part) & 63))
    }

    /// How to know senders of a pattern.
    pub(super) fn test(&self, pattern: &AddressPattern) -> SenderTest {
        match pattern {
            AddressPattern::Null => SenderTest::Address(self.of("")),
            AddressPattern::One(address) => SenderTest::Address(self.of(address)),
            AddressPattern::Domain(domain) => SenderTest::Domain(self.of(domain)),
        }
    }
}

/// Tells senders by their hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum SenderTest {
    Address(u64),
    Domain(u64),
}

impl SenderTest {
    pub(super) fn matches(self, sender: SenderHash) -> bool {
        match self {
            Self::Address(address) => sender.address == address,
            Self::Domain(domain) => sender.domain == domain,
        }
    }
}

/// One suspension, taken apart.
#[derive(Debug)]
struct Stop {
    id: String,
    destination: String,
    tenant: String,
}

impl Stop {
    fn fits(&self, destination: &str, tenant: &str) -> bool {
        (self.destination.is_empty() || self.destination == destination)
            && (self.tenant.is_empty() || self.tenant == tenant)
    }
}

/// All suspensions that have not ended.
#[derive(Debug, Default)]
pub(super) struct Suspensions {
    by_id: BTreeMap<String, Arc<Suspension>>,
    ends: BTreeSet<(u64, String)>,
    /// Those that name a sender.
    senders: HashMap<SenderTest, Vec<Stop>>,
    /// Those that name a tenant and no sender.
    tenants: HashMap<String, Vec<Stop>>,
    /// Those of whole destinations: how many.
    destinations: HashMap<String, usize>,
}

/// What a change of suspensions asks of the schedule.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    /// A destination that is suspended as a whole now, or not any more.
    pub(super) destination: Option<(String, bool)>,
    /// What was put aside must be looked through.
    pub(super) let_go: bool,
}

impl Suspensions {
    /// Whether deliveries must be asked about one by one.
    pub(super) fn are_partial(&self) -> bool {
        !self.senders.is_empty() || !self.tenants.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// When the next one ends by itself.
    pub(super) fn next_end(&self) -> Option<u64> {
        self.ends.first().map(|(at_us, _)| *at_us)
    }

    /// Those whose time is over.
    pub(super) fn over(&self, now_us: u64) -> Vec<String> {
        let over = self.ends.iter().take_while(|(at_us, _)| *at_us <= now_us);
        over.map(|(_, id)| id.clone()).collect()
    }

    /// All of them, by id.
    pub(super) fn all(&self) -> Vec<Arc<Suspension>> {
        self.by_id.values().cloned().collect()
    }

    /// Adds one.
    pub(super) fn insert(&mut self, suspension: Suspension, hashes: &Hashes) -> Effect {
        let mut effect = Effect::default();
        let stop = Stop {
            id: suspension.id.clone(),
            destination: suspension.destination.clone(),
            tenant: suspension.tenant.clone(),
        };
        if let Some(test) = sender_test(&suspension, hashes) {
            self.senders.entry(test).or_default().push(stop);
        } else if !suspension.tenant.is_empty() {
            let tenant = suspension.tenant.clone();
            self.tenants.entry(tenant).or_default().push(stop);
        } else {
            let name = suspension.destination.clone();
            *self.destinations.entry(name.clone()).or_default() += 1;
            effect.destination = Some((name, true));
        }
        if suspension.until_us > 0 {
            self.ends
                .insert((suspension.until_us, suspension.id.clone()));
        }
        self.by_id
            .insert(suspension.id.clone(), Arc::new(suspension));
        effect
    }

    /// Ends one, if it is there.
    pub(super) fn remove(&mut self, id: &str, hashes: &Hashes) -> Option<Effect> {
        let suspension = self.by_id.remove(id)?;
        self.ends.remove(&(suspension.until_us, id.to_owned()));
        let mut effect = Effect::default();
        if let Some(test) = sender_test(&suspension, hashes) {
            drop_from(&mut self.senders, &test, id);
            effect.let_go = true;
        } else if !suspension.tenant.is_empty() {
            drop_from(&mut self.tenants, &suspension.tenant, id);
            effect.let_go = true;
        } else if let Some(count) = self.destinations.get_mut(&suspension.destination) {
            *count -= 1;
            if *count == 0 {
                self.destinations.remove(&suspension.destination);
                effect.destination = Some((suspension.destination.clone(), false));
            }
        }
        Some(effect)
    }

    /// Whether all of a tenant's mail to a destination is stopped.
    pub(super) fn stops_tenant(&self, destination: &str, tenant: &str) -> bool {
        let stops = self.tenants.get(tenant);
        stops.is_some_and(|stops| stops.iter().any(|stop| stop.fits(destination, tenant)))
    }

    /// Whether a sender's mail of a tenant to a destination is stopped.
    pub(super) fn stops_sender(&self, destination: &str, tenant: &str, sender: SenderHash) -> bool {
        if self.senders.is_empty() {
            return false;
        }
        let tests = [
            SenderTest::Address(sender.address),
            SenderTest::Domain(sender.domain),
        ];
        tests
            .iter()
            .filter_map(|test| self.senders.get(test))
            .flatten()
            .any(|stop| stop.fits(destination, tenant))
    }

    /// Whether anything stops such a delivery.
    pub(super) fn stop(&self, destination: &str, tenant: &str, sender: SenderHash) -> bool {
        !self.is_empty()
            && (self.destinations.contains_key(destination)
                || self.stops_tenant(destination, tenant)
                || self.stops_sender(destination, tenant, sender))
    }
}

fn sender_test(suspension: &Suspension, hashes: &Hashes) -> Option<SenderTest> {
    let sender = suspension.sender.as_str();
    (!sender.is_empty()).then(|| hashes.test(&AddressPattern::new(sender)))
}

fn drop_from<K: std::hash::Hash + Eq>(stops: &mut HashMap<K, Vec<Stop>>, key: &K, id: &str) {
    if let Some(of_key) = stops.get_mut(key) {
        of_key.retain(|stop| stop.id != id);
        if of_key.is_empty() {
            stops.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::filter::suspends;

    fn suspension(id: &str, destination: &str, sender: &str, tenant: &str) -> Suspension {
        Suspension {
            id: id.to_owned(),
            destination: destination.to_owned(),
            sender: sender.to_owned(),
            tenant: tenant.to_owned(),
            ..Suspension::default()
        }
    }

    #[test]
    fn memory_stops_what_the_filter_says() {
        let hashes = Hashes::default();
        let mut all = Vec::new();
        for destination in ["", "smtp:a.test"] {
            for sender in ["", "<>", "bob@b.test", "@B.test"] {
                for tenant in ["", "t"] {
                    if !(destination.is_empty() && sender.is_empty() && tenant.is_empty()) {
                        all.push(suspension("1", destination, sender, tenant));
                    }
                }
            }
        }
        for one in all {
            let mut suspensions = Suspensions::default();
            suspensions.insert(one.clone(), &hashes);
            for destination in ["smtp:a.test", "smtp:b.test"] {
                for sender in ["", "Bob@b.test", "eve@b.test", "bob@xb.test"] {
                    for tenant in ["", "t", "u"] {
                        assert_eq!(
                            suspensions.stop(destination, tenant, hashes.sender(sender)),
                            suspends(&one, destination, sender, tenant),
                            "{one:?}: {destination} {sender} {tenant}"
                        );
                    }
                }
            }
            assert!(suspensions.remove("1", &hashes).is_some());
            assert!(suspensions.is_empty() && !suspensions.are_partial());
            assert!(!suspensions.stop("smtp:a.test", "t", hashes.sender("bob@b.test")));
        }
    }

    #[test]
    fn a_destination_is_suspended_until_the_last_one_ends() {
        let hashes = Hashes::default();
        let mut suspensions = Suspensions::default();
        for id in ["1", "2"] {
            let effect = suspensions.insert(suspension(id, "smtp:a.test", "", ""), &hashes);
            assert_eq!(effect.destination, Some(("smtp:a.test".to_owned(), true)));
        }
        let first = suspensions.remove("1", &hashes).unwrap();
        assert_eq!(first, Effect::default());
        let second = suspensions.remove("2", &hashes).unwrap();
        assert_eq!(second.destination, Some(("smtp:a.test".to_owned(), false)));
        assert_eq!(suspensions.remove("2", &hashes), None);
    }
}
