//! Which deliveries are due, at which destination there is a free slot for them.
//!
//! Each destination keeps its waiting deliveries in the order in which they are due. The agenda
//! keeps the destinations that have a waiting delivery and a free slot, in the order of their
//! first one. So the next destination to lease is at the front of the agenda, with ten deliveries as
//! with ten million. The timers tell in the same way when the next delivery becomes due.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use postrider_protocol::{DeliveryId, Destination, QueueId};

/// A waiting delivery: by time, then by age. Two halves keep it at 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    pub(super) at_us: u64,
    id_high: u64,
    id_low: u64,
    number: u32,
}

impl Due {
    pub(super) fn new(at_us: u64, delivery: DeliveryId) -> Self {
        let id = delivery.queue_id.as_u128();
        Self {
            at_us,
            id_high: (id >> 64) as u64,
            id_low: id as u64,
            number: delivery.number,
        }
    }

    pub(super) fn delivery(&self) -> DeliveryId {
        DeliveryId {
            queue_id: QueueId::from_u128(u128::from(self.id_high) << 64 | u128::from(self.id_low)),
            number: self.number,
        }
    }
}

/// A destination with open deliveries or live leases.
#[derive(Debug)]
pub(super) struct DestinationState {
    pub(super) name: Destination,
    pub(super) waiting: BTreeSet<Due>,
    /// Deliveries that have not ended: waiting, leased, held.
    pub(super) open: u64,
    pub(super) slots_in_use: u32,
    /// Live leases.
    pub(super) leases: Vec<u64>,
    /// Its place on the agenda.
    on_agenda: Option<u64>,
    /// Its place among the timers.
    on_timer: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Schedule {
    slots: u32,
    destinations: Vec<Option<DestinationState>>,
    unused: Vec<u32>,
    by_name: HashMap<Destination, u32>,
    /// By transport: (due time of the first waiting delivery, destination).
    agenda: BTreeMap<String, BTreeSet<(u64, u32)>>,
    /// The same for all destinations with a waiting delivery, free slot or not.
    timers: BTreeSet<(u64, u32)>,
    pub(super) waiting: u64,
}

impl Schedule {
    pub(super) fn new(slots: u32) -> Self {
        Self {
            slots,
            ..Self::default()
        }
    }

    /// Slots of each destination.
    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    /// The destination's index; it stays until its last delivery and lease are gone.
    pub(super) fn intern(&mut self, name: &Destination) -> u32 {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        let state = DestinationState {
            name: name.clone(),
            waiting: BTreeSet::new(),
            open: 0,
            slots_in_use: 0,
            leases: Vec::new(),
            on_agenda: None,
            on_timer: None,
        };
        let index = match self.unused.pop() {
            Some(index) => {
                self.destinations[index as usize] = Some(state);
                index
            }
            None => {
                self.destinations.push(Some(state));
                (self.destinations.len() - 1) as u32
            }
        };
        self.by_name.insert(name.clone(), index);
        index
    }

    pub(super) fn get(&self, index: u32) -> Option<&DestinationState> {
        self.destinations.get(index as usize)?.as_ref()
    }

