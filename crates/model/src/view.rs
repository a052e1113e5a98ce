//! What a store must answer about a state.

use std::collections::BTreeMap;

use postrider_protocol::queue_v1::{
    DeliveryStatus, DestinationStats, ExportedDelivery, ExportedMessage, Journey, LeasedDelivery,
    RecipientOutcome, ShowResponse, StatsResponse, delivery_status, leased_delivery::Disposition,
};
use postrider_protocol::{DeliveryId, QueueId};
use postrider_queue::store::Find;
use postrider_queue::store::filter::Matcher;

use crate::model::{Delivery, Model, State};

fn last_outcomes(delivery: &Delivery) -> Vec<RecipientOutcome> {
    let open = delivery.open.iter();
    open.filter_map(|recipient| delivery.last.get(&recipient.address).cloned())
        .collect()
}

fn addresses(delivery: &Delivery) -> Vec<String> {
    let open = delivery.open.iter();
    open.map(|recipient| recipient.address.clone()).collect()
}

/// What a worker gets that pulls a delivery.
#[must_use]
pub fn leased(model: &Model, id: DeliveryId, token: u64) -> LeasedDelivery {
    let message = &model.messages[&id.queue_id];
    let delivery = model.delivery(id).unwrap();
    let mut envelope = message.new.envelope.clone().unwrap();
    envelope.recipients = delivery.open.clone();
    let disposition = model.disposition(id);
    LeasedDelivery {
        delivery_id: id.to_string(),
        token,
        queue_id: id.queue_id.to_string(),
        destination: delivery.destination.to_string(),
        disposition: disposition.into(),
        attempt: delivery.attempts + 1,
        envelope: Some(envelope),
        body: message.new.body.clone(),
        message_id: message.new.message_id.clone(),
        traceparent: message.new.traceparent.clone(),
        accepted_us: message.accepted_us,
        expires_us: model.expires_us(id),
        last_outcomes: last_outcomes(delivery),
        origin: message.new.origin.clone(),
        due_us: delivery.due_us,
        tenant: message.new.tenant.clone(),
        priority: message.new.priority,
        release_us: message.new.release_us,
        delay_warning_due: disposition == Disposition::Attempt && model.delay_warning_due(id),
    }
}

/// A delivery in a list.
#[must_use]
pub fn status(model: &Model, id: DeliveryId) -> DeliveryStatus {
    let message = &model.messages[&id.queue_id];
    let delivery = model.delivery(id).unwrap();
    let (mut worker, mut held_until_us, mut suspensions) = (String::new(), 0, Vec::new());
    let state = match delivery.state {
        State::Waiting => {
            suspensions = model.suspensions_of(id);
            match suspensions.is_empty() {
                true => delivery_status::State::Waiting,
                false => delivery_status::State::Suspended,
            }
        }
        State::Leased(token) => {
            worker.clone_from(&model.leases[&token].worker);
            delivery_status::State::Leased
        }
        State::Held { until_us } => {
            held_until_us = until_us.unwrap_or(0);
            delivery_status::State::Held
        }
        State::Done => delivery_status::State::Done,
    };
    DeliveryStatus {
        delivery_id: id.to_string(),
        queue_id: id.queue_id.to_string(),
        destination: delivery.destination.to_string(),
        reverse_path: message.sender().to_owned(),
        recipients: addresses(delivery),
        state: state.into(),
        attempts: delivery.attempts,
        accepted_us: message.accepted_us,
        next_attempt_us: delivery.due_us,
        expires_us: model.expires_us(id),
        last_outcomes: last_outcomes(delivery),
        size: message.new.body.as_ref().map_or(0, |body| body.size),
        worker,
        tenant: message.new.tenant.clone(),
        priority: message.new.priority,
        unknown_attempts: delivery.unknown_attempts,
        held_until_us,
        suspensions,
    }
}

/// Deliveries that a filter matches, in the order of ids.
#[must_use]
pub fn matching(model: &Model, matcher: &Matcher) -> Vec<DeliveryStatus> {
    let open = model.open().filter(|(id, _)| matcher.may_be(id.queue_id));
    open.map(|(id, _)| status(model, id))
        .filter(|status| matcher.matches(status))
        .collect()
}

