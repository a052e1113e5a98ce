//! What the records of the log say. Extended only by adding fields: records of earlier
//! versions are read for ever.

use postrider_protocol::queue_v1::{
    Attempt, Body, Envelope, JourneyEvent, NewMessage, RecipientOutcome,
};
use postrider_protocol::{DeliveryId, QueueId};

/// A 128-bit id in two halves.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Id {
    #[prost(fixed64, tag = "1")]
    pub(super) high: u64,
    #[prost(fixed64, tag = "2")]
    pub(super) low: u64,
}

impl From<QueueId> for Id {
    fn from(id: QueueId) -> Self {
        Self {
            high: (id.as_u128() >> 64) as u64,
            low: id.as_u128() as u64,
        }
    }
}

impl From<Id> for QueueId {
    fn from(id: Id) -> Self {
        Self::from_u128(u128::from(id.high) << 64 | u128::from(id.low))
    }
}

/// First in each segment.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Head {
    /// How often the store was opened. The upper half of every lease token.
    #[prost(uint64, tag = "1")]
    pub(super) epoch: u64,
    #[prost(uint64, tag = "2")]
    pub(super) created_us: u64,
    /// Recipients up to here, since the store was made.
    #[prost(message, required, tag = "3")]
    pub(super) totals: Totals,
    /// Records with this number and later ones in earlier segments do not count: a sync failed,
    /// and they stand here again. 0 if there is nothing such.
    #[prost(uint64, tag = "4")]
    pub(super) voids_from: u64,
}

/// Counts since the store was made.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Totals {
    #[prost(uint64, tag = "1")]
    pub(super) accepted: u64,
    #[prost(uint64, tag = "2")]
    pub(super) delivered: u64,
    #[prost(uint64, tag = "3")]
    pub(super) failed: u64,
    #[prost(uint64, tag = "4")]
    pub(super) removed: u64,
    #[prost(uint64, tag = "5")]
    pub(super) stale_completions: u64,
    #[prost(uint64, tag = "6")]
    pub(super) unknown_outcomes: u64,
}

/// A message was accepted. Inline content follows the record as the frame's content.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Accepted {
    /// The message without inline content.
    #[prost(message, required, tag = "1")]
    pub(super) message: NewMessage,
    #[prost(fixed64, tag = "2")]
    pub(super) accepted_us: u64,
    #[prost(string, tag = "3")]
    pub(super) instance: String,
}

/// Deliveries were handed to a worker. Only written, not synced: after a crash of the process it
/// tells whose outcome is unknown; after a loss of power the worker is gone as well or finds its
/// lease stale.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Leased {
    #[prost(fixed64, tag = "1")]
    pub(super) token: u64,
    #[prost(string, tag = "2")]
    pub(super) worker: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) deliveries: Vec<DeliveryRef>,
}

/// Names a delivery.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct DeliveryRef {
    #[prost(message, required, tag = "1")]
    pub(super) id: Id,
    #[prost(uint32, tag = "2")]
    pub(super) number: u32,
}

impl From<DeliveryId> for DeliveryRef {
    fn from(delivery: DeliveryId) -> Self {
        Self {
            id: delivery.queue_id.into(),
            number: delivery.number,
        }
    }
}

impl From<DeliveryRef> for DeliveryId {
    fn from(delivery: DeliveryRef) -> Self {
        Self {
            queue_id: delivery.id.into(),
            number: delivery.number,
        }
    }
}

/// A lease was given back, or some deliveries under it: they were not attempted.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LeaseEnded {
    #[prost(fixed64, tag = "1")]
    pub(super) token: u64,
    #[prost(fixed64, tag = "2")]
    pub(super) at_us: u64,
    /// These only, and the lease goes on. Empty: it has ended, and with it all that is still leased.
    #[prost(message, repeated, tag = "3")]
    pub(super) deliveries: Vec<DeliveryRef>,
}

