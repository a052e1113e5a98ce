//! One act at work: a page, a note of it, a rest, the next page.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postrider_protocol::DeliveryId;
use postrider_protocol::queue_v1::act_record::State;
use postrider_protocol::queue_v1::delivery_status::State as Delivery;
use postrider_protocol::queue_v1::{ActRecord, DeliveryStatus, act_request};
use tokio::sync::watch;

use super::ledger::Entry;
use super::{Context, is_over, preview, request, undo};
use crate::metrics;
use crate::store::{Act, By, StoreError};

/// Deliveries that are listed and changed together.
pub(super) const PAGE: usize = 1000;
/// Deliveries that were held before a hold, as many as are remembered of them.
const MOST_HELD_BEFORE: usize = 800;
/// The longest rest between two pages. A rest takes as long as the page before it, so that an act
/// never has more than half of the store's time.
const LONGEST_REST: Duration = Duration::from_millis(250);
/// Until a store that did not answer is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// Why a job does not go on now.
#[derive(Debug)]
pub(super) enum Halt {
    /// The store cannot, for now or for ever.
    Store(StoreError),
    /// The queue stops.
    Stopping,
    /// Another instance has taken over, or the record is gone.
    Taken,
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Works on an act until it is over. Returns its progress.
pub(super) fn spawn(with: &Arc<Context>, entry: Entry) -> watch::Receiver<ActRecord> {
    let (progress, seen) = watch::channel(entry.record.clone());
    with.running()
        .insert(entry.record.act_id.clone(), seen.clone());
    let job = Job {
        with: with.clone(),
        entry,
        progress,
    };
    with.tasks.spawn(job.run());
    seen
}

pub(super) struct Job {
    pub(super) with: Arc<Context>,
    pub(super) entry: Entry,
    progress: watch::Sender<ActRecord>,
}

impl Job {
    async fn run(mut self) {
        while !is_over(self.entry.record.state()) {
            let began = Instant::now();
            match self.turn().await {
                Ok(()) => {}
                Err(Halt::Store(error)) if error.is_passing() => {
                    tracing::warn!(act = self.id(), %error, "an act waits for the store");
                    self.rest(AGAIN).await;
                }
                Err(halt) => {
                    self.leave(halt).await;
                    break;
                }
            }
            if !is_over(self.entry.record.state()) {
                self.rest(began.elapsed().min(LONGEST_REST)).await;
            }
        }
        // First gone, then told: whoever hears of the end may order the next thing at once.
        self.with.running().remove(self.id());
        self.told();
    }

    /// A page, and a note of it.
    async fn turn(&mut self) -> Result<(), Halt> {
        if self.with.stop.is_cancelled() {
            return Err(Halt::Stopping);
        }
        match self.entry.record.state() {
            State::Undoing => undo::step(self).await?,
            _ => self.step().await?,
        }
        self.save().await?;
        self.told();
        Ok(())
    }

    fn id(&self) -> &str {
        &self.entry.record.act_id
    }

    fn told(&self) {
        self.progress.send_replace(self.entry.record.clone());
    }

    async fn rest(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.with.stop.cancelled() => {}
        }
    }

    /// Acts on the next page.
    async fn step(&mut self) -> Result<(), Halt> {
        let request = self.entry.record.request.clone().unwrap_or_default();
        let act = request::act(&request)
            .map_err(|status| StoreError::Invalid(status.message().to_owned()))?;
        let filter = request.filter.clone().unwrap_or_default();
        let after = self.entry.record.cursor.parse::<DeliveryId>().ok();
        let store = self.with.store.clone();
        let page = self.alive_while(store.list(&filter, after, PAGE)).await?;
        let ids: Vec<DeliveryId> = page
            .iter()
            .filter_map(|delivery| delivery.delivery_id.parse().ok())
            .collect();
        if request.act() == act_request::Act::Hold && self.note_held(&page) {
            self.save().await?;
            if self.entry.record.state() != State::Running {
                return Ok(());
            }
        }
        let changed = self.change(&act, &ids, &request::by(&request)).await?;
        let record = &mut self.entry.record;
        record.changed += changed;
        record.matched += page.len() as u64;
        if let Some(last) = page.last() {
            record.cursor.clone_from(&last.delivery_id);
        }
        let is_last = page.len() < PAGE;
        for delivery in page {
            preview::add(&mut record.sample, delivery.queue_id);
        }
        if is_last {
            self.end(State::Done).await;
        }
        Ok(())
    }

