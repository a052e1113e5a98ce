//! The queue in memory, and how records change it. The same functions serve the running store
//! and the recovery that replays the log, so that both come to the same state.

mod changes;
mod holds;
mod order;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;
use postrider_protocol::queue_v1::Envelope;
use postrider_protocol::{DeliveryId, Destination, QueueId};

use self::holds::Holds;
use super::cache::Cache;
use super::frame::{Kind, Location};
use super::kept::Keeping;
use super::leases::Leases;
use super::message::{
    Deliveries, Delivery, DeliveryState, LATER, Marks, Message, Pending, StoredBody, stable_hash,
};
use super::record::{Accepted, Moved, Totals};
use super::schedule::{Due, Place, Schedule};
use super::stored::destinations;
use super::suspensions::{Hashes, SenderHash, Suspensions};
use super::tenants::Tenants;
use crate::policy::Policies;

pub(super) use order::Sweep;

/// A message that has ended, until its journey is in the archive.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) first: Location,
    pub(super) last: Location,
    pub(super) message_id: u64,
    pub(super) sender: SenderHash,
    pub(super) recipients: u64,
    pub(super) ended_us: u64,
    /// The number of the record that ended it.
    pub(super) number: u64,
    /// The acceptance, if it was in memory anyway.
    pub(super) record: Option<bytes::Bytes>,
    /// The record that ended it, if it was in memory anyway.
    pub(super) last_record: Option<Newest>,
    /// Its stored body, which may go once the end is durable.
    pub(super) body: Option<Box<StoredBody>>,
}

/// The record that was staged last.
#[derive(Debug, Clone)]
pub(super) struct Newest {
    pub(super) at: Location,
    pub(super) before: Location,
    pub(super) kind: Kind,
    pub(super) record: bytes::Bytes,
}

/// A completion that was applied, so that a repeated one is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) token: u64,
    pub(super) number: u32,
}

/// Completions that are remembered. A worker repeats one within seconds, if at all.
const REMEMBERED: usize = 50_000;

pub(super) struct State {
    /// In the order of ids, which is about the order of their acceptance: pages are cheap.
    pub(super) messages: BTreeMap<u128, Box<Message>>,
    pub(super) schedule: Schedule,
    pub(super) leases: Leases,
    pub(super) totals: Totals,
    /// Recipients that have not ended.
    pub(super) open: u64,
    pub(super) leased: u64,
    pub(super) held: u64,
    /// Deliveries with an attempt whose outcome is unknown.
    pub(super) unknown: u64,
    pub(super) holds: Holds,
    /// What operators want of leased deliveries.
    pub(super) pending: HashMap<DeliveryId, Pending>,
    pub(super) tenants: Tenants,
    pub(super) hashes: Hashes,
    pub(super) suspensions: Suspensions,
    /// What was put aside is being looked through.
    pub(super) sweep: Option<Sweep>,
    pub(super) keeping: Keeping,
    pub(super) policies: Arc<Policies>,
    pub(super) cache: Cache,
    /// Ended, not yet in the archive.
    pub(super) ending: HashMap<u128, Ended>,
    /// Ended since the archive was last told.
    pub(super) to_archive: Vec<(u128, Ended)>,
    /// Stored bodies of messages that have not ended, and of how many.
    pub(super) bodies: HashMap<String, u32>,
    /// Stored bodies whose last message has ended, each with the segment in which that message
    /// began. It stays until the body is known to be deleted, so that a recovery finds the name.
    pub(super) ended_bodies: BTreeMap<String, u32>,
    /// Messages from another store, until they are durable, with what they add to the counts.
    pub(super) arrived: HashMap<u128, Totals>,
    /// Live messages by the segment in which they begin: count and bytes.
    pub(super) segments: BTreeMap<u32, (u64, u64)>,
    /// The number of the record that is being applied.
    pub(super) record: u64,
    /// That record itself, except in a recovery.
    pub(super) newest: Option<Newest>,
    applied: HashMap<DeliveryId, Applied>,
    applied_order: VecDeque<DeliveryId>,
}

