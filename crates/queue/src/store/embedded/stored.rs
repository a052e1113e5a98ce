//! A message as it is stored: its acceptance and its inline content.

use bytes::Bytes;
use hashbrown::HashMap;
use postrider_protocol::queue_v1::{Body, NewMessage, Recipient, body};
use postrider_protocol::{Destination, QueueId};
use prost::Message as _;

use super::frame::Kind;
use super::record::{Accepted, AcceptedBrief, Completed, Moved};

/// An accepted message in memory.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) accepted: Accepted,
    /// The acceptance as it lies in the log.
    pub(super) record: Bytes,
    /// Inline content.
    pub(super) content: Bytes,
}

impl Stored {
    /// About how much memory it takes.
    pub(super) fn size(&self) -> usize {
        // Decoded, the record takes about three times the space that it takes encoded.
        size_of::<Self>() + 4 * self.record.len() + self.content.len()
    }

    /// The body as a worker gets it.
    pub(super) fn body(&self) -> Body {
        let stored = self.accepted.message.body.as_ref();
        Body {
            size: stored.map_or(0, |body| body.size),
            content: stored
                .and_then(|body| body.content.clone())
                .or_else(|| Some(body::Content::Inline(self.content.clone()))),
        }
    }

    /// From a record and its content.
    pub(super) fn decode(record: Bytes, content: Bytes) -> Result<Self, prost::DecodeError> {
        Ok(Self {
            accepted: Accepted::decode(record.clone())?,
            record,
            content,
        })
    }
}

/// Takes the inline content out of a message, so that it is encoded without it.
pub(super) fn take_content(message: &mut NewMessage) -> Bytes {
    let Some(body) = &mut message.body else {
        return Bytes::new();
    };
    match body.content.take() {
        Some(body::Content::Inline(content)) => content,
        stored => {
            body.content = stored;
            Bytes::new()
        }
    }
}

/// The name of the message's stored body.
pub(super) fn stored_body(message: &NewMessage) -> Option<&str> {
    match message.body.as_ref()?.content.as_ref()? {
        body::Content::Stored(name) => Some(name),
        body::Content::Inline(_) => None,
    }
}

/// The destinations of recipients in the order in which they first appear, each with how many
/// recipients it has. This order numbers the deliveries of a message, now and for ever.
pub(super) fn destinations(recipients: &[Recipient]) -> Vec<(Destination, u32)> {
    let mut found: Vec<(Destination, u32)> = Vec::with_capacity(1);
    for (recipient, number) in recipients.iter().zip(delivery_numbers(recipients)) {
        if number as usize == found.len() {
            found.push((parse_destination(&recipient.destination), 0));
        }
        found[number as usize].1 += 1;
    }
    found
}

/// The places in the envelope of the recipients of one delivery.
pub(super) fn recipients_of(recipients: &[Recipient], number: u32) -> Vec<u32> {
    (0..)
        .zip(delivery_numbers(recipients))
        .filter(|(_, of)| *of == number)
        .map(|(place, _)| place)
        .collect()
}

/// For each recipient, the number of its delivery.
fn delivery_numbers(recipients: &[Recipient]) -> Vec<u32> {
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    recipients
        .iter()
        .map(|recipient| {
            let next = numbers.len() as u32;
            *numbers.entry(&recipient.destination).or_insert(next)
        })
        .collect()
}

pub(super) fn parse_destination(text: &str) -> Destination {
    text.parse().unwrap_or_else(|_| {
        let (transport, domain) = text.split_once(':').unwrap_or(("invalid", text));
        Destination::new(transport, domain)
    })
}

/// The message's queue id.
pub(super) fn queue_id(message: &NewMessage) -> Option<QueueId> {
    message.queue_id.parse().ok()
}

/// The messages that begin with a record.
pub(super) fn begun_by(kind: Kind, record: Bytes) -> Vec<QueueId> {
    match kind {
        Kind::Accepted => AcceptedBrief::decode(record)
            .ok()
            .and_then(|brief| queue_id(&Accepted::from(brief).message))
            .into_iter()
            .collect(),
        Kind::Moved => Moved::decode(record)
            .ok()
            .and_then(|moved| queue_id(&moved.accepted.message))
            .into_iter()
            .collect(),
        Kind::Completed => Completed::decode(record)
            .map(|completed| {
                completed
                    .dsn
                    .iter()
                    .filter_map(|dsn| queue_id(&dsn.accepted.message))
                    .collect()
            })
            .unwrap_or_default(),
        Kind::Head
        | Kind::Leased
        | Kind::LeaseEnded
        | Kind::Changed
        | Kind::Withdrawn
        | Kind::Kept => Vec::new(),
    }
}
