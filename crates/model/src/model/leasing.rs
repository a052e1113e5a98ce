//! Destinations are leased, deliveries are pulled, leases end.

use postrider_protocol::{DeliveryId, Destination};
use postrider_queue::policy::Unknown;
use postrider_queue::store::clock::micros;
use postrider_queue::store::{Act, PartialReturn};

use super::{Lease, Model, State};

impl Model {
    /// What waits at a destination and is due, suspended or not: the earliest due first.
    #[must_use]
    pub fn due_or_suspended(&self, destination: &Destination) -> Vec<DeliveryId> {
        let mut due: Vec<(u64, DeliveryId)> = self
            .open()
            .filter(|(_, delivery)| {
                delivery.destination == *destination
                    && delivery.state == State::Waiting
                    && delivery.due_us <= self.now_us
            })
            .map(|(id, delivery)| (delivery.due_us, id))
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// What may be pulled at a destination: the earliest due first.
    #[must_use]
    pub fn due(&self, destination: &Destination) -> Vec<DeliveryId> {
        let mut due = self.due_or_suspended(destination);
        due.retain(|id| !self.is_suspended(*id));
        due
    }

    /// Slots in use at a destination.
    #[must_use]
    pub fn slots_in_use(&self, destination: &Destination) -> u32 {
        let leases = self.leases.values();
        leases
            .filter(|lease| lease.destination == *destination)
            .map(|lease| lease.slots)
            .sum()
    }

    /// Whether a lease is there and its time is not over.
    #[must_use]
    pub fn is_live(&self, token: u64) -> bool {
        self.leases
            .get(&token)
            .is_some_and(|lease| lease.expires_us > self.now_us)
    }

    /// The lease of a worker at a destination.
    #[must_use]
    pub fn lease_of(&self, worker: &str, destination: &Destination) -> Option<(u64, &Lease)> {
        let mut leases = self.leases.iter();
        leases
            .find(|(_, lease)| lease.worker == worker && lease.destination == *destination)
            .map(|(token, lease)| (*token, lease))
    }

    /// A lease begins, or has so many slots now.
    pub fn grant(&mut self, worker: &str, destination: &Destination, token: u64, slots: u32) {
        let expires_us = self.now_us + micros(self.settings.lease);
        self.last_token = self.last_token.max(token);
        self.served_us.insert(destination.clone(), self.now_us);
        let lease = self.leases.entry(token).or_insert_with(|| Lease {
            worker: worker.to_owned(),
            destination: destination.clone(),
            slots,
            expires_us,
        });
        lease.slots = slots;
    }

    /// A delivery is leased.
    pub fn take(&mut self, id: DeliveryId, token: u64) {
        let now_us = self.now_us;
        let delivery = self.delivery_mut(id);
        delivery.state = State::Leased(token);
        let destination = delivery.destination.clone();
        self.served_us.insert(destination, now_us);
    }

    /// Prolongs live leases; those that are stale.
    pub fn renew(&mut self, tokens: &[u64]) -> Vec<u64> {
        let expires_us = self.now_us + micros(self.settings.lease);
        let mut stale = Vec::new();
        for token in tokens {
            match self.is_live(*token) {
                true => self.leases.get_mut(token).unwrap().expires_us = expires_us,
                false => stale.push(*token),
            }
        }
        stale
    }

    /// Deliveries leased under a token.
    #[must_use]
    pub fn leased_under(&self, token: u64) -> Vec<DeliveryId> {
        self.open()
            .filter(|(_, delivery)| delivery.state == State::Leased(token))
            .map(|(id, _)| id)
            .collect()
    }

    /// Ends what is over by the clock: leases, holds, suspensions.
    pub fn expire(&mut self) {
        let now_us = self.now_us;
        let leases = self.leases.iter();
        let over: Vec<u64> = leases
            .filter(|(_, lease)| lease.expires_us <= now_us)
            .map(|(token, _)| *token)
            .collect();
        for token in over {
            self.lose(token);
        }
        let let_go: Vec<DeliveryId> = self
            .open()
            .filter(|(_, delivery)| is_over(delivery.state, now_us))
            .map(|(id, _)| id)
            .collect();
        for id in let_go {
            self.delivery_mut(id).state = State::Waiting;
            self.touch(id);
        }
        self.end_suspensions();
    }

    /// Whether a hold or a suspension is over of which the store may not have taken notice.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        self.open()
            .any(|(_, delivery)| is_over(delivery.state, self.now_us))
            || self.suspensions_over().next().is_some()
    }

    /// Ends a lease of which nobody knows what became of what it held.
    pub fn lose(&mut self, token: u64) {
        if let Some(lease) = self.leases.remove(&token) {
            self.served_us.insert(lease.destination, self.now_us);
        }
        for id in self.leased_under(token) {
            self.lapse(id);
        }
    }

    /// One attempt is over, and nobody knows how it ended.
    pub fn lapse(&mut self, id: DeliveryId) {
        let now_us = self.now_us;
        self.delivery_mut(id).due_us = now_us;
        self.count_lapse(id);
        self.settle(id, true);
    }

