//! A store that takes its time with acts and with its answers, so that a test can look at what happens
//! meanwhile, and that several services can share.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use postrider_protocol::queue_v1::{
    DeliveryStatus, ExportedMessage, Filter, Journey, LeasedDelivery, NewMessage, ShowResponse,
    StatsResponse, Suspension,
};
use postrider_protocol::{DeliveryId, QueueId};
use postrider_queue::store::embedded::{EmbeddedSettings, EmbeddedStore};
use postrider_queue::store::{
    Act, By, Completed, Completion, Enqueued, Find, Grant, LeaseRequest, PartialReturn, Record,
    Renewed, Store, StoreError, StoreSettings, Wake,
};
use postrider_queue::{QueueConfig, QueueService};
use tokio::sync::{broadcast, watch};

pub(crate) struct SlowStore {
    inner: EmbeddedStore,
    /// How long an act takes, in milliseconds.
    act_ms: AtomicU64,
    /// How long the answer to the next ask for leases is under way, in milliseconds.
    grant_ms: AtomicU64,
    /// The answer to the next ask for leases is lost.
    loses_grants: watch::Sender<bool>,
    /// How long a renewal takes, in milliseconds.
    renewal_ms: AtomicU64,
    /// Leases that were renewed.
    renewed: Mutex<HashSet<u64>>,
    /// Leases that are not reached when they are to be renewed.
    unreached: Mutex<Vec<u64>>,
    /// Acts fail.
    broken: AtomicBool,
    /// Parts of leases do not get back.
    keeps_parts: AtomicBool,
    wakes: broadcast::Sender<Wake>,
}

impl SlowStore {
    pub(crate) async fn open(dir: &std::path::Path, config: &QueueConfig) -> Arc<Self> {
        let settings = StoreSettings {
            lease: config.lease.0,
            slots_per_destination: config.slots_per_destination,
            policies: config.policies(),
            journey_retention: config.journeys.keep.0,
            instance: "queue@test".to_owned(),
        };
        let embedded = EmbeddedSettings {
            segment_size: config.embedded.segment_size.0,
            reserve: 0,
            ..EmbeddedSettings::in_dir(&dir.join("queue"))
        };
        let inner = EmbeddedStore::open(embedded, settings).await.unwrap();
        let (wakes, _) = broadcast::channel(1024);
        let (mut from, to) = (inner.watch(), wakes.clone());
        tokio::spawn(async move {
            while let Ok(wake) = from.recv().await {
                to.send(wake).ok();
            }
        });
        Arc::new(Self {
            inner,
            wakes,
            act_ms: AtomicU64::new(0),
            grant_ms: AtomicU64::new(0),
            loses_grants: watch::Sender::new(false),
            renewal_ms: AtomicU64::new(0),
            renewed: Mutex::default(),
            unreached: Mutex::default(),
            broken: AtomicBool::new(false),
            keeps_parts: AtomicBool::new(false),
        })
    }

    /// A service over the store; several may be.
    pub(crate) fn service(
        self: &Arc<Self>,
        dir: &std::path::Path,
        config: &QueueConfig,
        host: &str,
    ) -> Arc<QueueService> {
        QueueService::over(self.clone(), &dir.join("bodies"), config, host).unwrap()
    }

    pub(crate) fn acts_take(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap();
        self.act_ms.store(ms, Ordering::Relaxed);
    }

    /// The next grants come so much later than they were made.
    pub(crate) fn next_grants_come_late(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap();
        self.grant_ms.store(ms, Ordering::Relaxed);
    }

    /// The next grants are made, and nobody hears of them.
    pub(crate) fn loses_next_grants(&self) {
        self.loses_grants.send_replace(true);
    }

    /// Waits until grants were lost.
    pub(crate) async fn has_lost_grants(&self) {
        let mut loses = self.loses_grants.subscribe();
        loses.wait_for(|loses| !loses).await.unwrap();
    }

    pub(crate) fn has_renewed(&self, token: u64) -> bool {
        self.renewed.lock().unwrap().contains(&token)
    }

    pub(crate) fn renewals_take(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap();
        self.renewal_ms.store(ms, Ordering::Relaxed);
    }

    /// These are not renewed from now on, as if they lay in a part of the store that is away.
    pub(crate) fn does_not_reach(&self, tokens: Vec<u64>) {
        *self.unreached.lock().unwrap() = tokens;
    }

    pub(crate) fn acts_fail(&self, fail: bool) {
        self.broken.store(fail, Ordering::Relaxed);
    }

