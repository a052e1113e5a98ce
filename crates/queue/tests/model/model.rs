//! What a store must do, in the plainest way: everything in memory, one step at a time, no haste.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_protocol::queue_v1::{
    NewMessage, OutcomeKind, RecipientOutcome, body, leased_delivery::Disposition,
};
use postrider_protocol::{DeliveryId, Destination, QueueId};
use postrider_queue::store::{Act, Completion, StoreSettings};

pub(crate) fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

/// Where a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Waiting,
    Leased(u64),
    Held,
    Done,
}

/// The recipients of one message at one destination.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) destination: Destination,
    pub(crate) open: Vec<String>,
    pub(crate) last: BTreeMap<String, RecipientOutcome>,
    pub(crate) attempts: u32,
    pub(crate) state: State,
    pub(crate) due_us: u64,
    pub(crate) bounce: bool,
    pub(crate) pending: Option<Act>,
    /// Token and number of each completion that was applied.
    pub(crate) applied: Vec<(u64, u32)>,
    /// It was given back, which a crash may undo: then its lease has expired instead.
    pub(crate) given_back: bool,
}

/// What a journey tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Received,
    Queued,
    Attempt(u32),
    Dsn(String),
    Notice { operator: String },
}

#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) new: NewMessage,
    pub(crate) accepted_us: u64,
    pub(crate) ended_us: Option<u64>,
    /// In the order of numbers.
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) events: Vec<(u64, Event)>,
}

impl Message {
    pub(crate) fn stored_body(&self) -> Option<&str> {
        match self.new.body.as_ref()?.content.as_ref()? {
            body::Content::Stored(name) => Some(name),
            body::Content::Inline(_) => None,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) worker: String,
    pub(crate) destination: Destination,
    pub(crate) slots: u32,
    pub(crate) expires_us: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) accepted: u64,
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
    pub(crate) removed: u64,
    pub(crate) stale: u64,
    pub(crate) unknown: u64,
}

/// What a completion must lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Done,
    Stale,
    /// It was applied before: done, if the store remembers, else stale.
    Repeated,
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) now_us: u64,
    pub(crate) settings: StoreSettings,
    pub(crate) messages: BTreeMap<QueueId, Message>,
    /// In the order of acceptance.
    pub(crate) accepted: Vec<QueueId>,
    pub(crate) leases: BTreeMap<u64, Lease>,
    pub(crate) last_token: u64,
    pub(crate) totals: Totals,
    /// Stored bodies that were not confirmed to be deleted.
    pub(crate) ended_bodies: Vec<String>,
}

impl Model {
    pub(crate) fn new(settings: StoreSettings, now_us: u64) -> Self {
        Self {
            now_us,
            settings,
            messages: BTreeMap::new(),
            accepted: Vec::new(),
            leases: BTreeMap::new(),
            last_token: 0,
            totals: Totals::default(),
            ended_bodies: Vec::new(),
        }
    }

    /// Accepts a message; whether it is new.
    pub(crate) fn enqueue(&mut self, new: &NewMessage) -> bool {
        let id: QueueId = new.queue_id.parse().unwrap();
        if self.messages.contains_key(&id) {
            return false;
        }
        let recipients = &new.envelope.as_ref().unwrap().recipients;
        let mut deliveries: Vec<Delivery> = Vec::new();
        for recipient in recipients {
            let known = deliveries
                .iter_mut()
                .find(|delivery| delivery.destination.as_str() == recipient.destination);
            match known {
                Some(delivery) => delivery.open.push(recipient.address.clone()),
                None => deliveries.push(Delivery {
                    destination: recipient.destination.parse().unwrap(),
                    open: vec![recipient.address.clone()],
                    last: BTreeMap::new(),
                    attempts: 0,
                    state: State::Waiting,
                    due_us: self.now_us,
                    bounce: false,
                    pending: None,
                    applied: Vec::new(),
                    given_back: false,
                }),
            }
        }
        self.totals.accepted += recipients.len() as u64;
        let mut events: Vec<_> = new
            .events
            .iter()
            .map(|event| (event.time_us, Event::Received))
            .collect();
        events.push((self.now_us, Event::Queued));
        let message = Message {
            new: new.clone(),
            accepted_us: self.now_us,
            ended_us: None,
            deliveries,
            events,
        };
        if let Some(name) = message.stored_body() {
            self.ended_bodies.retain(|ended| ended != name);
        }
        self.messages.insert(id, message);
        self.accepted.push(id);
        true
    }

    pub(crate) fn delivery(&self, id: DeliveryId) -> Option<&Delivery> {
        let message = self.messages.get(&id.queue_id)?;
        message.deliveries.get(id.number as usize)
    }

    fn delivery_mut(&mut self, id: DeliveryId) -> &mut Delivery {
        let message = self.messages.get_mut(&id.queue_id).unwrap();
        &mut message.deliveries[id.number as usize]
    }

