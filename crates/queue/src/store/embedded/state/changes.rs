//! How a delivery changes: leased, attempted, lapsed, acted upon.

use postrider_protocol::{DeliveryId, Destination};

use super::{Applied, State};
use crate::store::embedded::frame::Location;
use crate::store::embedded::message::{DeliveryState, LATER, Marks, Pending};
use crate::store::embedded::record::{Change, Changed, Completed};
use crate::store::embedded::schedule::Due;
use crate::store::embedded::stored::parse_destination;

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
            self.settle(id, due_us, at_us, false);
        }
    }

    /// A delivery whose attempt is over and that has not ended waits again, or is held by its
    /// destination's policy, unless an operator wanted something else of it.
    fn settle(&mut self, id: DeliveryId, due_us: u64, at_us: u64, hold: bool) {
        let rests = match hold {
            true => DeliveryState::Held,
            false => DeliveryState::Waiting,
        };
        match self.pending.remove(&id) {
            None => self.enter(id, rests, due_us),
            Some(Pending::Hold(until_us)) => self.hold(id, due_us, until_us),
            Some(Pending::Bounce) => self.bounce(id, at_us),
            Some(Pending::Remove) => self.remove(id, at_us),
            Some(Pending::Reroute(to)) => {
                self.reroute(id, &to);
                self.enter(id, rests, due_us);
            }
        }
    }

    fn hold(&mut self, id: DeliveryId, due_us: u64, until_us: Option<u64>) {
        self.enter(id, DeliveryState::Held, due_us);
        self.holds.set(id, until_us);
    }

    fn bounce(&mut self, id: DeliveryId, due_us: u64) {
        if let Some(delivery) = self.delivery_mut(id) {
            delivery.marks.set(Marks::BOUNCE);
        }
        self.enter(id, DeliveryState::Waiting, due_us);
    }

    /// A delivery goes elsewhere. Otherwise it stays as it is.
    fn reroute(&mut self, id: DeliveryId, to: &Destination) {
        let Some((old, rank)) = self
            .messages
            .get(&id.queue_id.as_u128())
            .and_then(|message| {
                let delivery = message.deliveries.as_slice().get(id.number as usize)?;
                Some((delivery.clone(), message.rank()))
            })
        else {
            return;
        };
        let destination = self.schedule.intern(to);
        self.schedule.opened(destination);
        let mut tag = LATER;
        if old.state == DeliveryState::Waiting {
            self.leave_as(id, rank.tenant, rank.priority, &old);
            let due = Due::new(old.due_us, id);
            let place = self.schedule.wait(destination, due, rank);
            tag = place.map_or(LATER, |place| place.tag());
        }
        if let Some(delivery) = self.delivery_mut(id) {
            delivery.destination = destination;
            delivery.tag = tag;
        }
        self.schedule.ended(old.destination);
    }

    /// One more of its attempts has an unknown outcome.
    fn count_unknown(&mut self, id: DeliveryId) {
        if let Some(delivery) = self.delivery_mut(id) {
            let first = delivery.unknown_attempts == 0;
            delivery.unknown_attempts = delivery.unknown_attempts.saturating_add(1);
            self.unknown += u64::from(first);
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
        let warned = Marks::DELAY_WARNED.when(completed.delay_warned);
        delivery.marks.set(warned);
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
            return;
        }
        if completed.unknown {
            self.count_unknown(id);
        }
        self.settle(id, completed.due_us, completed.at_us, completed.held);
    }

    /// Applies a change that is not an attempt's outcome, from the record that is at `at` now.
    pub(in crate::store::embedded) fn apply(
        &mut self,
        id: DeliveryId,
        changed: &Changed,
        at: Location,
    ) {
        self.link(id.queue_id, at);
        let (change, at_us) = (changed.change(), changed.at_us);
        let lapsed = matches!(change, Change::Lapse | Change::LapseHeld);
        self.totals.unknown_outcomes += u64::from(lapsed);
        // When the store ran, such a hold had ended before this, and that is not recorded.
        self.let_go_if_over(id, at_us);
        let Some(delivery) = self.delivery_mut(id) else {
            return;
        };
        if delivery.state == DeliveryState::Done {
            return;
        }
        let (state, due_us) = (delivery.state, delivery.due_us);
        if lapsed {
            delivery.attempts += 1;
            self.count_unknown(id);
            if state == DeliveryState::Leased {
                self.settle(id, at_us, at_us, change == Change::LapseHeld);
            }
            return;
        }
        if state == DeliveryState::Leased && change != Change::Damaged {
            self.remember_wish(id, changed);
            return;
        }
        match change {
            Change::Unspecified | Change::Lapse | Change::LapseHeld => {}
            Change::Retry if state == DeliveryState::Waiting => {
                self.enter(id, DeliveryState::Waiting, at_us.min(due_us));
            }
            Change::Retry => {}
            Change::Hold => self.hold(id, due_us, until(changed)),
            Change::Release if state == DeliveryState::Held => {
                self.enter(id, DeliveryState::Waiting, due_us);
            }
            Change::Release => {}
            Change::Remove => self.remove(id, at_us),
            Change::Bounce => self.bounce(id, at_us.min(due_us)),
            Change::Reroute => self.reroute(id, &parse_destination(&changed.to)),
            Change::Damaged => {
                self.pending.remove(&id);
                self.enter(id, DeliveryState::Held, due_us);
            }
        }
    }

    /// What an operator wants of a leased delivery. The later wish replaces the earlier one.
    fn remember_wish(&mut self, id: DeliveryId, changed: &Changed) {
        let wish = match changed.change() {
            Change::Hold => Pending::Hold(until(changed)),
            Change::Remove => Pending::Remove,
            Change::Bounce => Pending::Bounce,
            Change::Reroute => Pending::Reroute(parse_destination(&changed.to)),
            Change::Release => {
                if let Some(Pending::Hold(_)) = self.pending.get(&id) {
                    self.pending.remove(&id);
                }
                return;
            }
            _ => return,
        };
        self.pending.insert(id, wish);
    }
}

/// When a hold ends by itself.
fn until(changed: &Changed) -> Option<u64> {
    (changed.until_us > 0).then_some(changed.until_us)
}
