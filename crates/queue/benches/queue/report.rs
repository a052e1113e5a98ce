//! What is printed.

use std::fmt;
use std::time::Duration;

use crate::meter::Taken;

/// What was measured beside so many waiting deliveries.
pub(crate) struct Row {
    pub(crate) depth: usize,
    pub(crate) spread: usize,
    pub(crate) enqueue: Taken,
    pub(crate) deliver: Taken,
    /// Bytes a waiting delivery.
    pub(crate) memory: f64,
    pub(crate) start: Duration,
}

/// How many messages shared a sync of the disk.
pub(crate) struct Commits {
    pub(crate) clients: usize,
    pub(crate) messages: usize,
    pub(crate) syncs: u64,
}

pub(crate) fn head() {
    println!(
        "{:>9} {:>12}   {:>18} {:>24} {:>12} {:>8}",
        "waiting", "destinations", "enqueue", "lease, pull, complete", "memory each", "start"
    );
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taken = |taken: Taken| format!("{:.1} us {:>7.0}/s", taken.cpu_us, taken.rate);
        write!(
            f,
            "{:>9} {:>12}   {:>18} {:>24} {:>10.0} B {:>6.2} s",
            self.depth,
            self.spread,
            taken(self.enqueue),
            taken(self.deliver),
            self.memory,
            self.start.as_secs_f64()
        )
    }
}

/// The cost beside the deepest queue, relative to the shallowest of the same spread.
pub(crate) fn flatness(rows: &[Row]) {
    for first in rows {
        let same = || rows.iter().filter(|row| row.spread == first.spread);
        let shallowest = same().map(|row| row.depth).min();
        let Some(deepest) = same().max_by_key(|row| row.depth) else {
            continue;
        };
        if shallowest != Some(first.depth) || deepest.depth == first.depth {
            continue;
        }
        println!(
            "{} destinations, {} waiting to {}: CPU of enqueue x {:.2}, of lease, pull, complete x {:.2}",
            first.spread,
            first.depth,
            deepest.depth,
            deepest.enqueue.cpu_us / first.enqueue.cpu_us,
            deepest.deliver.cpu_us / first.deliver.cpu_us,
        );
    }
}

pub(crate) fn commits(all: &[Commits]) {
    for commits in all {
        println!(
            "{} clients: {} messages in {} syncs, {:.1} messages a sync",
            commits.clients,
            commits.messages,
            commits.syncs,
            commits.messages as f64 / commits.syncs.max(1) as f64
        );
    }
}
