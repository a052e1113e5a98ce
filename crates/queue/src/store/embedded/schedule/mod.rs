//! Which deliveries are due, at which destination there is a free slot for them.
//!
//! A destination keeps what is to become due in the order of time (`later`), and what is due in
//! fair order (`lanes`). The agenda keeps the destinations that have something due and a free slot, the
//! longest waiting first. So the next destination to lease is at the front of the agenda,
//! with ten deliveries as with ten million. The timers tell in the same way when the next delivery
//! becomes due.

mod lane;
mod lanes;

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::{HashMap, HashSet};
use postrider_protocol::{DeliveryId, Destination, QueueId};

use super::stored::parse_destination;

pub(super) use lane::Place;
pub(super) use lanes::{Gate, Lanes};

/// What decides about a delivery's place among those that are due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rank {
    pub(super) tenant: u32,
    pub(super) sender: u64,
    pub(super) priority: i8,
}

/// A delivery that is to become due: by time, then by age. Two halves keep it at 32 bytes.
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
    /// What is to become due, and what became due just now.
    later: BTreeSet<Due>,
    /// What is due.
    lanes: Lanes,
    /// Deliveries that wait: in `later`, or in the lanes.
    pub(super) waiting: u64,
    /// Deliveries that have not ended: waiting, leased, held.
    pub(super) open: u64,
    pub(super) slots_in_use: u32,
    /// Live leases.
    pub(super) leases: Vec<u64>,
    /// Since when it has waited: from its oldest due delivery on, or since it was served last.
    since_us: u64,
    served_us: u64,
    /// A suspension stops all of it.
    suspended: bool,
    /// Its place on the agenda.
    on_agenda: Option<u64>,
    /// Its place among the timers.
    on_timer: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Schedule {
    slots: u32,
    /// The newest time that it was told. What is due by then goes to the lanes at once.
    now_us: u64,
    destinations: Vec<Option<DestinationState>>,
    unused: Vec<u32>,
    by_name: HashMap<Destination, u32>,
    /// By transport: (since when something is due, destination).
    agenda: BTreeMap<String, BTreeSet<(u64, u32)>>,
    /// The due time of the first delivery in `later`, of every destination that has one.
    timers: BTreeSet<(u64, u32)>,
    /// Destinations that are suspended as a whole, whether there is mail for them or not.
    suspended: HashSet<String>,
    /// Destinations at which something due was put aside.
    stopped: BTreeSet<u32>,
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
            later: BTreeSet::new(),
            lanes: Lanes::default(),
            waiting: 0,
            open: 0,
            slots_in_use: 0,
            leases: Vec::new(),
            since_us: 0,
            served_us: 0,
            suspended: self.suspended.contains(name.as_str()),
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
        let first = state.later.first().map(|due| due.at_us);
        if first != state.on_timer {
            if let Some(old) = state.on_timer {
                self.timers.remove(&(old, index));
            }
            if let Some(new) = first {
                self.timers.insert((new, index));
            }
            state.on_timer = first;
        }
        let grantable =
            state.lanes.active() > 0 && !state.suspended && state.slots_in_use < self.slots;
        let place = grantable.then_some(state.since_us);
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
            self.stopped.remove(&index);
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

    /// The delivery waits until it is due, or for its turn if it is due. Returns its place in
    /// that case.
    pub(super) fn wait(&mut self, index: u32, due: Due, rank: Rank) -> Option<Place> {
        let now_us = self.now_us;
        let place = self.change(index, |state| {
            state.waiting += 1;
            // What is due already, but has not been moved yet, goes before it.
            let is_turn = state.later.first().is_none_or(|first| first.at_us > now_us);
            if due.at_us <= now_us && is_turn {
                return state.make_ready(due, rank);
            }
            state.later.insert(due);
            None
        });
        self.waiting += u64::from(place.is_some());
        place.flatten()
    }

    /// The delivery waits no longer; `place` is where it is if it is due.
    pub(super) fn unwait(&mut self, index: u32, due: Due, tenant: u32, place: Option<Place>) {
        let now_us = self.now_us;
        let removed = self.change(index, |state| {
            let removed = match place {
                Some(place) => {
                    let removed = state.lanes.remove(tenant, &place);
                    if removed && due.at_us <= state.since_us {
                        // It was the oldest: what is left has not waited so long.
                        state.serve(now_us);
                    }
                    removed
                }
                None => state.later.remove(&due),
            };
            state.waiting -= u64::from(removed);
            removed
        });
        self.waiting -= u64::from(removed == Some(true));
    }

    /// Whether a delivery waits to become due, or to be put in order.
    pub(super) fn is_later(&self, index: u32, due: &Due) -> bool {
        self.get(index)
            .is_some_and(|state| state.later.contains(due))
    }

    /// It is so late now.
    pub(super) fn set_now(&mut self, now_us: u64) {
        self.now_us = self.now_us.max(now_us);
    }

    /// The destination at which something became due longest ago that has not been moved yet.
    pub(super) fn next_to_move(&self) -> Option<u32> {
        let (at_us, index) = self.timers.first()?;
        (*at_us <= self.now_us).then_some(*index)
    }

    /// Moves what has become due at a destination into fair order, at most `most`; `placed` is
    /// told of each.
    pub(super) fn move_due(
        &mut self,
        index: u32,
        most: usize,
        rank: impl Fn(DeliveryId) -> Option<Rank>,
        mut placed: impl FnMut(DeliveryId, Place),
    ) -> usize {
        let now_us = self.now_us;
        let moved = self.change(index, |state| {
            let mut moved = 0;
            while moved < most
                && let Some(due) = state.later.first().copied()
                && due.at_us <= now_us
            {
                state.later.remove(&due);
                moved += 1;
                let id = due.delivery();
                if let Some(place) = rank(id).and_then(|rank| state.make_ready(due, rank)) {
                    placed(id, place);
                }
            }
            moved
        });
        moved.unwrap_or(0)
    }

    /// Takes due deliveries of a destination, in fair order. What the gate stops is put aside, at
    /// most `budget` of it.
    pub(super) fn take(
        &mut self,
        index: u32,
        most: usize,
        weight: impl Fn(u32) -> u32,
        gate: Option<&dyn Gate>,
        budget: &mut usize,
    ) -> Vec<Place> {
        let now_us = self.now_us;
        let taken = self.change(index, |state| {
            if state.suspended {
                return Vec::new();
            }
            let taken = state.lanes.take(most, weight, gate, budget);
            state.waiting -= taken.len() as u64;
            if !taken.is_empty() {
                state.serve(now_us);
            }
            taken
        });
        let taken = taken.unwrap_or_default();
        self.waiting -= taken.len() as u64;
        self.note_stopped(index, gate);
        taken
    }

    /// Puts one back that was taken.
    pub(super) fn untake(&mut self, index: u32, tenant: u32, place: Place) {
        let back = self.change(index, |state| {
            state.waiting += 1;
            state.lanes.untake(tenant, place);
        });
        self.waiting += u64::from(back.is_some());
    }

    /// How many due deliveries of a destination could be taken, counted up to `most`.
    pub(super) fn count_due(
        &mut self,
        index: u32,
        most: usize,
        gate: Option<&dyn Gate>,
        budget: &mut usize,
    ) -> usize {
        let count = self.change(index, |state| match state.suspended {
            true => 0,
            false => state.lanes.count(most, gate, budget),
        });
        self.note_stopped(index, gate);
        count.unwrap_or(0)
    }

    fn note_stopped(&mut self, index: u32, gate: Option<&dyn Gate>) {
        if gate.is_some()
            && self
                .get(index)
                .is_some_and(|state| state.lanes.has_stopped())
        {
            self.stopped.insert(index);
        }
    }

    /// Whether a destination has something due that may be leased, as far as is known without
    /// looking at each delivery.
    pub(super) fn has_due(&self, index: u32) -> bool {
        self.get(index)
            .is_some_and(|state| !state.suspended && state.lanes.active() > 0)
    }

    /// A destination is suspended as a whole, or not any more.
    pub(super) fn set_suspended(&mut self, name: &str, suspended: bool) -> Option<u32> {
        match suspended {
            true => self.suspended.insert(name.to_owned()),
            false => self.suspended.remove(name),
        };
        let index = *self.by_name.get(&parse_destination(name))?;
        self.change(index, |state| state.suspended = suspended);
        Some(index)
    }

    /// Something was granted of a destination: others have waited longer now.
    pub(super) fn granted(&mut self, index: u32) {
        let now_us = self.now_us;
        self.change(index, |state| state.serve(now_us));
    }

    /// The next destination at which something was put aside, from this one on.
    pub(super) fn next_stopped(&self, from: u32) -> Option<u32> {
        self.stopped.range(from..).next().copied()
    }

    /// The next tenant of a destination of which something was put aside, from this one on.
    pub(super) fn next_stopped_tenant(&self, index: u32, from: u32) -> Option<u32> {
        self.get(index)?.lanes.next_stopped(from)
    }

    /// Puts back what is not stopped any more of a tenant's at a destination; see
    /// [`Lanes::put_back`].
    pub(super) fn put_back(
        &mut self,
        index: u32,
        tenant: u32,
        after: Option<Place>,
        gate: Option<&dyn Gate>,
        budget: &mut usize,
    ) -> Option<Place> {
        let now_us = self.now_us;
        let more = self.change(index, |state| {
            if state.lanes.active() == 0 {
                state.since_us = now_us;
            }
            state.lanes.put_back(tenant, after, gate, budget)
        });
        if !self
            .get(index)
            .is_some_and(|state| state.lanes.has_stopped())
        {
            self.stopped.remove(&index);
        }
        more.flatten()
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

    /// A lease has so many slots less.
    pub(super) fn free_slots(&mut self, index: u32, slots: u32) {
        self.change(index, |state| {
            state.slots_in_use = state.slots_in_use.saturating_sub(slots);
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
    pub(super) fn ready<'a>(&'a self, transports: &[String]) -> impl Iterator<Item = u32> + 'a {
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
                .map(|((_, index), head)| {
                    head.next();
                    index
                })
        })
    }

    /// When the next delivery becomes due.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.timers.first().map(|(at_us, _)| *at_us)
    }
}