    /// Notes which deliveries of a page are held before the hold gets to them, and does so before it
    /// does: after a crash in between, its own holds must not be taken for earlier ones. False if
    /// the page is noted already.
    fn note_held(&mut self, page: &[DeliveryStatus]) -> bool {
        let record = &mut self.entry.record;
        let noted: Option<DeliveryId> = record.noted_cursor.parse().ok();
        let fresh = page.iter().filter(|delivery| {
            let id = delivery.delivery_id.parse::<DeliveryId>().ok();
            id > noted
        });
        for delivery in fresh.filter(|delivery| delivery.state() == Delivery::Held) {
            match record.held_before.len() < MOST_HELD_BEFORE {
                true => record.held_before.push(delivery.delivery_id.clone()),
                false => record.held_before_full = true,
            }
        }
        let last = page.last().map(|last| &last.delivery_id);
        let is_new = last.is_some_and(|last| *last != record.noted_cursor);
        if let Some(last) = last {
            record.noted_cursor.clone_from(last);
        }
        is_new
    }

    /// Changes deliveries; returns how many changed.
    pub(super) async fn change(
        &mut self,
        act: &Act,
        ids: &[DeliveryId],
        by: &By,
    ) -> Result<u64, StoreError> {
        if ids.is_empty() {
            return Ok(0);
        }
        let store = self.with.store.clone();
        let changed = self.alive_while(store.act(act, ids, by)).await?;
        let changed = changed.into_iter().filter(|changed| *changed).count() as u64;
        metrics::acted(act, changed);
        Ok(changed)
    }

    /// Waits for the store, and lets the others know meanwhile that the act is in good hands.
    pub(super) async fn alive_while<T>(
        &mut self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        tokio::pin!(call);
        loop {
            tokio::select! {
                result = &mut call => return result,
                () = tokio::time::sleep(self.with.patience / 3) => self.breathe().await,
            }
        }
    }

    async fn breathe(&mut self) {
        self.touch().await;
        // Whoever has changed the record meanwhile is heard after this page; and a store that does
        // not answer now is asked again then.
        self.with.ledger.save(&mut self.entry).await.ok();
    }

    async fn touch(&mut self) {
        if let Ok(now_us) = self.with.store.now_us().await {
            self.entry.record.alive_us = now_us;
        }
    }

    /// It is over.
    pub(super) async fn end(&mut self, state: State) {
        self.touch().await;
        let record = &mut self.entry.record;
        record.set_state(state);
        record.ended_us = record.alive_us;
        let request = record.request.clone().unwrap_or_default();
        tracing::info!(
            act = record.act_id,
            kind = request.act().as_str_name(),
            operator = request.operator,
            reason = request.reason,
            matched = record.matched,
            changed = record.changed,
            undone = record.undone,
            state = state.as_str_name(),
            "an act is over"
        );
    }

    /// Notes how far it has come. What was ordered meanwhile is obeyed from now on.
    async fn save(&mut self) -> Result<(), Halt> {
        self.touch().await;
        loop {
            match self.with.ledger.save(&mut self.entry).await {
                Ok(true) => return Ok(()),
                Ok(false) => self.hear().await?,
                // What was done must not be forgotten because of this.
                Err(error) if error.is_passing() && !self.with.stop.is_cancelled() => {
                    self.rest(AGAIN).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Somebody changed the record: an undo, or another instance that took this one for dead.
    async fn hear(&mut self) -> Result<(), Halt> {
        let there = self.with.ledger.get(self.id()).await?;
        let there = there.ok_or(Halt::Taken)?;
        if there.record.instance != self.with.instance {
            return Err(Halt::Taken);
        }
        self.entry.version = there.version;
        if there.record.state() == State::Undoing {
            let own = &mut self.entry.record;
            own.set_state(State::Undoing);
            own.ended_us = 0;
            own.undone_by = there.record.undone_by;
            own.undone_reason = there.record.undone_reason;
        }
        Ok(())
    }

    async fn leave(&mut self, halt: Halt) {
        match halt {
            Halt::Taken => {
                tracing::info!(act = self.id(), "another instance goes on with an act");
            }
            Halt::Stopping => {
                // Nobody has to wait until its silence is noticed.
                for _ in 0..2 {
                    self.entry.record.instance.clear();
                    let saved = self.with.ledger.save(&mut self.entry).await;
                    if !matches!(saved, Ok(false)) || self.hear().await.is_err() {
                        break;
                    }
                }
            }
            Halt::Store(error) => {
                tracing::error!(act = self.id(), %error, "an act cannot go on");
                self.entry.record.problem = error.to_string();
                self.end(State::Failed).await;
                self.with.ledger.save(&mut self.entry).await.ok();
            }
        }
    }
}