/// A queued message.
#[must_use]
pub fn shown(model: &Model, id: QueueId) -> Option<ShowResponse> {
    let message = model.messages.get(&id)?;
    if message.ended_us.is_some() {
        return None;
    }
    let open = model.open().filter(|(delivery, _)| delivery.queue_id == id);
    Some(ShowResponse {
        queue_id: id.to_string(),
        message_id: message.new.message_id.clone(),
        envelope: message.new.envelope.clone(),
        origin: message.new.origin.clone(),
        size: message.new.body.as_ref().map_or(0, |body| body.size),
        accepted_us: message.accepted_us,
        deliveries: open.map(|(id, _)| status(model, id)).collect(),
    })
}

/// A message's journey.
#[must_use]
pub fn journey(model: &Model, id: QueueId) -> Option<Journey> {
    let message = model.messages.get(&id)?;
    let events = message.events.iter();
    Some(Journey {
        queue_id: id.to_string(),
        message_id: message.new.message_id.clone(),
        reverse_path: message.sender().to_owned(),
        events: events.map(|event| event.event.clone()).collect(),
        ended: message.ended_us.is_some(),
    })
}

/// Messages by what they are found by, the newest first.
#[must_use]
pub fn found(model: &Model, what: &Find) -> Vec<QueueId> {
    let fits = |id: &&QueueId| {
        let new = &model.messages[id].new;
        let envelope = new.envelope.as_ref().unwrap();
        match what {
            Find::MessageId(wanted) => new.message_id == *wanted,
            Find::Sender(wanted) => envelope.reverse_path.eq_ignore_ascii_case(wanted),
            Find::Recipient(wanted) => {
                let mut recipients = envelope.recipients.iter();
                recipients.any(|recipient| recipient.address.eq_ignore_ascii_case(wanted))
            }
        }
    };
    model.accepted.iter().rev().filter(fits).copied().collect()
}

/// A queued message as it is exported.
#[must_use]
pub fn exported(model: &Model, id: QueueId) -> ExportedMessage {
    let message = &model.messages[&id];
    let mut new = message.new.clone();
    new.events = Vec::new();
    let numbered = message.deliveries.iter().zip(0..);
    let open = numbered.filter(|(delivery, _)| delivery.state != State::Done);
    let deliveries = open.map(|(delivery, number)| {
        let held = matches!(delivery.state, State::Held { .. });
        let until_us = match delivery.state {
            State::Held { until_us } => until_us.unwrap_or(0),
            _ => 0,
        };
        ExportedDelivery {
            number,
            destination: delivery.destination.to_string(),
            recipients: addresses(delivery),
            attempts: delivery.attempts,
            due_us: delivery.due_us,
            held,
            held_until_us: until_us,
            bounce: delivery.bounce,
            last_outcomes: last_outcomes(delivery),
            unknown_attempts: delivery.unknown_attempts,
            delay_warned: delivery.delay_warned,
        }
    });
    let events = message.events.iter();
    ExportedMessage {
        message: Some(new),
        accepted_us: message.accepted_us,
        deliveries: deliveries.collect(),
        journey: events.map(|event| event.event.clone()).collect(),
        delivered: message.ended.delivered,
        failed: message.ended.failed,
        removed: message.ended.removed,
    }
}

/// Counts.
#[must_use]
pub fn stats(model: &Model) -> StatsResponse {
    let mut destinations: BTreeMap<String, DestinationStats> = BTreeMap::new();
    let slots = model.settings.slots_per_destination;
    let mut stats = StatsResponse::default();
    for (_, delivery) in model.open() {
        let name = delivery.destination.to_string();
        let entry = destinations.entry(name.clone()).or_default();
        entry.destination = name;
        entry.slots = slots;
        stats.open += delivery.open.len() as u64;
        stats.unknown_deliveries += u64::from(delivery.unknown_attempts > 0);
        match delivery.state {
            State::Waiting => {
                entry.waiting += 1;
                stats.waiting += 1;
            }
            State::Leased(_) => stats.leased += 1,
            State::Held { .. } => stats.held += 1,
            State::Done => {}
        }
    }
    for lease in model.leases.values() {
        let name = lease.destination.to_string();
        let entry = destinations.entry(name.clone()).or_default();
        entry.destination = name;
        entry.slots = slots;
        entry.slots_in_use += lease.slots;
    }
    let queued = model.messages.values();
    stats.messages = queued.filter(|message| message.ended_us.is_none()).count() as u64;
    stats.accepted = model.totals.accepted;
    stats.delivered = model.totals.delivered;
    stats.failed = model.totals.failed;
    stats.removed = model.totals.removed;
    stats.stale_completions = model.totals.stale;
    stats.unknown_outcomes = model.totals.unknown;
    stats.destinations = destinations.into_values().collect();
    stats
}
