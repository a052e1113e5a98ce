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
//! - **Leases.** A lease whose time is over is stale, whether or not [`Store::expire`] has run since.
//! - **Outcomes.** An outcome is about every open recipient of the delivery with that address
//!   (compared byte by byte); the first outcome of an address counts; one for an address that is
//!   not open is ignored. If an open recipient is missing from the outcomes, the delivery is due
//!   again at once. `last_outcomes` holds the latest outcome of each open recipient that has had one.
//! - **Attempts.** A completion counts as one attempt, and so does a lease that expires (its outcome
//!   is unknown, and counted as such once a delivery); giving back counts as none. So each attempt
//!   at a delivery has a number of its own, and a completion with a number that is already past
//!   is a repeated one: it changes nothing, and is `Done` if it was applied under that token.
//! - **Unknown.** An attempt with an unknown outcome marks the delivery (`unknown_attempts`). What
//!   becomes of it says its destination's policy: it waits like a deferred one (after an expired
//!   lease it is due at once), or it is held until an operator releases it, with a notice that
//!   says so.
//! - **Time.** A message may be attempted from `max(accepted, release)` on; its lifetime and its delay
//!   warning count from there. A delivery that is due with a bounce asked for is leased with
//!   disposition BOUNCE, otherwise with EXPIRED from that time + lifetime on, otherwise with
//!   ATTEMPT; then `delay_warning_due` tells whether the time + delay warning is past and no
//!   completion has said `delay_warned` yet.
//! - **Order.** What is due at a destination leaves in fair order, not in the order in which it
//!   became due: tenants share by their weights; within a tenant, senders (reverse-paths) share alike
//!   and a higher priority goes earlier, but by a bounded number of deliveries, so that a lower one
//!   ages. Within one tenant, sender and priority, what became due first leaves first. So a
//!   tenant with 100,000 deliveries waiting delays another one's single delivery by a few. Fairness is
//!   only owed where it shows: the order among the first 64 due of a destination is free
//!   but for the last rule.
//! - **Suspensions.** What a suspension matches (see [`Suspension`]: all of destination, sender, tenant
//!   that are set) is not pulled, and a destination that is suspended as a whole is not
//!   granted. What is leased already goes on. In lists it is in state SUSPENDED
//!   instead of WAITING, and names the suspensions. Making and ending one is durable and costs the
//!   same with ten deliveries that match as with ten million; one whose time is over ends by
//!   itself, at the latest when [`Store::expire`] runs.
//! - **Acts.** `Retry` changes deliveries that wait for a later time, also a release in the future.
//!   `Hold` changes those that are not held yet (one that is held gets the new end, and
//!   counts as changed if that differs), `Release` those that are; a released one keeps its time, and
//!   so does one whose hold ends by itself. `Remove` and `Bounce` change any. `Reroute` changes
//!   those that go elsewhere so far; they keep time, hold and number. For a leased
//!   delivery, all but `Retry` are remembered until its attempt ends without ending it; the later act
//!   replaces the earlier one, and `Release` only drops a remembered hold.
//! - **Filters.** See the proto. An address compares without regard to ASCII case; `<>` is the null
//!   reverse-path; the recipient must be open. [`filter`] has the one implementation.
//! - **Journeys.** Events of the store's own: `Queued`; `Attempt` (with the worker as instance); a
//!   `Notice` for each DSN, for each delivery of an expired lease, and for each delivery that an
//!   operator's act or an outcome's policy changed.

pub mod redis;

pub mod clock;
pub mod embedded;
mod exported;
pub mod filter;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use postrider_protocol::queue_v1::{
    Attempt, DeliveryStatus, ExportedMessage, Filter, Journey, LeasedDelivery, NewMessage,
    ShowResponse, StatsResponse, Suspension,
};
use postrider_protocol::{DeliveryId, Destination, QueueId};

use crate::policy::Policies;

