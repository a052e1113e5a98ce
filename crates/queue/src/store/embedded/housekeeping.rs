//! What has time: journeys of ended messages go to the archive, segments are made ahead and
//! deleted, stragglers are moved out of old segments. One thread, beside the commits.

use std::sync::{Arc, mpsc};

use postrider_protocol::{DeliveryId, QueueId};

use super::archive::Entry;
use super::core::{Core, Shared, unavailable};
use super::frame::{Draft, Kind, Location};
use super::journey::{fold, pieces};
use super::message::{DeliveryState, Marks, Message};
use super::pulling::{read_rest, read_stored};
use super::record::{Moved, MovedDelivery, Rest};
use super::scan::{Found, Scanner};
use super::segment::Segment;
use super::state::{Ended, name};
use crate::store::StoreError;

/// Something to do.
pub(super) enum Chore {
    /// These have ended, and that is durable.
    Archive(Vec<(u128, Ended)>),
    /// These segments are complete and synced.
    Segments(Vec<Arc<Segment>>),
    /// Tell when everything before is done.
    Barrier(mpsc::Sender<()>),
    /// The store is closed.
    Stop,
}

/// Segments that are always tolerated, full or not.
const SEGMENTS_TOLERATED: u64 = 4;

/// Runs until the store is gone.
pub(super) fn run(shared: &Shared, chores: &mpsc::Receiver<Chore>) {
    while let Ok(chore) = chores.recv() {
        match chore {
            Chore::Archive(ended) => archive(shared, ended),
            Chore::Segments(complete) => {
                for segment in complete {
                    // Gives back the space that was held in advance; if it fails, it costs space.
                    segment.trim(segment.len()).ok();
                }
                make_ahead(shared);
                if let Err(error) = reclaim(shared) {
                    tracing::error!(%error, "old segments of the queue's log stay");
                }
            }
            Chore::Barrier(done) => {
                if let Err(error) = shared.archive.sync() {
                    tracing::error!(%error, "journeys are not yet durable; the log has them");
                }
                done.send(()).ok();
            }
            Chore::Stop => return,
        }
    }
}

fn archive(shared: &Shared, ended: Vec<(u128, Ended)>) {
    for (id, ended) in &ended {
        let entry = Entry {
            id: *id,
            message_id: ended.message_id,
            number: ended.number,
            ended_us: ended.ended_us,
            addresses: Vec::new(),
            pieces: pieces(
                shared,
                QueueId::from_u128(*id),
                ended.first,
                ended.last,
                ended.record.clone(),
                ended.last_record.clone(),
            ),
        };
        let entry = entry.with_addresses();
        if let Err(error) = shared.archive.append(&entry) {
            // It stays known from the log, whose segments stay as well.
            tracing::error!(queue_id = %QueueId::from_u128(*id), %error, "a journey could not be kept");
            return;
        }
    }
    let mut core = shared.lock();
    for (id, ended) in &ended {
        let same = core
            .state
            .ending
            .get(id)
            .is_some_and(|known| known.number == ended.number);
        if same {
            core.state.ending.remove(id);
        }
    }
}

fn make_ahead(shared: &Shared) {
    let ahead = shared.lock().log.ahead.clone();
    if let Err(error) = ahead.make() {
        // The commit that needs it tries itself, and its callers hear of it.
        tracing::warn!(%error, "no segment could be made ahead");
    }
}

/// Deletes segments from the oldest on that no queued message and no unarchived journey needs.
/// Only from that end: a record's meaning rests on those before it.
fn reclaim(shared: &Shared) -> Result<(), StoreError> {
    loop {
        let (oldest, live, crowded) = {
            let core = shared.lock();
            let Some(oldest) = core.log.oldest_complete() else {
                return Ok(());
            };
            let first_live = core.state.segments.keys().next().copied();
            let live_bytes: u64 = core.state.segments.values().map(|(_, bytes)| bytes).sum();
            let total = core.log.total_bytes();
            let tolerated = core.log.settings.segment_size * SEGMENTS_TOLERATED;
            let journeys = core.state.ending.values().map(|ended| ended.first.segment);
            let bodies = core.state.ended_bodies.values().copied();
            let needed = journeys
                .chain(bodies)
                .any(|segment| segment <= oldest.number);
            if needed {
                return Ok(());
            }
            let live = first_live.is_some_and(|first| first <= oldest.number);
            (oldest, live, total > tolerated.max(2 * live_bytes))
        };
        if live {
            if !crowded || !move_out(shared, &oldest)? {
                return Ok(());
            }
            continue;
        }
        let commit = {
            let mut core = shared.lock();
            core.keep_again(oldest.number, shared.now_us())?;
            // What stands in for the segment must be durable before it goes: copies that were made
            // just now, and those of an earlier round in which the disk failed.
            let pending = core.log.last() > core.log.synced;
            pending.then(|| shared.commit(&mut core))
        };
        if let Some(commit) = commit {
            commit.wait()?;
        }
        let result = shared
            .archive
            .sync()
            .and_then(|()| shared.lock().log.remove_oldest());
        result.map_err(|error| unavailable(&error))?;
        shared
            .archive
            .expire(shared.now_us())
            .map_err(|error| unavailable(&error))?;
    }
}

