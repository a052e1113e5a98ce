//! Looking at the queue: pages, single messages, counts.

use hashbrown::HashSet;
use postrider_protocol::queue_v1::delivery_status::State as Shown;
use postrider_protocol::queue_v1::{
    DeliveryStatus, DestinationStats, Filter, ShowResponse, StatsResponse,
};
use postrider_protocol::{DeliveryId, Destination, QueueId};

use super::EmbeddedStore;
use super::core::{Core, Shared, unavailable};
use super::frame::Location;
use super::message::{Delivery, DeliveryState, Message, sender_hash};
use super::pulling::{read_rest, read_stored};
use crate::store::StoreError;
use crate::store::clock::micros;

/// Messages that are looked at before the lock is given up for a moment.
const STRIDE: usize = 512;
/// Destinations in the counts.
const DESTINATIONS_SHOWN: usize = 50;

/// What memory knows of a delivery, to be completed from disk.
struct Seen {
    id: DeliveryId,
    first: Location,
    accepted_us: u64,
    delivery: Delivery,
    destination: String,
    worker: String,
}

/// A filter, taken apart once.
struct Wanted {
    ids: HashSet<u128>,
    destination: Option<Destination>,
    sender: Option<String>,
    recipient: Option<String>,
    held: bool,
    /// Nothing can match, e.g. an id that is none.
    nothing: bool,
}

impl Wanted {
    fn new(filter: &Filter) -> Self {
        let set = |text: &str| (!text.is_empty()).then(|| text.to_ascii_lowercase());
        let ids: HashSet<u128> = filter
            .queue_ids
            .iter()
            .filter_map(|id| id.parse::<QueueId>().ok())
            .map(|id| id.as_u128())
            .collect();
        let destination = (!filter.destination.is_empty()).then(|| filter.destination.parse());
        Self {
            nothing: (ids.is_empty() && !filter.queue_ids.is_empty())
                || matches!(destination, Some(Err(_))),
            ids,
            destination: destination.and_then(Result::ok),
            sender: set(&filter.sender).map(|sender| match sender.as_str() {
                "<>" => String::new(),
                _ => sender,
            }),
            recipient: set(&filter.recipient),
            held: filter.held,
        }
    }

    /// What memory alone can tell.
    fn may_match(&self, id: u128, message: &Message) -> bool {
        (self.ids.is_empty() || self.ids.contains(&id))
            && self
                .sender
                .as_ref()
                .is_none_or(|sender| message.sender == sender_hash(sender))
    }

    /// What memory alone can tell of a delivery.
    fn may_match_delivery(&self, core: &Core, delivery: &Delivery) -> bool {
        delivery.state != DeliveryState::Done
            && (!self.held || delivery.state == DeliveryState::Held)
            && self
                .destination
                .as_ref()
                .is_none_or(|wanted| core.state.schedule.name(delivery.destination) == Some(wanted))
    }

    /// The rest, once the envelope has been read.
    fn matches(&self, status: &DeliveryStatus) -> bool {
        self.sender
            .as_ref()
            .is_none_or(|sender| status.reverse_path.eq_ignore_ascii_case(sender))
            && self.recipient.as_ref().is_none_or(|wanted| {
                status
                    .recipients
                    .iter()
                    .any(|recipient| recipient.eq_ignore_ascii_case(wanted))
            })
    }

    /// Whether the envelope must be read to tell.
    fn needs_envelope(&self) -> bool {
        self.sender.is_some() || self.recipient.is_some()
    }
}