impl State {
    pub(super) fn new(slots: u32, cache_bytes: usize, policies: Arc<Policies>) -> Self {
        Self {
            messages: BTreeMap::new(),
            schedule: Schedule::new(slots),
            leases: Leases::default(),
            totals: Totals::default(),
            open: 0,
            leased: 0,
            held: 0,
            unknown: 0,
            holds: Holds::default(),
            pending: HashMap::new(),
            tenants: Tenants::default(),
            hashes: Hashes::default(),
            suspensions: Suspensions::default(),
            sweep: None,
            keeping: Keeping::default(),
            policies,
            cache: Cache::new(cache_bytes),
            ending: HashMap::new(),
            to_archive: Vec::new(),
            bodies: HashMap::new(),
            ended_bodies: BTreeMap::new(),
            arrived: HashMap::new(),
            segments: BTreeMap::new(),
            record: 0,
            newest: None,
            applied: HashMap::new(),
            applied_order: VecDeque::new(),
        }
    }

    /// Adds an accepted message. It is scheduled by [`Self::make_durable`].
    pub(super) fn accept(&mut self, id: QueueId, accepted: &Accepted, at: Location, len: usize) {
        let envelope = accepted.message.envelope.as_ref();
        let recipients = envelope.map_or(&[][..], |envelope| &envelope.recipients);
        let deliveries = destinations(recipients)
            .into_iter()
            .map(|(destination, open)| {
                self.open += u64::from(open);
                self.totals.accepted += u64::from(open);
                let destination = self.schedule.intern(&destination);
                self.schedule.opened(destination);
                Delivery {
                    destination,
                    open,
                    attempts: 0,
                    unknown_attempts: 0,
                    state: DeliveryState::Waiting,
                    marks: Marks::default(),
                    due_us: accepted.begin_us(),
                    token: 0,
                    tag: LATER,
                    rest: Location::NONE,
                }
            })
            .collect();
        let message = self.describe(accepted, at, len, deliveries);
        self.insert(id, message);
    }

    /// What memory keeps of a message. Counts it as one of its tenant's.
    fn describe(
        &mut self,
        accepted: &Accepted,
        at: Location,
        len: usize,
        deliveries: Vec<Delivery>,
    ) -> Message {
        let new = &accepted.message;
        let nobody = Envelope::default();
        let envelope = new.envelope.as_ref().unwrap_or(&nobody);
        let recipients = envelope.recipients.iter();
        let policies = &self.policies;
        Message {
            first: at,
            last: at,
            accepted_us: accepted.accepted_us,
            message_id: message_id_hash(&new.message_id),
            sender: self.hashes.sender(&envelope.reverse_path),
            recipients: recipients.fold(0, |bits, recipient| {
                bits | self.hashes.recipient_bits(&recipient.address)
            }),
            tenant: self
                .tenants
                .enter(&new.tenant, |tenant| policies.weight(tenant)),
            stored_len: u32::try_from(len).unwrap_or(u32::MAX),
            body: super::stored::stored_body(new).map(|name| {
                Box::new(StoredBody {
                    name: name.to_owned(),
                })
            }),
            priority: new.priority.clamp(-9, 9) as i8,
            durable: false,
            deliveries: Deliveries::new(deliveries),
        }
    }

    /// Adds a message in the state that it has; the schedule already counts its open deliveries.
    pub(super) fn insert(&mut self, id: QueueId, message: Message) {
        let segment = self.segments.entry(message.first.segment).or_default();
        segment.0 += 1;
        segment.1 += u64::from(message.stored_len);
        if let Some(body) = &message.body {
            *self.bodies.entry(body.name.clone()).or_default() += 1;
            self.ended_bodies.remove(&body.name);
        }
        self.messages.insert(id.as_u128(), Box::new(message));
    }

