//! Messages come in.

use std::collections::BTreeMap;

use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::{NewMessage, Queued, journey_event};

use super::{Delivery, Ended, Event, Message, Model, State};

impl Model {
    /// Accepts a message; whether it is new.
    pub fn enqueue(&mut self, new: &NewMessage) -> bool {
        let id: QueueId = new.queue_id.parse().unwrap();
        if self.messages.contains_key(&id) {
            return false;
        }
        let envelope = new.envelope.as_ref().unwrap();
        let due_us = self.now_us.max(new.release_us);
        let mut deliveries: Vec<Delivery> = Vec::new();
        for recipient in &envelope.recipients {
            let known = deliveries
                .iter_mut()
                .find(|delivery| delivery.destination.as_str() == recipient.destination);
            match known {
                Some(delivery) => delivery.open.push(recipient.clone()),
                None => deliveries.push(Delivery {
                    destination: recipient.destination.parse().unwrap(),
                    rerouted: false,
                    open: vec![recipient.clone()],
                    last: BTreeMap::new(),
                    attempts: 0,
                    unknown_attempts: 0,
                    state: State::Waiting,
                    due_us,
                    ready_us: due_us,
                    bounce: false,
                    pending: None,
                    delay_warned: false,
                    applied: Vec::new(),
                    given_back: false,
                    before: None,
                }),
            }
        }
        self.totals.accepted += envelope.recipients.len() as u64;
        let events = new.events.iter().map(|event| Event {
            event: event.clone(),
            optional: false,
        });
        let message = Message {
            new: new.clone(),
            accepted_us: self.now_us,
            ended_us: None,
            deliveries,
            events: events.collect(),
            ended: Ended::default(),
        };
        if let Some(name) = message.stored_body() {
            self.ended_bodies.retain(|ended| ended != name);
        }
        self.messages.insert(id, message);
        self.accepted.push(id);
        let queued = Queued {
            reverse_path: envelope.reverse_path.clone(),
            recipients: envelope
                .recipients
                .iter()
                .map(|recipient| recipient.address.clone())
                .collect(),
            size: new.body.as_ref().map_or(0, |body| body.size),
        };
        let instance = self.settings.instance.clone();
        self.tell(id, &instance, journey_event::What::Queued(queued), false);
        true
    }
}
