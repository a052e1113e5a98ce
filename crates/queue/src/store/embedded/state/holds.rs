//! Holds that end by themselves.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use postrider_protocol::DeliveryId;

/// When held deliveries are let go, for those that have a time.
#[derive(Debug, Default)]
pub(in crate::store::embedded) struct Holds {
    by_time: BTreeSet<(u64, DeliveryId)>,
    by_delivery: HashMap<DeliveryId, u64>,
}

impl Holds {
    /// A delivery's hold has this end, or none.
    pub(super) fn set(&mut self, id: DeliveryId, until_us: Option<u64>) {
        if self.by_delivery.is_empty() && until_us.is_none() {
            return;
        }
        if let Some(old) = self.by_delivery.remove(&id) {
            self.by_time.remove(&(old, id));
        }
        if let Some(until_us) = until_us {
            self.by_delivery.insert(id, until_us);
            self.by_time.insert((until_us, id));
        }
    }

    /// When a delivery's hold ends.
    pub(in crate::store::embedded) fn end_of(&self, id: DeliveryId) -> Option<u64> {
        self.by_delivery.get(&id).copied()
    }

    /// When the next hold ends.
    pub(in crate::store::embedded) fn next_end(&self) -> Option<u64> {
        self.by_time.first().map(|(at_us, _)| *at_us)
    }

    /// A delivery whose hold is over.
    pub(super) fn over(&self, now_us: u64) -> Option<DeliveryId> {
        let (at_us, id) = self.by_time.first()?;
        (*at_us <= now_us).then_some(*id)
    }
}