/// An attempt ended: everything that follows from it, in one record.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Completed {
    #[prost(message, required, tag = "1")]
    pub(super) delivery: DeliveryRef,
    #[prost(fixed64, tag = "2")]
    pub(super) token: u64,
    #[prost(fixed64, tag = "3")]
    pub(super) at_us: u64,
    #[prost(string, tag = "4")]
    pub(super) instance: String,
    #[prost(message, required, tag = "5")]
    pub(super) attempt: Attempt,
    /// Which attempt it was, from 1.
    #[prost(uint32, tag = "6")]
    pub(super) number: u32,
    /// Recipients that ended with it.
    #[prost(uint32, tag = "7")]
    pub(super) delivered: u32,
    #[prost(uint32, tag = "8")]
    pub(super) failed: u32,
    /// An outcome was unknown.
    #[prost(bool, tag = "9")]
    pub(super) unknown: bool,
    /// What is left of the delivery.
    #[prost(message, required, tag = "10")]
    pub(super) rest: Rest,
    /// When the rest is due.
    #[prost(fixed64, tag = "11")]
    pub(super) due_us: u64,
    #[prost(message, repeated, tag = "12")]
    pub(super) dsn: Vec<Dsn>,
    /// Who made the attempt; empty in records of 0.1.
    #[prost(string, tag = "13")]
    pub(super) worker: String,
    /// One of the DSNs is the delay warning.
    #[prost(bool, tag = "14")]
    pub(super) delay_warned: bool,
    /// The destination's policy holds the rest, because an outcome is unknown.
    #[prost(bool, tag = "15")]
    pub(super) held: bool,
}

/// What is left of a delivery.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Rest {
    /// Open recipients, by their place in the envelope.
    #[prost(uint32, repeated, tag = "1")]
    pub(super) open: Vec<u32>,
    /// The latest outcome of each open recipient that has had one.
    #[prost(message, repeated, tag = "2")]
    pub(super) outcomes: Vec<RecipientOutcome>,
}

/// A message that an attempt brought with it.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Dsn {
    #[prost(message, required, tag = "1")]
    pub(super) accepted: Accepted,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) content: bytes::Bytes,
}

/// Something else happened to deliveries of a message.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Changed {
    #[prost(message, required, tag = "1")]
    pub(super) id: Id,
    #[prost(enumeration = "Change", tag = "2")]
    pub(super) change: i32,
    #[prost(uint32, repeated, tag = "3")]
    pub(super) deliveries: Vec<u32>,
    #[prost(fixed64, tag = "4")]
    pub(super) at_us: u64,
    /// At least one for each delivery.
    #[prost(message, repeated, tag = "5")]
    pub(super) events: Vec<JourneyEvent>,
    /// When a hold ends by itself; 0 if it does not.
    #[prost(fixed64, tag = "6")]
    pub(super) until_us: u64,
    /// Where it goes from now on.
    #[prost(string, tag = "7")]
    pub(super) to: String,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Change {
    Unspecified = 0,
    Retry = 1,
    Hold = 2,
    Release = 3,
    Remove = 4,
    Bounce = 5,
    /// The lease ended and the outcome is unknown.
    Lapse = 6,
    /// What is stored of it cannot be read: held, for an operator to look.
    Damaged = 7,
    /// The lease ended, the outcome is unknown, and the destination's policy is to hold then.
    LapseHeld = 8,
    Reroute = 9,
}

/// A whole message with its state. Content follows as the frame's content.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Moved {
    #[prost(message, required, tag = "1")]
    pub(super) accepted: Accepted,
    #[prost(message, repeated, tag = "2")]
    pub(super) deliveries: Vec<MovedDelivery>,
    /// The journey so far.
    #[prost(message, repeated, tag = "3")]
    pub(super) events: Vec<JourneyEvent>,
    /// It came from another store, and adds so much to the counts.
    #[prost(message, optional, tag = "4")]
    pub(super) arrived: Option<Totals>,
}

