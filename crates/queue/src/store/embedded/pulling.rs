//! Handing due deliveries to the holder of a lease.

use std::sync::Arc;

use bytes::Bytes;
use postrider_protocol::queue_v1::leased_delivery::Disposition;
use postrider_protocol::queue_v1::{Envelope, LeasedDelivery};
use postrider_protocol::{DeliveryId, Destination};
use prost::Message as _;

use super::EmbeddedStore;
use super::changing;
use super::core::{Core, Shared, unavailable};
use super::frame::{Draft, Kind, Location};
use super::leases::HandedOut;
use super::message::Marks;
use super::record::{Change, Completed, Leased, Moved, Rest};
use super::schedule::Place;
use super::segment::ReadError;
use super::stored::{self, Stored};
use crate::metrics;
use crate::store::clock::micros;
use crate::store::{StoreError, Wake};

/// A delivery on its way to a worker.
struct Taken {
    id: DeliveryId,
    first: Location,
    rest: Location,
    attempts: u32,
    marks: Marks,
    due_us: u64,
    /// The message, if it is in memory still.
    stored: Option<Arc<Stored>>,
}

impl EmbeddedStore {
    /// See [`crate::store::Store::pull`].
    pub(super) async fn take(
        &self,
        token: u64,
        max: usize,
    ) -> Result<Option<Vec<LeasedDelivery>>, StoreError> {
        let now_us = self.shared.now_us();
        let Some((taken, destination)) = self.mark(token, max, now_us)? else {
            return Ok(None);
        };
        if taken.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let in_memory = taken
            .iter()
            .all(|taken| taken.stored.is_some() && taken.rest == Location::NONE);
        let shared = self.shared.clone();
        let read = move || hand_out(&shared, token, taken, &destination, now_us);
        if in_memory {
            return Ok(Some(read()));
        }
        // The disk may take its time.
        match tokio::task::spawn_blocking(read).await {
            Ok(deliveries) => Ok(Some(deliveries)),
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        }
    }

    /// Marks due deliveries as leased, and records it before anybody hears of them.
    fn mark(
        &self,
        token: u64,
        max: usize,
        now_us: u64,
    ) -> Result<Option<(Vec<Taken>, Destination)>, StoreError> {
        let mut core = self.shared.lock();
        let Some(lease) = core.state.leases.live(token, now_us) else {
            return Ok(None);
        };
        let destination = lease.destination;
        let worker = lease.worker.clone();
        let Some(name) = core.state.schedule.name(destination).cloned() else {
            return Ok(None);
        };
        super::leasing::pass_time(&self.shared, &mut core, now_us);
        let due = core.state.take_due(destination, max);
        if due.unfinished && core.state.schedule.has_due(destination) {
            // What was looked at is suspended. There is more: somebody is to ask again.
            self.shared.wake(Wake::Destination(name.clone()));
        }
        if due.places.is_empty() {
            return Ok(Some((Vec::new(), name)));
        }
        let ids: Vec<DeliveryId> = due.places.iter().map(Place::delivery).collect();
        let record = Leased {
            token,
            worker,
            deliveries: ids.iter().map(|id| (*id).into()).collect(),
        };
        if let Err(error) = write(&mut core, &record, now_us) {
            core.state.untake_due(destination, due.places);
            return Err(error);
        }
        let mut taken = Vec::with_capacity(ids.len());
        for id in ids {
            core.state.take(id, token);
            if let Some(lease) = core.state.leases.get_mut(token) {
                lease.leased.insert(id, None);
            }
            let key = id.queue_id.as_u128();
            let Some(message) = core.state.messages.get(&key) else {
                continue;
            };
            let Some(delivery) = message.deliveries.as_slice().get(id.number as usize) else {
                continue;
            };
            taken.push(Taken {
                id,
                first: message.first,
                rest: delivery.rest,
                attempts: delivery.attempts,
                marks: delivery.marks,
                due_us: delivery.due_us,
                stored: core.state.cache.get(key),
            });
        }
        Ok(Some((taken, name)))
    }
}

/// Hands a record of what a worker gets to the operating system.
fn write(core: &mut Core, leased: &Leased, now_us: u64) -> Result<(), StoreError> {
    let draft = Draft::new(Kind::Leased, leased, Bytes::new());
    core.make_room(draft.len(), now_us)?;
    core.stage_linked(draft, Location::NONE, Vec::new());
    core.log.flush().map_err(|error| unavailable(&error))
}

