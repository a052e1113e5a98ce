//! The conversation with one worker.
//!
//! One task owns all that the worker holds, so nothing here needs a lock. It waits for whatever
//! comes first: a frame from the worker, an errand from the router, an answer of the store, room
//! on the way to the worker, the end of the worker's silence. A worker that misbehaves (reports
//! what it never had, floods, does not read) only fills its own bounds, and then is not read.

mod desk;
mod leaving;
mod renewal;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered};
use hashbrown::HashMap;
use postrider_protocol::queue_v1::queue_frame::Frame;
use postrider_protocol::queue_v1::{
    CompletionAck, CompletionAcks, Hello, LeaseList, LeasedDelivery, QueueFrame, Welcome,
    WorkerFrame, worker_frame,
};
use postrider_protocol::{Status, api};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::DispatchSettings;
use super::grants::{Grants, Sure};
use super::hub::{Hub, Inbox};
use super::timer::Timer;
use crate::holder;
use crate::metrics;
use crate::store::{Grant, Renewed, Store, StoreError};

/// For the worker to say who it is.
const HELLO: Duration = Duration::from_secs(10);
/// Leases that are asked for together.
const GRANTS: usize = 64;
/// Frames that wait for room before the worker is not read any more.
const WAITING_FRAMES: usize = 64;
/// Batches of completions under way before the worker is not read any more.
const BATCHES: usize = 64;
/// Completions in one frame. A worker of this release sends a few hundred at most.
const MOST_COMPLETIONS: usize = 10_000;
/// Leases of which something is given back in one frame.
const MOST_TOKENS: usize = 100_000;
/// Idle leases that are wanted back at once.
const WANTED_BACK: usize = 8;
/// Slots up to which a destination stays with one worker in any case.
const SMALL: u32 = 4;
/// Until the store is asked again that could not answer.
const AGAIN: Duration = Duration::from_millis(500);
/// Slots that a worker may claim.
const MOST_SLOTS: u32 = 100_000;
/// For completions under way when a conversation ends.
const LAST_COMPLETIONS: Duration = Duration::from_secs(10);

type Jobs = FuturesUnordered<BoxFuture<'static, Answer>>;

/// What the store answered.
enum Answer {
    Leased {
        asked: Instant,
        result: Result<Vec<Grant>, StoreError>,
    },
    Pulled {
        token: u64,
        asked: usize,
        result: Result<Option<Vec<LeasedDelivery>>, StoreError>,
    },
    Completed(Vec<CompletionAck>),
    Renewed {
        tokens: Vec<u64>,
        sure: Sure,
        result: Result<Renewed, StoreError>,
    },
    GaveBack(Result<(), StoreError>),
}

/// Why it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The worker ended it.
    Worker,
    /// It sends frames that no worker sends.
    Nonsense,
    /// It does not read what it is sent.
    Deaf,
    /// Nothing was heard for as long as its leases last.
    Silence,
    /// Another conversation has its name.
    Replaced,
    /// The queue stops.
    Stopping,
}

pub(super) struct Conversation {
    store: Arc<dyn Store>,
    settings: Arc<DispatchSettings>,
    hub: Arc<Hub>,
    timer: Arc<Timer>,
    frames: mpsc::Sender<api::Result<QueueFrame>>,
}

impl Conversation {
    pub(super) fn new(
        store: Arc<dyn Store>,
        settings: Arc<DispatchSettings>,
        hub: Arc<Hub>,
        timer: Arc<Timer>,
        frames: mpsc::Sender<api::Result<QueueFrame>>,
    ) -> Self {
        Self {
            store,
            settings,
            hub,
            timer,
            frames,
        }
    }

    /// Holds it to its end.
    pub(super) async fn run(
        self,
        mut from_worker: BoxStream<'static, WorkerFrame>,
        drain: CancellationToken,
        drain_time: Duration,
    ) {
        let hello = match tokio::time::timeout(HELLO, from_worker.next()).await {
            Ok(Some(WorkerFrame {
                frame: Some(worker_frame::Frame::Hello(hello)),
            })) => hello,
            Ok(None) => return,
            _ => return self.refuse("a conversation begins with a hello").await,
        };
        if hello.instance.is_empty()
            || hello.instance.len() > 256
            || !(1..=MOST_SLOTS).contains(&hello.slots)
            || hello.transports.len() > 16
            || hello.transports.iter().any(|name| name.len() > 64)
        {
            return self
                .refuse("the hello has no name, no slots, or too much of something")
                .await;
        }
        let desk = Desk::new(self, hello);
        Box::pin(desk.work(from_worker, drain, drain_time)).await;
    }

