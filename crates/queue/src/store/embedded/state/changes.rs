//! How a delivery changes: leased, attempted, lapsed, acted upon.

use postrider_protocol::DeliveryId;

use super::{Applied, State};
use crate::store::embedded::frame::Location;
use crate::store::embedded::message::{DeliveryState, Pending};
use crate::store::embedded::record::{Change, Completed};

impl State {
    /// A worker got the delivery under a lease.
    pub(in crate::store::embedded) fn take(&mut self, id: DeliveryId, token: u64) {
        let due_us = self.delivery(id).map_or(0, |delivery| delivery.due_us);
        self.enter(id, DeliveryState::Leased, due_us);
        if let Some(delivery) = self.delivery_mut(id) {
            delivery.token = token;
        }
    }

    /// A leased delivery was not attempted: it is due again as it was.
    pub(in crate::store::embedded) fn untake(&mut self, id: DeliveryId, at_us: u64) {
        if let Some(delivery) = self.delivery(id)
            && delivery.state == DeliveryState::Leased
        {
            let due_us = delivery.due_us;
            self.settle(id, due_us, at_us);
        }
    }

    /// A delivery whose attempt is over and that has not ended waits again, unless an operator
    /// wanted something else of it.
    fn settle(&mut self, id: DeliveryId, due_us: u64, at_us: u64) {
        let Some(delivery) = self.delivery_mut(id) else {
            return;
        };
        match std::mem::replace(&mut delivery.pending, Pending::Nothing) {
            Pending::Nothing => self.enter(id, DeliveryState::Waiting, due_us),
            Pending::Hold => self.enter(id, DeliveryState::Held, due_us),
            Pending::Bounce => {
                delivery.bounce = true;
                self.enter(id, DeliveryState::Waiting, at_us);
            }
            Pending::Remove => self.remove(id, at_us),
        }
    }

    fn remove(&mut self, id: DeliveryId, at_us: u64) {
        if let Some(delivery) = self.delivery_mut(id) {
            let open = u64::from(std::mem::take(&mut delivery.open));
            self.totals.removed += open;
            self.open -= open;
            self.finish(id);
            self.end_if_done(id.queue_id, at_us);
        }
    }

    /// Applies a completion, from the record that is at `at` now. Its DSNs are not added by it.
    pub(in crate::store::embedded) fn complete(&mut self, completed: &Completed, at: Location) {
        let id = DeliveryId::from(completed.delivery);
        self.link(id.queue_id, at);
        self.totals.delivered += u64::from(completed.delivered);
        self.totals.failed += u64::from(completed.failed);
        self.totals.unknown_outcomes += u64::from(completed.unknown);
        // In a recovery, the segment in which an ended message began may be gone.
        let Some(delivery) = self.delivery_mut(id) else {
            return;
        };
        delivery.attempts = completed.number;
        let open = completed.rest.open.len() as u32;
        let ended = u64::from(delivery.open.saturating_sub(open));
        delivery.open = open;
        delivery.rest = at;
        self.open -= ended;
        self.remember(
            id,
            Applied {
                token: completed.token,
                number: completed.number,
            },
        );
        if open == 0 {
            self.finish(id);
            self.end_if_done(id.queue_id, completed.at_us);
        } else {
            self.settle(id, completed.due_us, completed.at_us);
        }
    }

    /// Applies a change that is not an attempt's outcome, from the record that is at `at` now.
    pub(in crate::store::embedded) fn apply(
        &mut self,
        id: DeliveryId,
        change: Change,
        at: Location,
        at_us: u64,
    ) {
        self.link(id.queue_id, at);
        self.totals.unknown_outcomes += u64::from(change == Change::Lapse);
        let Some(delivery) = self.delivery_mut(id) else {
            return;
        };
        let (state, due_us) = (delivery.state, delivery.due_us);
        match (change, state) {
            (Change::Unspecified, _) | (_, DeliveryState::Done) => {}
            (Change::Retry, DeliveryState::Waiting) => {
                self.enter(id, DeliveryState::Waiting, at_us.min(due_us));
            }
            (Change::Retry, _) => {}
            (Change::Hold, DeliveryState::Leased) => delivery.pending = Pending::Hold,
            (Change::Hold, _) => self.enter(id, DeliveryState::Held, due_us),
            (Change::Release, DeliveryState::Leased) => {
                if delivery.pending == Pending::Hold {
                    delivery.pending = Pending::Nothing;
                }
            }
            (Change::Release, DeliveryState::Held) => {
                self.enter(id, DeliveryState::Waiting, due_us);
            }
            (Change::Release, DeliveryState::Waiting) => {}
            (Change::Remove, DeliveryState::Leased) => delivery.pending = Pending::Remove,
            (Change::Remove, _) => self.remove(id, at_us),
            (Change::Bounce, DeliveryState::Leased) => delivery.pending = Pending::Bounce,
            (Change::Bounce, _) => {
                delivery.bounce = true;
                self.enter(id, DeliveryState::Waiting, at_us.min(due_us));
            }
            (Change::Lapse, _) => {
                delivery.attempts += 1;
                if state == DeliveryState::Leased {
                    self.settle(id, at_us, at_us);
                }
            }
            (Change::Damaged, _) => self.enter(id, DeliveryState::Held, due_us),
        }
    }
}
