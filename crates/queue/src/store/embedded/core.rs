//! What one lock guards: the log's end and the queue in memory, which change together.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};

use postrider_protocol::queue_v1::{JourneyEvent, Notice, journey_event};
use postrider_protocol::{DeliveryId, QueueId};
use tokio::sync::{broadcast, oneshot};

use super::archive::Archive;
use super::frame::{Draft, Kind, Location};
use super::housekeeping::Chore;
use super::log::Log;
use super::opening::Holdings;
use super::record::{Head, Withdrawn};
use super::segment::Segment;
use super::state::{Newest, State};
use crate::store::clock::Clock;
use crate::store::{StoreError, StoreSettings, Wake};

/// Bytes that may wait for the disk before new mail is refused. Far more than a disk that works
/// ever has waiting.
const MOST_PENDING: usize = 64 << 20;
/// The same while the disk fails.
const MOST_PENDING_FAILING: usize = 4 << 20;

/// A caller that waits until a record is durable.
pub(super) struct Waiter {
    pub(super) number: u64,
    pub(super) answer: oneshot::Sender<Result<(), StoreError>>,
}

/// What is scheduled once it is durable.
#[derive(Debug, Clone, Copy)]
pub(super) enum Awaited {
    /// A message that was handed over: if it cannot be made durable, it is taken back.
    Message(u128),
    /// A DSN of a completion. That stands, and so does the DSN.
    Dsn(u128),
    /// A delivery that is due again by a completion with DSNs: who sees the one, sees the others.
    Delivery(DeliveryId),
}

/// What one lock guards.
pub(super) struct Core {
    pub(super) log: Log,
    pub(super) state: State,
    pub(super) waiters: VecDeque<Waiter>,
    /// What is scheduled once it is durable, by its record's number.
    pub(super) arrivals: VecDeque<(u64, Awaited)>,
    pub(super) sync_wanted: bool,
    pub(super) stopping: bool,
    /// The commit thread takes requests.
    pub(super) committing: bool,
    pub(super) epoch: u64,
    /// What [`crate::store::Store::expire`] last said is next: who sleeps, sleeps until then.
    pub(super) next_us: Option<u64>,
    pub(super) closed: bool,
}

/// The store's insides, shared by its callers and its threads.
pub(super) struct Shared {
    core: Mutex<Core>,
    /// There is something to sync, or the store stops.
    pub(super) wanted: Condvar,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: StoreSettings,
    pub(super) wakes: broadcast::Sender<Wake>,
    pub(super) archive: Archive,
    pub(super) chores: mpsc::Sender<Chore>,
    pub(super) syncs: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) holdings: Holdings,
}

impl Shared {
    pub(super) fn new(
        core: Core,
        clock: Arc<dyn Clock>,
        settings: StoreSettings,
        archive: Archive,
        chores: mpsc::Sender<Chore>,
    ) -> Self {
        Self {
            core: Mutex::new(core),
            wanted: Condvar::new(),
            clock,
            settings,
            wakes: broadcast::channel(4096).0,
            archive,
            chores,
            syncs: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            holdings: Holdings::default(),
        }
    }

    /// The lock. A panic while it was held has been reported where it happened; what is in memory
    /// is checked against the log again when the store is opened next.
    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    /// Asks for a sync and gives what to wait for.
    pub(super) fn commit(&self, core: &mut Core) -> Commit {
        let (answer, receiver) = oneshot::channel();
        if !core.committing {
            // The sender is dropped, which the receiver hears at once.
            return Commit(receiver);
        }
        self.commits.fetch_add(1, Ordering::Relaxed);
        core.waiters.push_back(Waiter {
            number: core.log.last(),
            answer,
        });
        core.sync_wanted = true;
        self.wanted.notify_one();
        Commit(receiver)
    }

    /// A segment to read from.
    pub(super) fn segment(&self, number: u32) -> Option<Arc<Segment>> {
        self.lock().log.segment(number)
    }

    /// Tells watchers.
    pub(super) fn wake(&self, wake: Wake) {
        // Nobody watching is fine.
        self.wakes.send(wake).ok();
    }

    /// Something is to come at this time: who sleeps longer is told.
    pub(super) fn wake_timer(&self, core: &mut Core, at_us: u64) {
        if core.next_us.is_none_or(|next_us| at_us < next_us) {
            core.next_us = Some(at_us);
            self.wake(Wake::Timer);
        }
    }