    async fn refuse(self, why: &str) {
        // A worker that is gone does not need to hear it.
        self.frames
            .send(Err(Status::invalid_argument(why)))
            .await
            .ok();
    }
}

/// The task's own state.
struct Desk {
    with: Conversation,
    worker: String,
    /// Whose the leases are in the store: this conversation's. Another one of the same worker, with
    /// this queue or another, must not give back what it holds here.
    holder: String,
    transports: Vec<String>,
    id: u64,
    inbox: Arc<Inbox>,
    grants: Grants,
    jobs: Jobs,
    batches: usize,
    out: VecDeque<QueueFrame>,
    leasing: bool,
    lease_again: bool,
    renewing: bool,
    renew_again: bool,
    /// Leases that the store did not reach when they were to be renewed.
    unreached: Vec<u64>,
    /// Leases that were called back from the worker and may not have ended yet, and since when.
    called_back: HashMap<u64, Instant>,
    /// The number of the latest heartbeat.
    beat: u64,
    /// A pull was put off until the worker has read what waits for it.
    held_up: bool,
    /// Every slot is taken, and mail may wait elsewhere.
    crowded: bool,
    /// No new work: the worker drains, or the queue does.
    draining: bool,
    again: Option<Instant>,
    heard: Instant,
    /// When its leases were last prolonged.
    renewed: Instant,
    /// It was not heard for a while, and may be dead: nothing new for it until it is.
    quiet: bool,
    /// Since when frames wait without any being read.
    unread: Option<Instant>,
}

impl Desk {
    fn new(with: Conversation, hello: Hello) -> Self {
        let (id, inbox) = with
            .hub
            .join(&hello.instance, &hello.transports, hello.slots);
        tracing::info!(
            worker = hello.instance,
            slots = hello.slots,
            "a worker is here"
        );
        metrics::worker_joined();
        let welcome = Frame::Welcome(Welcome {
            lease_ms: u64::try_from(with.settings.lease.as_millis()).unwrap_or(u64::MAX),
            instance: with.settings.instance.clone(),
            answers_heartbeats: true,
        });
        let mut desk = Self {
            grants: Grants::new(hello.slots, with.settings.prefetch_per_slot),
            holder: holder::of_worker(&hello.instance),
            worker: hello.instance,
            transports: hello.transports,
            id,
            inbox,
            with,
            jobs: FuturesUnordered::new(),
            batches: 0,
            out: VecDeque::new(),
            leasing: false,
            lease_again: false,
            renewing: false,
            renew_again: false,
            unreached: Vec::new(),
            called_back: HashMap::new(),
            beat: 0,
            held_up: false,
            crowded: false,
            draining: false,
            again: None,
            heard: Instant::now(),
            renewed: Instant::now(),
            quiet: false,
            unread: None,
        };
        desk.say(welcome);
        desk
    }

