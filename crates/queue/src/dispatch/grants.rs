//! What one worker holds: leases, and the deliveries that it was sent under each.

use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use postrider_protocol::{DeliveryId, Destination};

use crate::store::Grant;

/// Until a worker is asked once more for a lease that it was asked for.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A lease in a worker's hands.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) destination: Destination,
    pub(super) slots: u32,
    /// The worker knows of it.
    pub(super) told: bool,
    /// Sent, not yet completed.
    pub(super) sent: HashSet<DeliveryId>,
    /// More may be due than was pulled.
    pub(super) more: bool,
    /// A pull is under way.
    pub(super) pulling: bool,
    /// More slots may be free. Not so after the store had none, until it says otherwise.
    pub(super) grows: bool,
    /// When the worker was asked to give it back, if it had nothing to do since.
    wanted_back: Option<Instant>,
    /// When it last had something to do.
    pub(super) since: Instant,
    sure: Sure,
}

/// A moment from which a lease lasts for a lease time for sure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sure {
    /// The worker's latest heartbeat then.
    pub(super) beat: u64,
    pub(super) at: Instant,
}

impl Sure {
    /// Now, after this heartbeat.
    pub(super) fn after(beat: u64) -> Self {
        Self {
            beat,
            at: Instant::now(),
        }
    }
}

/// All leases of a worker.
#[derive(Debug)]
pub(super) struct Grants {
    prefetch: usize,
    slots: u32,
    used: u32,
    held: HashMap<u64, Held>,
    by_destination: HashMap<Destination, u64>,
}

impl Grants {
    /// None yet, of a worker with so many slots; `prefetch` deliveries are sent ahead for each.
    pub(super) fn new(slots: u32, prefetch: u32) -> Self {
        Self {
            prefetch: prefetch as usize,
            slots,
            used: 0,
            held: HashMap::new(),
            by_destination: HashMap::new(),
        }
    }

    /// Slots that the worker can still fill.
    pub(super) fn free(&self) -> u32 {
        self.slots.saturating_sub(self.used)
    }

    /// Takes a grant, new or grown. One that grows does not last longer.
    pub(super) fn insert(&mut self, grant: &Grant, sure: Sure) {
        let held = self.held.entry(grant.token).or_insert_with(|| Held {
            destination: grant.destination.clone(),
            slots: 0,
            told: false,
            sent: HashSet::new(),
            more: false,
            pulling: false,
            grows: true,
            wanted_back: None,
            since: Instant::now(),
            sure,
        });
        self.used = self.used + grant.slots - held.slots.min(grant.slots);
        held.slots = grant.slots;
        held.more = true;
        held.grows = true;
        held.wanted_back = None;
        held.since = Instant::now();
        self.by_destination
            .insert(grant.destination.clone(), grant.token);
    }

    /// A lease has no more than so many slots from now on.
    pub(super) fn cut(&mut self, token: u64, slots: u32) {
        if let Some(held) = self.held.get_mut(&token)
            && slots < held.slots
        {
            self.used = self.used.saturating_sub(held.slots - slots);
            held.slots = slots;
        }
    }

    /// Lets go of a lease.
    pub(super) fn remove(&mut self, token: u64) -> Option<Held> {
        let held = self.held.remove(&token)?;
        self.used = self.used.saturating_sub(held.slots);
        if self.by_destination.get(&held.destination) == Some(&token) {
            self.by_destination.remove(&held.destination);
        }
        Some(held)
    }

    /// Whether there is such a lease.
    pub(super) fn has(&self, token: u64) -> bool {
        self.held.contains_key(&token)
    }

    pub(super) fn get_mut(&mut self, token: u64) -> Option<&mut Held> {
        self.held.get_mut(&token)
    }

    /// The lease of a destination.
    pub(super) fn of(&mut self, destination: &Destination) -> Option<(u64, &mut Held)> {
        let token = *self.by_destination.get(destination)?;
        Some((token, self.held.get_mut(&token)?))
    }

    pub(super) fn tokens(&self) -> Vec<u64> {
        self.held.keys().copied().collect()
    }

    /// Notes that leases were renewed.
    pub(super) fn renewed(&mut self, tokens: &HashSet<u64>, sure: Sure) {
        for token in tokens {
            if let Some(held) = self.held.get_mut(token)
                && held.sure.beat <= sure.beat
                && held.sure.at < sure.at
            {
                held.sure = sure;
            }
        }
    }

    /// The heartbeat after which all leases were renewed that the worker knows of.
    pub(super) fn sure_since(&self) -> Option<u64> {
        let told = self.held.values().filter(|held| held.told);
        told.map(|held| held.sure.beat).min()
    }

    /// Whether a lease was not renewed for so long.
    pub(super) fn is_unsure_for(&self, token: u64, time: Duration) -> bool {
        self.held
            .get(&token)
            .is_some_and(|held| held.sure.at.elapsed() >= time)
    }

    /// Whether any delivery is in the worker's hands.
    pub(super) fn any_sent(&self) -> bool {
        self.held.values().any(|held| !held.sent.is_empty())
    }

    pub(super) fn is_told(&self, token: u64) -> bool {
        self.held.get(&token).is_some_and(|held| held.told)
    }

