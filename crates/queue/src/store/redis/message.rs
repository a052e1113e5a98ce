//! Messages as they lie in Redis, and back.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use postrider_protocol::queue_v1::{
    Body, Envelope, Journey, JourneyEvent, LeasedDelivery, NewMessage, Notice, Queued, Recipient,
    RecipientOutcome, body, journey_event,
};
use postrider_protocol::{Destination, QueueId};
use prost::Message as _;
use redis::Cmd;

use super::content;
use super::failure::malformed;
use super::find;
use super::partition::Partitions;
use crate::store::StoreError;

/// Events that a message may bring along; the rest are left out.
const MOST_EVENTS: usize = 100;
/// A time that Lua's numbers hold exactly; in the year 2255.
pub(super) const MOST_TIME: u64 = 9_000_000_000_000_000;

/// A message, or its part in one partition, as the scripts' arguments.
#[derive(Clone)]
pub(super) struct Packed {
    /// The message.
    pub(super) id: QueueId,
    /// Its content, which goes around the scripts.
    pub(super) content: Bytes,
    /// The message itself, without its events, for this process' memory.
    pub(super) message: Arc<NewMessage>,
    deliveries: Vec<Delivery>,
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
            message_id: message.message_id.clone(),
            ..Journey::default()
        };
        let sender = Bytes::copy_from_slice(envelope.reverse_path.as_bytes());
        let names = find::names(id, &message);
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
        let content = content::encode(&message, &inline);
        let mut args = Vec::with_capacity(10 + 3 * deliveries.len());
        args.push(Bytes::from(message.queue_id.clone()));
        args.push(content.len().to_string().into());
        args.extend([stored, sender]);
        args.push(Bytes::copy_from_slice(message.tenant.as_bytes()));
        args.push(message.priority.clamp(-9, 9).to_string().into());
        args.push(message.release_us.min(MOST_TIME).to_string().into());
        args.push(header.encode_to_vec().into());
        args.push(names.len().to_string().into());
        args.extend(names);
        let events: Vec<Bytes> = events.iter().take(MOST_EVENTS).map(timed_event).collect();
        args.push(events.len().to_string().into());
        args.extend(events);
        args.push(event(instance, journey_event::What::Queued(queued)).into());
        if let Some(body) = &mut message.body
            && body.content.is_none()
        {
            body.content = Some(body::Content::Inline(inline));
        }
        Ok(Self {
            id,
            content,
            message: Arc::new(message),
            deliveries,
            args,
        })
    }

    /// Adds the message to a call, without its content: a plain command beside the call writes it.
    pub(super) fn add_to(&self, cmd: &mut Cmd) {
        cmd.arg("");
        self.add_rest_to(cmd);
    }

    /// Adds the message with its content to a call.
    pub(super) fn add_whole_to(&self, cmd: &mut Cmd) {
        cmd.arg(self.content.as_ref());
        self.add_rest_to(cmd);
    }

    fn add_rest_to(&self, cmd: &mut Cmd) {
        for arg in &self.args {
            cmd.arg(arg.as_ref());
        }
        cmd.arg(self.deliveries.len());
        for delivery in &self.deliveries {
            cmd.arg(delivery.number)
                .arg(&delivery.destination)
                .arg(delivery.recipients)
                .arg(&delivery.line);
        }
    }

    /// How many deliveries there are.
    pub(super) fn deliveries(&self) -> usize {
        self.deliveries.len()
    }

    /// Its parts by partition, in the order of their first deliveries.
    pub(super) fn divide(self, partitions: Partitions) -> Vec<(usize, Self)> {
        let mut parts: Vec<(usize, Vec<Delivery>)> = Vec::new();
        for delivery in self.deliveries {
            let partition = partitions.of(&delivery.destination);
            match parts.iter_mut().find(|(known, _)| *known == partition) {
                Some((_, deliveries)) => deliveries.push(delivery),
                None => parts.push((partition, vec![delivery])),
            }
        }
        let part = |(partition, deliveries)| {
            let part = Self {
                id: self.id,
                content: self.content.clone(),
                message: self.message.clone(),
                deliveries,
                args: self.args.clone(),
            };
            (partition, part)
        };
        parts.into_iter().map(part).collect()
    }

    /// Bytes.
    pub(super) fn weight(&self) -> usize {
        let args: usize = self.args.iter().map(|arg| arg.len() + 16).sum();
        let lines: usize = self.deliveries.iter().map(|to| to.line.len() + 64).sum();
        args + lines + self.content.len()
    }
}

/// The recipients of one message at one destination.
#[derive(Clone)]
struct Delivery {
    number: usize,
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
                    number: deliveries.len(),
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
pub(super) fn timed_event(event: &JourneyEvent) -> Bytes {
    let mut item = format!("{}\n", event.time_us).into_bytes();
    item.reserve(event.encoded_len());
    event.encode_raw(&mut item);
    item.into()
}

/// What is known of a message whose content is missing. It names a stored body that is not there
/// either, so that its deliveries wait, and an operator is told, as with any body that is missing.
pub(super) fn without_content(id: QueueId, sender: String, open: &Open<'_>) -> NewMessage {
    let recipient = |address: &&str| Recipient {
        address: (*address).to_owned(),
        destination: open.destination.to_owned(),
        ..Recipient::default()
    };
    NewMessage {
        queue_id: id.to_string(),
        envelope: Some(Envelope {
            reverse_path: sender,
            recipients: open.addresses.iter().map(recipient).collect(),
            ..Envelope::default()
        }),
        body: Some(Body {
            size: 0,
            content: Some(body::Content::Stored(format!("missing-{id}"))),
        }),
        ..NewMessage::default()
    }
}

/// The open recipients of a delivery: its destination and their addresses.
#[derive(Debug, Default)]
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

