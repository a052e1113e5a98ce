//! The store on Redis: many queue processes, one truth.
//!
//! Every state change is one server-side script on one hash slot (`scripts/*.lua`), so that it
//! is atomic whatever dies in the middle, and so that no process keeps anything that matters.
//! Time is Redis' own. The keys are described in `docs/redis.md` and named in one place ([`keys`]).
//!
//! A call packs its arguments ([`message`]), joins a batch ([`gather`]), and goes over a connection
//! that comes back by itself ([`link`]). Start reading at [`enqueue`] and `scripts/enqueue.lua`.

mod access;
mod acting;
mod admin;
mod answer;
mod bodies;
mod complete;
pub mod config;
mod connect;
mod content;
mod core;
mod enqueue;
mod failure;
mod find;
mod gather;
mod hint;
mod inspect;
mod journey;
mod keys;
mod lease;
mod left;
mod link;
mod locate;
mod message;
mod moves;
mod part;
mod partition;
mod pull;
mod records;
mod rows;
mod script;
mod spread;
mod suspension;
mod together;
mod transfer;
mod turns;
mod wait;
mod wake;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use postrider_protocol::queue_v1::{
    DeliveryStatus, ExportedMessage, Filter, Journey, LeasedDelivery, NewMessage, ShowResponse,
    StatsResponse, Suspension,
};
use postrider_protocol::{DeliveryId, QueueId};
use tokio::sync::broadcast;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::admin::Acted;
pub use self::config::{Durability, RedisConfig, RedisKind};
use self::core::Core;
use self::inspect::Unfit;
use self::part::Part;
use self::partition::Partitions;
pub use self::script::TimeSource;
use self::turns::Turn;
use super::{
    Act, By, Completed, Completion, Enqueued, Find, Grant, LeaseRequest, PartialReturn, Record,
    Renewed, Store, StoreError, StoreSettings, Wake,
};

/// Wakes that a slow reader may fall behind by.
const WAKES: usize = 4096;

/// Until a server that was not there at the start is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// A [`Store`] on Redis.
pub struct RedisStore {
    partitions: Partitions,
    parts: Vec<Part>,
    turn: Turn,
    real_time: bool,
    wakes: broadcast::Sender<Wake>,
    /// Ends the tasks behind the connections.
    _open: DropGuard,
}

impl RedisStore {
    /// Connects, and checks that the server can keep what it will be trusted with.
    ///
    /// # Errors
    /// If it cannot be reached within `connect_timeout`, or its settings are unsafe and `allow_unsafe` is not set; the
    /// message says what to set.
    pub async fn open(config: &RedisConfig, settings: StoreSettings) -> anyhow::Result<Arc<Self>> {
        Self::open_at(config, settings, &TimeSource::server()).await
    }