    fn count_lapse(&mut self, id: DeliveryId) {
        let delivery = self.delivery_mut(id);
        delivery.attempts += 1;
        delivery.unknown_attempts += 1;
        self.totals.unknown += 1;
        self.notice(
            id.queue_id,
            "lease expired: the outcome is unknown",
            "",
            false,
        );
    }

    /// Ends a lease at its holder's wish.
    pub fn give_back(&mut self, token: u64) {
        if self.is_live(token) {
            let lease = self.leases.remove(&token).unwrap();
            self.served_us.insert(lease.destination, self.now_us);
            for id in self.leased_under(token) {
                self.take_back(id);
            }
        }
    }

    /// Ends a part of a lease, which goes on, at its holder's wish.
    pub fn give_back_part(&mut self, part: &PartialReturn) {
        if !self.is_live(part.token) {
            return;
        }
        let lease = self.leases.get_mut(&part.token).unwrap();
        lease.slots = lease.slots.min(part.slots.max(1));
        let destination = lease.destination.clone();
        self.served_us.insert(destination, self.now_us);
        for id in self.leased_under(part.token) {
            if part.deliveries.contains(&id) {
                self.take_back(id);
            }
        }
    }

    /// A delivery comes back without an attempt.
    fn take_back(&mut self, id: DeliveryId) {
        let delivery = self.delivery_mut(id);
        delivery.given_back = true;
        delivery.before = Some((delivery.destination.clone(), delivery.pending.clone()));
        self.settle(id, false);
    }

    /// A crash has undone that a delivery was given back: its lease has expired instead.
    pub fn lapse_instead(&mut self, id: DeliveryId) {
        let delivery = self.delivery_mut(id);
        if let Some((destination, pending)) = delivery.before.take() {
            (delivery.destination, delivery.pending) = (destination, pending);
        }
        self.lapse(id);
    }

    /// Deliveries that were given back and removed with that, as an operator had wished, and how many
    /// notices the journey of their message has.
    #[must_use]
    pub fn removed_when_given_back(&self) -> Vec<(DeliveryId, usize)> {
        use postrider_protocol::queue_v1::journey_event::What;
        let mut removed = Vec::new();
        for (queue_id, message) in &self.messages {
            let events = message.events.iter();
            let is_notice = |what: &Option<What>| matches!(what, Some(What::Notice(_)));
            let notices = events.filter(|told| is_notice(&told.event.what)).count();
            for (number, delivery) in (0..).zip(&message.deliveries) {
                let wished = delivery.before.as_ref().map(|(_, pending)| pending);
                if delivery.given_back && wished == Some(&Some(Act::Remove)) {
                    let queue_id = *queue_id;
                    removed.push((DeliveryId { queue_id, number }, notices));
                }
            }
        }
        removed
    }

    /// A crash has undone that such a delivery was given back: its lease has expired instead. It has ended
    /// all the same.
    pub fn lapse_and_remove_instead(&mut self, id: DeliveryId) {
        self.delivery_mut(id).before = None;
        self.count_lapse(id);
        if self.policy(id).unknown == Unknown::Hold {
            self.notice(id.queue_id, "held: the outcome is unknown", "", true);
        }
    }

    /// A delivery is leased no more: what its policy says of an unknown outcome, and then what an
    /// operator asked for in the meantime, is done now.
    pub(super) fn settle(&mut self, id: DeliveryId, unknown: bool) {
        self.delivery_mut(id).state = State::Waiting;
        let pending = self.delivery_mut(id).pending.take();
        if unknown && self.policy(id).unknown == Unknown::Hold {
            self.delivery_mut(id).state = State::Held { until_us: None };
            // After a notice that says as much, or before an act that says otherwise, it may be left out.
            let optional = pending.is_some() || self.has_just_lapsed(id);
            self.notice(id.queue_id, "held: the outcome is unknown", "", optional);
        }
        if let Some(act) = pending {
            if act == Act::Bounce {
                let now_us = self.now_us;
                self.delivery_mut(id).due_us = now_us;
            }
            self.apply(id, &act);
        }
        self.touch(id);
    }

    fn has_just_lapsed(&self, id: DeliveryId) -> bool {
        use postrider_protocol::queue_v1::journey_event::What;
        let last = self.messages[&id.queue_id].events.last();
        last.is_some_and(|last| matches!(last.event.what, Some(What::Notice(_))))
    }

    /// A delivery was put to wait anew, or let go.
    pub(super) fn touch(&mut self, id: DeliveryId) {
        let now_us = self.now_us;
        let delivery = self.delivery_mut(id);
        delivery.ready_us = now_us.max(delivery.due_us);
        let destination = delivery.destination.clone();
        self.served_us.insert(destination, now_us);
    }
}

fn is_over(state: State, now_us: u64) -> bool {
    matches!(state, State::Held { until_us: Some(until_us) } if until_us <= now_us)
}