    async fn work(
        mut self,
        mut from_worker: BoxStream<'static, WorkerFrame>,
        drain: CancellationToken,
        drain_time: Duration,
    ) {
        let mut stop_at: Option<Instant> = None;
        let inbox = self.inbox.clone();
        let frames = self.with.frames.clone();
        let lease = self.with.settings.lease;
        let end = loop {
            self.send_what_fits();
            if stop_at.is_some() && self.grants.tokens().is_empty() && self.batches == 0 {
                break End::Stopping;
            }
            // As long as the store is behind, the worker's silence is not its own.
            let behind = self.batches >= BATCHES;
            let reads = self.out.len() < WAITING_FRAMES && !behind;
            let far = Instant::now() + Duration::from_secs(3600);
            tokio::select! {
                frame = from_worker.next(), if reads => match frame {
                    Some(frame) => if let Some(end) = self.hear(frame) {
                        break end;
                    },
                    None => break End::Worker,
                },
                Some(answer) = self.jobs.next(), if !self.jobs.is_empty() => self.take(answer),
                () = inbox.notify.notified() => {
                    if self.run_errands() {
                        break End::Replaced;
                    }
                }
                permit = frames.reserve(), if !self.out.is_empty() => {
                    match (permit, self.out.pop_front()) {
                        (Ok(permit), Some(frame)) => {
                            permit.send(Ok(frame));
                            self.unread = None;
                        }
                        (Err(_), _) => break End::Worker,
                        (Ok(_), None) => {}
                    }
                }
                () = frames.closed() => break End::Worker,
                () = tokio::time::sleep_until(self.heard + lease / 3), if behind => {
                    self.heard = Instant::now();
                    self.renew();
                }
                // A worker speaks at least every third of a lease. Before a lease can end, its
                // holder is known to be quiet.
                () = tokio::time::sleep_until(self.heard + if self.quiet { lease } else { lease / 2 }) => {
                    match self.quiet {
                        true => break End::Silence,
                        false => self.fall_quiet(),
                    }
                }
                () = tokio::time::sleep_until(self.unread.unwrap_or(far) + lease), if self.unread.is_some() => break End::Deaf,
                () = tokio::time::sleep_until(self.again.unwrap_or(far)), if self.again.is_some() => self.try_again(),
                () = drain.cancelled(), if stop_at.is_none() => {
                    stop_at = Some(Instant::now() + drain_time);
                    self.wind_up();
                }
                () = tokio::time::sleep_until(stop_at.unwrap_or(far)), if stop_at.is_some() => break End::Stopping,
            }
        };
        drop(from_worker);
        self.finish(end).await;
    }

    fn say(&mut self, frame: Frame) {
        self.out.push_back(QueueFrame { frame: Some(frame) });
    }

    fn send_what_fits(&mut self) {
        while let Some(frame) = self.out.pop_front() {
            match self.with.frames.try_send(Ok(frame)) {
                Ok(()) => self.unread = None,
                Err(mpsc::error::TrySendError::Full(Ok(frame))) => {
                    self.out.push_front(frame);
                    self.unread.get_or_insert_with(Instant::now);
                    break;
                }
                // Its end is noticed where the task waits.
                Err(_) => return,
            }
        }
        if self.held_up && self.out.len() < WAITING_FRAMES / 8 {
            self.held_up = false;
            for token in self.grants.tokens() {
                self.pull(token);
            }
        }
    }

    /// Returns why it is over, if the frame ends it.
    fn hear(&mut self, frame: WorkerFrame) -> Option<End> {
        self.heard = Instant::now();
        if std::mem::take(&mut self.quiet) {
            self.with.hub.set_quiet(self.id, false);
            self.try_again();
        }
        // Every sign of life counts, not only heartbeats: otherwise a lease could end while its
        // holder passes for alive.
        if self.renewed + self.with.settings.lease / 4 < self.heard {
            self.renew();
        }
        match frame.frame {
            Some(worker_frame::Frame::Completions(batch))
                if batch.completions.len() > MOST_COMPLETIONS =>
            {
                return Some(End::Nonsense);
            }
            Some(worker_frame::Frame::GiveBack(list)) if list.tokens.len() > MOST_TOKENS => {
                return Some(End::Nonsense);
            }
            Some(worker_frame::Frame::PartialReturns(batch))
                if leaving::is_too_much(&batch, MOST_TOKENS, MOST_COMPLETIONS) =>
            {
                return Some(End::Nonsense);
            }
            Some(worker_frame::Frame::Completions(batch)) => self.complete(batch),
            Some(worker_frame::Frame::GiveBack(list)) => self.take_back(list.tokens),
            Some(worker_frame::Frame::PartialReturns(batch)) => self.take_parts_back(batch),
            Some(worker_frame::Frame::Heartbeat(heartbeat)) => {
                self.beat = heartbeat.number;
                self.renew();
                self.make_way();
            }
            Some(worker_frame::Frame::Drain(_)) if !self.draining => {
                self.take_no_more();
                self.pass_on();
            }
            // A second hello, or a frame of a later version: nothing to do.
            Some(worker_frame::Frame::Drain(_) | worker_frame::Frame::Hello(_)) | None => {}
        }
        None
    }

