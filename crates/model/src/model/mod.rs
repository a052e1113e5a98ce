//! A store's state, and its steps by concern.

mod acting;
mod completing;
mod enqueueing;
mod leasing;
mod moving;
mod suspending;

use std::collections::BTreeMap;

use postrider_protocol::queue_v1::{
    JourneyEvent, NewMessage, Notice, Recipient, RecipientOutcome, Suspension, body, journey_event,
    leased_delivery::Disposition,
};
use postrider_protocol::{DeliveryId, Destination, QueueId};
use postrider_queue::policy::Policy;
use postrider_queue::store::clock::micros;
use postrider_queue::store::{Act, Record, StoreSettings};

pub use acting::Ruling;
pub use completing::Verdict;

/// Where a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Due, or to become due; perhaps suspended.
    Waiting,
    /// Leased under this token.
    Leased(u64),
    /// Held, perhaps until a time.
    Held {
        /// When the hold ends by itself.
        until_us: Option<u64>,
    },
    /// Nobody is open any more.
    Done,
}

/// The recipients of one message at one destination.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Where it goes now.
    pub destination: Destination,
    /// An operator chose the destination.
    pub rerouted: bool,
    /// Who has not ended.
    pub open: Vec<Recipient>,
    /// The latest outcome by address.
    pub last: BTreeMap<String, RecipientOutcome>,
    /// Attempts so far.
    pub attempts: u32,
    /// Those with an unknown outcome.
    pub unknown_attempts: u32,
    /// Where it is.
    pub state: State,
    /// From when on it may be attempted.
    pub due_us: u64,
    /// When it was put to wait, or was let go again: what became due first is only certain to leave
    /// first where nothing of the kind happened in between.
    pub ready_us: u64,
    /// An operator wants it ended as failed.
    pub bounce: bool,
    /// What an operator wants done after the attempt under way.
    pub pending: Option<Act>,
    /// The sender was told of the delay.
    pub delay_warned: bool,
    /// Token and number of each completion that was applied.
    pub applied: Vec<(u64, u32)>,
    /// It was given back, which a crash may undo: then its lease has expired instead.
    pub given_back: bool,
    /// Where it was when it was given back, and what an operator wanted then; in that case it is there,
    /// and that is wanted, again.
    pub before: Option<(Destination, Option<Act>)>,
}

/// An event of a journey, as it must be told.
#[derive(Debug, Clone)]
pub struct Event {
    /// What happened. Of a notice's text nothing is promised.
    pub event: JourneyEvent,
    /// A store may leave it out.
    pub optional: bool,
}

/// Recipients that have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// Delivered.
    pub delivered: u64,
    /// Failed.
    pub failed: u64,
    /// Removed by an operator.
    pub removed: u64,
}

/// A message, queued or ended.
#[derive(Debug, Clone)]
pub struct Message {
    /// As it was accepted.
    pub new: NewMessage,
    /// When.
    pub accepted_us: u64,
    /// When its last recipient ended.
    pub ended_us: Option<u64>,
    /// In the order of numbers.
    pub deliveries: Vec<Delivery>,
    /// Its journey.
    pub events: Vec<Event>,
    /// Recipients that have ended.
    pub ended: Ended,
}

impl Message {
    /// The name of its body, if that is stored beside the queue.
    #[must_use]
    pub fn stored_body(&self) -> Option<&str> {
        match self.new.body.as_ref()?.content.as_ref()? {
            body::Content::Stored(name) => Some(name),
            body::Content::Inline(_) => None,
        }
    }

    /// The reverse-path.
    #[must_use]
    pub fn sender(&self) -> &str {
        let envelope = self.new.envelope.as_ref();
        envelope.map_or("", |envelope| envelope.reverse_path.as_str())
    }

    /// When its lifetime and its delay warning count from.
    #[must_use]
    pub fn base_us(&self) -> u64 {
        self.accepted_us.max(self.new.release_us)
    }
}

/// A destination lease.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Whose it is.
    pub worker: String,
    /// What for.
    pub destination: Destination,
    /// Connections.
    pub slots: u32,
    /// Until when, unless renewed.
    pub expires_us: u64,
}

/// Counts since the store was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Recipients.
    pub accepted: u64,
    /// Recipients.
    pub delivered: u64,
    /// Recipients.
    pub failed: u64,
    /// Recipients.
    pub removed: u64,
    /// Completions under stale leases.
    pub stale: u64,
    /// Attempts with an unknown outcome.
    pub unknown: u64,
}

/// A store's whole state.
#[derive(Debug, Clone)]
pub struct Model {
    /// What time it is for the store.
    pub now_us: u64,
    /// What it enforces.
    pub settings: StoreSettings,
    /// Queued and ended messages.
    pub messages: BTreeMap<QueueId, Message>,
    /// In the order of acceptance.
    pub accepted: Vec<QueueId>,
    /// Leases that were not ended, by token.
    pub leases: BTreeMap<u64, Lease>,
    /// The newest token.
    pub last_token: u64,
    /// Counts.
    pub totals: Totals,
    /// Stored bodies that were not confirmed to be deleted.
    pub ended_bodies: Vec<String>,
    /// Suspensions by id.
    pub suspensions: BTreeMap<String, Suspension>,
    /// Records by kind and key.
    pub records: BTreeMap<(String, String), Record>,
    /// When a destination was last granted, pulled from or changed by an operator: it may count its
    /// waiting from then on.
    pub served_us: BTreeMap<Destination, u64>,
}

