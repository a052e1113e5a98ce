//! What the queue counts and measures.

use std::time::Duration;

/// A durable sync of the store ended.
pub(crate) fn synced(took: Duration, bytes: usize) {
    metrics::counter!("postrider.queue.syncs").increment(1);
    metrics::histogram!("postrider.queue.sync.duration").record(took.as_secs_f64());
    metrics::histogram!("postrider.queue.sync.size").record(bytes as f64);
}

/// The store's disk failed a write or a sync.
pub(crate) fn disk_failure() {
    metrics::counter!("postrider.queue.disk_failures").increment(1);
}

/// A damaged record was found.
pub(crate) fn damaged_record() {
    metrics::counter!("postrider.queue.damaged_records").increment(1);
}