/// Why a store did not do what it was asked. Variants by what the caller can do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Not now: the store is away, full, read-only, loading. Nothing was acknowledged and no message
    /// taken in; asking again with the same ids is safe.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// Done or not: the answer was lost, or the copies that were promised are not confirmed. Asking
    /// again with the same ids is safe, and tells.
    #[error("the store did not confirm: {0}")]
    Unconfirmed(String),
    /// Never: this request cannot be stored.
    #[error("the request is not acceptable: {0}")]
    Invalid(String),
    /// The store holds something that it cannot read. An operator must look.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

impl StoreError {
    /// Whether the same call may succeed soon.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Unconfirmed(_) => true,
            Self::Invalid(_) | Self::Damaged(_) => false,
        }
    }

    /// The error of a call that may have been carried out by an earlier try: whatever refused this
    /// one says nothing of that.
    pub(crate) fn after_a_try(self) -> Self {
        match self {
            Self::Unavailable(reason) => Self::Unconfirmed(reason),
            other => other,
        }
    }
}

/// What became of an accepted message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It is durable now.
    Accepted,
    /// It was before; nothing was added. A store that lost an answer on the way and asked again says
    /// this of what it took the first time.
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
    /// It lasts for a lease time from this call on, since it begins with it. One that grows ends when
    /// it would have ended before.
    pub begins: bool,
}

/// A part of a lease, given back by its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialReturn {
    /// Of which lease.
    pub token: u64,
    /// Leased under it, and not begun.
    pub deliveries: Vec<DeliveryId>,
    /// Slots that the lease keeps, at least one. One that has no more than these keeps what it has.
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
    /// One of them is the delay warning.
    pub delay_warned: bool,
    /// The worker's instance, for the journey.
    pub worker: String,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Due now. A held delivery stays held.
    Retry,
    /// Not attempted until released, or until the given time (Unix microseconds).
    Hold {
        /// When it ends by itself.
        until_us: Option<u64>,
    },
    /// Ends a hold; the delivery is due when it would have been without the hold.
    Release,
    /// Ends without a DSN.
    Remove,
    /// Ends as failed, with the DSN: leased out once more with disposition BOUNCE.
    Bounce,
    /// Goes elsewhere from the next attempt on.
    Reroute {
        /// Where to.
        to: Destination,
    },
}

/// Who acts, and why: recorded in the journey.
#[derive(Debug, Clone, Default)]
pub struct By {
    /// The operator's name.
    pub operator: String,
    /// The reason given.
    pub reason: String,
}

/// What messages are looked for by, queued or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Find {
    /// Message-ID without brackets.
    MessageId(String),
    /// Reverse-path, without regard to ASCII case; empty is the null reverse-path.
    Sender(String),
    /// A forward-path, without regard to ASCII case.
    Recipient(String),
}

/// Something small that the service keeps durably in the store, such as an operator's act. The store
/// does not look into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What kind of thing it is; at most 32 bytes of ASCII letters and digits.
    pub kind: String,
    /// Its name within the kind; at most 128 bytes of printable ASCII without space.
    pub key: String,
    /// Counts its changes: [`Store::put_record`] changes version n to n + 1, and makes version 1.
    pub version: u64,
    /// At most 64 KiB.
    pub value: Bytes,
}

/// What changed that a waiting worker might want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// The destination has a due delivery, where it had none or none that a pull could give, or a slot
    /// of it became free. Where all slots are held, this is for those who hold them.
    Destination(Destination),
    /// Something is to come (a delivery becomes due, a hold or a suspension ends; where several
    /// processes share a store, a lease may expire) sooner than the last [`Store::expire`] said: ask
    /// it again.
    Timer,
    /// A message got a journey event (only sent while somebody follows journeys).
    Journey(QueueId),
    /// A record changed (only sent while several processes share a store).
    Records,
    /// Something may have been missed (e.g. the connection to the store was new): look at everything.
    Everything,
}

/// Which leases were not prolonged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renewed {
    /// These are over.
    pub stale: Vec<u64>,
    /// A part of the store did not answer: these end when they would have ended, or were prolonged
    /// without anybody having heard of it.
    pub unreached: Vec<u64>,
}

