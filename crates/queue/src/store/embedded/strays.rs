//! Messages of which only later records are left: their acceptance lay in a damaged place.

use hashbrown::HashMap;
use postrider_protocol::{DeliveryId, QueueId};

use super::frame::Location;

/// What is known of a message whose acceptance was not found.
#[derive(Default)]
struct Stray {
    /// Where it was seen last, and what was said of it there.
    seen: Location,
    said: &'static str,
    /// Deliveries that were last seen open.
    open: Vec<u32>,
    /// Deliveries that an operator removed, perhaps only when an attempt under way ended.
    removed: Vec<u32>,
}

/// Gathers them while the log is read.
///
/// Most records of unknown messages are nothing special: the segment in which a message began goes
/// when the message has ended, or was written again further on. So each is noted, and dropped when
/// it turns out to have ended.
#[derive(Default)]
pub(super) struct Strays {
    strays: HashMap<u128, Stray>,
}

impl Strays {
    /// A record says that a delivery of an unknown message is open.
    pub(super) fn open(&mut self, id: DeliveryId, seen: Location, said: &'static str) {
        let stray = self.strays.entry(id.queue_id.as_u128()).or_default();
        (stray.seen, stray.said) = (seen, said);
        if !stray.open.contains(&id.number) && !stray.removed.contains(&id.number) {
            stray.open.push(id.number);
        }
    }

    /// A record says that a delivery of an unknown message has ended.
    pub(super) fn ended(&mut self, id: DeliveryId) {
        let key = id.queue_id.as_u128();
        if let Some(stray) = self.strays.get_mut(&key) {
            stray.open.retain(|number| *number != id.number);
            if stray.open.is_empty() {
                self.strays.remove(&key);
            }
        }
    }

    /// An operator removed a delivery of an unknown message.
    pub(super) fn removed(&mut self, id: DeliveryId) {
        let stray = self.strays.entry(id.queue_id.as_u128()).or_default();
        stray.open.retain(|number| *number != id.number);
        stray.removed.push(id.number);
    }

    /// The message was written again as a whole.
    pub(super) fn found(&mut self, id: QueueId) {
        if !self.strays.is_empty() {
            self.strays.remove(&id.as_u128());
        }
    }

    /// Messages that were queued when the log ended, each with where it was seen last and what was
    /// said of it there.
    pub(super) fn lost(self) -> Vec<(QueueId, Location, &'static str)> {
        let mut lost: Vec<_> = self
            .strays
            .into_iter()
            .filter(|(_, stray)| !stray.open.is_empty())
            .map(|(id, stray)| (QueueId::from_u128(id), stray.seen, stray.said))
            .collect();
        lost.sort_unstable_by_key(|(id, ..)| *id);
        lost
    }
}
