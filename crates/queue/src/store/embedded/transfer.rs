//! Queued messages on their way out to another store, or in from one.

use std::ops::Bound;

use postrider_protocol::queue_v1::{
    ExportedDelivery, ExportedMessage, NewMessage, Recipient, body,
};
use postrider_protocol::{Destination, QueueId};

use super::core::{Awaited, Core, Shared, unavailable};
use super::enqueue::has_ended;
use super::frame::{Draft, Kind, Location};
use super::housekeeping::standing;
use super::journey::{fold, pieces};
use super::message::Pending;
use super::pulling::{read_rest, read_stored};
use super::record::{Accepted, Moved, MovedDelivery, Rest, Totals};
use super::segment::ReadError;
use super::state::name;
use super::stored::{destinations, queue_id, recipients_of, take_content};
use crate::store::exported::Ended;
use crate::store::{Enqueued, StoreError};

/// A message as memory has it: where it lies, and how its deliveries stand.
struct Held {
    id: QueueId,
    first: Location,
    last: Location,
    deliveries: Vec<(MovedDelivery, Location, bool)>,
}

/// See [`crate::store::Store::export`]. A message that cannot be read is left out and said to be.
pub(super) fn export(
    shared: &Shared,
    after: Option<QueueId>,
    limit: usize,
) -> Result<Vec<ExportedMessage>, StoreError> {
    let mut exported = Vec::new();
    let mut after = after.map(|id| id.as_u128());
    while exported.is_empty() {
        let page = page(shared, after, limit)?;
        let Some(last) = page.last() else {
            break;
        };
        after = Some(last.id.as_u128());
        for held in page {
            let id = held.id;
            match take_out(shared, held) {
                Ok(message) => exported.push(message),
                Err(error) => {
                    tracing::error!(queue_id = %id, %error, "a queued message cannot be read, and is not exported");
                    crate::metrics::damaged_record();
                }
            }
        }
    }
    Ok(exported)
}

fn page(shared: &Shared, after: Option<u128>, limit: usize) -> Result<Vec<Held>, StoreError> {
    let mut core = shared.lock();
    // What is read back must have been written.
    core.log.flush().map_err(|error| unavailable(&error))?;
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let messages = core.state.messages.range((from, Bound::Unbounded));
    Ok(messages
        .filter(|(_, message)| message.durable)
        .take(limit)
        .map(|(id, message)| {
            let id = QueueId::from_u128(*id);
            let mut deliveries = standing(&core, id, message);
            for (number, (standing, ..)) in deliveries.iter_mut().enumerate() {
                let pending = core.state.pending.get(&name(id.as_u128(), number));
                want(standing, pending);
            }
            Held {
                id,
                first: message.first,
                last: message.last,
                deliveries,
            }
        })
        .collect())
}

/// What an operator wants of a leased delivery, done at once: here its attempt is over.
fn want(standing: &mut MovedDelivery, pending: Option<&Pending>) {
    match pending {
        Some(Pending::Hold(until_us)) => {
            standing.held = true;
            standing.held_until_us = until_us.unwrap_or(0);
        }
        Some(Pending::Bounce) => standing.bounce = true,
        Some(Pending::Reroute(to)) => standing.destination = to.to_string(),
        // It is removed by whoever has it, or again by the operator.
        Some(Pending::Remove) | None => {}
    }
}

fn take_out(shared: &Shared, held: Held) -> Result<ExportedMessage, ReadError> {
    let id = held.id;
    let stored = read_stored(shared, name(id.as_u128(), 0), held.first, true)?;
    let journey = fold(
        id,
        &pieces(shared, id, held.first, held.last, None, None),
        false,
    );
    let mut message = stored.accepted.message.clone();
    let recipients = message
        .envelope
        .as_ref()
        .map_or(Vec::new(), |envelope| envelope.recipients.clone());
    let names = destinations(&recipients);
    let mut deliveries = Vec::new();
    for (number, (standing, rest_at, is_done)) in (0_u32..).zip(held.deliveries) {
        if is_done {
            continue;
        }
        let rest = read_rest(shared, &stored, number, rest_at)?;
        let home = names.get(number as usize);
        deliveries.push(delivery(number, standing, rest, home, &recipients));
    }
    let ended = Ended::count(&message, &deliveries, &journey.events);
    message.events.clear();
    if let Some(body) = &mut message.body
        && body.content.is_none()
    {
        body.content = Some(body::Content::Inline(stored.content));
    }
    Ok(ExportedMessage {
        message: Some(message),
        accepted_us: stored.accepted.accepted_us,
        deliveries,
        journey: journey.events,
        delivered: ended.delivered,
        failed: ended.failed,
        removed: ended.removed,
    })
}

fn delivery(
    number: u32,
    standing: MovedDelivery,
    rest: Rest,
    home: Option<&(Destination, u32)>,
    recipients: &[Recipient],
) -> ExportedDelivery {
    let addresses = rest
        .open
        .iter()
        .filter_map(|place| recipients.get(*place as usize));
    ExportedDelivery {
        number,
        destination: match standing.destination.as_str() {
            "" => home.map_or_else(String::new, |(name, _)| name.to_string()),
            _ => standing.destination,
        },
        recipients: addresses.map(|to| to.address.clone()).collect(),
        attempts: standing.attempts,
        due_us: standing.due_us,
        held: standing.held,
        held_until_us: standing.held_until_us,
        bounce: standing.bounce,
        last_outcomes: rest.outcomes,
        unknown_attempts: standing.unknown_attempts,
        delay_warned: standing.delay_warned,
    }
}

