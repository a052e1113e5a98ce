//! Finding messages by Message-ID, sender and recipient.
//!
//! A message is filed under each of these: under a hash of it, in the strings of the hour in which it was
//! accepted (`scripts/hours.lua`). Whoever looks reads one string of each hour, the latest first,
//! and has the journeys confirm what the hashes say.

use std::collections::HashSet;

use bytes::Bytes;
use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::{Journey, NewMessage, journey_event};
use redis::cmd;

use super::answer::{bytes, items, required};
use super::core::Core;
use super::journey::journeys;
use crate::store::{Find, StoreError};

/// Strings of an hour; as in `hours.lua`.
const PIECES: u8 = 64;
/// Hours that are read at a time.
const HOURS: usize = 24;
/// Journeys that are read at a time.
const JOURNEYS: usize = 100;
/// Bytes of a hash, and of a name: the hash and the queue id.
const HASH: usize = 8;
const NAME: usize = HASH + 16;

/// FNV-1a of what is looked for and what kind of thing it is. It stays the same for ever; the first
/// byte, which chooses the string, is the best mixed one.
fn hash(what: &Find) -> [u8; HASH] {
    let (kind, text) = match what {
        Find::MessageId(id) => (b'm', id.as_bytes().to_vec()),
        Find::Sender(address) => (b's', address.to_ascii_lowercase().into_bytes()),
        Find::Recipient(address) => (b'r', address.to_ascii_lowercase().into_bytes()),
    };
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in std::iter::once(kind).chain(text) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash.to_le_bytes()
}

/// All names of a message.
pub(super) fn names(id: QueueId, message: &NewMessage) -> Vec<Bytes> {
    let envelope = message.envelope.as_ref();
    let mut wanted: Vec<Find> = Vec::new();
    if !message.message_id.is_empty() {
        wanted.push(Find::MessageId(message.message_id.clone()));
    }
    if let Some(envelope) = envelope {
        wanted.push(Find::Sender(envelope.reverse_path.clone()));
        let recipients = envelope.recipients.iter();
        wanted.extend(recipients.map(|to| Find::Recipient(to.address.clone())));
    }
    let mut seen = HashSet::with_capacity(wanted.len());
    wanted
        .iter()
        .map(hash)
        .filter(|hash| seen.insert(*hash))
        .map(|hash| Bytes::from([hash.as_slice(), &id.as_u128().to_be_bytes()].concat()))
        .collect()
}

pub(super) async fn find(
    core: &Core,
    what: &Find,
    limit: usize,
) -> Result<Vec<QueueId>, StoreError> {
    let hash = hash(what);
    let piece = hash[0] % PIECES;
    let mut read = cmd("HKEYS");
    read.arg(core.key("hours"));
    let mut hours: Vec<u64> = items(core.link.query(&read).await?, "hours")?
        .into_iter()
        .map(|hour| required(Some(hour), "an hour"))
        .collect::<Result<_, _>>()?;
    hours.sort_unstable_by(|one, other| other.cmp(one));
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    for hours in hours.chunks(HOURS) {
        let reads = hours.iter().map(|hour| {
            let mut read = cmd("GET");
            read.arg(core.key(&format!("f:{hour}:{piece}")));
            read
        });
        let reads: Vec<_> = reads.collect();
        for names in core.link.query_all(&reads).await? {
            let names = bytes(Some(names), "names")?.unwrap_or_default();
            let ids: Vec<QueueId> = names
                .chunks_exact(NAME)
                .rev()
                .filter(|name| name[..HASH] == hash)
                .filter_map(|name| name[HASH..].try_into().ok())
                .map(|id| QueueId::from_u128(u128::from_be_bytes(id)))
                .collect();
            for ids in ids.chunks(JOURNEYS) {
                let known = ids.iter().zip(journeys(core, ids).await?);
                // A message that came back from another partition is filed more than once.
                let fitting = known.filter(|(id, journey)| {
                    journey.as_ref().is_some_and(|journey| fits(what, journey)) && seen.insert(**id)
                });
                found.extend(fitting.map(|(id, _)| *id).take(limit - found.len()));
                if found.len() == limit {
                    return Ok(found);
                }
            }
        }
    }
    Ok(found)
}

fn fits(what: &Find, journey: &Journey) -> bool {
    match what {
        Find::MessageId(id) => journey.message_id == *id,
        Find::Sender(address) => journey.reverse_path.eq_ignore_ascii_case(address),
        Find::Recipient(address) => journey.events.iter().any(|event| match &event.what {
            Some(journey_event::What::Queued(queued)) => queued
                .recipients
                .iter()
                .any(|recipient| recipient.eq_ignore_ascii_case(address)),
            _ => false,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_stay_as_they_are() {
        let sender = Find::Sender("Ann@Example.ORG".to_owned());
        assert_eq!(
            hash(&sender),
            hash(&Find::Sender("ann@example.org".to_owned()))
        );
        assert_ne!(
            hash(&sender),
            hash(&Find::Recipient("ann@example.org".to_owned()))
        );
        // FNV-1a of "sa", from its reference.
        assert_eq!(
            hash(&Find::Sender("a".to_owned())),
            0x08d9_2f07_b579_22d9_u64.to_le_bytes()
        );
    }

    #[test]
    fn a_message_has_a_name_for_each_address() {
        let id = QueueId::new();
        let message = NewMessage {
            message_id: "x@y".to_owned(),
            ..NewMessage::default()
        };
        let names = names(id, &message);
        assert_eq!(names.len(), 1);
        assert_eq!(names[0].len(), NAME);
        assert_eq!(names[0][HASH..], id.as_u128().to_be_bytes());
    }
}
