//! The store on Redis: many queue processes, one truth.
//!
//! Every state change is one server-side script on one hash slot (`scripts/*.lua`), so that it
//! is atomic whatever dies in the middle, and so that no process keeps anything that matters.
//! Time is Redis' own. The keys are described in `docs/redis.md` and named in one place ([`keys`]).
//!
//! A call packs its arguments ([`message`]), joins a batch ([`gather`]), and goes over a connection
//! that comes back by itself ([`link`]). Start reading at [`enqueue`] and `scripts/enqueue.lua`.

mod admin;
mod answer;
mod bodies;
mod complete;
pub mod config;
mod connect;
mod core;
mod enqueue;
mod failure;
mod gather;
mod journey;
mod keys;
mod lease;
mod link;
mod message;
mod pull;
mod rows;
mod script;
mod wake;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postrider_protocol::queue_v1::{
    DeliveryStatus, Filter, Journey, LeasedDelivery, NewMessage, ShowResponse, StatsResponse,
};
use postrider_protocol::{DeliveryId, QueueId};
use tokio::sync::broadcast;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::complete::Completer;
pub use self::config::{Durability, RedisConfig};
use self::connect::Connector;
use self::core::Core;
use self::enqueue::Enqueuer;
use self::link::Link;
use self::pull::Puller;
use self::script::Scripts;
pub use self::script::TimeSource;
use super::{
    Act, Acted, By, Completed, Completion, Enqueued, Grant, LeaseRequest, Store, StoreError,
    StoreSettings, Wake,
};

/// Wakes that a slow reader may fall behind by.
const WAKES: usize = 4096;

/// A [`Store`] on Redis.
pub struct RedisStore {
    core: Arc<Core>,
    enqueuer: Enqueuer,
    puller: Puller,
    completer: Completer,
    wakes: broadcast::Sender<Wake>,
    /// Ends the tasks behind the connections.
    _open: DropGuard,
}

impl RedisStore {
    /// Connects, and checks that the server can keep what it will be trusted with.
    ///
    /// # Errors
    /// If it cannot be reached, or its settings are unsafe and `allow_unsafe` is not set; the
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
        let closed = CancellationToken::new();
        let connector = Arc::new(Connector::new(config)?);
        let connection = connector.connect().await?;
        let link = Link::start(connector.clone(), connection, None, closed.clone());
        let mut waiting = connector.connect().await?;
        let safe = match connector.wait_command(&mut waiting).await? {
            None => link.clone(),
            wait => Link::start(connector.clone(), waiting, wait, closed.clone()),
        };
        let core = Arc::new(Core {
            link,
            safe,
            scripts: Scripts::new(time),
            settings,
        });
        let (wakes, _) = broadcast::channel(WAKES);
        tokio::spawn(wake::listen(connector, wakes.clone(), closed.clone()));
        Ok(Arc::new(Self {
            enqueuer: enqueue::start(core.clone()),
            puller: pull::start(core.clone()),
            completer: complete::start(core.clone()),
            core,
            wakes,
            _open: closed.drop_guard(),
        }))
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Vec<Result<Enqueued, StoreError>> {
        enqueue::enqueue(&self.core, &self.enqueuer, messages).await
    }

    async fn lease(
        &self,
        request: LeaseRequest,
        max_grants: usize,
    ) -> Result<Vec<Grant>, StoreError> {
        lease::lease(&self.core, request, max_grants).await
    }

    async fn pull(
        &self,
        token: u64,
        max: usize,
    ) -> Result<Option<Vec<LeasedDelivery>>, StoreError> {
        self.puller.ask((token, max), 1).await?
    }

    async fn renew(&self, tokens: Vec<u64>) -> Result<Vec<u64>, StoreError> {
        lease::renew(&self.core, tokens).await
    }

    async fn give_back(&self, tokens: Vec<u64>) -> Result<(), StoreError> {
        lease::give_back(&self.core, tokens).await
    }

    async fn complete(&self, batch: Vec<Completion>) -> Vec<Result<Completed, StoreError>> {
        complete::complete(&self.core, &self.completer, batch).await
    }

    async fn expire(&self) -> Result<Option<Duration>, StoreError> {
        lease::expire(&self.core).await
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
        rows::list(&self.core, filter, after, limit).await
    }

    async fn show(&self, id: QueueId) -> Result<Option<ShowResponse>, StoreError> {
        rows::show(&self.core, id).await
    }

    async fn act(
        &self,
        act: Act,
        filter: &Filter,
        by: &By,
        preview: bool,
    ) -> Result<Acted, StoreError> {
        admin::act(&self.core, act, filter, by, preview).await
    }

    async fn journey(&self, id: QueueId) -> Result<Option<Journey>, StoreError> {
        journey::journey(&self.core, id).await
    }

    async fn find(&self, message_id: &str, limit: usize) -> Result<Vec<QueueId>, StoreError> {
        journey::find(&self.core, message_id, limit).await
    }

    async fn bodies_in_use(&self, names: Vec<String>) -> Result<Vec<String>, StoreError> {
        bodies::in_use(&self.core, names).await
    }

    async fn ended_bodies(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        bodies::ended(&self.core, limit).await
    }

    async fn forget_bodies(&self, names: Vec<String>) -> Result<(), StoreError> {
        bodies::forget(&self.core, names).await
    }

    async fn stats(&self) -> Result<StatsResponse, StoreError> {
        admin::stats(&self.core).await
    }

    /// Redis holds everything already; what is under way is answered first.
    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