    /// The message's acceptance is durable: its deliveries may be leased. Returns the
    /// destinations that have a due delivery by it.
    pub(super) fn make_durable(&mut self, id: u128, now_us: u64, woken: &mut Vec<u32>) {
        let Some(message) = self.messages.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut message.durable, true) {
            return;
        }
        let rank = message.rank();
        for (number, delivery) in message.deliveries.as_mut_slice().iter_mut().enumerate() {
            if delivery.state == DeliveryState::Waiting {
                let due = Due::new(delivery.due_us, name(id, number));
                let place = self.schedule.wait(delivery.destination, due, rank);
                delivery.tag = place.map_or(LATER, |place| place.tag());
                if delivery.due_us <= now_us {
                    woken.push(delivery.destination);
                }
            }
        }
    }

    /// Takes back a message whose acceptance was not acknowledged.
    pub(super) fn withdraw(&mut self, id: u128) {
        let open = self.forget(id);
        match self.arrived.remove(&id) {
            None => self.totals.accepted -= open,
            Some(arrived) => {
                self.totals.accepted -= arrived.accepted;
                self.totals.delivered -= arrived.delivered;
                self.totals.failed -= arrived.failed;
                self.totals.removed -= arrived.removed;
            }
        }
    }

    /// Drops what is known of a message; returns how many recipients were open.
    fn forget(&mut self, id: u128) -> u64 {
        let Some(message) = self.messages.remove(&id) else {
            return 0;
        };
        self.cache.remove(id);
        let mut open = 0;
        for (number, delivery) in message.deliveries.as_slice().iter().enumerate() {
            open += u64::from(delivery.open);
            self.leave(name(id, number), &message, delivery);
            if delivery.state != DeliveryState::Done {
                self.unknown -= u64::from(delivery.unknown_attempts > 0);
                self.schedule.ended(delivery.destination);
            }
        }
        self.open -= open;
        self.uncount(&message);
        open
    }

    /// A message was written again as a whole, at `at`.
    pub(super) fn restore(&mut self, id: QueueId, moved: &Moved, at: Location, len: usize) {
        self.rebuild(id, moved, at, len);
        // Its first copy was durable, and is still there until this one is.
        self.make_durable(id.as_u128(), 0, &mut Vec::new());
    }

    /// A message came from another store. It is scheduled by [`Self::make_durable`].
    pub(super) fn arrive(&mut self, id: QueueId, moved: &Moved, at: Location, len: usize) {
        let arrived = moved.arrived.unwrap_or_default();
        self.totals.accepted += arrived.accepted;
        self.totals.delivered += arrived.delivered;
        self.totals.failed += arrived.failed;
        self.totals.removed += arrived.removed;
        self.arrived.insert(id.as_u128(), arrived);
        self.rebuild(id, moved, at, len);
    }

    fn rebuild(&mut self, id: QueueId, moved: &Moved, at: Location, len: usize) {
        let envelope = moved.accepted.message.envelope.as_ref();
        let recipients = envelope.map_or(&[][..], |envelope| &envelope.recipients);
        // Intern first, so that no destination is dropped in between.
        let names = destinations(recipients);
        let mut holds = Vec::new();
        let deliveries: Vec<Delivery> = names
            .iter()
            .zip(&moved.deliveries)
            .enumerate()
            .map(|(number, ((name, _), state))| {
                let open = state.rest.open.len() as u32;
                let destination = match state.destination.as_str() {
                    "" => self.schedule.intern(name),
                    rerouted => self
                        .schedule
                        .intern(&super::stored::parse_destination(rerouted)),
                };
                if open > 0 {
                    self.schedule.opened(destination);
                    self.open += u64::from(open);
                    self.held += u64::from(state.held);
                    self.unknown += u64::from(state.unknown_attempts > 0);
                }
                if open > 0 && state.held && state.held_until_us > 0 {
                    holds.push((number, state.held_until_us));
                }
                let bounce = Marks::BOUNCE.when(state.bounce);
                Delivery {
                    destination,
                    open,
                    attempts: state.attempts,
                    unknown_attempts: u16::try_from(state.unknown_attempts).unwrap_or(u16::MAX),
                    state: match (open, state.held) {
                        (0, _) => DeliveryState::Done,
                        (_, true) => DeliveryState::Held,
                        (_, false) => DeliveryState::Waiting,
                    },
                    marks: bounce.and(Marks::DELAY_WARNED.when(state.delay_warned)),
                    due_us: state.due_us,
                    token: 0,
                    tag: LATER,
                    rest: at,
                }
            })
            .collect();
        self.forget(id.as_u128());
        let message = self.describe(&moved.accepted, at, len, deliveries);
        self.insert(id, message);
        for (number, until_us) in holds {
            self.holds.set(name(id.as_u128(), number), Some(until_us));
        }
    }

    fn uncount(&mut self, message: &Message) {
        self.tenants.leave(message.tenant);
        if let Some(body) = message.body.as_deref()
            && let Some(messages) = self.bodies.get_mut(&body.name)
        {
            *messages -= 1;
            if *messages == 0 {
                self.bodies.remove(&body.name);
            }
        }
        if let Some(segment) = self.segments.get_mut(&message.first.segment) {
            segment.0 -= 1;
            segment.1 -= u64::from(message.stored_len);
            if segment.0 == 0 {
                self.segments.remove(&message.first.segment);
            }
        }
    }

    /// Takes a delivery out of what its state counts in.
    fn leave(&mut self, id: DeliveryId, message: &Message, delivery: &Delivery) {
        self.leave_as(id, message.tenant, message.priority, delivery);
    }

    fn leave_as(&mut self, id: DeliveryId, tenant: u32, priority: i8, delivery: &Delivery) {
        match delivery.state {
            DeliveryState::Waiting => {
                let place = (delivery.tag != LATER).then(|| Place::new(delivery.tag, id, priority));
                let due = Due::new(delivery.due_us, id);
                self.schedule
                    .unwait(delivery.destination, due, tenant, place);
            }
            DeliveryState::Leased => self.leased -= 1,
            DeliveryState::Held => {
                self.held -= 1;
                self.holds.set(id, None);
            }
            DeliveryState::Done => {}
        }
    }

    /// Puts a delivery into a state, and counts it there.
    fn enter(&mut self, delivery_id: DeliveryId, state: DeliveryState, due_us: u64) {
        let id = delivery_id.queue_id.as_u128();
        let number = delivery_id.number as usize;
        let Some(message) = self.messages.get_mut(&id) else {
            return;
        };
        let (rank, durable) = (message.rank(), message.durable);
        let Some(delivery) = message.deliveries.as_mut_slice().get_mut(number) else {
            return;
        };
        let old = delivery.clone();
        delivery.state = state;
        delivery.due_us = due_us;
        delivery.tag = LATER;
        self.leave_as(delivery_id, rank.tenant, rank.priority, &old);
        match state {
            DeliveryState::Waiting if durable => {
                let due = Due::new(due_us, delivery_id);
                if let Some(place) = self.schedule.wait(old.destination, due, rank)
                    && let Some(delivery) = self.delivery_mut(delivery_id)
                {
                    delivery.tag = place.tag();
                }
            }
            DeliveryState::Leased => self.leased += 1,
            DeliveryState::Held => self.held += 1,
            DeliveryState::Waiting | DeliveryState::Done => {}
        }
    }

    /// A delivery's recipients have all ended.
    fn finish(&mut self, delivery_id: DeliveryId) {
        self.enter(delivery_id, DeliveryState::Done, 0);
        self.pending.remove(&delivery_id);
        if let Some(delivery) = self.delivery(delivery_id) {
            let (destination, unknown) = (delivery.destination, delivery.unknown_attempts > 0);
            self.schedule.ended(destination);
            self.unknown -= u64::from(unknown);
        }
    }

    pub(super) fn delivery(&self, id: DeliveryId) -> Option<&Delivery> {
        let message = self.messages.get(&id.queue_id.as_u128())?;
        message.deliveries.as_slice().get(id.number as usize)
    }

    pub(super) fn delivery_mut(&mut self, id: DeliveryId) -> Option<&mut Delivery> {
        let message = self.messages.get_mut(&id.queue_id.as_u128())?;
        message
            .deliveries
            .as_mut_slice()
            .get_mut(id.number as usize)
    }

    /// The name of the destination of a delivery.
    pub(super) fn destination_of(&self, id: DeliveryId) -> Option<&Destination> {
        self.schedule.name(self.delivery(id)?.destination)
    }

    /// After a recovery: recipients that were removed are those that are nowhere else. Their
    /// number is not in the records, and the segments in which they began may be gone. Where
    /// damage has cost acceptances, but not what came of them, these count as accepted.
    pub(super) fn balance(&mut self) {
        let elsewhere = self.open + self.totals.delivered + self.totals.failed;
        self.totals.accepted = self.totals.accepted.max(elsewhere);
        self.totals.removed = self.totals.accepted - elsewhere;
    }

    /// The record at `at` is the message's newest.
    pub(super) fn link(&mut self, id: QueueId, at: Location) {
        if let Some(message) = self.messages.get_mut(&id.as_u128()) {
            message.last = at;
        }
    }

    fn end_if_done(&mut self, id: QueueId, at_us: u64) {
        let key = id.as_u128();
        if !self
            .messages
            .get(&key)
            .is_some_and(|message| message.has_ended())
        {
            return;
        }
        let Some(message) = self.messages.remove(&key) else {
            return;
        };
        self.uncount(&message);
        let record = self.cache.get(key).map(|stored| stored.record.clone());
        self.cache.remove(key);
        let ended = Ended {
            first: message.first,
            last: message.last,
            message_id: message.message_id,
            sender: message.sender,
            recipients: message.recipients,
            ended_us: at_us,
            number: self.record,
            record,
            body: message.body,
            last_record: self
                .newest
                .take()
                .filter(|newest| newest.at == message.last),
        };
        self.ending.insert(key, ended.clone());
        self.to_archive.push((key, ended));
    }

    /// The body of a message whose end is durable may be deleted, unless another message has it too.
    pub(super) fn end_body(&mut self, ended: &Ended) {
        if let Some(body) = ended.body.as_deref()
            && !self.bodies.contains_key(&body.name)
        {
            self.ended_bodies
                .insert(body.name.clone(), ended.first.segment);
        }
    }

    fn remember(&mut self, id: DeliveryId, applied: Applied) {
        if self.applied.insert(id, applied).is_none() {
            self.applied_order.push_back(id);
        }
        if self.applied_order.len() > REMEMBERED
            && let Some(oldest) = self.applied_order.pop_front()
        {
            self.applied.remove(&oldest);
        }
    }

    /// The last completion that was applied to a delivery, if it is not long ago.
    pub(super) fn applied(&self, id: DeliveryId) -> Option<Applied> {
        self.applied.get(&id).copied()
    }

    /// A record of these messages got another place in the log.
    pub(super) fn relocate(&mut self, ids: &[u128], from: Location, to: Location) {
        self.keeping.relocate(from, to);
        let moved = |place: &mut Location| {
            if *place == from {
                *place = to;
            }
        };
        for id in ids {
            if let Some(message) = self.messages.get_mut(id) {
                if message.first == from && from.segment != to.segment {
                    let len = u64::from(message.stored_len);
                    if let Some(old) = self.segments.get_mut(&from.segment) {
                        old.0 -= 1;
                        old.1 -= len;
                        if old.0 == 0 {
                            self.segments.remove(&from.segment);
                        }
                    }
                    let new = self.segments.entry(to.segment).or_default();
                    new.0 += 1;
                    new.1 += len;
                }
                moved(&mut message.first);
                moved(&mut message.last);
                for delivery in message.deliveries.as_mut_slice() {
                    moved(&mut delivery.rest);
                }
            }
            if let Some(ended) = self.ending.get_mut(id) {
                moved(&mut ended.first);
                moved(&mut ended.last);
                // It names the place of the record before, which may have moved as well.
                ended.last_record = None;
            }
            for (ended_id, ended) in &mut self.to_archive {
                if ended_id == id {
                    moved(&mut ended.first);
                    moved(&mut ended.last);
                    ended.last_record = None;
                }
            }
        }
    }
}

/// The delivery's name.
pub(super) fn name(id: u128, number: usize) -> DeliveryId {
    DeliveryId {
        queue_id: QueueId::from_u128(id),
        number: number as u32,
    }
}

/// The hash by which a Message-ID is found; 0 if there is none.
pub(super) fn message_id_hash(message_id: &str) -> u64 {
    match message_id {
        "" => 0,
        some => stable_hash(some.as_bytes()),
    }
}
