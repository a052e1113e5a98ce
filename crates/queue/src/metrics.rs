//! What the queue counts and measures. The table is the reference; handles are held, so that
//! counting on the hot path is one atomic addition.

use std::sync::LazyLock;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use postrider_protocol::queue_v1::{OutcomeKind, StatsResponse};
use postrider_telemetry::metric::{Kind, MetricInfo};

use crate::store::{Act, Completion};

const ACCEPTED: &str = "postrider.queue.accepted";
const REFUSED: &str = "postrider.queue.refused";
const ENQUEUE: &str = "postrider.queue.enqueue.duration";
const OUTCOMES: &str = "postrider.queue.outcomes";
const LEASED: &str = "postrider.queue.leased";
const WAIT: &str = "postrider.queue.wait.duration";
const STALE: &str = "postrider.queue.stale_completions";
const UNKNOWN: &str = "postrider.queue.unknown_outcomes";
const DELIVERIES: &str = "postrider.queue.deliveries";
const UNKNOWN_DELIVERIES: &str = "postrider.queue.unknown_deliveries";
const SUSPENSIONS: &str = "postrider.queue.suspensions";
const ACTED: &str = "postrider.queue.acted";
const MESSAGES: &str = "postrider.queue.messages";
const WORKERS: &str = "postrider.queue.workers";
const SYNCS: &str = "postrider.queue.syncs";
const SYNC_DURATION: &str = "postrider.queue.sync.duration";
const SYNC_SIZE: &str = "postrider.queue.sync.size";
const DISK_FAILURES: &str = "postrider.queue.disk_failures";
const DAMAGED: &str = "postrider.queue.damaged_records";
const BODIES_MISSING: &str = "postrider.queue.bodies.missing";
const STORE_DAMAGED: &str = "postrider.queue.store.damaged";

/// Every metric of this crate.
pub const METRICS: &[MetricInfo] = &[
    info(
        ACCEPTED,
        Kind::Counter,
        "{message}",
        "Messages that were made durable.",
        &[],
    ),
    info(
        REFUSED,
        Kind::Counter,
        "{message}",
        "Messages that were not stored: \"unavailable\" will be tried again by their sender, \"invalid\" never can be; of \"unconfirmed\" nobody knows, and they are asked for again under their ids.",
        &["error.type"],
    ),
    info(
        ENQUEUE,
        Kind::Histogram,
        "s",
        "From the request to store messages to their being durable.",
        &[],
    ),
    info(
        OUTCOMES,
        Kind::Counter,
        "{recipient}",
        "Outcomes of attempts that workers reported, by kind.",
        &["outcome"],
    ),
    info(
        LEASED,
        Kind::Counter,
        "{delivery}",
        "Deliveries that were handed to workers.",
        &[],
    ),
    info(
        WAIT,
        Kind::Histogram,
        "s",
        "From a delivery being due to its being handed to a worker.",
        &[],
    ),
    info(
        STALE,
        Kind::Counter,
        "{completion}",
        "Completions that came after the end of their lease; they changed nothing.",
        &[],
    ),
    info(
        UNKNOWN,
        Kind::Gauge,
        "{attempt}",
        "Attempts since the store was made whose outcome nobody knows, because the worker or its connection was lost.",
        &[],
    ),
    info(
        DELIVERIES,
        Kind::Gauge,
        "{delivery}",
        "Deliveries that are queued now, by state: waiting, leased, held.",
        &["state"],
    ),
    info(
        UNKNOWN_DELIVERIES,
        Kind::Gauge,
        "{delivery}",
        "Deliveries that are queued now and of which an attempt has an unknown outcome: tried again, or held, as the policy of their destination says.",
        &[],
    ),
    info(
        SUSPENSIONS,
        Kind::Gauge,
        "{suspension}",
        "Suspensions in force. What they stop counts as waiting.",
        &[],
    ),
    info(
        ACTED,
        Kind::Counter,
        "{delivery}",
        "Deliveries that acts of operators changed, by kind of act.",
        &["act"],
    ),
    info(
        MESSAGES,
        Kind::Gauge,
        "{message}",
        "Messages that are queued now. Where the queue has several partitions, a message counts in each in which something of it is open.",
        &[],
    ),
    info(
        WORKERS,
        Kind::Gauge,
        "{worker}",
        "Delivery workers in conversation with this process.",
        &[],
    ),
    info(
        SYNCS,
        Kind::Counter,
        "{sync}",
        "Syncs of the embedded store's log. Messages per sync show how commits are shared.",
        &[],
    ),
    info(
        SYNC_DURATION,
        Kind::Histogram,
        "s",
        "How long a sync of the log took.",
        &[],
    ),
    info(
        SYNC_SIZE,
        Kind::Histogram,
        "By",
        "Bytes that a sync of the log made durable.",
        &[],
    ),
    info(
        DISK_FAILURES,
        Kind::Counter,
        "{failure}",
        "Writes and syncs of the log that failed.",
        &[],
    ),
    info(
        DAMAGED,
        Kind::Counter,
        "{record}",
        "Queued messages and journeys that could not be read back from the disk when they were needed. Any at all is a reason to look at the disk.",
        &[],
    ),
    info(
        BODIES_MISSING,
        Kind::Counter,
        "{attempt}",
        "Attempts to read a stored body that is not there. The message is deferred each time: somebody must put the body back, or bounce the message.",
        &[],
    ),
    info(
        STORE_DAMAGED,
        Kind::Counter,
        "{finding}",
        "Damage that was found when the embedded store was opened, by kind, as `postrider store check` names it. Any at all is a reason to look at the disk.",
        &["kind"],
    ),
];

