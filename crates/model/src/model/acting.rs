//! Operators act on deliveries.

use postrider_protocol::DeliveryId;
use postrider_queue::store::{Act, By};

use super::{Model, State};

/// Whether an act changes a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// It does.
    Changes,
    /// It does not.
    Leaves,
    /// Nothing says so; both are right.
    Either,
}

impl Model {
    /// Whether an act must change a delivery.
    #[must_use]
    pub fn rule(&self, id: DeliveryId, act: &Act) -> Ruling {
        let changes = |changes: bool| match changes {
            true => Ruling::Changes,
            false => Ruling::Leaves,
        };
        let Some(delivery) = self.delivery(id) else {
            return Ruling::Leaves;
        };
        let pending = delivery.pending.as_ref();
        match (act, delivery.state) {
            (_, State::Done) => Ruling::Leaves,
            (Act::Retry, State::Waiting) => changes(delivery.due_us > self.now_us),
            (Act::Retry, State::Leased(_) | State::Held { .. }) => Ruling::Leaves,
            (Act::Hold { .. }, State::Waiting) => Ruling::Changes,
            (Act::Hold { until_us }, State::Held { until_us: so_far }) => {
                changes(*until_us != so_far)
            }
            (Act::Hold { .. }, State::Leased(_)) => changes(pending != Some(act)),
            (Act::Release, State::Held { .. }) => Ruling::Changes,
            (Act::Release, State::Leased(_)) => changes(matches!(pending, Some(Act::Hold { .. }))),
            (Act::Release, State::Waiting) => Ruling::Leaves,
            (Act::Remove | Act::Bounce, _) => Ruling::Changes,
            (Act::Reroute { .. }, State::Leased(_))
                if matches!(pending, Some(Act::Reroute { .. })) =>
            {
                Ruling::Either
            }
            (Act::Reroute { to }, _) => changes(*to != delivery.destination),
        }
    }

    /// Does an act that changes a delivery.
    pub fn act(&mut self, id: DeliveryId, act: &Act, by: &By) {
        if matches!(self.delivery(id).unwrap().state, State::Leased(_)) {
            self.delivery_mut(id).pending = match act {
                Act::Release => None,
                act => Some(act.clone()),
            };
        } else {
            let from = self.delivery(id).unwrap().destination.clone();
            self.served_us.insert(from, self.now_us);
            self.apply(id, act);
            self.touch(id);
        }
        let text = format!("{act:?}: {}", by.reason);
        self.notice(id.queue_id, &text, &by.operator, false);
    }

    /// Does an act to a delivery that is not leased.
    pub(super) fn apply(&mut self, id: DeliveryId, act: &Act) {
        let now_us = self.now_us;
        let delivery = self.delivery_mut(id);
        match act {
            Act::Retry => delivery.due_us = now_us,
            Act::Hold { until_us } => {
                delivery.state = State::Held {
                    until_us: *until_us,
                };
            }
            Act::Release => delivery.state = State::Waiting,
            Act::Remove => self.remove(id),
            Act::Bounce => {
                delivery.bounce = true;
                delivery.state = State::Waiting;
                delivery.due_us = delivery.due_us.min(now_us);
            }
            Act::Reroute { to } => {
                delivery.rerouted |= *to != delivery.destination;
                delivery.destination = to.clone();
            }
        }
    }
}
