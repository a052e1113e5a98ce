//! Looking at the queue: pages, single messages, counts.

use std::sync::Arc;

use hashbrown::HashMap;
use postrider_protocol::queue_v1::delivery_status::State as Shown;
use postrider_protocol::queue_v1::{
    DeliveryStatus, DestinationStats, Filter, ShowResponse, StatsResponse, Suspension,
};
use postrider_protocol::{DeliveryId, Destination, QueueId};

use super::EmbeddedStore;
use super::core::{Core, Shared, unavailable};
use super::frame::Location;
use super::message::{Delivery, DeliveryState, Message};
use super::pulling::{read_rest, read_stored};
use super::suspensions::SenderTest;
use crate::store::StoreError;
use crate::store::clock::micros;
use crate::store::filter::{AddressPattern, Matcher, suspends};

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
    held_until_us: u64,
    destination: Destination,
    tenant: String,
    priority: i8,
    worker: String,
    /// Those that may stop it.
    suspensions: Vec<Arc<Suspension>>,
}

/// What memory alone can tell of a filter: whether a delivery may match.
struct Sieve<'a> {
    matcher: &'a Matcher,
    filter: &'a Filter,
    sender: Option<SenderTest>,
    /// The tenant's number, if it has messages.
    tenant: Option<Option<u32>>,
    /// Bits of the one recipient.
    recipient: u64,
    /// Destinations by index, as far as they were asked about.
    destinations: HashMap<u32, bool>,
}

impl<'a> Sieve<'a> {
    fn new(shared: &Shared, matcher: &'a Matcher, filter: &'a Filter) -> Self {
        let core = shared.lock();
        let hashes = &core.state.hashes;
        Self {
            matcher,
            filter,
            sender: matcher.sender.as_ref().map(|pattern| hashes.test(pattern)),
            tenant: None,
            recipient: match &matcher.recipient {
                Some(AddressPattern::One(address)) => hashes.recipient_bits(address),
                _ => 0,
            },
            destinations: HashMap::new(),
        }
    }

    fn may_match(&self, message: &Message) -> bool {
        let (before_us, after_us) = (
            self.filter.accepted_before_us,
            self.filter.accepted_after_us,
        );
        message.durable
            && self.sender.is_none_or(|test| test.matches(message.sender))
            && message.recipients & self.recipient == self.recipient
            && (before_us == 0 || message.accepted_us < before_us)
            && message.accepted_us >= after_us
            && self
                .tenant
                .is_none_or(|tenant| tenant == Some(message.tenant))
    }

    fn may_match_delivery(&mut self, core: &Core, message: &Message, delivery: &Delivery) -> bool {
        let filter = self.filter;
        delivery.state != DeliveryState::Done
            && (!filter.held || delivery.state == DeliveryState::Held)
            && (!filter.unknown || delivery.unknown_attempts > 0)
            && delivery.attempts >= filter.min_attempts
            && self.goes_there(core, delivery.destination)
            && (!filter.suspended || is_stopped(core, message, delivery))
    }

    fn goes_there(&mut self, core: &Core, destination: u32) -> bool {
        let Some(pattern) = &self.matcher.destination else {
            return true;
        };
        *self.destinations.entry(destination).or_insert_with(|| {
            let name = core.state.schedule.name(destination);
            name.is_some_and(|name| pattern.matches(name.as_str()))
        })
    }

    /// Between strides, numbers of destinations and tenants may get another meaning.
    fn next_stride(&mut self, core: &Core) {
        self.destinations.clear();
        let tenant = self.matcher.tenant.as_ref();
        self.tenant = tenant.map(|tenant| core.state.tenants.find(tenant));
    }
}

/// Whether a suspension stops it, as far as memory tells.
fn is_stopped(core: &Core, message: &Message, delivery: &Delivery) -> bool {
    let state = &core.state;
    let destination = state.schedule.name(delivery.destination);
    delivery.state == DeliveryState::Waiting
        && destination.is_some_and(|destination| {
            let tenant = state.tenants.name(message.tenant);
            state
                .suspensions
                .stop(destination.as_str(), tenant, message.sender)
        })
}

impl EmbeddedStore {
    /// See [`crate::store::Store::list`].
    pub(super) fn page(
        shared: &Shared,
        filter: &Filter,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Vec<DeliveryStatus>, StoreError> {
        let matcher = Matcher::new(filter)?;
        let mut found = Vec::new();
        walk(shared, &matcher, filter, after, |seen| {
            if found.len() < limit {
                let status = status(shared, seen);
                if matcher.matches(&status) {
                    found.push(status);
                }
            }
            found.len() < limit
        })?;
        Ok(found)
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
            let now_us = shared.now_us();
            let seen: Vec<Seen> = (0..message.deliveries.as_slice().len())
                .filter_map(|number| see(&core, key, message, number, now_us))
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
        let in_force = Self::suspended(shared).len();
        let core = shared.lock();
        let state = &core.state;
        let totals = state.totals;
        let mut destinations: Vec<_> = state.schedule.iter().collect();
        let by_size = |state: &&super::schedule::DestinationState| {
            std::cmp::Reverse((state.waiting, state.slots_in_use))
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
                    waiting: destination.waiting,
                    slots_in_use: destination.slots_in_use,
                    slots: state.schedule.slots(),
                })
                .collect(),
            unknown_deliveries: state.unknown,
            suspensions: in_force as u64,
        }
    }
}

