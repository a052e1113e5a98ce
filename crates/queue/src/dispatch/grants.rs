//! What one worker holds: leases, and the deliveries that it was sent under each.

use std::time::Instant;

use hashbrown::{HashMap, HashSet};
use postrider_protocol::{DeliveryId, Destination};

use crate::store::Grant;

/// A lease in a worker's hands.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) destination: Destination,
    pub(super) slots: u32,
    /// Sent, not yet completed.
    pub(super) sent: HashSet<DeliveryId>,
    /// More may be due than was pulled.
    pub(super) more: bool,
    /// A pull is under way.
    pub(super) pulling: bool,
    /// The worker was asked to give it back.
    pub(super) wanted_back: bool,
    /// When it last had something to do.
    pub(super) since: Instant,
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

    /// Takes a grant, new or grown.
    pub(super) fn insert(&mut self, grant: &Grant) {
        let held = self.held.entry(grant.token).or_insert_with(|| Held {
            destination: grant.destination.clone(),
            slots: 0,
            sent: HashSet::new(),
            more: false,
            pulling: false,
            wanted_back: false,
            since: Instant::now(),
        });
        self.used = self.used + grant.slots - held.slots.min(grant.slots);
        held.slots = grant.slots;
        held.more = true;
        held.wanted_back = false;
        held.since = Instant::now();
        self.by_destination
            .insert(grant.destination.clone(), grant.token);
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

    /// Whether any delivery is in the worker's hands.
    pub(super) fn any_sent(&self) -> bool {
        self.held.values().any(|held| !held.sent.is_empty())
    }

    /// Leases with nothing in the worker's hands, and the others.
    pub(super) fn idle_and_busy(&self) -> (Vec<u64>, Vec<u64>) {
        let (idle, busy): (Vec<_>, Vec<_>) = self
            .held
            .iter()
            .partition(|(_, held)| held.sent.is_empty() && !held.pulling);
        let tokens = |held: Vec<(&u64, &Held)>| held.into_iter().map(|(token, _)| *token).collect();
        (tokens(idle), tokens(busy))
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

    /// Leases with which the worker has had nothing to do, the longest first.
    pub(super) fn idle(&mut self, most: usize) -> Vec<u64> {
        let mut idle: Vec<_> = self
            .held
            .iter()
            .filter(|(_, held)| {
                held.sent.is_empty() && !held.more && !held.pulling && !held.wanted_back
            })
            .map(|(token, held)| (held.since, *token))
            .collect();
        idle.sort_unstable();
        idle.truncate(most);
        let tokens: Vec<u64> = idle.into_iter().map(|(_, token)| token).collect();
        for token in &tokens {
            if let Some(held) = self.held.get_mut(token) {
                held.wanted_back = true;
            }
        }
        tokens
    }
}