    /// As [`RedisStore::open`], with another clock.
    ///
    /// # Errors
    /// As [`RedisStore::open`].
    pub async fn open_at(
        config: &RedisConfig,
        settings: StoreSettings,
        time: &TimeSource,
    ) -> anyhow::Result<Arc<Self>> {
        let problems = config.validate();
        anyhow::ensure!(problems.is_empty(), "{}", problems.join("; "));
        let (wakes, _) = broadcast::channel(WAKES);
        let give_up = Instant::now() + config.connect_timeout.0;
        let ((partitions, parts), open) = loop {
            let closed = CancellationToken::new();
            let open = closed.clone().drop_guard();
            match part::open_all(config, &settings, time, &wakes, &closed).await {
                Ok(opened) => break (opened, open),
                // A server that is starting, or a connection that was cut, may be better in a moment.
                Err(error) if !error.is::<Unfit>() && Instant::now() < give_up => {
                    tracing::warn!(reason = %format!("{error:#}"), "Redis is not available yet");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        };
        Ok(Arc::new(Self {
            partitions,
            parts,
            turn: Turn::default(),
            real_time: time.is_real(),
            wakes,
            _open: open,
        }))
    }

    /// The only partition, if there is one only: then nothing goes any way round.
    fn only(&self) -> Option<&Part> {
        match self.parts.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The partition that keeps what belongs to no destination.
    fn first(&self) -> &Core {
        &self.parts[0].core
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Vec<Result<Enqueued, StoreError>> {
        if let Some(part) = self.only() {
            return enqueue::enqueue(&part.core, &part.enqueuer, messages).await;
        }
        spread::accept(self.partitions, &self.parts, messages).await
    }

    async fn lease(
        &self,
        request: LeaseRequest,
        max_grants: usize,
    ) -> Result<Vec<Grant>, StoreError> {
        if let Some(part) = self.only() {
            return lease::lease(&part.core, request, max_grants).await;
        }
        turns::lease(
            self.partitions,
            &self.parts,
            &self.turn,
            request,
            max_grants,
        )
        .await
    }

    async fn pull(
        &self,
        token: u64,
        max: usize,
    ) -> Result<Option<Vec<LeasedDelivery>>, StoreError> {
        if let Some(part) = self.only() {
            return part.puller.ask((token, max), 1).await?;
        }
        turns::pull(self.partitions, &self.parts, token, max).await
    }

    async fn renew(&self, tokens: Vec<u64>) -> Result<Renewed, StoreError> {
        if let Some(part) = self.only() {
            let stale = lease::renew(&part.core, tokens).await?;
            return Ok(Renewed {
                stale,
                unreached: Vec::new(),
            });
        }
        Ok(turns::renew(self.partitions, &self.parts, tokens).await)
    }

    async fn give_back(&self, tokens: Vec<u64>) -> Result<(), StoreError> {
        if let Some(part) = self.only() {
            return lease::give_back(&part.core, tokens).await.map(drop);
        }
        turns::give_back(self.partitions, &self.parts, tokens).await
    }

    async fn give_back_part(&self, parts: Vec<PartialReturn>) -> Result<(), StoreError> {
        if let Some(part) = self.only() {
            return lease::give_back_part(&part.core, parts).await.map(drop);
        }
        turns::give_back_part(self.partitions, &self.parts, parts).await
    }

    async fn complete(&self, batch: Vec<Completion>) -> Vec<Result<Completed, StoreError>> {
        if let Some(part) = self.only() {
            return complete::complete(&part.core, &part.completer, batch).await;
        }
        spread::complete(self.partitions, &self.parts, batch).await
    }

    async fn expire(&self) -> Result<Option<Duration>, StoreError> {
        if let Some(part) = self.only() {
            return lease::expire(&part.core).await;
        }
        turns::expire(&self.parts, self.real_time).await
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
        if let Some(part) = self.only() {
            return rows::list(&part.core, &[], filter, after, limit).await;
        }
        together::list(&self.parts, filter, after, limit).await
    }

    async fn show(&self, id: QueueId) -> Result<Option<ShowResponse>, StoreError> {
        if let Some(part) = self.only() {
            return rows::show(&part.core, &[], id).await;
        }
        together::show(&self.parts, id).await
    }

    async fn act(&self, act: &Act, on: &[DeliveryId], by: &By) -> Result<Vec<bool>, StoreError> {
        if let Some(part) = self.only() {
            let acted = admin::act(&part.core, act, None, on, by).await?;
            return Ok(acted.into_iter().map(|it| it == Acted::Changed).collect());
        }
        acting::act(self.partitions, &self.parts, act, on, by).await
    }

    async fn suspend(&self, suspension: Suspension) -> Result<(), StoreError> {
        if let Some(part) = self.only() {
            return suspension::suspend(&part.core, &suspension).await;
        }
        together::suspend(&self.parts, &suspension).await
    }

    async fn resume(&self, id: &str) -> Result<bool, StoreError> {
        if let Some(part) = self.only() {
            return suspension::resume(&part.core, id).await;
        }
        together::resume(&self.parts, id).await
    }

    async fn suspensions(&self) -> Result<Vec<Suspension>, StoreError> {
        if let Some(part) = self.only() {
            return suspension::all(&part.core).await;
        }
        together::suspensions(&self.parts).await
    }

    async fn put_record(&self, record: Record) -> Result<bool, StoreError> {
        records::put(self.first(), &record).await
    }

    async fn delete_record(&self, kind: &str, key: &str) -> Result<(), StoreError> {
        records::delete(self.first(), kind, key).await
    }

    async fn records(&self, kind: &str) -> Result<Vec<Record>, StoreError> {
        records::all(self.first(), kind).await
    }

    async fn now_us(&self) -> Result<u64, StoreError> {
        admin::now_us(self.first()).await
    }

    async fn journey(&self, id: QueueId) -> Result<Option<Journey>, StoreError> {
        if let Some(part) = self.only() {
            return journey::journey(&part.core, id).await;
        }
        together::journey(&self.parts, id).await
    }

    async fn find(&self, what: &Find, limit: usize) -> Result<Vec<QueueId>, StoreError> {
        if let Some(part) = self.only() {
            return find::find(&part.core, what, limit).await;
        }
        together::find(&self.parts, what, limit).await
    }

    async fn export(
        &self,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<Vec<ExportedMessage>, StoreError> {
        if let Some(part) = self.only() {
            return transfer::export(&part.core, &[], after, limit).await;
        }
        together::export(&self.parts, after, limit).await
    }

    async fn import(&self, messages: Vec<ExportedMessage>) -> Vec<Result<Enqueued, StoreError>> {
        if let Some(part) = self.only() {
            return transfer::import(&part.core, messages).await;
        }
        together::import(self.partitions, &self.parts, messages).await
    }

    async fn bodies_in_use(&self, names: Vec<String>) -> Result<Vec<String>, StoreError> {
        if let Some(part) = self.only() {
            return bodies::in_use(&part.core, names).await;
        }
        together::bodies_in_use(&self.parts, names).await
    }

    async fn ended_bodies(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        if let Some(part) = self.only() {
            return bodies::ended(&part.core, limit).await;
        }
        together::ended_bodies(&self.parts, limit).await
    }

    async fn forget_bodies(&self, names: Vec<String>) -> Result<(), StoreError> {
        if let Some(part) = self.only() {
            return bodies::forget(&part.core, names).await;
        }
        together::forget_bodies(&self.parts, names).await
    }

    async fn stats(&self) -> Result<StatsResponse, StoreError> {
        if let Some(part) = self.only() {
            return admin::stats(&part.core).await.map(|(stats, _)| stats);
        }
        together::stats(&self.parts).await
    }

    /// Redis holds everything already; what is under way is answered first.
    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
