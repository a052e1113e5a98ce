//! What operators suspend, and what that stops.

use postrider_protocol::queue_v1::Suspension;
use postrider_protocol::{DeliveryId, Destination};
use postrider_queue::store::filter::suspends;

use super::{Model, State};

impl Model {
    /// Makes a suspension, or changes one.
    pub fn suspend(&mut self, suspension: Suspension) {
        // What the changed one stops no more is let go.
        self.resume(&suspension.id);
        self.suspensions.insert(suspension.id.clone(), suspension);
    }

    /// Ends a suspension; whether there was one.
    pub fn resume(&mut self, id: &str) -> bool {
        let Some(ended) = self.suspensions.remove(id) else {
            return false;
        };
        let stopped: Vec<DeliveryId> = self
            .open()
            .filter(|(id, delivery)| {
                delivery.state == State::Waiting && self.is_stopped_by(*id, &ended)
            })
            .map(|(id, _)| id)
            .collect();
        for id in stopped {
            let due_us = self.delivery(id).unwrap().due_us;
            self.touch(id);
            debug_assert_eq!(due_us, self.delivery(id).unwrap().due_us);
        }
        true
    }

    /// Suspensions, oldest first.
    #[must_use]
    pub fn suspensions_by_age(&self) -> Vec<Suspension> {
        let mut all: Vec<Suspension> = self.suspensions.values().cloned().collect();
        all.sort_by_key(|suspension| suspension.created_us);
        all
    }

    /// Those whose time is over.
    pub(super) fn suspensions_over(&self) -> impl Iterator<Item = &Suspension> {
        let all = self.suspensions.values();
        all.filter(|suspension| (1..=self.now_us).contains(&suspension.until_us))
    }

    pub(super) fn end_suspensions(&mut self) {
        let over: Vec<String> = self
            .suspensions_over()
            .map(|over| over.id.clone())
            .collect();
        for id in over {
            self.resume(&id);
        }
    }

    /// Whether a suspension stops a delivery, when that waits.
    fn is_stopped_by(&self, id: DeliveryId, suspension: &Suspension) -> bool {
        let message = &self.messages[&id.queue_id];
        let destination = self.delivery(id).unwrap().destination.as_str();
        suspends(
            suspension,
            destination,
            message.sender(),
            &message.new.tenant,
        )
    }

    /// Ids of the suspensions that stop a delivery, when that waits.
    #[must_use]
    pub fn suspensions_of(&self, id: DeliveryId) -> Vec<String> {
        let all = self.suspensions.values();
        all.filter(|suspension| self.is_stopped_by(id, suspension))
            .map(|suspension| suspension.id.clone())
            .collect()
    }

    /// Whether any does.
    #[must_use]
    pub fn is_suspended(&self, id: DeliveryId) -> bool {
        !self.suspensions.is_empty() && !self.suspensions_of(id).is_empty()
    }

    /// Whether all of a destination is suspended.
    #[must_use]
    pub fn is_suspended_whole(&self, destination: &Destination) -> bool {
        self.suspensions.values().any(|suspension| {
            suspension.destination == destination.as_str()
                && suspension.sender.is_empty()
                && suspension.tenant.is_empty()
        })
    }
}
