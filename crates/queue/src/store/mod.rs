//! What a queue's store must be able to do.
//!
//! A store keeps messages, deliveries, leases and journeys, and changes them in atomic steps.
//! It knows nothing of workers' connections or of gRPC: the dispatcher asks it. Every rule that
//! must hold across processes (one live lease, fencing, slots of a destination, idempotency,
//! atomic completion) is checked here, inside the store's atomic step, on the store's clock.
//!
//! Stores: `embedded` (one process, local disk) and [`redis`] (many processes).
//!
//! What both do alike, and the model-based test holds them to:
//!
//! - A lease whose time is over is stale, whether or not [`Store::expire`] has run since.
//! - An outcome is about every open recipient of the delivery with that address (compared byte
//!   by byte); the first outcome of an address counts; one for an address that is not open is ignored.
//!   If an open recipient is missing from the outcomes, the delivery is due again at once.
//! - A completion counts as one attempt, and so does a lease that expires (its outcome is
//!   unknown, and counted as such once a delivery); giving back counts as none. So each attempt
//!   at a delivery has a number of its own, and a completion with a number that is already past
//!   is a repeated one: it changes nothing, and is `Done` if it was applied under that token.
//! - `last_outcomes` holds the latest outcome of each open recipient that has had one.
//! - A delivery that is due with a bounce asked for is leased with disposition BOUNCE, otherwise
//!   with EXPIRED from `accepted + lifetime` on, otherwise with ATTEMPT.
//! - `Retry` changes deliveries that wait for a later time. `Hold` changes those that are not
//!   held yet, `Release` those that are; a released one keeps its time. `Remove` and `Bounce`
//!   change any. For a leased delivery, hold, remove and bounce are remembered until its attempt
//!   ends without ending it; the later act replaces the earlier one, and `Release` drops a
//!   remembered hold.
//! - A filter's sender and recipient compare without regard to ASCII case; `<>` is the null
//!   reverse-path; the recipient must be open. `held` matches what is in state HELD.
//! - Journey events of the store's own: `Queued`; `Attempt`; a `Notice` for each DSN, for each
//!   delivery of an expired lease, and for each delivery that an operator's act changed.

pub mod redis;

pub mod clock;
pub mod embedded;

use std::time::Duration;

use async_trait::async_trait;
use postrider_protocol::queue_v1::{
    Attempt, DeliveryStatus, Filter, Journey, LeasedDelivery, NewMessage, ShowResponse,
    StatsResponse,
};
use postrider_protocol::{DeliveryId, Destination, QueueId};

/// Why a store did not do what it was asked. Variants by what the caller can do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Not now: the store is away, full, read-only, loading. Nothing was acknowledged; asking
    /// again with the same ids is safe.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// Never: this request cannot be stored.
    #[error("the request is not acceptable: {0}")]
    Invalid(String),
    /// The store holds something that it cannot read. An operator must look.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

/// What became of an accepted message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It is durable now.
    Accepted,
    /// It was before; nothing was added.
    AlreadyAccepted,
}

/// A worker's ask for destinations.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// The worker's instance name; unique among live workers.
    pub worker: String,
    /// Transports that it carries.
    pub transports: Vec<String>,
    /// Connections that it can still open.
    pub slots: u32,
}

/// A destination lease: so many slots of a destination for one worker, until it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The fencing token. Unique in the store's whole life, and it only grows.
    pub token: u64,
    /// What it is for.
    pub destination: Destination,
    /// Connections granted; at least one.
    pub slots: u32,
}

/// One delivery's attempt, reported.
#[derive(Debug, Clone)]
pub struct Completion {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// The lease under which it was leased; a stale one changes nothing.
    pub token: u64,
    /// Outcomes and dialogue. Its `next_attempt_us` is set by the store.
    pub attempt: Attempt,
    /// Wait until deferred recipients are due again, as the retry schedule says for this
    /// attempt (jitter included). Unused if nothing was deferred.
    pub retry_after: Duration,
    /// DSNs that become durable in the same step.
    pub dsn: Vec<NewMessage>,
}

/// What became of a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completed {
    /// It is durable.
    Done,
    /// The lease was not live any more, or the delivery was not leased under it. Nothing changed
    /// but the count of stale completions.
    Stale,
}

/// An operator's act on deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Due now. A held delivery stays held.
    Retry,
    /// Not attempted until released.
    Hold,
    /// Ends a hold; the delivery is due when it would have been without the hold.
    Release,
    /// Ends without a DSN.
    Remove,
    /// Ends as failed, with the DSN: leased out once more with disposition BOUNCE.
    Bounce,
}

/// Who acts, and why: recorded in the journey.
#[derive(Debug, Clone, Default)]
pub struct By {
    /// The operator's name.
    pub operator: String,
    /// The reason given.
    pub reason: String,
}

/// What an act touched.
#[derive(Debug, Clone, Default)]
pub struct Acted {
    /// Deliveries that the filter matched.
    pub matched: u64,
    /// Deliveries that changed.
    pub changed: u64,
    /// Messages of the first hundred.
    pub sample: Vec<QueueId>,
}

/// What changed that a waiting worker might want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// The destination has a due delivery, or a slot of it became free.
    Destination(Destination),
    /// Something is to come (a delivery becomes due, a lease may expire) sooner than the last
    /// [`Store::expire`] said: ask it again. Only sent where several processes share a store.
    Timer,
    /// A message got a journey event (only sent while somebody follows journeys).
    Journey(QueueId),
    /// Something may have been missed (e.g. the connection to the store was new): look at everything.
    Everything,
}

