//! Finding messages by Message-ID, sender or recipient, queued or ended.
//!
//! Memory and the archive know hashes; whether a message fits is seen when it is read.

use hashbrown::HashSet;
use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::Envelope;
use prost::Message as _;

use super::archive::{Key, Piece};
use super::core::{Shared, unavailable};
use super::frame::{Kind, Location};
use super::journey;
use super::message::Message;
use super::pulling::read_stored;
use super::record::{Accepted, Moved};
use super::state::{Ended, message_id_hash, name};
use super::suspensions::{Hashes, SenderHash};
use crate::store::{Find, StoreError};

/// Messages that are looked at before the lock is given up for a moment.
const STRIDE: usize = 8192;

/// What is looked for, as far as memory can tell.
enum Test {
    MessageId(u64),
    Sender(u64),
    Recipient(u64),
}

impl Test {
    fn new(what: &Find, hashes: &Hashes) -> Self {
        match what {
            Find::MessageId(id) => Self::MessageId(message_id_hash(id)),
            Find::Sender(address) => Self::Sender(hashes.of(address)),
            Find::Recipient(address) => Self::Recipient(hashes.recipient_bits(address)),
        }
    }

    fn may_fit(&self, message_id: u64, sender: SenderHash, recipients: u64) -> bool {
        match self {
            Self::MessageId(hash) => message_id == *hash,
            Self::Sender(hash) => sender.address == *hash,
            Self::Recipient(bits) => recipients & bits == *bits,
        }
    }

    fn may_be(&self, message: &Message) -> bool {
        message.durable && self.may_fit(message.message_id, message.sender, message.recipients)
    }

    fn may_have_been(&self, ended: &Ended) -> bool {
        self.may_fit(ended.message_id, ended.sender, ended.recipients)
    }
}

/// Messages that fit, newest first, at most `limit`.
pub(super) fn find(shared: &Shared, what: &Find, limit: usize) -> Result<Vec<QueueId>, StoreError> {
    if matches!(what, Find::MessageId(id) if id.is_empty()) || limit == 0 {
        return Ok(Vec::new());
    }
    let mut found = archived(shared, what, limit)?;
    found.extend(in_memory(shared, what, limit)?);
    // Newest by id, which grows with time.
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.dedup();
    found.truncate(limit);
    Ok(found)
}

fn archived(shared: &Shared, what: &Find, limit: usize) -> Result<Vec<QueueId>, StoreError> {
    let key = match what {
        Find::MessageId(id) => Key::message_id(id),
        Find::Sender(address) => Key::sender(address),
        Find::Recipient(address) => Key::recipient(address),
    };
    let entries = shared
        .archive
        .find_newest(key, limit, shared.now_us(), |entry| {
            let accepted = entry.pieces.first().and_then(accepted);
            accepted.is_some_and(|accepted| fits(what, &accepted))
        });
    let entries = entries.map_err(|error| unavailable(&error))?;
    Ok(entries
        .iter()
        .map(|entry| QueueId::from_u128(entry.id))
        .collect())
}

/// The acceptance with which a journey begins.
fn accepted(piece: &Piece) -> Option<Accepted> {
    let is = |kind: Kind| piece.kind == kind as u32;
    if is(Kind::Accepted) {
        Accepted::decode(piece.record.clone()).ok()
    } else if is(Kind::Moved) {
        let moved = Moved::decode(piece.record.clone()).ok()?;
        Some(moved.accepted)
    } else {
        None
    }
}

/// Those that are queued, or ended just now.
fn in_memory(shared: &Shared, what: &Find, limit: usize) -> Result<Vec<QueueId>, StoreError> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut up_to = u128::MAX;
    loop {
        let mut candidates = Vec::new();
        let mut last = None;
        {
            let mut core = shared.lock();
            core.log.flush().map_err(|error| unavailable(&error))?;
            let state = &core.state;
            let test = Test::new(what, &state.hashes);
            if up_to == u128::MAX {
                let ending = state.ending.iter();
                candidates.extend(
                    ending
                        .filter(|(_, ended)| test.may_have_been(ended))
                        .map(|(id, ended)| (*id, ended.first)),
                );
            }
            for (id, message) in state.messages.range(..=up_to).rev().take(STRIDE) {
                last = Some(*id);
                if test.may_be(message) {
                    candidates.push((*id, message.first));
                }
            }
        }
        candidates.sort_unstable_by(|a, b| b.cmp(a));
        let mut in_stride = 0;
        for (id, first) in candidates {
            if in_stride < limit && seen.insert(id) && does_fit(shared, what, id, first)? {
                in_stride += 1;
                found.push(QueueId::from_u128(id));
            }
        }
        let next = last.and_then(|last| last.checked_sub(1));
        match next {
            Some(next) if found.len() < limit => up_to = next,
            _ => return Ok(found),
        }
    }
}

/// Reads a message to see whether it fits.
fn does_fit(shared: &Shared, what: &Find, id: u128, first: Location) -> Result<bool, StoreError> {
    match read_stored(shared, name(id, 0), first, false) {
        Ok(stored) => Ok(fits(what, &stored.accepted)),
        Err(error) => {
            // It may have been moved meanwhile, or ended; its journey knows.
            tracing::debug!(queue_id = %QueueId::from_u128(id), %error, "looked for elsewhere");
            let journey = journey::of(shared, QueueId::from_u128(id))?;
            Ok(journey.is_some_and(|journey| match what {
                Find::MessageId(wanted) => journey.message_id == *wanted,
                Find::Sender(wanted) => journey.reverse_path.eq_ignore_ascii_case(wanted),
                Find::Recipient(wanted) => journey::recipients(&journey)
                    .any(|address| address.eq_ignore_ascii_case(wanted)),
            }))
        }
    }
}

fn fits(what: &Find, accepted: &Accepted) -> bool {
    let nobody = Envelope::default();
    let envelope = accepted.message.envelope.as_ref().unwrap_or(&nobody);
    match what {
        Find::MessageId(wanted) => accepted.message.message_id == *wanted,
        Find::Sender(wanted) => envelope.reverse_path.eq_ignore_ascii_case(wanted),
        Find::Recipient(wanted) => envelope
            .recipients
            .iter()
            .any(|recipient| recipient.address.eq_ignore_ascii_case(wanted)),
    }
}
