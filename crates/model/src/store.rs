//! The model as a store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use postrider_protocol::queue_v1::{
    DeliveryStatus, ExportedMessage, Filter, Journey, LeasedDelivery, NewMessage, ShowResponse,
    StatsResponse, Suspension,
};
use postrider_protocol::{DeliveryId, Destination, QueueId};
use postrider_queue::store::clock::Clock;
use postrider_queue::store::filter::Matcher;
use postrider_queue::store::{
    Act, By, Completed, Completion, Enqueued, Find, Grant, LeaseRequest, PartialReturn, Record,
    Renewed, Store, StoreError, StoreSettings, Wake,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::broadcast;

use crate::model::{Model, Ruling, State, Verdict};
use crate::view;

/// Wakes that a slow reader may be behind.
const WAKES: usize = 1024;

/// What goes wrong between the store and those who use it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Of a thousand calls, so many fail before they have done anything.
    pub refused: u32,
    /// Of a thousand calls, so many are done and their answer is lost.
    pub lost_answers: u32,
    /// The longest time that a call takes on its way, there and back.
    pub delay: Duration,
    /// Nothing gets through at all.
    pub away: bool,
}

/// The model as a [`Store`], to be shared by any number of queue services: their process may die, and
/// it remains. Deterministic: the same calls in the same order, on the same clock and from the same
/// seed, have the same answers.
pub struct ModelStore {
    model: Mutex<Model>,
    clock: Arc<dyn Clock>,
    faults: Mutex<(Faults, StdRng)>,
    /// When the next thing was to come, as the last [`Store::expire`] said or a wake since.
    told_us: Mutex<Option<u64>>,
    wakes: broadcast::Sender<Wake>,
}

impl ModelStore {
    /// An empty one.
    #[must_use]
    pub fn new(settings: StoreSettings, clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self {
            model: Mutex::new(Model::new(settings, clock.now_us())),
            clock,
            faults: Mutex::new((Faults::default(), StdRng::seed_from_u64(seed))),
            told_us: Mutex::new(None),
            wakes: broadcast::channel(WAKES).0,
        }
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).0 = faults;
    }

    /// Looks at the state, past all faults.
    pub fn inspect<T>(&self, look: impl FnOnce(&Model) -> T) -> T {
        look(&self.model())
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        model.now_us = self.clock.now_us();
        model
    }

    fn chance<T>(&self, draw: impl FnOnce(Faults, &mut StdRng) -> T) -> T {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let (faults, chance) = &mut *faults;
        draw(*faults, chance)
    }

    async fn travel(&self) {
        let wait = self.chance(|faults, chance| match faults.delay.as_micros() as u64 {
            0 => 0,
            most => chance.random_range(0..=most),
        });
        if wait > 0 {
            tokio::time::sleep(Duration::from_micros(wait)).await;
        }
    }

    /// One call: there, done in one step, and back.
    async fn call<T>(&self, done: impl FnOnce(&mut Model) -> T) -> Result<T, StoreError> {
        self.travel().await;
        let refused = self
            .chance(|faults, chance| faults.away || chance.random_range(0..1000) < faults.refused);
        if refused {
            return Err(StoreError::Unavailable("not reachable".to_owned()));
        }
        let answer = {
            let mut model = self.model();
            let before = self.wakeful(&model);
            let answer = done(&mut model);
            self.wake(&model, &before);
            answer
        };
        let lost = self.chance(|faults, chance| {
            faults.away || chance.random_range(0..1000) < faults.lost_answers
        });
        self.travel().await;
        match lost {
            true => Err(StoreError::Unconfirmed("the answer is lost".to_owned())),
            false => Ok(answer),
        }
    }

    /// What somebody may wait for: due deliveries and slots in use of each destination.
    fn wakeful(&self, model: &Model) -> Vec<(Destination, usize, u32)> {
        let mut destinations: Vec<Destination> = model
            .open()
            .map(|(_, delivery)| delivery.destination.clone())
            .collect();
        destinations.sort();
        destinations.dedup();
        let all = destinations.into_iter();
        all.map(|destination| {
            let due = model.due(&destination).len();
            let slots = model.slots_in_use(&destination);
            (destination, due, slots)
        })
        .collect()
    }

    fn wake(&self, model: &Model, before: &[(Destination, usize, u32)]) {
        for (destination, due, slots) in self.wakeful(model) {
            let was = before.iter().find(|(known, _, _)| *known == destination);
            let (due_before, slots_before) = was.map_or((0, 0), |(_, due, slots)| (*due, *slots));
            if due > due_before || (due > 0 && slots < slots_before) {
                self.send(Wake::Destination(destination));
            }
        }
        // Who asked last sleeps until what was to come next then.
        let mut told = self.told_us.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(next_us) = next_us(model)
            && told.is_none_or(|told| next_us < told)
        {
            *told = Some(next_us);
            self.send(Wake::Timer);
        }
    }

    fn send(&self, wake: Wake) {
        // Nobody listens: nobody waits.
        drop(self.wakes.send(wake));
    }
}