/// Settings that a store enforces.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// How long a lease lasts without renewal.
    pub lease: Duration,
    /// Slots of a destination over all workers together.
    pub slots_per_destination: u32,
    /// How long a message is tried, counted from acceptance; then it is leased with
    /// disposition EXPIRED.
    pub lifetime: Duration,
    /// How long journeys, and with them the memory of accepted ids, are kept after the end.
    pub journey_retention: Duration,
    /// This instance's name for journey events, e.g. "queue@host1".
    pub instance: String,
}

/// Keeps accepted mail.
///
/// Calls may be made concurrently and share commits and round trips: while one commit is under
/// way, the next gathers. A call that returns `Ok` is durable, except for leases: they only
/// need to survive the death of the process that made them, not power loss.
///
/// Dropping a future must not lose what the store has already begun.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Makes messages and all of their deliveries durable, each message all or nothing.
    /// One result a message, in order. The recipients of one message at one destination become
    /// one delivery. Idempotent by queue id, also after the message has ended, for as long as
    /// its journey is kept.
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Vec<Result<Enqueued, StoreError>>;

    /// Grants slots at destinations that have a due delivery and a free slot, and whose
    /// transport the worker carries; at most `request.slots` slots in all and at most
    /// `max_grants` leases. A destination gets no more slots than it has due deliveries, so that
    /// a worker's slots go round. Longest waiting destinations come first, so that none starves.
    ///
    /// At most one live lease a worker and destination: where the worker holds one already and
    /// more deliveries are due, that lease grows. Its grant then comes again, with the same
    /// token and the new total of slots; only what was added counts against `request.slots`.
    ///
    /// Never waits: an empty list means nothing now.
    async fn lease(
        &self,
        request: LeaseRequest,
        max_grants: usize,
    ) -> Result<Vec<Grant>, StoreError>;

    /// Takes at most `max` due deliveries of the leased destination, oldest due first. Each is
    /// leased until completed, given back, or the lease ends. An empty list means that none is
    /// due now; a stale token gives `None`.
    async fn pull(&self, token: u64, max: usize)
    -> Result<Option<Vec<LeasedDelivery>>, StoreError>;

    /// Prolongs leases by the lease time. Returns those that are stale.
    async fn renew(&self, tokens: Vec<u64>) -> Result<Vec<u64>, StoreError>;

    /// Ends leases; deliveries still leased under them are due again at once, and are not
    /// counted as attempted. Unknown tokens are ignored.
    async fn give_back(&self, tokens: Vec<u64>) -> Result<(), StoreError>;

    /// Reports attempts. Outcome, next attempt's time, journey event and DSNs are one atomic,
    /// durable step for each completion. One result each, in order.
    ///
    /// A recipient that is delivered or failed has ended. A deferred one is due again after
    /// `retry_after`, or at the end of the lifetime if that comes first. An unknown outcome
    /// counts, is journalled and is retried like a deferred one. The message ends, and its body
    /// goes, when its last recipient has ended.
    async fn complete(&self, batch: Vec<Completion>) -> Vec<Result<Completed, StoreError>>;

    /// Ends the leases that were not renewed in time. Their deliveries are due again at once,
    /// each with a journey event that says that its outcome is unknown. Returns how long until
    /// the next lease could expire or the next delivery becomes due (None: nothing is to come),
    /// so that the caller sleeps exactly so long.
    async fn expire(&self) -> Result<Option<Duration>, StoreError>;

    /// Wakes, from now on. Slow readers may get `Everything` in place of what they missed.
    fn watch(&self) -> tokio::sync::broadcast::Receiver<Wake>;

    /// Deliveries that match, in the order of their ids, after `after`.
    async fn list(
        &self,
        filter: &Filter,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Vec<DeliveryStatus>, StoreError>;

    /// One queued message, or `None`.
    async fn show(&self, id: QueueId) -> Result<Option<ShowResponse>, StoreError>;

    /// Acts on every delivery that matches; with `preview` only counts. A leased delivery is
    /// held, removed or bounced when its attempt ends without ending it.
    async fn act(
        &self,
        act: Act,
        filter: &Filter,
        by: &By,
        preview: bool,
    ) -> Result<Acted, StoreError>;

    /// The journey of a message, queued or ended, or `None` if it is not (any more) known.
    async fn journey(&self, id: QueueId) -> Result<Option<Journey>, StoreError>;

    /// Messages with this Message-ID, newest first, at most `limit`.
    async fn find(&self, message_id: &str, limit: usize) -> Result<Vec<QueueId>, StoreError>;

    /// Names of stored bodies that messages refer to, out of those given; the rest are orphans.
    async fn bodies_in_use(&self, names: Vec<String>) -> Result<Vec<String>, StoreError>;

    /// Names of stored bodies whose message has ended, to be deleted by the caller; each is
    /// returned until [`Store::forget_bodies`] confirms it.
    async fn ended_bodies(&self, limit: usize) -> Result<Vec<String>, StoreError>;

    /// Confirms that ended bodies were deleted.
    async fn forget_bodies(&self, names: Vec<String>) -> Result<(), StoreError>;

    /// Counts, which add up: accepted = open + delivered + failed + removed recipients.
    async fn stats(&self) -> Result<StatsResponse, StoreError>;

    /// Writes out what is only in memory, and stops.
    async fn close(&self) -> Result<(), StoreError>;
}