    pub(crate) fn keep_parts(&self) {
        self.keeps_parts.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Store for SlowStore {
    async fn act(&self, act: &Act, on: &[DeliveryId], by: &By) -> Result<Vec<bool>, StoreError> {
        let ms = self.act_ms.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        if self.broken.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("broken".to_owned()));
        }
        self.inner.act(act, on, by).await
    }

    async fn suspend(&self, suspension: Suspension) -> Result<(), StoreError> {
        self.inner.suspend(suspension).await
    }

    async fn resume(&self, id: &str) -> Result<bool, StoreError> {
        self.inner.resume(id).await
    }

    async fn suspensions(&self) -> Result<Vec<Suspension>, StoreError> {
        self.inner.suspensions().await
    }

    async fn put_record(&self, record: Record) -> Result<bool, StoreError> {
        let put = self.inner.put_record(record).await;
        // As a store does that several processes share.
        self.wakes.send(Wake::Records).ok();
        put
    }

    async fn delete_record(&self, kind: &str, key: &str) -> Result<(), StoreError> {
        self.inner.delete_record(kind, key).await
    }

    async fn records(&self, kind: &str) -> Result<Vec<Record>, StoreError> {
        self.inner.records(kind).await
    }

    async fn enqueue(&self, messages: Vec<NewMessage>) -> Vec<Result<Enqueued, StoreError>> {
        self.inner.enqueue(messages).await
    }

    async fn lease(&self, request: LeaseRequest, most: usize) -> Result<Vec<Grant>, StoreError> {
        let grants = self.inner.lease(request, most).await?;
        if !grants.is_empty() {
            if self.loses_grants.send_replace(false) {
                return Err(StoreError::Unavailable("the answer is lost".to_owned()));
            }
            let ms = self.grant_ms.swap(0, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        Ok(grants)
    }

    async fn pull(
        &self,
        token: u64,
        max: usize,
    ) -> Result<Option<Vec<LeasedDelivery>>, StoreError> {
        self.inner.pull(token, max).await
    }

    async fn renew(&self, tokens: Vec<u64>) -> Result<Renewed, StoreError> {
        let ms = self.renewal_ms.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        let away = self.unreached.lock().unwrap().clone();
        let (unreached, tokens): (_, Vec<u64>) =
            tokens.into_iter().partition(|it| away.contains(it));
        let renewed = self.inner.renew(tokens.clone()).await?;
        self.renewed.lock().unwrap().extend(tokens);
        Ok(Renewed {
            unreached,
            ..renewed
        })
    }

    async fn give_back(&self, tokens: Vec<u64>) -> Result<(), StoreError> {
        self.inner.give_back(tokens).await
    }

    async fn give_back_part(&self, parts: Vec<PartialReturn>) -> Result<(), StoreError> {
        if self.keeps_parts.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("broken".to_owned()));
        }
        self.inner.give_back_part(parts).await
    }

    async fn complete(&self, batch: Vec<Completion>) -> Vec<Result<Completed, StoreError>> {
        self.inner.complete(batch).await
    }

    async fn expire(&self) -> Result<Option<Duration>, StoreError> {
        self.inner.expire().await
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
        self.inner.list(filter, after, limit).await
    }

    async fn show(&self, id: QueueId) -> Result<Option<ShowResponse>, StoreError> {
        self.inner.show(id).await
    }

    async fn now_us(&self) -> Result<u64, StoreError> {
        self.inner.now_us().await
    }

    async fn journey(&self, id: QueueId) -> Result<Option<Journey>, StoreError> {
        self.inner.journey(id).await
    }

    async fn find(&self, what: &Find, limit: usize) -> Result<Vec<QueueId>, StoreError> {
        self.inner.find(what, limit).await
    }

    async fn export(
        &self,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<Vec<ExportedMessage>, StoreError> {
        self.inner.export(after, limit).await
    }

    async fn import(&self, messages: Vec<ExportedMessage>) -> Vec<Result<Enqueued, StoreError>> {
        self.inner.import(messages).await
    }

    async fn bodies_in_use(&self, names: Vec<String>) -> Result<Vec<String>, StoreError> {
        self.inner.bodies_in_use(names).await
    }

    async fn ended_bodies(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        self.inner.ended_bodies(limit).await
    }

    async fn forget_bodies(&self, names: Vec<String>) -> Result<(), StoreError> {
        self.inner.forget_bodies(names).await
    }

    async fn stats(&self) -> Result<StatsResponse, StoreError> {
        self.inner.stats().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }
}