/// Writes the live messages of an old segment again at the end of the log. Returns whether all
/// of them could be moved.
fn move_out(shared: &Shared, segment: &Arc<Segment>) -> Result<bool, StoreError> {
    let mut scanner = Scanner::new(segment.clone(), false);
    let mut all = true;
    loop {
        match scanner.next() {
            Found::End { .. } => break,
            Found::Damage { .. } | Found::Foreign { .. } => {}
            Found::Record { offset, header, .. } => {
                if !matches!(header.kind, Kind::Accepted | Kind::Moved | Kind::Completed) {
                    continue;
                }
                let at = Location {
                    segment: segment.number,
                    offset: offset as u32,
                };
                all &= move_begun_at(shared, segment, at)?;
            }
        }
    }
    let commit = shared.commit(&mut shared.lock());
    commit.wait()?;
    Ok(all)
}

/// Moves the messages that begin in the record at this place.
fn move_begun_at(shared: &Shared, segment: &Segment, at: Location) -> Result<bool, StoreError> {
    let (header, record, _) = match segment.read(at.offset, false) {
        Ok(read) => read,
        Err(_) => return Ok(true),
    };
    let mut all = true;
    for id in super::stored::begun_by(header.kind, record) {
        all &= move_message(shared, id, at)?;
    }
    Ok(all)
}

/// Moves one message, unless it has ended meanwhile. `false` if it could not be moved now.
fn move_message(shared: &Shared, id: QueueId, at: Location) -> Result<bool, StoreError> {
    let key = id.as_u128();
    let (seen, deliveries) = {
        let core = shared.lock();
        match core.state.messages.get(&key) {
            Some(message) if message.first == at => (message.last, standing(&core, id, message)),
            _ => return Ok(true),
        }
    };
    let damaged = |error| StoreError::Damaged(format!("{id}: {error}"));
    let stored = read_stored(shared, name(key, 0), at, true).map_err(damaged)?;
    let mut moved = Moved {
        accepted: stored.accepted.clone(),
        deliveries: Vec::new(),
        events: fold(id, &pieces(shared, id, at, seen, None, None), false).events,
        arrived: None,
    };
    for (number, (mut standing, rest_at, is_done)) in (0_u32..).zip(deliveries) {
        standing.rest = read_rest(shared, &stored, number, rest_at).map_err(damaged)?;
        if is_done {
            standing.rest.open.clear();
        }
        moved.deliveries.push(standing);
    }
    let draft = Draft::new(Kind::Moved, &moved, stored.content);
    let mut core = shared.lock();
    let unchanged =
        core.state.messages.get(&key).is_some_and(|message| {
            is_at_rest(message) && message.first == at && message.last == seen
        });
    if !unchanged {
        return Ok(!core.state.messages.contains_key(&key));
    }
    let len = draft.len();
    core.make_room(len, shared.now_us())?;
    let to = core.stage_linked(draft, Location::NONE, vec![key]);
    core.state.restore(id, &moved, to, len);
    // Its old copy must not go before the new one is durable; `move_out` waits for that.
    Ok(true)
}

/// How each delivery of a message stands, but for what is on disk; where that is, and whether it has
/// ended.
pub(super) fn standing(
    core: &Core,
    id: QueueId,
    message: &Message,
) -> Vec<(MovedDelivery, Location, bool)> {
    let deliveries = message.deliveries.as_slice().iter().enumerate();
    deliveries
        .map(|(number, delivery)| {
            let is_done = delivery.state == DeliveryState::Done;
            let held_until_us = core.state.holds.end_of(name(id.as_u128(), number));
            let destination = core.state.schedule.name(delivery.destination);
            let standing = MovedDelivery {
                rest: Rest::default(),
                attempts: delivery.attempts,
                due_us: delivery.due_us,
                held: delivery.state == DeliveryState::Held,
                bounce: delivery.marks.has(Marks::BOUNCE),
                held_until_us: held_until_us.unwrap_or(0),
                unknown_attempts: delivery.unknown_attempts.into(),
                delay_warned: delivery.marks.has(Marks::DELAY_WARNED),
                destination: destination
                    .filter(|_| !is_done)
                    .map_or_else(String::new, ToString::to_string),
            };
            (standing, delivery.rest, is_done)
        })
        .collect()
}

fn is_at_rest(message: &Message) -> bool {
    message.durable
        && message
            .deliveries
            .as_slice()
            .iter()
            .all(|delivery| delivery.state != DeliveryState::Leased)
}

/// The delivery ids of a message.
pub(super) fn deliveries_of(id: QueueId, message: &Message) -> Vec<DeliveryId> {
    (0..message.deliveries.as_slice().len())
        .map(|number| name(id.as_u128(), number))
        .collect()
}
