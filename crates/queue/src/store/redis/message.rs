//! Messages as they lie in Redis, and back.

use std::collections::HashMap;

use bytes::Bytes;
use postrider_protocol::queue_v1::{
    Journey, JourneyEvent, LeasedDelivery, NewMessage, Queued, Recipient, RecipientOutcome, body,
    journey_event,
};
use postrider_protocol::{Destination, QueueId};
use prost::Message as _;
use redis::Cmd;

use super::failure::malformed;
use crate::store::StoreError;

/// Events that a message may bring along; the rest are left out.
const MOST_EVENTS: usize = 100;
/// A Message-ID longer than a header line may be is not indexed.
const MOST_MESSAGE_ID: usize = 998;

/// A message as the scripts' arguments.
pub(super) struct Packed {
    /// The message.
    pub(super) id: QueueId,
    args: Vec<Bytes>,
}

impl Packed {
    /// Checks a message and packs it.
    pub(super) fn new(mut message: NewMessage, instance: &str) -> Result<Self, StoreError> {
        let invalid = |what: &str| StoreError::Invalid(what.to_owned());
        let id: QueueId = message
            .queue_id
            .parse()
            .map_err(|_| invalid("the queue id is malformed"))?;
        message.queue_id = id.to_string();
        let envelope = message
            .envelope
            .as_ref()
            .ok_or_else(|| invalid("no envelope"))?;
        let deliveries = group(&envelope.recipients)?;
        let queued = Queued {
            reverse_path: envelope.reverse_path.clone(),
            recipients: envelope
                .recipients
                .iter()
                .map(|to| to.address.clone())
                .collect(),
            size: message.body.as_ref().map_or(0, |body| body.size),
        };
        let header = Journey {
            queue_id: message.queue_id.clone(),
            message_id: message.message_id.clone(),
            reverse_path: envelope.reverse_path.clone(),
            ..Journey::default()
        };
        let events = std::mem::take(&mut message.events);
        let body = message.body.as_mut().ok_or_else(|| invalid("no body"))?;
        let (mut inline, mut stored) = (Bytes::new(), Bytes::new());
        match &mut body.content {
            Some(body::Content::Inline(content)) => {
                inline = std::mem::take(content);
                body.content = None;
            }
            Some(body::Content::Stored(name)) if !name.is_empty() => {
                stored = Bytes::copy_from_slice(name.as_bytes());
            }
            _ => return Err(invalid("the body has no content")),
        }
        let message_id = if message.message_id.len() <= MOST_MESSAGE_ID {
            Bytes::copy_from_slice(message.message_id.as_bytes())
        } else {
            Bytes::new()
        };

        let mut args = Vec::with_capacity(10 + 3 * deliveries.len());
        args.push(Bytes::from(message.queue_id.clone()));
        args.push(message.encode_to_vec().into());
        args.extend([inline, stored, message_id, header.encode_to_vec().into()]);
        let events: Vec<Bytes> = events.iter().take(MOST_EVENTS).map(timed_event).collect();
        args.push(events.len().to_string().into());
        args.extend(events);
        args.push(event(instance, journey_event::What::Queued(queued)).into());
        args.push(deliveries.len().to_string().into());
        for delivery in deliveries {
            args.push(delivery.destination.into());
            args.push(delivery.recipients.to_string().into());
            args.push(delivery.line.into());
        }
        Ok(Self { id, args })
    }

    /// Adds the message to a call.
    pub(super) fn add_to(&self, cmd: &mut Cmd) {
        for arg in &self.args {
            cmd.arg(arg.as_ref());
        }
    }

    /// Bytes.
    pub(super) fn weight(&self) -> usize {
        self.args.iter().map(|arg| arg.len() + 16).sum()
    }
}

/// The recipients of one message at one destination.
struct Delivery {
    destination: String,
    recipients: usize,
    /// The destination and the addresses, a line each: what the scripts read.
    line: String,
}

/// Deliveries are numbered by the first recipient of each.
fn group(recipients: &[Recipient]) -> Result<Vec<Delivery>, StoreError> {
    let mut deliveries: Vec<Delivery> = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    for recipient in recipients {
        if recipient.address.is_empty() || recipient.address.bytes().any(|byte| byte < b' ') {
            return Err(StoreError::Invalid(format!(
                "{:?} is no address",
                recipient.address
            )));
        }
        let at = match known.get(recipient.destination.as_str()) {
            Some(at) => *at,
            None => {
                if recipient.destination.parse::<Destination>().is_err() {
                    return Err(StoreError::Invalid(format!(
                        "{:?} is no destination",
                        recipient.destination
                    )));
                }
                known.insert(&recipient.destination, deliveries.len());
                deliveries.push(Delivery {
                    destination: recipient.destination.clone(),
                    recipients: 0,
                    line: recipient.destination.clone(),
                });
                deliveries.len() - 1
            }
        };
        deliveries[at].recipients += 1;
        deliveries[at].line.push('\n');
        deliveries[at].line.push_str(&recipient.address);
    }
    if deliveries.is_empty() {
        return Err(StoreError::Invalid("no recipients".to_owned()));
    }
    Ok(deliveries)
}

