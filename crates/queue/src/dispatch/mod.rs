//! Who works on what: the conversations with delivery workers.
//!
//! Each worker has a conversation ([`conversation`]): a task that owns what the worker holds, asks
//! the store for leases and due deliveries, and passes on what the worker reports. A router hears
//! the store's wakes and tells the one conversation that should act: the holder of the destination,
//! which has connections open, or else the worker with the most free slots ([`hub`]). A timer
//! sleeps exactly until something becomes due or may expire ([`timer`]). Nothing polls.

mod conversation;
mod grants;
mod hub;
mod report;
mod timer;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use postrider_protocol::api;
use postrider_protocol::queue_v1::{QueueFrame, WorkerFrame};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::conversation::Conversation;
use self::hub::Hub;
use self::timer::Timer;
use crate::policy::Policies;
use crate::store::Store;

/// Frames on their way to a worker. Behind them the conversation itself keeps some, then stops
/// reading: a worker that does not read holds up only itself.
const FRAMES: usize = 32;

/// What conversations need to know.
#[derive(Debug, Clone)]
pub(crate) struct DispatchSettings {
    pub(crate) instance: String,
    pub(crate) lease: Duration,
    pub(crate) slots_per_destination: u32,
    pub(crate) prefetch_per_slot: u32,
    /// How long workers may finish what they have when the queue stops.
    pub(crate) drain: Duration,
    pub(crate) policies: Arc<Policies>,
}

/// All conversations of this process.
pub(crate) struct Dispatcher {
    store: Arc<dyn Store>,
    settings: Arc<DispatchSettings>,
    hub: Arc<Hub>,
    timer: Arc<Timer>,
    records: Arc<Notify>,
    tasks: TaskTracker,
    /// Conversations end gently.
    drain: CancellationToken,
    /// Everything ends.
    stop: CancellationToken,
}

impl Dispatcher {
    /// Begins to listen to the store.
    pub(crate) fn start(store: Arc<dyn Store>, settings: DispatchSettings) -> Self {
        let dispatcher = Self {
            hub: Arc::new(Hub::default()),
            timer: Arc::new(Timer::default()),
            records: Arc::new(Notify::new()),
            settings: Arc::new(settings),
            tasks: TaskTracker::new(),
            drain: CancellationToken::new(),
            stop: CancellationToken::new(),
            store,
        };
        let wakes = dispatcher.store.watch();
        tokio::spawn(hub::route(
            wakes,
            dispatcher.hub.clone(),
            dispatcher.timer.clone(),
            dispatcher.records.clone(),
            dispatcher.stop.clone(),
        ));
        tokio::spawn(timer::run(
            dispatcher.timer.clone(),
            dispatcher.store.clone(),
            dispatcher.stop.clone(),
        ));
        dispatcher
    }

    /// Tells when a record in the store may have changed.
    pub(crate) fn records(&self) -> Arc<Notify> {
        self.records.clone()
    }

    /// Takes up a conversation with a worker.
    pub(crate) fn converse(
        &self,
        from_worker: BoxStream<'static, WorkerFrame>,
    ) -> BoxStream<'static, api::Result<QueueFrame>> {
        let (frames, to_worker) = mpsc::channel(FRAMES);
        let conversation = Conversation::new(
            self.store.clone(),
            self.settings.clone(),
            self.hub.clone(),
            self.timer.clone(),
            frames,
        );
        let (drain, time) = (self.drain.clone(), self.settings.drain);
        self.tasks.spawn(conversation.run(from_worker, drain, time));
        ReceiverStream::new(to_worker).boxed()
    }

    /// Lets workers finish what they have, then ends their conversations.
    pub(crate) async fn drain(&self) {
        self.drain.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.stop.cancel();
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.drain.cancel();
        self.stop.cancel();
    }
}