/// Destinations that have something for a worker, the longest waiting first.
fn choose(model: &Model, request: &LeaseRequest, most: usize) -> Vec<(Destination, u32)> {
    let mut waiting: Vec<(u64, Destination, usize)> = Vec::new();
    for (id, delivery) in model.open() {
        let carried = request
            .transports
            .iter()
            .any(|name| name == delivery.destination.transport());
        let due = carried
            && delivery.state == State::Waiting
            && delivery.due_us <= model.now_us
            && !model.is_suspended(id);
        if !due {
            continue;
        }
        let mut known = waiting.iter_mut();
        match known.find(|(_, destination, _)| *destination == delivery.destination) {
            Some((oldest_us, _, count)) => {
                *oldest_us = (*oldest_us).min(delivery.due_us);
                *count += 1;
            }
            None => waiting.push((delivery.due_us, delivery.destination.clone(), 1)),
        }
    }
    waiting.sort();
    let mut left = request.slots;
    let mut chosen = Vec::new();
    for (_, destination, due) in waiting {
        let used = model.slots_in_use(&destination);
        let free = model.settings.slots_per_destination.saturating_sub(used);
        let slots = free.min(left).min(due as u32);
        if slots > 0 && chosen.len() < most {
            left -= slots;
            chosen.push((destination, slots));
        }
    }
    chosen
}

/// When something is to come.
fn next_us(model: &Model) -> Option<u64> {
    let leases = model.leases.values().map(|lease| lease.expires_us);
    let deliveries = model
        .open()
        .filter_map(|(_, delivery)| match delivery.state {
            State::Waiting => Some(delivery.due_us),
            State::Held { until_us } => until_us,
            State::Leased(_) | State::Done => None,
        });
    let suspensions = model.suspensions.values();
    let suspensions = suspensions.map(|suspension| suspension.until_us);
    leases
        .chain(deliveries)
        .chain(suspensions)
        .filter(|at| *at > model.now_us)
        .min()
}