/// A journey event without its time, which the store's clock gives.
pub(super) fn event(instance: &str, what: journey_event::What) -> Vec<u8> {
    JourneyEvent {
        time_us: 0,
        instance: instance.to_owned(),
        what: Some(what),
    }
    .encode_to_vec()
}

/// A journey event that has its time already, as it lies in the journey.
fn timed_event(event: &JourneyEvent) -> Bytes {
    let mut item = format!("{}\n", event.time_us).into_bytes();
    item.reserve(event.encoded_len());
    event.encode_raw(&mut item);
    item.into()
}

/// The open recipients of a delivery: its destination and their addresses.
pub(super) struct Open<'a> {
    pub(super) destination: &'a str,
    pub(super) addresses: Vec<&'a str>,
}

impl<'a> Open<'a> {
    pub(super) fn parse(line: &'a [u8]) -> Result<Self, StoreError> {
        let text = std::str::from_utf8(line).map_err(|_| malformed("the recipients"))?;
        let mut lines = text.split('\n');
        Ok(Self {
            destination: lines.next().unwrap_or_default(),
            addresses: lines.collect(),
        })
    }

    /// The recipients, out of all of the message's. Both are in the same order.
    pub(super) fn choose(&self, all: Vec<Recipient>) -> Vec<Recipient> {
        let mut open = self.addresses.iter().peekable();
        all.into_iter()
            .filter(|recipient| {
                recipient.destination == self.destination
                    && open
                        .next_if(|address| **address == recipient.address)
                        .is_some()
            })
            .collect()
    }

    /// The latest outcome of each, out of those that were kept, oldest first.
    pub(super) fn last_outcomes(&self, kept: &[RecipientOutcome]) -> Vec<RecipientOutcome> {
        let latest: HashMap<&str, &RecipientOutcome> = kept
            .iter()
            .map(|outcome| (outcome.address.as_str(), outcome))
            .collect();
        self.addresses
            .iter()
            .filter_map(|address| latest.get(address))
            .map(|outcome| (*outcome).clone())
            .collect()
    }
}

/// A delivery's attempts so far, and whether an operator wants it bounced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) attempts: u32,
    pub(super) bounce: bool,
}

impl Progress {
    pub(super) fn parse(text: Option<&[u8]>) -> Result<Self, StoreError> {
        let text = std::str::from_utf8(text.unwrap_or(b"0")).unwrap_or_default();
        let digits = text.trim_end_matches('b');
        Ok(Self {
            attempts: digits.parse().map_err(|_| malformed("the attempts"))?,
            bounce: digits.len() < text.len(),
        })
    }
}

/// The stored record with its body, as the body of a delivery.
pub(super) fn decode_record(
    record: Bytes,
    inline: Option<Bytes>,
) -> Result<NewMessage, StoreError> {
    let mut message = NewMessage::decode(record).map_err(|_| malformed("a message"))?;
    if let Some(body) = &mut message.body
        && body.content.is_none()
    {
        body.content = Some(body::Content::Inline(inline.unwrap_or_default()));
    }
    Ok(message)
}

/// A delivery under a lease, from its message.
pub(super) fn leased(message: NewMessage, open: &Open<'_>) -> LeasedDelivery {
    let mut envelope = message.envelope;
    if let Some(envelope) = &mut envelope {
        envelope.recipients = open.choose(std::mem::take(&mut envelope.recipients));
    }
    LeasedDelivery {
        queue_id: message.queue_id,
        destination: open.destination.to_owned(),
        envelope,
        body: message.body,
        message_id: message.message_id,
        traceparent: message.traceparent,
        origin: message.origin,
        ..LeasedDelivery::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipient(address: &str, destination: &str) -> Recipient {
        Recipient {
            address: address.to_owned(),
            destination: destination.to_owned(),
            ..Recipient::default()
        }
    }

    #[test]
    fn recipients_are_grouped_by_destination() {
        let all = vec![
            recipient("a@x", "smtp:x"),
            recipient("b@y", "smtp:y"),
            recipient("c@x", "smtp:x"),
            recipient("a@x", "smtp:x"),
        ];
        let deliveries = group(&all).unwrap();
        assert_eq!(deliveries.len(), 2);
        assert_eq!(deliveries[0].line, "smtp:x\na@x\nc@x\na@x");
        assert_eq!(deliveries[1].recipients, 1);
        let open = Open::parse(b"smtp:x\nc@x\na@x").unwrap();
        let chosen = open.choose(all);
        assert_eq!(chosen.len(), 2);
        assert_eq!(chosen[0].address, "c@x");
    }

    #[test]
    fn what_would_break_the_lines_is_refused() {
        assert!(group(&[recipient("a\nb@x", "smtp:x")]).is_err());
        assert!(group(&[recipient("a@x", "smtp")]).is_err());
        assert!(group(&[]).is_err());
    }

    #[test]
    fn progress_parses() {
        let progress = |text: Option<&str>| Progress::parse(text.map(str::as_bytes)).unwrap();
        assert_eq!(
            progress(None),
            Progress {
                attempts: 0,
                bounce: false
            }
        );
        assert_eq!(
            progress(Some("12b")),
            Progress {
                attempts: 12,
                bounce: true
            }
        );
        assert!(Progress::parse(Some(b"x")).is_err());
    }
}