    /// All deliveries that have not ended, in the order of ids.
    pub(crate) fn open(&self) -> impl Iterator<Item = (DeliveryId, &Delivery)> {
        self.messages.iter().flat_map(|(id, message)| {
            let numbered = message.deliveries.iter().zip(0..);
            numbered
                .filter(|(delivery, _)| delivery.state != State::Done)
                .map(|(delivery, number)| {
                    let id = DeliveryId {
                        queue_id: *id,
                        number,
                    };
                    (id, delivery)
                })
        })
    }

    /// Due times at a destination, oldest first.
    pub(crate) fn due(&self, destination: &Destination) -> Vec<u64> {
        let mut due: Vec<u64> = self
            .open()
            .filter(|(_, delivery)| {
                delivery.destination == *destination
                    && delivery.state == State::Waiting
                    && delivery.due_us <= self.now_us
            })
            .map(|(_, delivery)| delivery.due_us)
            .collect();
        due.sort_unstable();
        due
    }

    pub(crate) fn slots_in_use(&self, destination: &Destination) -> u32 {
        let leases = self.leases.values();
        leases
            .filter(|lease| lease.destination == *destination)
            .map(|lease| lease.slots)
            .sum()
    }

    pub(crate) fn is_live(&self, token: u64) -> bool {
        self.leases
            .get(&token)
            .is_some_and(|lease| lease.expires_us > self.now_us)
    }

    /// Deliveries leased under a token.
    pub(crate) fn leased_under(&self, token: u64) -> Vec<DeliveryId> {
        self.open()
            .filter(|(_, delivery)| delivery.state == State::Leased(token))
            .map(|(id, _)| id)
            .collect()
    }

    /// How a delivery that is due is leased.
    pub(crate) fn disposition(&self, id: DeliveryId) -> Disposition {
        let expires_us = self.messages[&id.queue_id].accepted_us + micros(self.settings.lifetime);
        if self.delivery(id).unwrap().bounce {
            Disposition::Bounce
        } else if expires_us <= self.now_us {
            Disposition::Expired
        } else {
            Disposition::Attempt
        }
    }

    pub(crate) fn take(&mut self, id: DeliveryId, token: u64) {
        self.delivery_mut(id).state = State::Leased(token);
    }