    /// The worker may be dead. Until it is heard again, others get what comes; should its leases
    /// end, nobody mistakes it for one who waits for them.
    fn fall_quiet(&mut self) {
        tracing::debug!(worker = self.worker, "a worker is quiet");
        self.quiet = true;
        self.with.hub.set_quiet(self.id, true);
        self.pass_on();
    }

    /// What this worker was asked for, others may do.
    fn pass_on(&self) {
        self.with.hub.pass_on(&self.transports);
    }

    /// Returns true if another conversation has taken the worker's name.
    fn run_errands(&mut self) -> bool {
        let errands = self.inbox.take();
        for destination in errands.pull {
            let Some((token, held)) = self.grants.of(&destination) else {
                // It went back meanwhile; whoever leases it now gets what is due.
                self.lease();
                continue;
            };
            held.more = true;
            held.grows = true;
            self.pull(token);
            self.grow(token);
        }
        if errands.lease {
            self.lease();
        }
        if errands.make_way {
            self.crowded |= self.grants.free() == 0;
            self.make_way();
        }
        errands.replaced
    }

    /// The queue stops: the worker finishes what it has.
    fn wind_up(&mut self) {
        self.take_no_more();
        let tokens = self.grants.tokens();
        if !tokens.is_empty() {
            self.say(Frame::WantedBack(LeaseList { tokens }));
        }
    }

    async fn finish(mut self, end: End) {
        self.with.hub.leave(self.id);
        metrics::worker_left();
        let reason = match end {
            End::Worker => "the worker ended it",
            End::Nonsense => "the worker sent what no worker sends",
            End::Deaf => "the worker did not read",
            End::Silence => "the worker fell silent",
            End::Replaced => "another worker has its name",
            End::Stopping => "the queue stops",
        };
        let holds = self.grants.any_sent();
        tracing::info!(
            worker = self.worker,
            reason,
            holds,
            "a conversation is over"
        );
        if end == End::Nonsense {
            let refusal = Status::invalid_argument(reason);
            // Where there is no room for it, the end of the stream must do.
            self.with.frames.try_send(Err(refusal)).ok();
        }
        // Nothing is in the worker's hands under these, and it was asked to close its connections:
        // others may have them at once. Where it has something, it may be in the middle of an attempt,
        // and tell of it when it is back: only the end of the lease says that it will not. So it
        // is with one that was cut off: it may still hold connections open.
        let expected = self.draining && matches!(end, End::Worker | End::Stopping);
        if expected {
            let idle = self.grants.untouched();
            self.give_back(idle);
        } else {
            // The worker never heard of these, so it has no connection under them.
            let untold = self.grants.untold();
            self.give_back(untold);
        }
        let jobs = async {
            while let Some(answer) = self.jobs.next().await {
                self.take_last(answer);
            }
        };
        if tokio::time::timeout(LAST_COMPLETIONS, jobs).await.is_err() {
            tracing::warn!(worker = self.worker, "the store did not confirm in time");
        }
        self.send_what_fits();
        self.with.timer.at_most(self.with.settings.lease);
    }

    /// Takes an answer that comes when the worker does not hear of it any more.
    fn take_last(&mut self, answer: Answer) {
        let unheard = match answer {
            Answer::Completed(acks) => {
                self.out.push_back(QueueFrame {
                    frame: Some(Frame::Acks(CompletionAcks { acks })),
                });
                return;
            }
            // Nor of these.
            Answer::Leased {
                result: Ok(grants), ..
            } => grants
                .into_iter()
                .map(|grant| grant.token)
                .filter(|token| !self.grants.has(*token) && !self.is_called_back(*token))
                .collect(),
            // Pulled and not sent. One that was cut off may hold a connection under the lease; one
            // that drains has closed it.
            Answer::Pulled {
                token,
                result: Ok(Some(_)),
                ..
            } if self.draining => match self.grants.get_mut(token) {
                Some(held) if held.sent.is_empty() => vec![token],
                _ => return,
            },
            Answer::Leased { .. }
            | Answer::Pulled { .. }
            | Answer::Renewed { .. }
            | Answer::GaveBack(_) => return,
        };
        self.give_back(unheard);
    }
}