    /// The recipients of the delivery with this number, out of all of the message's. Both are in the
    /// same order. They go where the delivery goes now, whatever was meant when it was accepted.
    pub(super) fn choose(&self, all: Vec<Recipient>, number: u32) -> Vec<Recipient> {
        let mut known = HashSet::new();
        let meant = all
            .iter()
            .map(|recipient| recipient.destination.as_str())
            .filter(|destination| known.insert(*destination))
            .nth(number as usize);
        let Some(meant) = meant.map(str::to_owned) else {
            return Vec::new();
        };
        let mut open = self.addresses.iter().peekable();
        let mut chosen: Vec<Recipient> = all
            .into_iter()
            .filter(|recipient| {
                recipient.destination == meant
                    && open
                        .next_if(|address| **address == recipient.address)
                        .is_some()
            })
            .collect();
        if meant != self.destination {
            for recipient in &mut chosen {
                self.destination.clone_into(&mut recipient.destination);
            }
        }
        chosen
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

/// A delivery's progress, as `scripts/progress.lua` writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Progress {
    pub(super) attempts: u32,
    /// An operator wants it bounced.
    pub(super) bounce: bool,
    /// The sender was told of the delay.
    pub(super) warned: bool,
    /// Attempts whose outcome is unknown.
    pub(super) unknown: u32,
}

impl std::fmt::Display for Progress {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.attempts)?;
        if self.bounce {
            out.write_str("b")?;
        }
        if self.warned {
            out.write_str("w")?;
        }
        if self.unknown > 0 {
            write!(out, "u{}", self.unknown)?;
        }
        Ok(())
    }
}

impl Progress {
    pub(super) fn parse(text: Option<&[u8]>) -> Result<Self, StoreError> {
        let wrong = || malformed("the attempts");
        let text = std::str::from_utf8(text.unwrap_or(b"0")).map_err(|_| wrong())?;
        let (text, unknown) = match text.split_once('u') {
            Some((text, unknown)) => (text, unknown.parse().map_err(|_| wrong())?),
            None => (text, 0),
        };
        let (text, warned) = match text.strip_suffix('w') {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (text, bounce) = match text.strip_suffix('b') {
            Some(text) => (text, true),
            None => (text, false),
        };
        Ok(Self {
            attempts: text.parse().map_err(|_| wrong())?,
            bounce,
            warned,
            unknown,
        })
    }
}

/// The journey event of what a destination's policy holds.
pub(super) fn held_by_policy(instance: &str) -> Vec<u8> {
    let notice = Notice {
        text: "held: outcome unknown".to_owned(),
        ..Notice::default()
    };
    event(instance, journey_event::What::Notice(notice))
}

/// A delivery under a lease, from its message.
pub(super) fn leased(message: Arc<NewMessage>, number: u32, open: &Open<'_>) -> LeasedDelivery {
    let message = Arc::unwrap_or_clone(message);
    let mut envelope = message.envelope;
    if let Some(envelope) = &mut envelope {
        envelope.recipients = open.choose(std::mem::take(&mut envelope.recipients), number);
    }
    LeasedDelivery {
        queue_id: message.queue_id,
        destination: open.destination.to_owned(),
        envelope,
        body: message.body,
        message_id: message.message_id,
        traceparent: message.traceparent,
        origin: message.origin,
        tenant: message.tenant,
        priority: message.priority,
        release_us: message.release_us,
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
        let chosen = open.choose(all.clone(), 0);
        assert_eq!(chosen.len(), 2);
        assert_eq!(chosen[0].address, "c@x");
        let elsewhere = Open::parse(b"smtp:z\nb@y").unwrap().choose(all, 1);
        assert_eq!(elsewhere.len(), 1);
        assert_eq!(elsewhere[0].destination, "smtp:z");
    }

    #[test]
    fn what_would_break_the_lines_is_refused() {
        assert!(group(&[recipient("a\nb@x", "smtp:x")]).is_err());
        assert!(group(&[recipient("a@x", "smtp")]).is_err());
        assert!(group(&[]).is_err());
    }

    #[test]
    fn progress_parses() {
        let progress = |text: Option<&str>| Progress::parse(text.map(str::as_bytes));
        assert_eq!(progress(None).unwrap(), Progress::default());
        assert_eq!(
            progress(Some("12bwu3")).unwrap(),
            Progress {
                attempts: 12,
                bounce: true,
                warned: true,
                unknown: 3,
            }
        );
        for bad in ["x", "", "1u", "b", "1wb"] {
            assert!(progress(Some(bad)).is_err(), "{bad}");
        }
    }
}