    /// Ends the leases whose time is over.
    pub(crate) fn expire(&mut self) {
        let now_us = self.now_us;
        let over: Vec<u64> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.expires_us <= now_us)
            .map(|(token, _)| *token)
            .collect();
        for token in over {
            self.lose(token);
        }
    }

    /// Ends a lease of which nobody knows what became of what it held.
    pub(crate) fn lose(&mut self, token: u64) {
        self.leases.remove(&token);
        for id in self.leased_under(token) {
            self.lapse(id);
        }
    }

    /// One attempt is over, and nobody knows how it ended.
    pub(crate) fn lapse(&mut self, id: DeliveryId) {
        let now_us = self.now_us;
        let delivery = self.delivery_mut(id);
        delivery.attempts += 1;
        delivery.due_us = now_us;
        self.totals.unknown += 1;
        self.tell(
            id.queue_id,
            Event::Notice {
                operator: String::new(),
            },
        );
        self.settle(id);
    }

    pub(crate) fn give_back(&mut self, token: u64) {
        if self.is_live(token) {
            self.leases.remove(&token);
            for id in self.leased_under(token) {
                self.delivery_mut(id).given_back = true;
                self.settle(id);
            }
        }
    }

    /// A delivery is leased no more: what an operator asked for in the meantime is done now.
    fn settle(&mut self, id: DeliveryId) {
        let now_us = self.now_us;
        let delivery = self.delivery_mut(id);
        match delivery.pending.take() {
            None => delivery.state = State::Waiting,
            Some(Act::Hold) => delivery.state = State::Held,
            Some(Act::Bounce) => {
                delivery.state = State::Waiting;
                delivery.bounce = true;
                delivery.due_us = now_us;
            }
            Some(Act::Remove) => self.remove(id),
            Some(Act::Retry | Act::Release) => unreachable!("these are never pending"),
        }
    }

    fn remove(&mut self, id: DeliveryId) {
        let open = std::mem::take(&mut self.delivery_mut(id).open);
        self.totals.removed += open.len() as u64;
        self.end(id);
    }

    fn end(&mut self, id: DeliveryId) {
        self.delivery_mut(id).state = State::Done;
        let now_us = self.now_us;
        let message = self.messages.get_mut(&id.queue_id).unwrap();
        if message
            .deliveries
            .iter()
            .all(|delivery| delivery.state == State::Done)
        {
            message.ended_us = Some(now_us);
            if let Some(name) = message.stored_body().map(str::to_owned)
                && !self.bodies_in_use().contains(&name)
            {
                self.ended_bodies.push(name);
            }
        }
    }

    /// Names of stored bodies of messages that have not ended.
    pub(crate) fn bodies_in_use(&self) -> Vec<String> {
        let open = self
            .messages
            .values()
            .filter(|message| message.ended_us.is_none());
        let mut names: Vec<String> = open
            .filter_map(|message| message.stored_body().map(str::to_owned))
            .collect();
        names.sort();
        names.dedup();
        names
    }

    pub(crate) fn tell(&mut self, id: QueueId, event: Event) {
        let now_us = self.now_us;
        let message = self.messages.get_mut(&id).unwrap();
        message.events.push((now_us, event));
    }

    /// What must become of a completion.
    pub(crate) fn judge(&self, completion: &Completion) -> Verdict {
        let number = completion.attempt.number;
        let Some(delivery) = self.delivery(completion.delivery) else {
            return Verdict::Stale;
        };
        let current = self.is_live(completion.token)
            && delivery.state == State::Leased(completion.token)
            && (number == 0 || number == delivery.attempts + 1);
        let repeated = delivery
            .applied
            .iter()
            .any(|(token, done)| *token == completion.token && number <= *done);
        match (current, repeated) {
            (true, _) => Verdict::Done,
            (_, true) => Verdict::Repeated,
            _ => Verdict::Stale,
        }
    }

    /// Applies a completion that is current.
    pub(crate) fn complete(&mut self, completion: &Completion) {
        let id = completion.delivery;
        let now_us = self.now_us;
        let expires_us = self.messages[&id.queue_id].accepted_us + micros(self.settings.lifetime);
        let delivery = self.delivery_mut(id);
        let number = delivery.attempts + 1;
        let (mut delivered, mut failed, mut unknown, mut missing) = (0, 0, false, false);
        let mut left = Vec::new();
        for address in std::mem::take(&mut delivery.open) {
            let outcomes = &completion.attempt.outcomes;
            let outcome = outcomes.iter().find(|outcome| outcome.address == address);
            match outcome.map(RecipientOutcome::kind) {
                Some(OutcomeKind::Delivered) => delivered += 1,
                Some(OutcomeKind::Failed) => failed += 1,
                kind => {
                    unknown |= kind == Some(OutcomeKind::Unknown);
                    missing |= kind.is_none();
                    if let Some(outcome) = outcome {
                        delivery.last.insert(address.clone(), outcome.clone());
                    }
                    left.push(address);
                }
            }
        }
        let retry_us = now_us + micros(completion.retry_after);
        delivery.due_us = match missing {
            true => now_us,
            false => retry_us.min(expires_us).max(now_us),
        };
        delivery.open = left;
        delivery.attempts = number;
        delivery.applied.push((completion.token, number));
        delivery.given_back = false;
        let ended = delivery.open.is_empty();
        self.totals.delivered += delivered;
        self.totals.failed += failed;
        self.totals.unknown += u64::from(unknown);
        self.tell(id.queue_id, Event::Attempt(number));
        if ended {
            self.end(id);
        } else {
            self.settle(id);
        }
        for dsn in &completion.dsn {
            self.tell(id.queue_id, Event::Dsn(dsn.queue_id.clone()));
            self.enqueue(dsn);
        }
    }

    /// Does an operator's act to one delivery; whether that changed it.
    pub(crate) fn act(&mut self, id: DeliveryId, act: Act, operator: &str) -> bool {
        let now_us = self.now_us;
        let delivery = self.delivery_mut(id);
        let leased = matches!(delivery.state, State::Leased(_));
        match act {
            Act::Retry if delivery.state == State::Waiting && delivery.due_us > now_us => {
                delivery.due_us = now_us;
            }
            Act::Retry => return false,
            Act::Hold if leased && delivery.pending != Some(Act::Hold) => {
                delivery.pending = Some(Act::Hold);
            }
            Act::Hold if delivery.state == State::Waiting => delivery.state = State::Held,
            Act::Hold => return false,
            Act::Release if leased && delivery.pending == Some(Act::Hold) => {
                delivery.pending = None;
            }
            Act::Release if delivery.state == State::Held => delivery.state = State::Waiting,
            Act::Release => return false,
            Act::Remove | Act::Bounce if leased => delivery.pending = Some(act),
            Act::Remove => self.remove(id),
            Act::Bounce => {
                delivery.bounce = true;
                delivery.state = State::Waiting;
                delivery.due_us = delivery.due_us.min(now_us);
            }
        }
        self.tell(
            id.queue_id,
            Event::Notice {
                operator: operator.to_owned(),
            },
        );
        true
    }

    /// Whether an ended message may have been forgotten.
    pub(crate) fn may_be_forgotten(&self, id: QueueId) -> bool {
        let ended_us = self.messages.get(&id).and_then(|message| message.ended_us);
        ended_us.is_some_and(|ended_us| {
            ended_us + micros(self.settings.journey_retention) <= self.now_us
        })
    }
}