/// Reads what is not in memory, and builds what the worker gets.
fn hand_out(
    shared: &Shared,
    token: u64,
    taken: Vec<Taken>,
    destination: &Destination,
    now_us: u64,
) -> Vec<LeasedDelivery> {
    let policy = shared.settings.policies.of(destination.as_str());
    let warning_us = policy.delay_warning.map(micros);
    let mut handed = Vec::with_capacity(taken.len());
    let mut deliveries = Vec::with_capacity(taken.len());
    for taken in taken {
        let (stored, rest) = match read(shared, &taken) {
            Ok(read) => read,
            Err(error) => {
                hold_damaged(shared, token, taken.id, &error, now_us);
                continue;
            }
        };
        let begin_us = stored.accepted.begin_us();
        let expires_us = begin_us.saturating_add(micros(policy.lifetime));
        let is_late = warning_us.is_some_and(|after| begin_us.saturating_add(after) <= now_us);
        let disposition = match (taken.marks.has(Marks::BOUNCE), expires_us <= now_us) {
            (true, _) => Disposition::Bounce,
            (false, true) => Disposition::Expired,
            (false, false) => Disposition::Attempt,
        };
        let message = &stored.accepted.message;
        deliveries.push(LeasedDelivery {
            delivery_id: taken.id.to_string(),
            token,
            queue_id: message.queue_id.clone(),
            destination: destination.to_string(),
            disposition: disposition as i32,
            attempt: taken.attempts + 1,
            envelope: Some(open_envelope(&stored, &rest.open)),
            body: Some(stored.body()),
            message_id: message.message_id.clone(),
            traceparent: message.traceparent.clone(),
            accepted_us: stored.accepted.accepted_us,
            expires_us,
            last_outcomes: rest.outcomes.clone(),
            origin: message.origin.clone(),
            due_us: taken.due_us,
            tenant: message.tenant.clone(),
            delay_warning_due: is_late
                && disposition == Disposition::Attempt
                && !taken.marks.has(Marks::DELAY_WARNED),
            priority: message.priority,
            release_us: message.release_us,
        });
        let out = HandedOut {
            stored,
            open: rest.open,
            outcomes: rest.outcomes,
        };
        handed.push((taken.id, Arc::new(out)));
    }
    let mut core = shared.lock();
    if let Some(lease) = core.state.leases.get_mut(token) {
        for (id, out) in handed {
            if let Some(place) = lease.leased.get_mut(&id) {
                *place = Some(out);
            }
        }
    }
    deliveries
}

fn read(shared: &Shared, taken: &Taken) -> Result<(Arc<Stored>, Rest), ReadError> {
    let stored = match &taken.stored {
        Some(stored) => stored.clone(),
        None => Arc::new(read_stored(shared, taken.id, taken.first, true)?),
    };
    let rest = read_rest(shared, &stored, taken.id.number, taken.rest)?;
    Ok((stored, rest))
}

/// Reads a message back from the log; its content only if it is wanted.
pub(super) fn read_stored(
    shared: &Shared,
    id: DeliveryId,
    first: Location,
    with_content: bool,
) -> Result<Stored, ReadError> {
    let segment = shared
        .segment(first.segment)
        .ok_or_else(|| missing(first))?;
    let (header, record, content) = segment.read(first.offset, with_content)?;
    let undecodable = |_| missing(first);
    match header.kind {
        Kind::Moved => {
            let moved = Moved::decode(record).map_err(undecodable)?;
            Ok(Stored {
                record: moved.accepted.encode_to_vec().into(),
                accepted: moved.accepted,
                content,
            })
        }
        Kind::Completed => {
            let completed = Completed::decode(record).map_err(undecodable)?;
            let dsn = completed
                .dsn
                .into_iter()
                .find(|dsn| stored::queue_id(&dsn.accepted.message) == Some(id.queue_id))
                .ok_or_else(|| missing(first))?;
            Ok(Stored {
                record: dsn.accepted.encode_to_vec().into(),
                accepted: dsn.accepted,
                content: dsn.content,
            })
        }
        _ => Stored::decode(record, content).map_err(undecodable),
    }
}

/// Which recipients of a delivery are open, and what became of them last.
pub(super) fn read_rest(
    shared: &Shared,
    stored: &Stored,
    number: u32,
    at: Location,
) -> Result<Rest, ReadError> {
    if at == Location::NONE {
        let envelope = stored.accepted.message.envelope.as_ref();
        return Ok(Rest {
            open: stored::recipients_of(
                envelope.map_or(&[][..], |envelope| &envelope.recipients),
                number,
            ),
            outcomes: Vec::new(),
        });
    }
    let segment = shared.segment(at.segment).ok_or_else(|| missing(at))?;
    let (header, record, _) = segment.read(at.offset, false)?;
    let rest = match header.kind {
        Kind::Completed => Completed::decode(record).ok().map(|record| record.rest),
        Kind::Moved => Moved::decode(record)
            .ok()
            .and_then(|record| record.deliveries.into_iter().nth(number as usize))
            .map(|delivery| delivery.rest),
        _ => None,
    };
    rest.ok_or_else(|| missing(at))
}

fn missing(at: Location) -> ReadError {
    ReadError::NoRecord {
        path: format!("segment {}", at.segment),
        offset: at.offset,
    }
}

/// The envelope with these recipients only.
fn open_envelope(stored: &Stored, open: &[u32]) -> Envelope {
    let Some(envelope) = &stored.accepted.message.envelope else {
        return Envelope::default();
    };
    if envelope.recipients.len() == open.len() {
        return envelope.clone();
    }
    Envelope {
        reverse_path: envelope.reverse_path.clone(),
        recipients: open
            .iter()
            .filter_map(|place| envelope.recipients.get(*place as usize).cloned())
            .collect(),
        dsn_envid: envelope.dsn_envid.clone(),
        ..*envelope
    }
}

/// Keeps back a delivery that cannot be read, for an operator to look at: it must neither vanish
/// nor go out mutilated.
fn hold_damaged(shared: &Shared, token: u64, id: DeliveryId, error: &ReadError, now_us: u64) {
    tracing::error!(queue_id = %id.queue_id, delivery = %id, %error, "a queued message is damaged: held");
    metrics::damaged_record();
    let text = format!("held, because what is stored is damaged: {error}");
    let damaged = changing::changed(shared, id, Change::Damaged, &text, "", now_us);
    let mut core = shared.lock();
    if let Some(lease) = core.state.leases.get_mut(token) {
        lease.leased.remove(&id);
    }
    if changing::record(&mut core, id, &damaged, now_us).is_ok() {
        core.sync_wanted = true;
        shared.wanted.notify_one();
    }
}
