//! What comes in its turn: what becomes due, what is taken, what suspensions stop and let go.

use std::collections::BTreeMap;

use postrider_protocol::{DeliveryId, Destination};

use super::State;
use crate::store::embedded::message::{DeliveryState, LATER, Message};
use crate::store::embedded::schedule::{Due, Gate, Place};
use crate::store::embedded::suspensions::{Effect, Suspensions};
use crate::store::embedded::tenants::Tenants;

/// Deliveries that are moved, put aside or put back in one step: the lock is not held for longer.
const STRIDE: usize = 256;

/// How far what was put aside has been looked through.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::store::embedded) struct Sweep {
    destination: u32,
    tenant: u32,
    after: Option<Place>,
    /// A suspension ended since it began: once more.
    again: bool,
}

/// What suspensions say about a destination's deliveries.
struct Stops<'a> {
    destination: &'a str,
    messages: &'a BTreeMap<u128, Box<Message>>,
    tenants: &'a Tenants,
    suspensions: &'a Suspensions,
}

impl Gate for Stops<'_> {
    fn stops_tenant(&self, tenant: u32) -> bool {
        let tenant = self.tenants.name(tenant);
        self.suspensions.stops_tenant(self.destination, tenant)
    }

    fn stops(&self, delivery: DeliveryId) -> bool {
        let message = self.messages.get(&delivery.queue_id.as_u128());
        message.is_some_and(|message| {
            let tenant = self.tenants.name(message.tenant);
            self.suspensions
                .stops_sender(self.destination, tenant, message.sender)
        })
    }
}

/// What was taken, and whether more may be there of what was not looked at.
#[derive(Default)]
pub(in crate::store::embedded) struct Taken {
    pub(in crate::store::embedded) places: Vec<Place>,
    pub(in crate::store::embedded) unfinished: bool,
}

/// What the passing of time has brought.
#[derive(Default)]
pub(in crate::store::embedded) struct Passed {
    /// Destinations that have something due by it.
    pub(in crate::store::embedded) woken: Vec<Destination>,
    /// There is more of the kind.
    pub(in crate::store::embedded) unfinished: bool,
}

impl State {
    /// It is so late now: what becomes due by it is put in order, holds end. A bounded step.
    /// Suspensions end in [`Self::end_suspension`], because the log is told.
    pub(in crate::store::embedded) fn pass_time(&mut self, now_us: u64) -> Passed {
        self.schedule.set_now(now_us);
        let mut woken = Vec::new();
        let mut left = STRIDE;
        while left > 0
            && let Some(id) = self.holds.over(now_us)
        {
            left -= 1;
            self.let_go(id);
            woken.extend(self.delivery(id).map(|delivery| delivery.destination));
        }
        while left > 0
            && let Some(index) = self.schedule.next_to_move()
        {
            left -= self.move_due(index, left).clamp(1, left);
            woken.push(index);
        }
        self.sweep(&mut woken);
        woken.sort_unstable();
        woken.dedup();
        let woken = woken.into_iter();
        Passed {
            woken: woken
                .filter(|index| self.schedule.has_due(*index))
                .filter_map(|index| self.schedule.name(index).cloned())
                .collect(),
            unfinished: left == 0 || self.sweep.is_some(),
        }
    }

    /// Whether [`Self::pass_time`] has anything to do.
    pub(in crate::store::embedded) fn is_behind(&self, now_us: u64) -> bool {
        let next = [self.schedule.next_due(), self.holds.next_end()];
        self.sweep.is_some() || next.into_iter().flatten().any(|at_us| at_us <= now_us)
    }

    /// Ends all holds that are over.
    pub(in crate::store::embedded) fn end_holds(&mut self, now_us: u64) {
        while let Some(id) = self.holds.over(now_us) {
            self.let_go(id);
        }
    }

    /// A hold is over.
    fn let_go(&mut self, id: DeliveryId) {
        match self
            .delivery(id)
            .map(|delivery| (delivery.state, delivery.due_us))
        {
            Some((DeliveryState::Held, due_us)) => self.enter(id, DeliveryState::Waiting, due_us),
            _ => self.holds.set(id, None),
        }
    }

    /// Lets a delivery go whose hold was over at this time.
    pub(super) fn let_go_if_over(&mut self, id: DeliveryId, at_us: u64) {
        if self.holds.end_of(id).is_some_and(|end_us| end_us <= at_us) {
            self.let_go(id);
        }
    }

    /// Takes a waiting delivery out of the schedule for a moment.
    pub(in crate::store::embedded) fn unschedule(&mut self, id: DeliveryId) -> bool {
        let Some(message) = self.messages.get_mut(&id.queue_id.as_u128()) else {
            return false;
        };
        let rank = message.rank();
        let deliveries = message.deliveries.as_mut_slice();
        let waiting = deliveries
            .get_mut(id.number as usize)
            .filter(|delivery| delivery.state == DeliveryState::Waiting);
        let Some(delivery) = waiting else {
            return false;
        };
        let old = delivery.clone();
        delivery.tag = LATER;
        self.leave_as(id, rank.tenant, rank.priority, &old);
        true
    }