/// Settings that a store enforces.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// How long a lease lasts without renewal.
    pub lease: Duration,
    /// Slots of a destination over all workers together.
    pub slots_per_destination: u32,
    /// How long a message is tried and what becomes of unknown outcomes, by destination; and how
    /// tenants share.
    pub policies: Arc<Policies>,
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

    /// Takes at most `max` due deliveries of the leased destination, in fair order. Each is leased until completed, given back, or the lease ends. An empty list means that none is
    /// due now; a stale token gives `None`. Where it gives fewer than `max` although more is due (they
    /// would be too large together), a wake for the destination follows.
    async fn pull(&self, token: u64, max: usize)
    -> Result<Option<Vec<LeasedDelivery>>, StoreError>;

    /// Prolongs leases by the lease time, all but those that it names.
    async fn renew(&self, tokens: Vec<u64>) -> Result<Renewed, StoreError>;

    /// Ends leases; deliveries still leased under them are due again at once, and are not
    /// counted as attempted. Unknown tokens are ignored.
    async fn give_back(&self, tokens: Vec<u64>) -> Result<(), StoreError>;

    /// Gives back parts of leases, which go on: deliveries are due again at once, and are not counted
    /// as attempted; slots are free. Unknown tokens, and deliveries that are not leased under theirs,
    /// are ignored.
    ///
    /// For holders that let their leases run out: one that began a delivery or used more slots after it
    /// had given them back could not know whether the call, its answer lost, is still on its way.
    async fn give_back_part(&self, parts: Vec<PartialReturn>) -> Result<(), StoreError>;

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
    /// so that the caller sleeps exactly so long. Zero: it has done a bounded piece of what is to be
    /// done now, and asks to be asked again.
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

    /// Acts on these deliveries, at most 1,000, in one durable step. A leased delivery is held,
    /// removed, bounced, re-routed when its attempt ends without ending it. Returns for each
    /// whether it changed; one that has ended or was never there has not.
    async fn act(&self, act: &Act, on: &[DeliveryId], by: &By) -> Result<Vec<bool>, StoreError>;

    /// Makes a suspension, or changes the one with its id. Durable; holds for all instances at once.
    async fn suspend(&self, suspension: Suspension) -> Result<(), StoreError>;

    /// Ends a suspension: what it stopped is due when it would have been. Returns whether there was
    /// one.
    async fn resume(&self, id: &str) -> Result<bool, StoreError>;

    /// Suspensions that have not ended, oldest first.
    async fn suspensions(&self) -> Result<Vec<Suspension>, StoreError>;

    /// Stores a record durably if the one there has the version before (none there: version 1).
    /// Returns whether it did; a store that lost an answer on the way and asked again says so of an
    /// equal record that is there.
    async fn put_record(&self, record: Record) -> Result<bool, StoreError>;

    /// Deletes a record, whatever its version.
    async fn delete_record(&self, kind: &str, key: &str) -> Result<(), StoreError>;

    /// All records of a kind, by key.
    async fn records(&self, kind: &str) -> Result<Vec<Record>, StoreError>;

    /// The store's time: Unix time in microseconds, by the clock that accepts, leases and expires.
    async fn now_us(&self) -> Result<u64, StoreError>;

    /// The journey of a message, queued or ended, or `None` if it is not (any more) known.
    async fn journey(&self, id: QueueId) -> Result<Option<Journey>, StoreError>;

    /// Messages that fit, queued or ended, newest first, at most `limit`.
    async fn find(&self, what: &Find, limit: usize) -> Result<Vec<QueueId>, StoreError>;

    /// Queued messages with all that is known of them, in the order of their ids, after `after`. What
    /// is leased counts as waiting. One that cannot be read is left out, and said to be in the log.
    /// An empty list is the end.
    async fn export(
        &self,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<Vec<ExportedMessage>, StoreError>;

    /// Takes exported messages in, each all or nothing, as they were: ids, times, attempts, holds,
    /// journeys, counts. Idempotent like [`Store::enqueue`].
    async fn import(&self, messages: Vec<ExportedMessage>) -> Vec<Result<Enqueued, StoreError>>;

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