impl Model {
    /// A new, empty store.
    #[must_use]
    pub fn new(settings: StoreSettings, now_us: u64) -> Self {
        Self {
            now_us,
            settings,
            messages: BTreeMap::new(),
            accepted: Vec::new(),
            leases: BTreeMap::new(),
            last_token: 0,
            totals: Totals::default(),
            ended_bodies: Vec::new(),
            suspensions: BTreeMap::new(),
            records: BTreeMap::new(),
            served_us: BTreeMap::new(),
        }
    }

    /// A delivery, also one that has ended.
    #[must_use]
    pub fn delivery(&self, id: DeliveryId) -> Option<&Delivery> {
        let message = self.messages.get(&id.queue_id)?;
        message.deliveries.get(id.number as usize)
    }

    fn delivery_mut(&mut self, id: DeliveryId) -> &mut Delivery {
        let message = self.messages.get_mut(&id.queue_id).unwrap();
        &mut message.deliveries[id.number as usize]
    }

    /// All deliveries that have not ended, in the order of ids.
    pub fn open(&self) -> impl Iterator<Item = (DeliveryId, &Delivery)> {
        let queued = self.messages.iter();
        let queued = queued.filter(|(_, message)| message.ended_us.is_none());
        queued.flat_map(|(id, message)| {
            let numbered = message.deliveries.iter().zip(0..);
            let open = numbered.filter(|(delivery, _)| delivery.state != State::Done);
            open.map(|(delivery, number)| {
                let id = DeliveryId {
                    queue_id: *id,
                    number,
                };
                (id, delivery)
            })
        })
    }

    /// What holds for the destination of a delivery.
    fn policy(&self, id: DeliveryId) -> &Policy {
        let destination = self.delivery(id).unwrap().destination.as_str();
        self.settings.policies.of(destination)
    }

    /// When its lifetime is over.
    #[must_use]
    pub fn expires_us(&self, id: DeliveryId) -> u64 {
        self.messages[&id.queue_id].base_us() + micros(self.policy(id).lifetime)
    }

    /// How a delivery that is due is leased.
    #[must_use]
    pub fn disposition(&self, id: DeliveryId) -> Disposition {
        if self.delivery(id).unwrap().bounce {
            Disposition::Bounce
        } else if self.expires_us(id) <= self.now_us {
            Disposition::Expired
        } else {
            Disposition::Attempt
        }
    }

    /// Whether the sender is to be told of the delay.
    #[must_use]
    pub fn delay_warning_due(&self, id: DeliveryId) -> bool {
        let base_us = self.messages[&id.queue_id].base_us();
        let late = self.policy(id).delay_warning;
        late.is_some_and(|late| base_us + micros(late) <= self.now_us)
            && !self.delivery(id).unwrap().delay_warned
    }

    fn tell(&mut self, id: QueueId, instance: &str, what: journey_event::What, optional: bool) {
        let event = JourneyEvent {
            time_us: self.now_us,
            instance: instance.to_owned(),
            what: Some(what),
        };
        let message = self.messages.get_mut(&id).unwrap();
        message.events.push(Event { event, optional });
    }

    fn notice(&mut self, id: QueueId, text: &str, operator: &str, optional: bool) {
        let notice = Notice {
            text: text.to_owned(),
            operator: operator.to_owned(),
            dsn_queue_id: String::new(),
        };
        let instance = self.settings.instance.clone();
        self.tell(id, &instance, journey_event::What::Notice(notice), optional);
    }

    /// A delivery ends where it stands.
    fn end(&mut self, id: DeliveryId) {
        self.delivery_mut(id).state = State::Done;
        let now_us = self.now_us;
        let message = self.messages.get_mut(&id.queue_id).unwrap();
        let mut deliveries = message.deliveries.iter();
        if deliveries.all(|delivery| delivery.state == State::Done) {
            message.ended_us = Some(now_us);
            if let Some(name) = message.stored_body().map(str::to_owned)
                && !self.bodies_in_use().contains(&name)
            {
                self.ended_bodies.push(name);
            }
        }
    }

    fn remove(&mut self, id: DeliveryId) {
        let open = std::mem::take(&mut self.delivery_mut(id).open).len() as u64;
        self.totals.removed += open;
        self.messages.get_mut(&id.queue_id).unwrap().ended.removed += open;
        self.end(id);
    }

    /// Names of stored bodies of messages that have not ended.
    #[must_use]
    pub fn bodies_in_use(&self) -> Vec<String> {
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

    /// Whether an ended message may have been forgotten.
    #[must_use]
    pub fn may_be_forgotten(&self, id: QueueId) -> bool {
        let ended_us = self.messages.get(&id).and_then(|message| message.ended_us);
        ended_us.is_some_and(|ended_us| {
            ended_us + micros(self.settings.journey_retention) <= self.now_us
        })
    }

    /// Stores a record if the version before is there; whether it did.
    pub fn put_record(&mut self, record: Record) -> bool {
        let place = (record.kind.clone(), record.key.clone());
        let version = self.records.get(&place).map_or(0, |there| there.version);
        let fits = record.version == version + 1;
        if fits {
            self.records.insert(place, record);
        }
        fits
    }
}
