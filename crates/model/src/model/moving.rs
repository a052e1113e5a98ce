//! Messages move from store to store.

use std::collections::BTreeMap;

use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::{ExportedMessage, Recipient};

use super::{Delivery, Ended, Event, Message, Model, State};

impl Model {
    /// Takes an exported message in; whether it is new.
    pub fn import(&mut self, exported: &ExportedMessage) -> bool {
        let new = exported.message.clone().unwrap();
        let id: QueueId = new.queue_id.parse().unwrap();
        if self.messages.contains_key(&id) {
            return false;
        }
        let all = &new.envelope.as_ref().unwrap().recipients;
        let last = exported.deliveries.iter().map(|delivery| delivery.number);
        let count = last.max().map_or(0, |last| last as usize + 1);
        let mut deliveries: Vec<Delivery> = vec![ended(); count];
        for delivery in &exported.deliveries {
            deliveries[delivery.number as usize] = taken_over(delivery, all);
        }
        let events = exported.journey.iter().map(|event| Event {
            event: event.clone(),
            optional: false,
        });
        let ended = Ended {
            delivered: exported.delivered,
            failed: exported.failed,
            removed: exported.removed,
        };
        let open: usize = deliveries.iter().map(|delivery| delivery.open.len()).sum();
        self.totals.delivered += ended.delivered;
        self.totals.failed += ended.failed;
        self.totals.removed += ended.removed;
        self.totals.accepted += open as u64 + ended.delivered + ended.failed + ended.removed;
        let message = Message {
            accepted_us: exported.accepted_us,
            ended_us: None,
            deliveries,
            events: events.collect(),
            ended,
            new,
        };
        if let Some(name) = message.stored_body() {
            self.ended_bodies.retain(|ended| ended != name);
        }
        self.messages.insert(id, message);
        self.accepted.push(id);
        true
    }
}

fn ended() -> Delivery {
    Delivery {
        destination: "smtp:ended.invalid".parse().unwrap(),
        rerouted: false,
        open: Vec::new(),
        last: BTreeMap::new(),
        attempts: 0,
        unknown_attempts: 0,
        state: State::Done,
        due_us: 0,
        ready_us: 0,
        bounce: false,
        pending: None,
        delay_warned: false,
        applied: Vec::new(),
        given_back: false,
        before: None,
    }
}

fn taken_over(
    exported: &postrider_protocol::queue_v1::ExportedDelivery,
    all: &[Recipient],
) -> Delivery {
    let open: Vec<Recipient> = exported
        .recipients
        .iter()
        .map(|address| {
            let mut same = all.iter().filter(|known| known.address == *address);
            let here = same.find(|known| known.destination == exported.destination);
            let anywhere = all.iter().find(|known| known.address == *address);
            here.or(anywhere).unwrap().clone()
        })
        .collect();
    Delivery {
        destination: exported.destination.parse().unwrap(),
        rerouted: open
            .iter()
            .any(|recipient| recipient.destination != exported.destination),
        open,
        last: exported
            .last_outcomes
            .iter()
            .map(|outcome| (outcome.address.clone(), outcome.clone()))
            .collect(),
        attempts: exported.attempts,
        unknown_attempts: exported.unknown_attempts,
        state: match (exported.held, exported.held_until_us) {
            (false, _) => State::Waiting,
            (true, 0) => State::Held { until_us: None },
            (true, until_us) => State::Held {
                until_us: Some(until_us),
            },
        },
        due_us: exported.due_us,
        // It may count as having become due when it came.
        ready_us: u64::MAX,
        bounce: exported.bounce,
        delay_warned: exported.delay_warned,
        ..ended()
    }
}
