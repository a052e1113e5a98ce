//! What happened to a message, put together from its records.

use bytes::Bytes;
use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::{Journey, JourneyEvent, Notice, Queued, journey_event};
use prost::Message as _;

use super::archive::Piece;
use super::changing::HELD_UNKNOWN;
use super::core::{Shared, unavailable};
use super::frame::{Kind, Location};
use super::record::{Accepted, Changed, Completed, Moved};
use super::segment::ReadError;
use super::state::Newest;
use crate::store::StoreError;

/// The records of a message from its first to its last, without content.
pub(super) fn pieces(
    shared: &Shared,
    id: QueueId,
    first: Location,
    last: Location,
    first_record: Option<Bytes>,
    last_record: Option<Newest>,
) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = last;
    if let Some(newest) = last_record
        && last != first
    {
        pieces.push(own_part(newest.kind, newest.record, id));
        at = newest.before;
    }
    loop {
        if at == first
            && let Some(record) = &first_record
        {
            pieces.push(piece(Kind::Accepted, record.clone()));
            break;
        }
        match read(shared, at) {
            Ok((kind, record, before)) => {
                pieces.push(own_part(kind, record, id));
                if at == first || before == Location::NONE {
                    break;
                }
                at = before;
            }
            Err(error) => {
                tracing::error!(queue_id = %id, %error, "a part of a journey cannot be read");
                pieces.push(piece(Kind::Changed, unreadable().encode_to_vec().into()));
                if let (true, Some(record)) = (at != first, first_record) {
                    pieces.push(piece(Kind::Accepted, record));
                }
                break;
            }
        }
    }
    pieces.reverse();
    pieces
}

fn piece(kind: Kind, record: Bytes) -> Piece {
    Piece {
        kind: kind as u32,
        record,
    }
}

fn unreadable() -> Changed {
    Changed {
        events: vec![JourneyEvent {
            what: Some(journey_event::What::Notice(Notice {
                text: "what happened before this cannot be read any more: the store was damaged"
                    .to_owned(),
                ..Notice::default()
            })),
            ..JourneyEvent::default()
        }],
        ..Changed::default()
    }
}

fn read(shared: &Shared, at: Location) -> Result<(Kind, Bytes, Location), ReadError> {
    let segment = shared
        .segment(at.segment)
        .ok_or_else(|| ReadError::NoRecord {
            path: format!("segment {}", at.segment),
            offset: at.offset,
        })?;
    let (header, record, _) = segment.read(at.offset, false)?;
    Ok((header.kind, record, header.before))
}

/// A completion's record also holds the DSNs that it brought: of a DSN's own journey it is the
/// acceptance, in that of the message itself the DSN's content has no place.
fn own_part(kind: Kind, record: Bytes, id: QueueId) -> Piece {
    if kind != Kind::Completed {
        return piece(kind, record);
    }
    let Ok(mut completed) = Completed::decode(record.clone()) else {
        return piece(kind, record);
    };
    if QueueId::from(completed.delivery.id) == id {
        if completed.dsn.is_empty() {
            return piece(kind, record);
        }
        for dsn in &mut completed.dsn {
            dsn.content = Bytes::new();
        }
        return piece(kind, completed.encode_to_vec().into());
    }
    let own = completed
        .dsn
        .into_iter()
        .find(|dsn| super::stored::queue_id(&dsn.accepted.message) == Some(id));
    let accepted = own.map(|dsn| dsn.accepted).unwrap_or_default();
    piece(Kind::Accepted, accepted.encode_to_vec().into())
}

/// The journey that these records tell.
pub(super) fn fold(id: QueueId, pieces: &[Piece], ended: bool) -> Journey {
    let mut journey = Journey {
        queue_id: id.to_string(),
        ended,
        ..Journey::default()
    };
    for piece in pieces {
        // What cannot be decoded was reported when it was read.
        add(&mut journey, piece).ok();
    }
    journey
}