/// The state of one delivery of a moved message.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MovedDelivery {
    #[prost(message, required, tag = "1")]
    pub(super) rest: Rest,
    #[prost(uint32, tag = "2")]
    pub(super) attempts: u32,
    #[prost(fixed64, tag = "3")]
    pub(super) due_us: u64,
    #[prost(bool, tag = "4")]
    pub(super) held: bool,
    #[prost(bool, tag = "5")]
    pub(super) bounce: bool,
    /// When the hold ends by itself; 0 if it does not.
    #[prost(fixed64, tag = "6")]
    pub(super) held_until_us: u64,
    #[prost(uint32, tag = "7")]
    pub(super) unknown_attempts: u32,
    #[prost(bool, tag = "8")]
    pub(super) delay_warned: bool,
    /// Where it goes, if an operator said so; otherwise where its recipients do.
    #[prost(string, tag = "9")]
    pub(super) destination: String,
}

/// Something small that is kept beside the mail.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Keep {
    #[prost(string, tag = "1")]
    pub(super) kind: String,
    #[prost(string, tag = "2")]
    pub(super) key: String,
    #[prost(uint64, tag = "3")]
    pub(super) version: u64,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) value: bytes::Bytes,
    /// It is not kept any more.
    #[prost(bool, tag = "5")]
    pub(super) gone: bool,
}

/// An acceptance that was never acknowledged, taken back.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Withdrawn {
    #[prost(message, required, tag = "1")]
    pub(super) id: Id,
}

impl Accepted {
    /// From when on it may be attempted; its lifetime counts from then.
    pub(super) fn begin_us(&self) -> u64 {
        self.accepted_us.max(self.message.release_us)
    }
}

/// [`Accepted`] with nothing but its addresses: every message that ends is indexed by them.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AcceptedAddresses {
    #[prost(message, optional, tag = "1")]
    message: Option<MessageAddresses>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MessageAddresses {
    #[prost(message, optional, tag = "2")]
    envelope: Option<Addresses>,
}

/// The same of [`Moved`].
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MovedAddresses {
    #[prost(message, optional, tag = "1")]
    pub(super) accepted: Option<AcceptedAddresses>,
}

/// Whom an envelope names.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Addresses {
    #[prost(string, tag = "1")]
    pub(super) reverse_path: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) recipients: Vec<Address>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Address {
    #[prost(string, tag = "1")]
    pub(super) address: String,
}

impl AcceptedAddresses {
    pub(super) fn into_addresses(self) -> Option<Addresses> {
        self.message?.envelope
    }
}

/// [`Accepted`] without what only journeys need: a start with a million messages waiting reads
/// a million of these.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AcceptedBrief {
    #[prost(message, required, tag = "1")]
    message: MessageBrief,
    #[prost(fixed64, tag = "2")]
    accepted_us: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MessageBrief {
    #[prost(string, tag = "1")]
    queue_id: String,
    #[prost(message, optional, tag = "2")]
    envelope: Option<Envelope>,
    #[prost(message, optional, tag = "3")]
    body: Option<Body>,
    #[prost(string, tag = "4")]
    message_id: String,
    #[prost(string, tag = "8")]
    tenant: String,
    #[prost(sint32, tag = "9")]
    priority: i32,
    #[prost(uint64, tag = "10")]
    release_us: u64,
}

impl From<AcceptedBrief> for Accepted {
    fn from(brief: AcceptedBrief) -> Self {
        Self {
            message: NewMessage {
                queue_id: brief.message.queue_id,
                envelope: brief.message.envelope,
                body: brief.message.body,
                message_id: brief.message.message_id,
                tenant: brief.message.tenant,
                priority: brief.message.priority,
                release_us: brief.message.release_us,
                ..NewMessage::default()
            },
            accepted_us: brief.accepted_us,
            instance: String::new(),
        }
    }
}