    /// Puts it back, unless something else became of it. Returns its destination if it is due.
    pub(in crate::store::embedded) fn schedule_again(&mut self, id: DeliveryId) -> Option<u32> {
        let message = self.messages.get_mut(&id.queue_id.as_u128())?;
        let rank = message.rank();
        let delivery = message
            .deliveries
            .as_mut_slice()
            .get_mut(id.number as usize)?;
        let due = Due::new(delivery.due_us, id);
        let is_out = delivery.state == DeliveryState::Waiting
            && delivery.tag == LATER
            && !self.schedule.is_later(delivery.destination, &due);
        if !is_out {
            return None;
        }
        let place = self.schedule.wait(delivery.destination, due, rank);
        delivery.tag = place.map_or(LATER, |place| place.tag());
        place.map(|_| delivery.destination)
    }

    fn move_due(&mut self, index: u32, most: usize) -> usize {
        let mut placed = Vec::new();
        let messages = &self.messages;
        let rank = |id: DeliveryId| {
            let message = messages.get(&id.queue_id.as_u128());
            message.map(|message| message.rank())
        };
        let moved = self
            .schedule
            .move_due(index, most, rank, |id, place| placed.push((id, place)));
        for (id, place) in placed {
            if let Some(delivery) = self.delivery_mut(id) {
                delivery.tag = place.tag();
            }
        }
        moved
    }

    /// Takes due deliveries of a destination out of the order: they are to be leased now.
    pub(in crate::store::embedded) fn take_due(&mut self, index: u32, most: usize) -> Taken {
        let Some(name) = self.schedule.name(index).cloned() else {
            return Taken::default();
        };
        let stops = Stops {
            destination: name.as_str(),
            messages: &self.messages,
            tenants: &self.tenants,
            suspensions: &self.suspensions,
        };
        let partial = self.suspensions.are_partial();
        let gate = partial.then_some(&stops as &dyn Gate);
        let mut budget = STRIDE;
        let weight = |tenant| self.tenants.weight(tenant);
        let places = self.schedule.take(index, most, weight, gate, &mut budget);
        Taken {
            places,
            unfinished: budget == 0,
        }
    }

    /// Puts back what was taken and not leased after all.
    pub(in crate::store::embedded) fn untake_due(&mut self, index: u32, places: Vec<Place>) {
        for place in places {
            let message = self.messages.get(&place.delivery().queue_id.as_u128());
            if let Some(tenant) = message.map(|message| message.tenant) {
                self.schedule.untake(index, tenant, place);
            }
        }
    }

    /// How many due deliveries of a destination may be leased, counted up to `most`; and whether
    /// there may be more among those that were not looked at.
    pub(in crate::store::embedded) fn count_due(
        &mut self,
        index: u32,
        most: usize,
    ) -> (usize, bool) {
        let Some(name) = self.schedule.name(index).cloned() else {
            return (0, false);
        };
        let stops = Stops {
            destination: name.as_str(),
            messages: &self.messages,
            tenants: &self.tenants,
            suspensions: &self.suspensions,
        };
        let partial = self.suspensions.are_partial();
        let gate = partial.then_some(&stops as &dyn Gate);
        let mut budget = STRIDE;
        let count = self.schedule.count_due(index, most, gate, &mut budget);
        (count, budget == 0)
    }

    /// After a recovery: what is kept of suspensions holds.
    pub(in crate::store::embedded) fn begin_suspensions(&mut self) {
        for suspension in self.keeping.suspensions() {
            let effect = self.suspensions.insert(suspension, &self.hashes);
            self.follow(effect);
        }
    }

    /// A suspension began or ended: does what follows at once, and begins what takes longer.
    /// Returns the destination at which something may be due by it.
    pub(in crate::store::embedded) fn follow(&mut self, effect: Effect) -> Option<Destination> {
        if effect.let_go {
            match &mut self.sweep {
                Some(sweep) => sweep.again = true,
                None => self.sweep = Some(Sweep::default()),
            }
        }
        let (name, suspended) = effect.destination?;
        let index = self.schedule.set_suspended(&name, suspended)?;
        self.schedule
            .has_due(index)
            .then(|| self.schedule.name(index).cloned())
            .flatten()
    }

    /// Looks through a part of what was put aside; tells where something may have been put back.
    fn sweep(&mut self, woken: &mut Vec<u32>) {
        let Some(mut sweep) = self.sweep.take() else {
            return;
        };
        let mut budget = STRIDE;
        while budget > 0 {
            let Some(destination) = self.schedule.next_stopped(sweep.destination) else {
                if !sweep.again {
                    return;
                }
                sweep = Sweep::default();
                continue;
            };
            if destination != sweep.destination {
                sweep = Sweep {
                    destination,
                    again: sweep.again,
                    ..Sweep::default()
                };
            }
            let next = self.schedule.next_stopped_tenant(destination, sweep.tenant);
            let Some(tenant) = next else {
                sweep = Sweep {
                    destination: destination.saturating_add(1),
                    again: sweep.again,
                    ..Sweep::default()
                };
                continue;
            };
            if tenant != sweep.tenant {
                (sweep.tenant, sweep.after) = (tenant, None);
            }
            woken.push(destination);
            sweep.after = self.put_back(destination, tenant, sweep.after, &mut budget);
            if sweep.after.is_none() {
                sweep.tenant = tenant.saturating_add(1);
            }
        }
        self.sweep = Some(sweep);
    }

    fn put_back(
        &mut self,
        destination: u32,
        tenant: u32,
        after: Option<Place>,
        budget: &mut usize,
    ) -> Option<Place> {
        let name = self.schedule.name(destination).cloned()?;
        let gate = Stops {
            destination: name.as_str(),
            messages: &self.messages,
            tenants: &self.tenants,
            suspensions: &self.suspensions,
        };
        self.schedule
            .put_back(destination, tenant, after, Some(&gate), budget)
    }
}