fn add(journey: &mut Journey, piece: &Piece) -> Result<(), prost::DecodeError> {
    let is = |kind: Kind| piece.kind == kind as u32;
    let record = piece.record.clone();
    if is(Kind::Accepted) {
        let accepted = Accepted::decode(record)?;
        describe(journey, &accepted);
        journey.events.extend(accepted_events(accepted));
    } else if is(Kind::Moved) {
        let moved = Moved::decode(record)?;
        describe(journey, &moved.accepted);
        journey.events.extend(moved.events);
    } else if is(Kind::Completed) {
        journey
            .events
            .extend(completed_events(Completed::decode(record)?));
    } else if is(Kind::Changed) {
        journey.events.extend(Changed::decode(record)?.events);
    }
    Ok(())
}

fn describe(journey: &mut Journey, accepted: &Accepted) {
    journey.message_id.clone_from(&accepted.message.message_id);
    if let Some(envelope) = &accepted.message.envelope {
        journey.reverse_path.clone_from(&envelope.reverse_path);
    }
}

/// What came with the message, and that it was queued.
fn accepted_events(accepted: Accepted) -> Vec<JourneyEvent> {
    let message = accepted.message;
    let envelope = message.envelope.unwrap_or_default();
    let recipients = envelope
        .recipients
        .into_iter()
        .map(|recipient| recipient.address)
        .collect();
    let mut events = message.events;
    events.push(JourneyEvent {
        time_us: accepted.accepted_us,
        instance: accepted.instance,
        what: Some(journey_event::What::Queued(Queued {
            reverse_path: envelope.reverse_path,
            recipients,
            size: message.body.map_or(0, |body| body.size),
        })),
    });
    events
}

/// The attempt, what followed from it, and the DSNs that it led to.
fn completed_events(completed: Completed) -> Vec<JourneyEvent> {
    let event = |what| JourneyEvent {
        time_us: completed.at_us,
        instance: completed.instance.clone(),
        what: Some(what),
    };
    let mut attempt = event(journey_event::What::Attempt(completed.attempt));
    if !completed.worker.is_empty() {
        attempt.instance = completed.worker;
    }
    let mut events = vec![attempt];
    if completed.held {
        events.push(event(journey_event::What::Notice(Notice {
            text: HELD_UNKNOWN.to_owned(),
            ..Notice::default()
        })));
    }
    for dsn in completed.dsn {
        let queue_id = dsn.accepted.message.queue_id;
        events.push(event(journey_event::What::Notice(Notice {
            text: format!("DSN {queue_id} sent"),
            operator: String::new(),
            dsn_queue_id: queue_id,
        })));
    }
    events
}

/// The journey of a message, queued or ended.
pub(super) fn of(shared: &Shared, id: QueueId) -> Result<Option<Journey>, StoreError> {
    let key = id.as_u128();
    let place = {
        let mut core = shared.lock();
        let found = core
            .state
            .messages
            .get(&key)
            .filter(|message| message.durable)
            .map(|message| (message.first, message.last, false));
        let found = found.or_else(|| {
            let ended = core.state.ending.get(&key)?;
            Some((ended.first, ended.last, true))
        });
        if found.is_some() {
            core.log.flush().map_err(|error| unavailable(&error))?;
        }
        found
    };
    if let Some((first, last, ended)) = place {
        return Ok(Some(fold(
            id,
            &pieces(shared, id, first, last, None, None),
            ended,
        )));
    }
    let entry = shared
        .archive
        .find_id(key, shared.now_us())
        .map_err(|error| unavailable(&error))?;
    Ok(entry.map(|entry| fold(id, &entry.pieces, true)))
}

/// Who the message went to, as far as its journey tells.
pub(super) fn recipients(journey: &Journey) -> impl Iterator<Item = &str> {
    let events = journey.events.iter();
    events
        .filter_map(|event| match &event.what {
            Some(journey_event::What::Queued(queued)) => Some(&queued.recipients),
            _ => None,
        })
        .flatten()
        .map(String::as_str)
}