/// A message from elsewhere as a record of ours.
struct Arrival {
    id: QueueId,
    moved: Moved,
    draft: Draft,
}

impl Arrival {
    fn new(exported: ExportedMessage) -> Result<Self, StoreError> {
        let invalid = |what: &str| StoreError::Invalid(what.to_owned());
        let mut message = exported.message.ok_or_else(|| invalid("no message"))?;
        let id = queue_id(&message).ok_or_else(|| invalid("the queue id is not one"))?;
        message.events.clear();
        let content = take_content(&mut message);
        let deliveries = deliveries(&message, &exported.deliveries)?;
        let open: u64 = deliveries
            .iter()
            .map(|delivery| delivery.rest.open.len() as u64)
            .sum();
        if open == 0 {
            return Err(invalid("no recipient is open"));
        }
        let arrived = Totals {
            accepted: open + exported.delivered + exported.failed + exported.removed,
            delivered: exported.delivered,
            failed: exported.failed,
            removed: exported.removed,
            ..Totals::default()
        };
        let moved = Moved {
            accepted: Accepted {
                message,
                accepted_us: exported.accepted_us,
                instance: String::new(),
            },
            deliveries,
            events: exported.journey,
            arrived: Some(arrived),
        };
        let draft = Draft::new(Kind::Moved, &moved, content);
        Ok(Self { id, moved, draft })
    }
}

/// How the deliveries of a message stand, those that have ended with nothing open.
fn deliveries(
    message: &NewMessage,
    exported: &[ExportedDelivery],
) -> Result<Vec<MovedDelivery>, StoreError> {
    let invalid = |what: String| StoreError::Invalid(what);
    let recipients = message
        .envelope
        .as_ref()
        .map_or(&[][..], |envelope| &envelope.recipients);
    let names = destinations(recipients);
    let mut standings = vec![MovedDelivery::default(); names.len()];
    for delivery in exported {
        let number = delivery.number;
        let Some(standing) = standings.get_mut(number as usize) else {
            return Err(invalid(format!("there is no delivery {number}")));
        };
        let mut free = recipients_of(recipients, number);
        let mut open = Vec::with_capacity(delivery.recipients.len());
        for address in &delivery.recipients {
            let place = free
                .iter()
                .position(|place| recipients[*place as usize].address == *address)
                .ok_or_else(|| invalid(format!("delivery {number} has no {address:?}")))?;
            open.push(free.remove(place));
        }
        open.sort_unstable();
        let elsewhere = delivery.destination != names[number as usize].0.as_str();
        if elsewhere && delivery.destination.parse::<Destination>().is_err() {
            return Err(invalid(format!(
                "{:?} is no destination",
                delivery.destination
            )));
        }
        *standing = MovedDelivery {
            rest: Rest {
                open,
                outcomes: delivery.last_outcomes.clone(),
            },
            attempts: delivery.attempts,
            due_us: delivery.due_us,
            held: delivery.held,
            bounce: delivery.bounce,
            held_until_us: delivery.held_until_us,
            unknown_attempts: delivery.unknown_attempts,
            delay_warned: delivery.delay_warned,
            destination: match elsewhere {
                true => delivery.destination.clone(),
                false => String::new(),
            },
        };
    }
    Ok(standings)
}

/// See [`crate::store::Store::import`]. Waits for the disk.
pub(super) fn import(
    shared: &Shared,
    messages: Vec<ExportedMessage>,
) -> Vec<Result<Enqueued, StoreError>> {
    let now_us = shared.now_us();
    let arrivals: Vec<Result<(Arrival, bool), StoreError>> = messages
        .into_iter()
        .map(|exported| {
            let arrival = Arrival::new(exported)?;
            let known = shared.archive.find_id(arrival.id.as_u128(), now_us);
            let known = known.map_err(|error| unavailable(&error))?.is_some();
            Ok((arrival, known))
        })
        .collect();
    let mut results = Vec::with_capacity(arrivals.len());
    let commit = {
        let mut core = shared.lock();
        for arrival in arrivals {
            let result = arrival
                .and_then(|(arrival, known)| take_in(shared, &mut core, arrival, known, now_us));
            results.push(result);
        }
        shared.commit(&mut core)
    };
    if let Err(error) = commit.wait() {
        for result in results.iter_mut().filter(|result| result.is_ok()) {
            *result = Err(error.clone());
        }
    }
    results
}

fn take_in(
    shared: &Shared,
    core: &mut Core,
    arrival: Arrival,
    known: bool,
    now_us: u64,
) -> Result<Enqueued, StoreError> {
    let key = arrival.id.as_u128();
    if known || core.state.messages.contains_key(&key) || has_ended(shared, core, key, now_us)? {
        return Ok(Enqueued::AlreadyAccepted);
    }
    if core.log.is_low_on_space() {
        return Err(StoreError::Unavailable(
            "the disk is nearly full".to_owned(),
        ));
    }
    let len = arrival.draft.len();
    core.make_room(len, now_us)?;
    let at = core.stage_linked(arrival.draft, Location::NONE, vec![key]);
    core.state.arrive(arrival.id, &arrival.moved, at, len);
    let number = core.log.last();
    core.arrivals.push_back((number, Awaited::Message(key)));
    Ok(Enqueued::Accepted)
}
