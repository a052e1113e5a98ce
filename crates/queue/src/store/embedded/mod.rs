//! The store on the local disk: one log, one process.
//!
//! Everything that happens is a record at the end of a log of segments; the queue in memory is
//! what the records say, and is rebuilt from them at the start. A caller stages its records under
//! a lock, one thread writes and syncs them for all who wait (`commit`), and only then are
//! callers answered and accepted messages scheduled.
//!
//! Start reading at [`EmbeddedStore`], then `record` (what is stored), `state` (how records change
//! the queue), `commit` (how they become durable), `recover` (how they are read again).

mod acting;
mod ahead;
mod archive;
mod cache;
mod changing;
mod check;
mod commit;
mod completing;
mod continuity;
mod core;
mod enqueue;
mod faults;
mod finding;
mod frame;
mod housekeeping;
mod inventory;
mod journey;
mod keeping;
mod kept;
mod leases;
mod leasing;
mod listing;
mod log;
mod message;
mod opening;
mod pulling;
mod quarantine;
mod record;
mod recover;
mod scan;
mod schedule;
mod search;
mod segment;
mod state;
mod stored;
mod strays;
mod suspending;
mod suspensions;
mod tenants;
mod transfer;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postrider_protocol::queue_v1::{
    DeliveryStatus, ExportedMessage, Filter, Journey, LeasedDelivery, NewMessage, ShowResponse,
    StatsResponse, Suspension,
};
use postrider_protocol::{DeliveryId, QueueId};
use tokio::sync::broadcast;

pub use check::{Checked, CheckedFile, NamedBody, check};
pub use faults::{Faults, NoFaults};
pub use finding::{Finding, FindingKind};
pub use opening::EmbeddedSettings;

use self::core::Shared;
use crate::store::{
    Act, By, Completed, Completion, Enqueued, Find, Grant, LeaseRequest, PartialReturn, Record,
    Renewed, Store, StoreError, Wake,
};

/// The store on the local disk. Dropping it without [`Store::close`] is what a crash is: nothing
/// that was acknowledged is lost.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
}

impl EmbeddedStore {
    /// Runs what may wait for the disk where that holds up nobody.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || work(&shared))
            .await
            .unwrap_or_else(|error| Err(StoreError::Unconfirmed(error.to_string())))
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        // The threads must not outlive the store: another one may open the same folder.
        self.shared.abandon();
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Vec<Result<Enqueued, StoreError>> {
        self.enqueue_all(messages).await
    }

    async fn lease(
        &self,
        request: LeaseRequest,
        max_grants: usize,
    ) -> Result<Vec<Grant>, StoreError> {
        self.grant(&request, max_grants)
    }

    async fn pull(
        &self,
        token: u64,
        max: usize,
    ) -> Result<Option<Vec<LeasedDelivery>>, StoreError> {
        self.take(token, max).await
    }

    async fn renew(&self, tokens: Vec<u64>) -> Result<Renewed, StoreError> {
        Ok(self.prolong(tokens))
    }

    async fn give_back(&self, tokens: Vec<u64>) -> Result<(), StoreError> {
        self.take_back(&tokens)
    }

    async fn give_back_part(&self, parts: Vec<PartialReturn>) -> Result<(), StoreError> {
        parts.iter().try_for_each(|part| self.take_part_back(part))
    }

    async fn complete(&self, batch: Vec<Completion>) -> Vec<Result<Completed, StoreError>> {
        self.complete_all(batch).await
    }

    async fn expire(&self) -> Result<Option<Duration>, StoreError> {
        self.end_due().await
    }

    fn watch(&self) -> broadcast::Receiver<Wake> {
        self.shared.wakes.subscribe()
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Vec<DeliveryStatus>, StoreError> {
        let filter = filter.clone();
        self.blocking(move |shared| Self::page(shared, &filter, after, limit))
            .await
    }

    async fn show(&self, id: QueueId) -> Result<Option<ShowResponse>, StoreError> {
        self.blocking(move |shared| Self::one(shared, id)).await
    }

    async fn act(&self, act: &Act, on: &[DeliveryId], by: &By) -> Result<Vec<bool>, StoreError> {
        let (act, on, by) = (act.clone(), on.to_vec(), by.clone());
        self.blocking(move |shared| Self::act_on(shared, &act, &on, &by))
            .await
    }

    async fn suspend(&self, suspension: Suspension) -> Result<(), StoreError> {
        self.blocking(move |shared| Self::suspend_now(shared, suspension))
            .await
    }

    async fn resume(&self, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.blocking(move |shared| Self::resume_now(shared, &id))
            .await
    }

    async fn suspensions(&self) -> Result<Vec<Suspension>, StoreError> {
        Ok(Self::suspended(&self.shared))
    }

    async fn put_record(&self, record: Record) -> Result<bool, StoreError> {
        self.blocking(move |shared| Self::put(shared, record)).await
    }

    async fn delete_record(&self, kind: &str, key: &str) -> Result<(), StoreError> {
        let (kind, key) = (kind.to_owned(), key.to_owned());
        self.blocking(move |shared| Self::delete(shared, &kind, &key))
            .await
    }

    async fn records(&self, kind: &str) -> Result<Vec<Record>, StoreError> {
        Ok(self.shared.lock().state.keeping.records(kind))
    }

    async fn now_us(&self) -> Result<u64, StoreError> {
        Ok(self.shared.now_us())
    }

    async fn journey(&self, id: QueueId) -> Result<Option<Journey>, StoreError> {
        self.blocking(move |shared| journey::of(shared, id)).await
    }

    async fn find(&self, what: &Find, limit: usize) -> Result<Vec<QueueId>, StoreError> {
        let what = what.clone();
        self.blocking(move |shared| search::find(shared, &what, limit))
            .await
    }

    async fn export(
        &self,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<Vec<ExportedMessage>, StoreError> {
        self.blocking(move |shared| transfer::export(shared, after, limit))
            .await
    }

    async fn import(&self, messages: Vec<ExportedMessage>) -> Vec<Result<Enqueued, StoreError>> {
        let count = messages.len();
        self.blocking(move |shared| Ok(transfer::import(shared, messages)))
            .await
            .unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn bodies_in_use(&self, names: Vec<String>) -> Result<Vec<String>, StoreError> {
        self.blocking(move |shared| Ok(shared.bodies_in_use(names)))
            .await
    }

    async fn ended_bodies(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        let core = self.shared.lock();
        Ok(core
            .state
            .ended_bodies
            .keys()
            .take(limit)
            .cloned()
            .collect())
    }

    async fn forget_bodies(&self, names: Vec<String>) -> Result<(), StoreError> {
        let mut core = self.shared.lock();
        for name in names {
            core.state.ended_bodies.remove(&name);
        }
        Ok(())
    }

    async fn stats(&self) -> Result<StatsResponse, StoreError> {
        Ok(Self::counts(&self.shared))
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.blocking(Shared::close).await
    }
}