#[async_trait]
impl Store for ModelStore {
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Vec<Result<Enqueued, StoreError>> {
        let count = messages.len();
        let done = self.call(|model| {
            let each = messages.iter();
            each.map(|new| match model.enqueue(new) {
                true => Ok(Enqueued::Accepted),
                false => Ok(Enqueued::AlreadyAccepted),
            })
            .collect()
        });
        done.await.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn now_us(&self) -> Result<u64, StoreError> {
        Ok(self.clock.now_us())
    }

    async fn lease(
        &self,
        request: LeaseRequest,
        max_grants: usize,
    ) -> Result<Vec<Grant>, StoreError> {
        self.call(|model| {
            model.expire();
            let chosen = choose(model, &request, max_grants).into_iter();
            chosen
                .map(|(destination, added)| {
                    let held = model.lease_of(&request.worker, &destination);
                    let (token, had) = held.map_or((model.last_token + 1, 0), |(token, lease)| {
                        (token, lease.slots)
                    });
                    let slots = had + added;
                    model.grant(&request.worker, &destination, token, slots);
                    Grant {
                        token,
                        destination,
                        slots,
                        begins: had == 0,
                    }
                })
                .collect()
        })
        .await
    }

    async fn pull(
        &self,
        token: u64,
        max: usize,
    ) -> Result<Option<Vec<LeasedDelivery>>, StoreError> {
        self.call(|model| {
            if !model.is_live(token) {
                return None;
            }
            let destination = model.leases[&token].destination.clone();
            let due = model.due(&destination).into_iter().take(max);
            let pulled = due.map(|id| {
                let leased = view::leased(model, id, token);
                model.take(id, token);
                leased
            });
            Some(pulled.collect())
        })
        .await
    }

    async fn renew(&self, tokens: Vec<u64>) -> Result<Renewed, StoreError> {
        let stale = self.call(|model| model.renew(&tokens)).await?;
        Ok(Renewed {
            stale,
            unreached: Vec::new(),
        })
    }

    async fn give_back(&self, tokens: Vec<u64>) -> Result<(), StoreError> {
        self.call(|model| tokens.iter().for_each(|token| model.give_back(*token)))
            .await
    }

    async fn give_back_part(&self, parts: Vec<PartialReturn>) -> Result<(), StoreError> {
        self.call(|model| parts.iter().for_each(|part| model.give_back_part(part)))
            .await
    }

    async fn complete(&self, batch: Vec<Completion>) -> Vec<Result<Completed, StoreError>> {
        let count = batch.len();
        let done = self.call(|model| {
            let each = batch.iter();
            each.map(|completion| match model.judge(completion) {
                Verdict::Done => {
                    model.complete(completion);
                    Ok(Completed::Done)
                }
                Verdict::Repeated => Ok(Completed::Done),
                Verdict::Stale => {
                    model.totals.stale += 1;
                    Ok(Completed::Stale)
                }
            })
            .collect()
        });
        done.await.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn expire(&self) -> Result<Option<Duration>, StoreError> {
        let due_now = |model: &Model| -> Vec<Destination> {
            let mut all: Vec<Destination> = model
                .open()
                .map(|(_, delivery)| delivery.destination.clone())
                .collect();
            all.sort();
            all.dedup();
            all.retain(|destination| !model.due(destination).is_empty());
            all
        };
        let (next, due) = self
            .call(|model| {
                model.expire();
                let next_us = next_us(model);
                *self.told_us.lock().unwrap_or_else(PoisonError::into_inner) = next_us;
                let wait = next_us.map(|at| Duration::from_micros(at - model.now_us));
                (wait, due_now(model))
            })
            .await?;
        // What became due by the clock alone is told here.
        for destination in due {
            self.send(Wake::Destination(destination));
        }
        Ok(next)
    }

    fn watch(&self) -> broadcast::Receiver<Wake> {
        self.wakes.subscribe()
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Vec<DeliveryStatus>, StoreError> {
        let matcher = Matcher::new(filter)?;
        self.call(|model| {
            let all = view::matching(model, &matcher).into_iter();
            all.filter(|status| {
                let id: DeliveryId = status.delivery_id.parse().unwrap();
                after.is_none_or(|after| id > after)
            })
            .take(limit)
            .collect()
        })
        .await
    }

    async fn show(&self, id: QueueId) -> Result<Option<ShowResponse>, StoreError> {
        self.call(|model| view::shown(model, id)).await
    }

    async fn act(&self, act: &Act, on: &[DeliveryId], by: &By) -> Result<Vec<bool>, StoreError> {
        self.call(|model| {
            let each = on.iter();
            each.map(|id| {
                let changes = model.rule(*id, act) == Ruling::Changes;
                if changes {
                    model.act(*id, act, by);
                }
                changes
            })
            .collect()
        })
        .await
    }

    async fn suspend(&self, suspension: Suspension) -> Result<(), StoreError> {
        self.call(|model| model.suspend(suspension)).await
    }

    async fn resume(&self, id: &str) -> Result<bool, StoreError> {
        self.call(|model| model.resume(id)).await
    }

    async fn suspensions(&self) -> Result<Vec<Suspension>, StoreError> {
        self.call(|model| model.suspensions_by_age()).await
    }

    async fn put_record(&self, record: Record) -> Result<bool, StoreError> {
        let put = self.call(|model| model.put_record(record)).await;
        self.send(Wake::Records);
        put
    }

    async fn delete_record(&self, kind: &str, key: &str) -> Result<(), StoreError> {
        let place = (kind.to_owned(), key.to_owned());
        let deleted = self.call(|model| drop(model.records.remove(&place))).await;
        self.send(Wake::Records);
        deleted
    }

    async fn records(&self, kind: &str) -> Result<Vec<Record>, StoreError> {
        self.call(|model| {
            let all = model.records.values();
            all.filter(|record| record.kind == kind).cloned().collect()
        })
        .await
    }

    async fn journey(&self, id: QueueId) -> Result<Option<Journey>, StoreError> {
        self.call(|model| view::journey(model, id)).await
    }

    async fn find(&self, what: &Find, limit: usize) -> Result<Vec<QueueId>, StoreError> {
        self.call(|model| {
            let mut found = view::found(model, what);
            found.truncate(limit);
            found
        })
        .await
    }

    async fn export(
        &self,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<Vec<ExportedMessage>, StoreError> {
        self.call(|model| {
            let queued = model.messages.iter();
            queued
                .filter(|(id, message)| {
                    message.ended_us.is_none() && after.is_none_or(|after| **id > after)
                })
                .take(limit)
                .map(|(id, _)| view::exported(model, *id))
                .collect()
        })
        .await
    }

    async fn import(&self, messages: Vec<ExportedMessage>) -> Vec<Result<Enqueued, StoreError>> {
        let count = messages.len();
        let done = self.call(|model| {
            let each = messages.iter();
            each.map(|exported| match model.import(exported) {
                true => Ok(Enqueued::Accepted),
                false => Ok(Enqueued::AlreadyAccepted),
            })
            .collect()
        });
        done.await.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn bodies_in_use(&self, names: Vec<String>) -> Result<Vec<String>, StoreError> {
        self.call(|model| {
            let used = model.bodies_in_use();
            names
                .into_iter()
                .filter(|name| used.contains(name))
                .collect()
        })
        .await
    }

    async fn ended_bodies(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        self.call(|model| model.ended_bodies.iter().take(limit).cloned().collect())
            .await
    }

    async fn forget_bodies(&self, names: Vec<String>) -> Result<(), StoreError> {
        self.call(|model| model.ended_bodies.retain(|name| !names.contains(name)))
            .await
    }

    async fn stats(&self) -> Result<StatsResponse, StoreError> {
        self.call(|model| view::stats(model)).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