    /// Which of these stored bodies a queued message names.
    pub(super) fn bodies_in_use(&self, names: Vec<String>) -> Vec<String> {
        let core = self.lock();
        let used = names.into_iter();
        used.filter(|name| core.state.bodies.contains_key(name.as_str()))
            .collect()
    }

    /// Tells those who follow journeys.
    pub(super) fn wake_journey(&self, id: QueueId) {
        // The dispatcher always listens; whoever else does, follows journeys.
        if self.wakes.receiver_count() > 1 {
            self.wake(Wake::Journey(id));
        }
    }

    pub(super) fn notice(&self, at_us: u64, text: String, operator: &str) -> JourneyEvent {
        JourneyEvent {
            time_us: at_us,
            instance: self.settings.instance.clone(),
            what: Some(journey_event::What::Notice(Notice {
                text,
                operator: operator.to_owned(),
                dsn_queue_id: String::new(),
            })),
        }
    }
}

/// A commit under way. Dropping it changes nothing for the commit.
#[must_use]
pub(super) struct Commit(oneshot::Receiver<Result<(), StoreError>>);

impl Commit {
    /// Waits until it is durable.
    pub(super) async fn durable(self) -> Result<(), StoreError> {
        self.0
            .await
            .unwrap_or_else(|_| Err(StoreError::Unconfirmed("the queue is stopping".to_owned())))
    }

    /// The same for threads.
    pub(super) fn wait(self) -> Result<(), StoreError> {
        self.0
            .blocking_recv()
            .unwrap_or_else(|_| Err(StoreError::Unconfirmed("the queue is stopping".to_owned())))
    }
}

impl Core {
    pub(super) fn new(log: Log, state: State, epoch: u64) -> Self {
        Self {
            log,
            state,
            waiters: VecDeque::new(),
            arrivals: VecDeque::new(),
            sync_wanted: false,
            stopping: false,
            committing: true,
            epoch,
            next_us: None,
            closed: false,
        }
    }

    /// Makes room for records of so many bytes, or refuses.
    pub(super) fn make_room(&mut self, bytes: usize, now_us: u64) -> Result<(), StoreError> {
        if self.closed {
            return Err(StoreError::Unavailable("the queue is stopping".to_owned()));
        }
        let most = match self.log.failing {
            true => MOST_PENDING_FAILING,
            false => MOST_PENDING,
        };
        if self.log.pending_bytes() > most {
            // The next try may find the disk well again.
            self.sync_wanted = true;
            return Err(StoreError::Unavailable(
                "the disk does not keep up or fails".to_owned(),
            ));
        }
        let head = self.head(now_us);
        self.log
            .make_room(bytes, || head)
            .map_err(|error| unavailable(&error))
    }

    /// The first record of a segment that begins now.
    pub(super) fn head(&self, now_us: u64) -> Head {
        Head {
            epoch: self.epoch,
            created_us: now_us,
            totals: self.state.totals,
            voids_from: 0,
        }
    }

    /// Stages a record of one message, linked to the one before of the same message.
    pub(super) fn stage(&mut self, draft: Draft, id: QueueId) -> Location {
        let before = self
            .state
            .messages
            .get(&id.as_u128())
            .map_or(Location::NONE, |message| message.last);
        self.stage_linked(draft, before, vec![id.as_u128()])
    }

    /// Stages a record that these messages remember.
    pub(super) fn stage_linked(
        &mut self,
        draft: Draft,
        before: Location,
        ids: Vec<u128>,
    ) -> Location {
        let (kind, record) = (draft.kind, draft.record.clone());
        let at = self.log.stage(draft, before, ids);
        self.state.record = self.log.last();
        self.state.newest = Some(Newest {
            at,
            before,
            kind,
            record,
        });
        at
    }

    /// Takes back acceptances that could not be made durable: nobody was told of them.
    pub(super) fn withdraw_arrivals(&mut self) {
        for (number, arrival) in std::mem::take(&mut self.arrivals) {
            let Awaited::Message(id) = arrival else {
                self.arrivals.push_back((number, arrival));
                continue;
            };
            let record = Withdrawn {
                id: QueueId::from_u128(id).into(),
            };
            let draft = Draft::new(Kind::Withdrawn, &record, bytes::Bytes::new());
            self.stage_linked(draft, Location::NONE, Vec::new());
            self.state.withdraw(id);
        }
    }
}

/// An error of the disk, for callers.
pub(super) fn unavailable(error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("the queue's disk: {error}"))
}
