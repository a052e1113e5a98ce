//! The conversation with one worker.
//!
//! One task owns all that the worker holds, so nothing here needs a lock. It waits for whatever
//! comes first: a frame from the worker, an errand from the router, an answer of the store, room
//! on the way to the worker, the end of the worker's silence. A worker that misbehaves (reports
//! what it never had, floods, does not read) only fills its own bounds, and then is not read.

mod desk;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered};
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
use super::grants::Grants;
use super::hub::{Hub, Inbox};
use super::timer::Timer;
use crate::metrics;
use crate::store::{Grant, Store, StoreError};

/// For the worker to say who it is.
const HELLO: Duration = Duration::from_secs(10);
/// Leases that are asked for together.
const GRANTS: usize = 64;
/// Frames that wait for room before the worker is not read any more.
const WAITING_FRAMES: usize = 64;
/// Batches of completions under way before the worker is not read any more.
const BATCHES: usize = 64;
/// Idle leases that are wanted back at once.
const WANTED_BACK: usize = 8;
/// Until the store is asked again that could not answer.
const AGAIN: Duration = Duration::from_millis(500);
/// Slots that a worker may claim.
const MOST_SLOTS: u32 = 100_000;
/// For completions under way when a conversation ends.
const LAST_COMPLETIONS: Duration = Duration::from_secs(10);

type Jobs = FuturesUnordered<BoxFuture<'static, Answer>>;

/// What the store answered.
enum Answer {
    Leased(Result<Vec<Grant>, StoreError>),
    Pulled {
        token: u64,
        asked: usize,
        result: Result<Option<Vec<LeasedDelivery>>, StoreError>,
    },
    Completed(Vec<CompletionAck>),
    Renewed(Result<Vec<u64>, StoreError>),
    GaveBack(Result<(), StoreError>),
}

/// Why it is over.
enum End {
    /// The worker ended it.
    Worker,
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
            || hello.transports.len() > 64
        {
            return self
                .refuse("the hello has no name, no slots, or too many")
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
    transports: Vec<String>,
    id: u64,
    inbox: Arc<Inbox>,
    grants: Grants,
    jobs: Jobs,
    batches: usize,
    out: VecDeque<QueueFrame>,
    leasing: bool,
    lease_again: bool,
    /// Every slot is taken, and mail may wait elsewhere.
    crowded: bool,
    /// No new work: the worker drains, or the queue does.
    draining: bool,
    again: Option<Instant>,
    heard: Instant,
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
        });
        let mut desk = Self {
            grants: Grants::new(hello.slots, with.settings.prefetch_per_slot),
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
            crowded: false,
            draining: false,
            again: None,
            heard: Instant::now(),
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
        let end = loop {
            self.send_what_fits();
            if stop_at.is_some() && self.grants.tokens().is_empty() && self.batches == 0 {
                break End::Stopping;
            }
            let reads = self.out.len() < WAITING_FRAMES && self.batches < BATCHES;
            let far = Instant::now() + Duration::from_secs(3600);
            tokio::select! {
                frame = from_worker.next(), if reads => match frame {
                    Some(frame) => self.hear(frame),
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
                        (Ok(permit), Some(frame)) => permit.send(Ok(frame)),
                        (Err(_), _) => break End::Worker,
                        (Ok(_), None) => {}
                    }
                }
                () = frames.closed() => break End::Worker,
                () = tokio::time::sleep_until(self.heard + self.with.settings.lease) => break End::Silence,
                () = tokio::time::sleep_until(self.again.unwrap_or(far)) => self.try_again(),
                () = drain.cancelled(), if stop_at.is_none() => {
                    stop_at = Some(Instant::now() + drain_time);
                    self.wind_up();
                }
                () = tokio::time::sleep_until(stop_at.unwrap_or(far)) => break End::Stopping,
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
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(Ok(frame))) => {
                    self.out.push_front(frame);
                    return;
                }
                // Its end is noticed where the task waits.
                Err(_) => return,
            }
        }
    }

    fn hear(&mut self, frame: WorkerFrame) {
        self.heard = Instant::now();
        match frame.frame {
            Some(worker_frame::Frame::Completions(batch)) => self.complete(batch),
            Some(worker_frame::Frame::GiveBack(list)) => self.take_back(list.tokens),
            Some(worker_frame::Frame::Heartbeat(_)) => self.renew(),
            Some(worker_frame::Frame::Drain(_)) => {
                self.draining = true;
                self.with.hub.set_free(self.id, 0);
                self.with.hub.pass_on();
            }
            // A second hello, or a frame of a later version: nothing to do.
            Some(worker_frame::Frame::Hello(_)) | None => {}
        }
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

    /// The queue stops: the worker finishes what it has, and gets nothing new.
    fn wind_up(&mut self) {
        self.draining = true;
        self.tell_free();
        let tokens = self.grants.tokens();
        if !tokens.is_empty() {
            self.say(Frame::WantedBack(LeaseList { tokens }));
        }
    }

    async fn finish(mut self, end: End) {
        self.with.hub.leave(self.id);
        metrics::worker_left();
        let (reason, is_quiet) = match end {
            End::Worker => ("the worker ended it", true),
            End::Silence => ("the worker fell silent", false),
            End::Replaced => ("another worker has its name", true),
            End::Stopping => ("the queue stops", true),
        };
        let holds = self.grants.any_sent();
        tracing::info!(
            worker = self.worker,
            reason,
            holds,
            "a conversation is over"
        );
        // Nothing is in the worker's hands under these: others may have them at once. Where it has
        // something, it may be in the middle of an attempt, and tell of it when it is back:
        // only the end of the lease says that it will not.
        let (idle, _) = self.grants.idle_and_busy();
        if is_quiet && !matches!(end, End::Replaced) {
            self.give_back(idle);
        }
        let jobs = async {
            while let Some(answer) = self.jobs.next().await {
                if let Answer::Completed(acks) = answer {
                    self.out.push_back(QueueFrame {
                        frame: Some(Frame::Acks(CompletionAcks { acks })),
                    });
                }
            }
        };
        if tokio::time::timeout(LAST_COMPLETIONS, jobs).await.is_err() {
            tracing::warn!(worker = self.worker, "the store did not confirm in time");
        }
        self.send_what_fits();
        self.with.timer.at_most(self.with.settings.lease);
    }
}
