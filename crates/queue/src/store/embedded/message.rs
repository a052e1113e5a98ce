//! What is kept in memory of a queued message: as little as scheduling needs. The envelope, the
//! content and the journey stay on disk.

use super::frame::Location;

/// A queued message. Around 140 bytes with its one delivery; the content is on disk.
#[derive(Debug)]
pub(super) struct Message {
    /// The record that holds the envelope and the content.
    pub(super) first: Location,
    /// Its newest record; each points to the one before.
    pub(super) last: Location,
    pub(super) accepted_us: u64,
    /// Hash of the Message-ID, 0 if it has none.
    pub(super) message_id: u64,
    /// Hash of the sender, in lower case.
    pub(super) sender: u32,
    /// Bytes in the log that go with it, to know how full segments are.
    pub(super) stored_len: u32,
    /// The name of its stored body, if it is not inline.
    pub(super) body: Option<Box<str>>,
    /// Its acceptance is durable: only then it may be leased.
    pub(super) durable: bool,
    pub(super) deliveries: Deliveries,
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
    pub(super) state: DeliveryState,
    /// What an operator wants done when the attempt under way ends without ending the delivery.
    pub(super) pending: Pending,
    /// It is to end as failed, with a DSN.
    pub(super) bounce: bool,
    pub(super) due_us: u64,
    /// The lease that it is, or was last, leased under.
    pub(super) token: u64,
    /// The record that says which recipients are open, and their latest outcomes; none while no
    /// attempt has ended.
    pub(super) rest: Location,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeliveryState {
    Waiting,
    Leased,
    Held,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pending {
    Nothing,
    Hold,
    Remove,
    Bounce,
}

impl Message {
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

/// The hash of a sender, by which most messages are passed over without reading them.
pub(super) fn sender_hash(address: &str) -> u32 {
    stable_hash(address.to_ascii_lowercase().as_bytes()) as u32
}