/// Visits what may match after `after`, in order, until `visit` says that it is enough. The lock
/// is held for a stride of messages at a time, so that the flow goes on.
fn walk(
    shared: &Shared,
    matcher: &Matcher,
    filter: &Filter,
    after: Option<DeliveryId>,
    mut visit: impl FnMut(Seen) -> bool,
) -> Result<(), StoreError> {
    let mut sieve = Sieve::new(shared, matcher, filter);
    let mut ids: Vec<u128> = matcher.ids.iter().map(|id| id.as_u128()).collect();
    ids.sort_unstable();
    let mut from = after.map_or(0, |after| after.queue_id.as_u128());
    loop {
        let mut seen = Vec::new();
        let mut last = None;
        {
            let mut core = shared.lock();
            core.log.flush().map_err(|error| unavailable(&error))?;
            let now_us = shared.now_us();
            let core = &*core;
            sieve.next_stride(core);
            let mut look = |key: u128, message: &Message| {
                if sieve.may_match(message) {
                    for (number, delivery) in message.deliveries.as_slice().iter().enumerate() {
                        let id = super::state::name(key, number);
                        if after.is_none_or(|after| id > after)
                            && sieve.may_match_delivery(core, message, delivery)
                        {
                            seen.extend(see(core, key, message, number, now_us));
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
                let begin = ids.partition_point(|key| *key < from);
                for key in ids[begin..].iter().take(STRIDE) {
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

fn see(core: &Core, key: u128, message: &Message, number: usize, now_us: u64) -> Option<Seen> {
    let delivery = message.deliveries.as_slice().get(number)?.clone();
    if delivery.state == DeliveryState::Done {
        return None;
    }
    let state = &core.state;
    let worker = match delivery.state {
        DeliveryState::Leased => state.leases.get(delivery.token),
        _ => None,
    };
    let suspensions = match is_stopped(core, message, &delivery) {
        true => state.suspensions.all(),
        false => Vec::new(),
    };
    let id = super::state::name(key, number);
    Some(Seen {
        id,
        first: message.first,
        accepted_us: message.accepted_us,
        held_until_us: state.holds.end_of(id).unwrap_or(0),
        destination: state.schedule.name(delivery.destination)?.clone(),
        tenant: state.tenants.name(message.tenant).to_owned(),
        priority: message.priority,
        worker: worker.map_or_else(String::new, |lease| lease.worker.clone()),
        suspensions: suspensions
            .into_iter()
            .filter(|suspension| suspension.until_us == 0 || suspension.until_us > now_us)
            .collect(),
        delivery,
    })
}

/// Completes what memory knows by what the disk knows. A message that cannot be read is shown
/// without its envelope rather than not at all.
fn status(shared: &Shared, seen: Seen) -> DeliveryStatus {
    let lifetime = shared
        .settings
        .policies
        .of(seen.destination.as_str())
        .lifetime;
    let mut status = DeliveryStatus {
        delivery_id: seen.id.to_string(),
        queue_id: seen.id.queue_id.to_string(),
        state: match seen.delivery.state {
            DeliveryState::Waiting => Shown::Waiting,
            DeliveryState::Leased => Shown::Leased,
            DeliveryState::Held => Shown::Held,
            DeliveryState::Done => Shown::Done,
        } as i32,
        attempts: seen.delivery.attempts,
        accepted_us: seen.accepted_us,
        next_attempt_us: seen.delivery.due_us,
        expires_us: seen.accepted_us.saturating_add(micros(lifetime)),
        worker: seen.worker,
        tenant: seen.tenant,
        priority: seen.priority.into(),
        unknown_attempts: seen.delivery.unknown_attempts.into(),
        held_until_us: seen.held_until_us,
        ..DeliveryStatus::default()
    };
    match read_stored(shared, seen.id, seen.first, false) {
        Ok(stored) => {
            let begin_us = stored.accepted.begin_us();
            status.expires_us = begin_us.saturating_add(micros(lifetime));
            if let Ok(rest) = read_rest(shared, &stored, seen.id.number, seen.delivery.rest) {
                let envelope = stored.accepted.message.envelope.as_ref();
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
            status.priority = message.priority;
            status.reverse_path = message
                .envelope
                .map_or_else(String::new, |envelope| envelope.reverse_path);
        }
        Err(error) => {
            tracing::warn!(queue_id = %status.queue_id, %error, "a queued message cannot be read");
        }
    }
    let (destination, sender, tenant) = (
        seen.destination.as_str(),
        &status.reverse_path,
        &status.tenant,
    );
    let stopping = seen
        .suspensions
        .iter()
        .filter(|suspension| suspends(suspension, destination, sender, tenant));
    status.suspensions = stopping.map(|suspension| suspension.id.clone()).collect();
    if !status.suspensions.is_empty() {
        status.state = Shown::Suspended as i32;
    }
    status.destination = destination.to_owned();
    status
}
