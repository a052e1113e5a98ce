//! A worker that stops.
//!
//! It gets nothing new. What it says that it will not do is for others at once: deliveries that it has
//! not begun, and each slot whose connection it has closed.
//!
//! Nothing that it says here can become untrue: it begins no delivery and opens no connection any
//! more, whatever it is granted or sent, and nothing is asked of the store for it. So it does not matter
//! in which order with other calls the store hears of it, how late, or how often; and what the
//! store does not hear of goes back with the lease.

use postrider_protocol::DeliveryId;
use postrider_protocol::queue_v1::PartialReturnBatch;

use super::{Answer, Desk};
use crate::store::PartialReturn;

/// Whether a worker gives back more in one frame than any would.
pub(super) fn is_too_much(batch: &PartialReturnBatch, leases: usize, deliveries: usize) -> bool {
    let returned = batch.returns.iter().map(|part| part.delivery_ids.len());
    batch.returns.len() > leases || returned.sum::<usize>() > deliveries
}

impl Desk {
    /// The worker gets nothing new: what is due, or free, is for others.
    pub(super) fn take_no_more(&mut self) {
        self.draining = true;
        self.tell_free();
        for token in self.grants.tokens() {
            if let Some(held) = self.grants.get_mut(token) {
                self.with.hub.set_holder(self.id, &held.destination, false);
            }
        }
    }

    /// The worker gives back what it will not begin, and slots that it does not use any more.
    pub(super) fn take_parts_back(&mut self, batch: PartialReturnBatch) {
        if !self.draining {
            // It would speak of slots without knowing what was granted since.
            return;
        }
        let mut parts = Vec::new();
        for part in batch.returns {
            let token = part.token;
            let Some(held) = self.grants.get_mut(token) else {
                // It went back meanwhile, and this with it.
                continue;
            };
            let named = part.delivery_ids.iter();
            let deliveries: Vec<DeliveryId> = named
                .filter_map(|id| id.parse().ok())
                .filter(|id| held.sent.remove(id))
                .collect();
            let slots = match part.slots {
                0 => held.slots,
                slots => slots.min(held.slots),
            };
            if slots < held.slots || !deliveries.is_empty() {
                parts.push(PartialReturn {
                    token,
                    deliveries,
                    slots,
                });
            }
            self.grants.cut(token, slots);
        }
        if parts.is_empty() {
            return;
        }
        let store = self.with.store.clone();
        self.jobs.push(Box::pin(async move {
            Answer::GaveBack(store.give_back_part(parts).await)
        }));
    }
}
