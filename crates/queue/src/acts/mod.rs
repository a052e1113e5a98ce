//! What operators do to many deliveries at once: acts that outlive the call that began them.
//!
//! An act is a record in the store ([`ledger`]): what was asked for, by whom and why, and how far
//! it has come. One instance works on it, a page of deliveries at a time ([`job`]), with a rest
//! after each so that mail goes on flowing, and writes its progress down with each page. Records
//! change by compare and set, so that an undo that comes in between is noticed, and an act that
//! its instance has left is taken over by another one ([`caretaker`]).

mod caretaker;
mod job;
mod ledger;
mod preview;
mod request;
mod undo;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use postrider_protocol::queue_v1::act_record::State;
use postrider_protocol::queue_v1::{ActRecord, ActRequest, ActResponse, Suspension, UndoRequest};
use postrider_protocol::{QueueId, Status};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::job::PAGE;
use self::ledger::{Entry, Ledger};
pub(crate) use self::preview::count;
use self::request::Wanted;
use crate::admin::status;
use crate::store::Store;

/// How long a call waits for its act to end.
const ANSWER: Duration = Duration::from_secs(2);
/// Acts that one instance works on at once.
const MOST_RUNNING: usize = 32;
/// Queue ids that a call or a record shows of what it touched.
pub(crate) const SAMPLE: usize = 100;

/// Begins, continues and remembers acts.
pub(crate) struct Acts {
    with: Arc<Context>,
}

/// What the tasks of acts share.
struct Context {
    store: Arc<dyn Store>,
    ledger: Ledger,
    /// This process among all that ever work on acts.
    instance: String,
    /// An act without a sign of life for so long is taken over.
    patience: Duration,
    running: Mutex<HashMap<String, watch::Receiver<ActRecord>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Context {
    fn running(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<ActRecord>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Acts {
    /// Begins to look after acts, also those that another instance, or an earlier life of this
    /// one, has left unfinished.
    ///
    /// `records` tells that some record in the store may have changed.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        instance: &str,
        patience: Duration,
        records: Arc<Notify>,
    ) -> Self {
        let with = Arc::new(Context {
            ledger: Ledger::new(store.clone()),
            store,
            instance: format!("{instance}/{:08x}", rand::random::<u32>()),
            patience,
            running: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        with.tasks.spawn(caretaker::run(with.clone(), records));
        Self { with }
    }

    /// Acts on what a filter matches, or only counts it. Returns when it is done, or when it has
    /// become plain that it takes longer.
    pub(crate) async fn act(&self, request: ActRequest) -> Result<ActResponse, Status> {
        let wanted = Wanted::read(request)?;
        if wanted.request.preview {
            return preview::of(&*self.with.store, &wanted).await;
        }
        if self.with.running().len() >= MOST_RUNNING {
            return Err(Status::resource_exhausted(format!(
                "{MOST_RUNNING} acts are under way; one of them has to end first"
            )));
        }
        let now_us = self.with.store.now_us().await.map_err(status)?;
        let record = ActRecord {
            act_id: QueueId::new().to_string(),
            request: Some(wanted.bounded(now_us)),
            state: State::Running as i32,
            created_us: now_us,
            instance: self.with.instance.clone(),
            alive_us: now_us,
            ..ActRecord::default()
        };
        let entry = self.with.ledger.create(record).await.map_err(status)?;
        let record = self.attend(entry).await;
        Ok(ActResponse {
            matched: record.matched,
            changed: record.changed,
            done: !matches!(record.state(), State::Running | State::Undoing),
            sample: record.sample,
            act_id: record.act_id,
        })
    }

    /// The newest acts.
    pub(crate) async fn list(&self, limit: usize) -> Result<Vec<ActRecord>, Status> {
        let entries = self.with.ledger.all().await.map_err(status)?;
        let newest = entries.into_iter().rev().take(limit);
        Ok(newest.map(|entry| entry.record).collect())
    }

    /// Undoes a hold, or ends an act that still runs.
    pub(crate) async fn undo(&self, request: UndoRequest) -> Result<ActRecord, Status> {
        match undo::order(&self.with, &request).await? {
            undo::Ordered::Here(entry) => Ok(self.attend(entry).await),
            undo::Ordered::There(record) => Ok(self.watch(record).await),
        }
    }

    /// Remembers a suspension among the acts.
    pub(crate) async fn suspended(&self, suspension: &Suspension) -> Result<(), Status> {
        let record = request::record_of(suspension);
        self.with
            .ledger
            .create(record)
            .await
            .map(drop)
            .map_err(status)
    }

    /// Remembers that a suspension was ended, and by whom.
    pub(crate) async fn resumed(&self, id: &str, by: UndoRequest) -> Result<(), Status> {
        undo::resumed(&self.with, id, &by).await.map_err(status)
    }

    /// Lets the pages under way end; what is left of the acts goes on elsewhere, or after the
    /// next start.
    pub(crate) async fn stop(&self) {
        self.with.stop.cancel();
        self.with.tasks.close();
        self.with.tasks.wait().await;
    }

    /// Works on an act here, and waits for it a little.
    async fn attend(&self, entry: Entry) -> ActRecord {
        end_of(job::spawn(&self.with, entry)).await
    }

    /// Waits a little for an act that runs here. Of one that runs elsewhere only its record is
    /// known.
    async fn watch(&self, record: ActRecord) -> ActRecord {
        let running = self.with.running().get(&record.act_id).cloned();
        match running {
            Some(progress) => end_of(progress).await,
            None => record,
        }
    }
}

/// Waits for the end of an act, or until it has become plain that it takes longer.
async fn end_of(mut progress: watch::Receiver<ActRecord>) -> ActRecord {
    let over = |record: &ActRecord| is_over(record.state());
    // Without an end in time, what is known so far.
    tokio::time::timeout(ANSWER, progress.wait_for(over))
        .await
        .ok();
    let record = progress.borrow();
    record.clone()
}

impl Drop for Acts {
    fn drop(&mut self) {
        self.with.stop.cancel();
    }
}

/// Whether nothing happens any more.
fn is_over(state: State) -> bool {
    match state {
        State::Running | State::Undoing => false,
        State::Done | State::Undone | State::Failed | State::Unspecified => true,
    }
}
