//! What the calls between services count. Calls in memory count nothing.

use std::sync::LazyLock;

use metrics::{Counter, Histogram, counter, histogram};
use postrider_telemetry::metric::{Kind, MetricInfo};

const BATCH: &str = "postrider.services.enqueue.batch";
const RETRIES: &str = "postrider.services.retries";
const UNREACHABLE: &str = "postrider.services.unreachable";

/// What is measured here.
pub const METRICS: &[MetricInfo] = &[
    MetricInfo {
        name: BATCH,
        kind: Kind::Histogram,
        unit: "{message}",
        help: "Messages that one enqueue call carried to the queue. They gather while calls are \
               under way.",
        labels: &[],
    },
    MetricInfo {
        name: RETRIES,
        kind: Kind::Counter,
        unit: "{call}",
        help: "Calls that did not reach another service and were made again.",
        labels: &["service"],
    },
    MetricInfo {
        name: UNREACHABLE,
        kind: Kind::Counter,
        unit: "{call}",
        help: "Calls that were given up because another service stayed away.",
        labels: &["service"],
    },
];

/// A call carried so many messages.
pub(super) fn batch(messages: usize) {
    static HANDLE: LazyLock<Histogram> = LazyLock::new(|| histogram!(BATCH));
    HANDLE.record(messages as f64);
}

/// A call is made again.
pub(super) fn retry(service: &'static str) {
    handle(RETRIES, service).increment(1);
}

/// A call was given up.
pub(super) fn unreachable(service: &'static str) {
    handle(UNREACHABLE, service).increment(1);
}

fn handle(name: &'static str, service: &'static str) -> Counter {
    counter!(name, "service" => service)
}
