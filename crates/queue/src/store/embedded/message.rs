//! What is kept in memory of a queued message: as little as scheduling needs. The envelope, the
//! content and the journey stay on disk.

use postrider_protocol::Destination;

use super::frame::Location;
use super::schedule::Rank;
use super::suspensions::SenderHash;

/// A queued message: 128 bytes with its one delivery.
#[derive(Debug)]
pub(super) struct Message {
    /// The record that holds the envelope and the content.
    pub(super) first: Location,
    /// Its newest record; each points to the one before.
    pub(super) last: Location,
    pub(super) accepted_us: u64,
    /// Hash of the Message-ID, 0 if it has none.
    pub(super) message_id: u64,
    /// Hashes of the reverse-path.
    pub(super) sender: SenderHash,
    /// Bits of its recipients' hashes: most messages are passed over by them without being read.
    pub(super) recipients: u64,
    pub(super) tenant: u32,
    /// Bytes in the log that go with it, to know how full segments are.
    pub(super) stored_len: u32,
    /// Its stored body, if it is not inline.
    pub(super) body: Option<Box<StoredBody>>,
    pub(super) priority: i8,
    /// Its acceptance is durable: only then it may be leased.
    pub(super) durable: bool,
    pub(super) deliveries: Deliveries,
}

/// The name of a body beside the queue. Few messages have one, and the others only pay for a pointer.
#[derive(Debug, Clone)]
pub(super) struct StoredBody {
    pub(super) name: String,
}

/// Nearly every message has one delivery: that one needs no allocation of its own.
#[derive(Debug)]
pub(super) enum Deliveries {
    One(Delivery),
    Many(Box<[Delivery]>),
}

impl Deliveries {
    pub(super) fn new(mut deliveries: Vec<Delivery>) -> Self {
        match deliveries.len() {
            1 => Self::One(deliveries.remove(0)),
            _ => Self::Many(deliveries.into_boxed_slice()),
        }
    }

    pub(super) fn as_slice(&self) -> &[Delivery] {
        match self {
            Self::One(delivery) => std::slice::from_ref(delivery),
            Self::Many(deliveries) => deliveries,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Delivery] {
        match self {
            Self::One(delivery) => std::slice::from_mut(delivery),
            Self::Many(deliveries) => deliveries,
        }
    }
}

/// The recipients of a message at one destination.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    /// Index of the destination.
    pub(super) destination: u32,
    /// Recipients that have not ended.
    pub(super) open: u32,
    /// Attempts that have ended.
    pub(super) attempts: u32,
    /// Those of them whose outcome is unknown, as far as they can be counted here.
    pub(super) unknown_attempts: u16,
    pub(super) state: DeliveryState,
    pub(super) marks: Marks,
    pub(super) due_us: u64,
    /// The lease that it is, or was last, leased under.
    pub(super) token: u64,
    /// Its tag in the fair order; [`LATER`] unless it waits and is due.
    pub(super) tag: i64,
    /// The record that says which recipients are open, and their latest outcomes; none while no
    /// attempt has ended.
    pub(super) rest: Location,
}

/// The tag of a delivery that has no place in the fair order.
pub(super) const LATER: i64 = i64::MIN;

/// What is to be remembered of a delivery, a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Marks(u8);

impl Marks {
    /// It is to end as failed, with a DSN.
    pub(super) const BOUNCE: Self = Self(1);
    /// The sender was told of the delay.
    pub(super) const DELAY_WARNED: Self = Self(2);

    pub(super) fn has(self, mark: Self) -> bool {
        self.0 & mark.0 != 0
    }

    pub(super) fn set(&mut self, mark: Self) {
        self.0 |= mark.0;
    }

    /// This one, if it is so.
    pub(super) fn when(self, so: bool) -> Self {
        if so { self } else { Self::default() }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeliveryState {
    Waiting,
    Leased,
    Held,
    Done,
}

/// What an operator wants done when the attempt under way ends without ending the delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pending {
    /// Until a time, or until released.
    Hold(Option<u64>),
    Remove,
    Bounce,
    Reroute(Destination),
}

impl Message {
    /// What decides about the places of its deliveries among those that are due.
    pub(super) fn rank(&self) -> Rank {
        Rank {
            tenant: self.tenant,
            sender: self.sender.address,
            priority: self.priority,
        }
    }

    /// Whether every recipient has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.deliveries
            .as_slice()
            .iter()
            .all(|delivery| delivery.state == DeliveryState::Done)
    }
}

/// A hash that is the same in every build and on every machine, because it is stored (FNV-1a).
pub(super) fn stable_hash(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // 0 stands for "none".
    hash.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_of_them_fit() {
        assert_eq!(size_of::<Delivery>(), 48);
        assert_eq!(size_of::<Message>(), 128);
    }
}