    /// The name of a destination that has open deliveries.
    pub(super) fn name(&self, index: u32) -> Option<&Destination> {
        self.get(index).map(|state| &state.name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &DestinationState> {
        self.destinations.iter().flatten()
    }

    fn change<T>(
        &mut self,
        index: u32,
        change: impl FnOnce(&mut DestinationState) -> T,
    ) -> Option<T> {
        let state = self.destinations.get_mut(index as usize)?.as_mut()?;
        let result = change(state);
        let first = state.waiting.first().map(|due| due.at_us);
        if first != state.on_timer {
            if let Some(old) = state.on_timer {
                self.timers.remove(&(old, index));
            }
            if let Some(new) = first {
                self.timers.insert((new, index));
            }
            state.on_timer = first;
        }
        let place = first.filter(|_| state.slots_in_use < self.slots);
        if place != state.on_agenda {
            let agenda = self
                .agenda
                .entry(state.name.transport().to_owned())
                .or_default();
            if let Some(old) = state.on_agenda {
                agenda.remove(&(old, index));
            }
            if let Some(new) = place {
                agenda.insert((new, index));
            }
            state.on_agenda = place;
        }
        if state.open == 0 && state.leases.is_empty() {
            let name = state.name.clone();
            self.by_name.remove(&name);
            self.destinations[index as usize] = None;
            self.unused.push(index);
        }
        Some(result)
    }

    /// One more open delivery.
    pub(super) fn opened(&mut self, index: u32) {
        self.change(index, |state| state.open += 1);
    }

    /// An open delivery ended.
    pub(super) fn ended(&mut self, index: u32) {
        self.change(index, |state| state.open = state.open.saturating_sub(1));
    }

    /// The delivery waits until it is due.
    pub(super) fn wait(&mut self, index: u32, due: Due) {
        if self.change(index, |state| state.waiting.insert(due)) == Some(true) {
            self.waiting += 1;
        }
    }

    /// The delivery waits no longer.
    pub(super) fn unwait(&mut self, index: u32, due: Due) {
        if self.change(index, |state| state.waiting.remove(&due)) == Some(true) {
            self.waiting -= 1;
        }
    }

    /// Due deliveries of a destination, the oldest first.
    pub(super) fn due(&self, index: u32, now_us: u64) -> impl Iterator<Item = Due> + '_ {
        self.get(index)
            .into_iter()
            .flat_map(|state| state.waiting.iter().copied())
            .take_while(move |due| due.at_us <= now_us)
    }

    /// Adds slots to a lease, or takes them away.
    pub(super) fn lease(&mut self, index: u32, token: u64, slots: u32) {
        self.change(index, |state| {
            state.slots_in_use += slots;
            if !state.leases.contains(&token) {
                state.leases.push(token);
            }
        });
    }

    /// A lease ended: its slots are free.
    pub(super) fn unlease(&mut self, index: u32, token: u64, slots: u32) {
        self.change(index, |state| {
            state.slots_in_use = state.slots_in_use.saturating_sub(slots);
            state.leases.retain(|held| *held != token);
        });
    }

    /// Destinations with a free slot and a due delivery, of any of these transports, those that
    /// have waited longest first.
    pub(super) fn ready<'a>(
        &'a self,
        transports: &[String],
        now_us: u64,
    ) -> impl Iterator<Item = u32> + 'a {
        let mut heads: Vec<_> = transports
            .iter()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .filter_map(|transport| self.agenda.get(transport))
            .map(|agenda| agenda.iter().peekable())
            .collect();
        std::iter::from_fn(move || {
            heads
                .iter_mut()
                .filter_map(|head| head.peek().map(|entry| **entry).map(|entry| (entry, head)))
                .min_by_key(|(entry, _)| *entry)
                .filter(|((at_us, _), _)| *at_us <= now_us)
                .map(|((_, index), head)| {
                    head.next();
                    index
                })
        })
    }

    /// Destinations whose first waiting delivery became due after `since_us`.
    pub(super) fn became_due(&self, since_us: u64, now_us: u64) -> impl Iterator<Item = u32> + '_ {
        // No time may have passed, and a range must not end before it starts.
        let passed = since_us < now_us;
        let timers = passed.then(|| {
            self.timers
                .range((since_us.saturating_add(1), 0)..=(now_us, u32::MAX))
        });
        timers.into_iter().flatten().map(|(_, index)| *index)
    }

    /// When a destination next gets its first due delivery.
    pub(super) fn next_due(&self, now_us: u64) -> Option<u64> {
        self.timers
            .range((now_us.saturating_add(1), 0)..)
            .next()
            .map(|(at_us, _)| *at_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(number: u128) -> DeliveryId {
        DeliveryId {
            queue_id: QueueId::from_u128(number),
            number: 0,
        }
    }

    #[test]
    fn the_agenda_holds_what_can_be_leased() {
        let mut schedule = Schedule::new(1);
        let smtp = ["smtp".to_owned()];
        let old = schedule.intern(&"smtp:old.test".parse().unwrap());
        let new = schedule.intern(&"smtp:new.test".parse().unwrap());
        let local = schedule.intern(&"mailbox:here.test".parse().unwrap());
        for (index, at) in [(new, 20), (old, 10), (local, 1)] {
            schedule.opened(index);
            schedule.wait(index, Due::new(at, delivery(u128::from(at))));
        }
        let ready = |schedule: &Schedule, now| schedule.ready(&smtp, now).collect::<Vec<_>>();
        assert_eq!(ready(&schedule, 9), [0_u32; 0]);
        assert_eq!(ready(&schedule, 20), [old, new]);
        assert_eq!(schedule.next_due(10), Some(20));
        schedule.lease(old, 1, 1);
        assert_eq!(ready(&schedule, 20), [new]);
        schedule.unlease(old, 1, 1);
        assert_eq!(ready(&schedule, 20), [old, new]);
        schedule.unwait(old, Due::new(10, delivery(10)));
        schedule.ended(old);
        assert!(schedule.get(old).is_none());
        assert_eq!(schedule.waiting, 2);
    }
}