const fn info(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> MetricInfo {
    MetricInfo {
        name,
        kind,
        unit,
        help,
        labels,
    }
}

struct Handles {
    accepted: Counter,
    unavailable: Counter,
    unconfirmed: Counter,
    invalid: Counter,
    enqueue: Histogram,
    delivered: Counter,
    deferred: Counter,
    failed: Counter,
    unknown: Counter,
    leased: Counter,
    wait: Histogram,
    stale: Counter,
    workers: Gauge,
    syncs: Counter,
    sync_duration: Histogram,
    sync_size: Histogram,
}

static HANDLES: LazyLock<Handles> = LazyLock::new(|| Handles {
    accepted: counter!(ACCEPTED),
    unavailable: counter!(REFUSED, "error.type" => "unavailable"),
    unconfirmed: counter!(REFUSED, "error.type" => "unconfirmed"),
    invalid: counter!(REFUSED, "error.type" => "invalid"),
    enqueue: histogram!(ENQUEUE),
    delivered: counter!(OUTCOMES, "outcome" => "delivered"),
    deferred: counter!(OUTCOMES, "outcome" => "deferred"),
    failed: counter!(OUTCOMES, "outcome" => "failed"),
    unknown: counter!(OUTCOMES, "outcome" => "unknown"),
    leased: counter!(LEASED),
    wait: histogram!(WAIT),
    stale: counter!(STALE),
    workers: gauge!(WORKERS),
    syncs: counter!(SYNCS),
    sync_duration: histogram!(SYNC_DURATION),
    sync_size: histogram!(SYNC_SIZE),
});

pub(crate) fn accepted() {
    HANDLES.accepted.increment(1);
}

pub(crate) fn unavailable() {
    HANDLES.unavailable.increment(1);
}

pub(crate) fn unconfirmed() {
    HANDLES.unconfirmed.increment(1);
}

pub(crate) fn invalid() {
    HANDLES.invalid.increment(1);
}

pub(crate) fn enqueued(took: Duration) {
    HANDLES.enqueue.record(took.as_secs_f64());
}

/// Outcomes that a worker reported.
pub(crate) fn outcomes(completions: &[Completion]) {
    for outcome in completions.iter().flat_map(|done| &done.attempt.outcomes) {
        match outcome.kind() {
            OutcomeKind::Delivered => HANDLES.delivered.increment(1),
            OutcomeKind::Deferred => HANDLES.deferred.increment(1),
            OutcomeKind::Failed => HANDLES.failed.increment(1),
            OutcomeKind::Unknown => HANDLES.unknown.increment(1),
            OutcomeKind::Unspecified => {}
        }
    }
}

pub(crate) fn leased(deliveries: usize) {
    HANDLES.leased.increment(deliveries as u64);
}

pub(crate) fn waited(time: Duration) {
    HANDLES.wait.record(time.as_secs_f64());
}

pub(crate) fn stale() {
    HANDLES.stale.increment(1);
}

pub(crate) fn worker_joined() {
    HANDLES.workers.increment(1.0);
}

pub(crate) fn worker_left() {
    HANDLES.workers.decrement(1.0);
}

/// What is queued now.
pub(crate) fn queued(stats: &StatsResponse) {
    let deliveries = |state: &'static str, count: u64| {
        gauge!(DELIVERIES, "state" => state).set(count as f64);
    };
    deliveries("waiting", stats.waiting);
    deliveries("leased", stats.leased);
    deliveries("held", stats.held);
    gauge!(UNKNOWN_DELIVERIES).set(stats.unknown_deliveries as f64);
    gauge!(SUSPENSIONS).set(stats.suspensions as f64);
    gauge!(MESSAGES).set(stats.messages as f64);
    gauge!(UNKNOWN).set(stats.unknown_outcomes as f64);
}

/// An operator's act changed deliveries.
pub(crate) fn acted(act: &Act, deliveries: u64) {
    let act = match act {
        Act::Retry => "retry",
        Act::Hold { .. } => "hold",
        Act::Release => "release",
        Act::Remove => "remove",
        Act::Bounce => "bounce",
        Act::Reroute { .. } => "reroute",
    };
    counter!(ACTED, "act" => act).increment(deliveries);
}

/// A durable sync of the log ended.
pub(crate) fn synced(took: Duration, bytes: usize) {
    HANDLES.syncs.increment(1);
    HANDLES.sync_duration.record(took.as_secs_f64());
    HANDLES.sync_size.record(bytes as f64);
}

/// The disk failed a write or a sync.
pub(crate) fn disk_failure() {
    counter!(DISK_FAILURES).increment(1);
}

/// A stored body is not there.
pub(crate) fn missing_body() {
    counter!(BODIES_MISSING).increment(1);
}

/// Opening the store came upon damage.
pub(crate) fn store_damaged(kind: &'static str) {
    counter!(STORE_DAMAGED, "kind" => kind).increment(1);
}

/// A damaged record was found.
pub(crate) fn damaged_record() {
    counter!(DAMAGED).increment(1);
}