impl DestinationState {
    /// Its oldest has left it, or as good: others have waited longer now.
    fn serve(&mut self, now_us: u64) {
        self.served_us = now_us;
        self.since_us = now_us;
    }

    fn make_ready(&mut self, due: Due, rank: Rank) -> Option<Place> {
        let since_us = due.at_us.max(self.served_us);
        self.since_us = match self.lanes.active() {
            0 => since_us,
            _ => self.since_us.min(since_us),
        };
        let id = due.delivery();
        self.lanes
            .insert(rank.tenant, id, rank.sender, rank.priority)
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

    const RANK: Rank = Rank {
        tenant: 0,
        sender: 0,
        priority: 0,
    };

    fn go_to(schedule: &mut Schedule, now_us: u64) {
        schedule.set_now(now_us);
        while let Some(index) = schedule.next_to_move() {
            schedule.move_due(index, 1, |_| Some(RANK), |_, _| {});
        }
    }

    fn ready(schedule: &Schedule) -> Vec<u32> {
        schedule.ready(&["smtp".to_owned()]).collect()
    }

    #[test]
    fn the_agenda_holds_what_can_be_leased() {
        let mut schedule = Schedule::new(1);
        let old = schedule.intern(&"smtp:old.test".parse().unwrap());
        let new = schedule.intern(&"smtp:new.test".parse().unwrap());
        let local = schedule.intern(&"mailbox:here.test".parse().unwrap());
        for (index, at) in [(new, 20), (old, 10), (local, 1)] {
            schedule.opened(index);
            schedule.wait(index, Due::new(at, delivery(u128::from(at))), RANK);
        }
        go_to(&mut schedule, 9);
        assert_eq!(ready(&schedule), [0_u32; 0]);
        assert_eq!(schedule.next_due(), Some(10));
        go_to(&mut schedule, 20);
        assert_eq!(ready(&schedule), [old, new]);
        schedule.lease(old, 1, 1);
        assert_eq!(ready(&schedule), [new]);
        schedule.unlease(old, 1, 1);
        assert_eq!(ready(&schedule), [old, new]);
        schedule.granted(old);
        schedule.set_suspended("smtp:new.test", true);
        assert_eq!(ready(&schedule), [old]);
        schedule.set_suspended("smtp:new.test", false);
        go_to(&mut schedule, 30);
        schedule.granted(new);
        assert_eq!(
            ready(&schedule),
            [old, new],
            "the one that was granted less lately"
        );
        let taken = schedule.take(old, 5, |_| 1, None, &mut 0);
        assert_eq!(taken.len(), 1);
        schedule.ended(old);
        assert!(schedule.get(old).is_none());
        assert_eq!(schedule.waiting, 2);
    }

    #[test]
    fn what_is_suspended_before_it_comes_is_suspended() {
        let mut schedule = Schedule::new(1);
        schedule.set_suspended("smtp:a.test", true);
        let index = schedule.intern(&"smtp:a.test".parse().unwrap());
        schedule.opened(index);
        schedule.wait(index, Due::new(0, delivery(1)), RANK);
        assert!(ready(&schedule).is_empty() && !schedule.has_due(index));
        assert!(schedule.take(index, 1, |_| 1, None, &mut 0).is_empty());
        assert_eq!(schedule.set_suspended("smtp:a.test", false), Some(index));
        assert_eq!(ready(&schedule), [index]);
    }
}
