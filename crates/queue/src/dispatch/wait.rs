//! The span of a delivery's wait in the queue, from due to leased.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postrider_protocol::queue_v1::LeasedDelivery;
use postrider_telemetry::trace::{self, MessageSpan, TraceContext};

use crate::metrics;

/// Records that a delivery has waited and is on its way now.
pub(super) fn record(delivery: &LeasedDelivery) {
    let due = UNIX_EPOCH + Duration::from_micros(delivery.due_us);
    let waited = SystemTime::now().duration_since(due).unwrap_or_default();
    metrics::waited(waited);
    if !trace::enabled() {
        return;
    }
    let Ok(parent) = delivery.traceparent.parse::<TraceContext>() else {
        return;
    };
    let mut span = MessageSpan::start("queue.wait", &parent);
    span.start_at(due)
        .set("postrider.queue_id", delivery.queue_id.as_str())
        .set("postrider.destination", delivery.destination.as_str())
        .set("postrider.attempt", i64::from(delivery.attempt));
}