impl EmbeddedStore {
    /// See [`crate::store::Store::list`].
    pub(super) fn page(
        shared: &Shared,
        filter: &Filter,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Vec<DeliveryStatus>, StoreError> {
        let wanted = Wanted::new(filter);
        let mut found = Vec::new();
        walk(shared, &wanted, after, |seen| {
            let status = status(shared, seen);
            if wanted.matches(&status) {
                found.push(status);
            }
            found.len() < limit
        })?;
        Ok(found)
    }

    /// Deliveries that match now, in strides, each handed to `visit`.
    pub(super) fn each_match(
        shared: &Shared,
        filter: &Filter,
        mut visit: impl FnMut(DeliveryId),
    ) -> Result<(), StoreError> {
        let wanted = Wanted::new(filter);
        walk(shared, &wanted, None, |seen| {
            let id = seen.id;
            if !wanted.needs_envelope() || wanted.matches(&status(shared, seen)) {
                visit(id);
            }
            true
        })
    }

    /// See [`crate::store::Store::show`].
    pub(super) fn one(shared: &Shared, id: QueueId) -> Result<Option<ShowResponse>, StoreError> {
        let key = id.as_u128();
        let (first, accepted_us, seen) = {
            let mut core = shared.lock();
            core.log.flush().map_err(|error| unavailable(&error))?;
            let Some(message) = core.state.messages.get(&key).filter(|found| found.durable) else {
                return Ok(None);
            };
            let seen: Vec<Seen> = (0..message.deliveries.as_slice().len())
                .filter_map(|number| see(&core, key, message, number))
                .collect();
            (message.first, message.accepted_us, seen)
        };
        let name = super::state::name(key, 0);
        let stored = read_stored(shared, name, first, false)
            .map_err(|error| StoreError::Damaged(error.to_string()))?;
        let message = stored.accepted.message;
        Ok(Some(ShowResponse {
            queue_id: id.to_string(),
            message_id: message.message_id,
            envelope: message.envelope,
            origin: message.origin,
            size: message.body.map_or(0, |body| body.size),
            accepted_us,
            deliveries: seen.into_iter().map(|seen| status(shared, seen)).collect(),
        }))
    }

    /// See [`crate::store::Store::stats`].
    pub(super) fn counts(shared: &Shared) -> StatsResponse {
        let (commits, syncs) = shared.counts();
        let core = shared.lock();
        let state = &core.state;
        let totals = state.totals;
        let mut destinations: Vec<_> = state.schedule.iter().collect();
        let by_size = |state: &&super::schedule::DestinationState| {
            std::cmp::Reverse((state.waiting.len(), state.slots_in_use))
        };
        if destinations.len() > DESTINATIONS_SHOWN {
            destinations.select_nth_unstable_by_key(DESTINATIONS_SHOWN, by_size);
            destinations.truncate(DESTINATIONS_SHOWN);
        }
        destinations.sort_by_key(by_size);
        StatsResponse {
            accepted: totals.accepted,
            delivered: totals.delivered,
            failed: totals.failed,
            removed: totals.removed,
            open: state.open,
            stale_completions: totals.stale_completions,
            unknown_outcomes: totals.unknown_outcomes,
            waiting: state.schedule.waiting,
            leased: state.leased,
            held: state.held,
            messages: state.messages.len() as u64,
            commits,
            syncs,
            destinations: destinations
                .into_iter()
                .map(|destination| DestinationStats {
                    destination: destination.name.to_string(),
                    waiting: destination.waiting.len() as u64,
                    slots_in_use: destination.slots_in_use,
                    slots: state.schedule.slots(),
                })
                .collect(),
        }
    }
}

/// Visits what may match after `after`, in order, until `visit` says that it is enough. The lock
/// is held for a stride of messages at a time, so that the flow goes on.
fn walk(
    shared: &Shared,
    wanted: &Wanted,
    after: Option<DeliveryId>,
    mut visit: impl FnMut(Seen) -> bool,
) -> Result<(), StoreError> {
    if wanted.nothing {
        return Ok(());
    }
    let mut ids: Vec<u128> = wanted.ids.iter().copied().collect();
    ids.sort_unstable();
    let mut from = after.map_or(0, |after| after.queue_id.as_u128());
    loop {
        let mut seen = Vec::new();
        let mut last = None;
        {
            let mut core = shared.lock();
            core.log.flush().map_err(|error| unavailable(&error))?;
            let core = &*core;
            let mut look = |key: u128, message: &Message| {
                if message.durable && wanted.may_match(key, message) {
                    for (number, delivery) in message.deliveries.as_slice().iter().enumerate() {
                        let id = super::state::name(key, number);
                        if after.is_none_or(|after| id > after)
                            && wanted.may_match_delivery(core, delivery)
                        {
                            seen.extend(see(core, key, message, number));
                        }
                    }
                }
            };
            let messages = &core.state.messages;
            if ids.is_empty() {
                for (key, message) in messages.range(from..).take(STRIDE) {
                    last = Some(*key);
                    look(*key, message);
                }
            } else {
                for key in ids.iter().filter(|key| **key >= from).take(STRIDE) {
                    last = Some(*key);
                    if let Some(message) = messages.get(key) {
                        look(*key, message);
                    }
                }
            }
        }
        for seen in seen {
            if !visit(seen) {
                return Ok(());
            }
        }
        match last.and_then(|last| last.checked_add(1)) {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
}

fn see(core: &Core, key: u128, message: &Message, number: usize) -> Option<Seen> {
    let delivery = message.deliveries.as_slice().get(number)?.clone();
    if delivery.state == DeliveryState::Done {
        return None;
    }
    let worker = match delivery.state {
        DeliveryState::Leased => core
            .state
            .leases
            .get(delivery.token)
            .map(|lease| lease.worker.clone()),
        _ => None,
    };
    Some(Seen {
        id: super::state::name(key, number),
        first: message.first,
        accepted_us: message.accepted_us,
        destination: core.state.schedule.name(delivery.destination)?.to_string(),
        delivery,
        worker: worker.unwrap_or_default(),
    })
}

/// Completes what memory knows by what the disk knows. A message that cannot be read is shown
/// without its envelope rather than not at all.
fn status(shared: &Shared, seen: Seen) -> DeliveryStatus {
    let mut status = DeliveryStatus {
        delivery_id: seen.id.to_string(),
        queue_id: seen.id.queue_id.to_string(),
        destination: seen.destination,
        state: match seen.delivery.state {
            DeliveryState::Waiting => Shown::Waiting,
            DeliveryState::Leased => Shown::Leased,
            DeliveryState::Held => Shown::Held,
            DeliveryState::Done => Shown::Done,
        } as i32,
        attempts: seen.delivery.attempts,
        accepted_us: seen.accepted_us,
        next_attempt_us: seen.delivery.due_us,
        expires_us: seen
            .accepted_us
            .saturating_add(micros(shared.settings.lifetime)),
        worker: seen.worker,
        ..DeliveryStatus::default()
    };
    let stored = match read_stored(shared, seen.id, seen.first, false) {
        Ok(stored) => stored,
        Err(error) => {
            tracing::warn!(queue_id = %status.queue_id, %error, "a queued message cannot be read");
            return status;
        }
    };
    if let Ok(rest) = read_rest(shared, &stored, seen.id.number, seen.delivery.rest) {
        let message = &stored.accepted.message;
        let envelope = message.envelope.as_ref();
        status.recipients = rest
            .open
            .iter()
            .filter_map(|place| envelope?.recipients.get(*place as usize))
            .map(|recipient| recipient.address.clone())
            .collect();
        status.last_outcomes = rest.outcomes;
    }
    let message = stored.accepted.message;
    status.size = message.body.map_or(0, |body| body.size);
    status.reverse_path = message
        .envelope
        .map_or_else(String::new, |envelope| envelope.reverse_path);
    status
}