    /// Leases that the worker does not know of yet.
    pub(super) fn untold(&self) -> Vec<u64> {
        let untold = self.held.iter().filter(|(_, held)| !held.told);
        untold.map(|(token, _)| *token).collect()
    }

    /// Leases with nothing in the worker's hands, nor on the way to them.
    pub(super) fn untouched(&self) -> Vec<u64> {
        self.held
            .iter()
            .filter(|(_, held)| held.sent.is_empty() && !held.pulling)
            .map(|(token, _)| *token)
            .collect()
    }

    /// Notes what was sent under a lease.
    pub(super) fn sent(&mut self, token: u64, deliveries: impl Iterator<Item = DeliveryId>) {
        if let Some(held) = self.held.get_mut(&token) {
            held.sent.extend(deliveries);
            held.since = Instant::now();
            held.wanted_back = None;
        }
    }

    /// How many deliveries to pull for a lease now: none while enough are in the worker's hands,
    /// so that pulls are not made one by one.
    pub(super) fn room(&self, token: u64) -> usize {
        let Some(held) = self.held.get(&token) else {
            return 0;
        };
        let most = held.slots as usize * self.prefetch;
        let room = most.saturating_sub(held.sent.len());
        let worth = room * 2 >= most || held.sent.len() < held.slots as usize;
        match worth && held.more && !held.pulling {
            true => room,
            false => 0,
        }
    }

    /// Leases with which the worker has had nothing to do, the longest first. They are wanted back:
    /// not again for a while.
    pub(super) fn idle(&mut self, most: usize) -> Vec<u64> {
        let asked = |held: &Held| held.wanted_back.is_some_and(|at| at.elapsed() < ASK_AGAIN);
        let mut idle: Vec<_> = self
            .held
            .iter()
            .filter(|(_, held)| held.sent.is_empty() && !held.more && !held.pulling && !asked(held))
            .map(|(token, held)| (held.since, *token))
            .collect();
        idle.sort_unstable();
        idle.truncate(most);
        let tokens: Vec<u64> = idle.into_iter().map(|(_, token)| token).collect();
        for token in &tokens {
            if let Some(held) = self.held.get_mut(token) {
                held.wanted_back = Some(Instant::now());
            }
        }
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(token: u64, slots: u32) -> Grant {
        Grant {
            token,
            destination: format!("smtp:d{token}.test").parse().unwrap(),
            slots,
            begins: true,
        }
    }

    #[test]
    fn slots_are_counted_as_leases_grow_and_go() {
        let mut grants = Grants::new(10, 4);
        grants.insert(&grant(1, 2), Sure::after(0));
        grants.insert(&grant(2, 3), Sure::after(0));
        assert_eq!(grants.free(), 5);
        grants.insert(&grant(1, 4), Sure::after(0));
        assert_eq!(grants.free(), 3);
        grants.cut(1, 3);
        grants.cut(1, 9);
        assert_eq!(grants.free(), 4);
        grants.insert(&grant(1, 4), Sure::after(0));
        grants.remove(2);
        assert_eq!(grants.free(), 6);
        assert!(grants.remove(2).is_none());
    }

    #[test]
    fn leases_are_as_sure_as_the_one_that_was_renewed_least() {
        let mut grants = Grants::new(10, 4);
        assert_eq!(grants.sure_since(), None);
        grants.insert(&grant(1, 2), Sure::after(3));
        grants.insert(&grant(2, 2), Sure::after(3));
        // The worker does not know of them yet.
        assert_eq!(grants.sure_since(), None);
        for token in [1, 2] {
            grants.get_mut(token).unwrap().told = true;
        }
        let at = Instant::now();
        grants.renewed(&HashSet::from_iter([1]), Sure { beat: 4, at });
        assert_eq!(grants.sure_since(), Some(3));
        // More slots do not make it last longer.
        grants.insert(&grant(2, 3), Sure::after(5));
        assert_eq!(grants.sure_since(), Some(3));
        grants.renewed(&HashSet::from_iter([2, 9]), Sure { beat: 4, at });
        assert_eq!(grants.sure_since(), Some(4));
        assert!(!grants.is_unsure_for(1, Duration::from_secs(60)));
        assert!(grants.is_unsure_for(1, Duration::ZERO));
        assert!(!grants.is_unsure_for(9, Duration::ZERO));
    }

    #[test]
    fn idle_leases_are_not_asked_for_twice_at_once() {
        let mut grants = Grants::new(10, 4);
        for token in 1..=3 {
            grants.insert(&grant(token, 1), Sure::after(0));
            grants.get_mut(token).unwrap().more = false;
        }
        let id = DeliveryId {
            queue_id: postrider_protocol::QueueId::new(),
            number: 0,
        };
        grants.sent(2, [id].into_iter());
        assert_eq!(grants.idle(1), [1]);
        assert_eq!(grants.idle(8), [3]);
        assert_eq!(grants.idle(8), [0_u64; 0]);
        // It had work meanwhile, so it may be asked again when that is done.
        grants.get_mut(2).unwrap().sent.clear();
        assert_eq!(grants.idle(8), [2]);
        grants.sent(2, [id].into_iter());
        grants.get_mut(2).unwrap().sent.clear();
        assert_eq!(grants.idle(8), [2]);
    }
}
