//! The simulation's clock, as the store and the logs take it.

use std::sync::atomic::{AtomicU64, Ordering};

use postrider_queue::store::clock::{Clock, micros};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// When every simulation begins, Unix time in microseconds: the epoch itself, as for every other
/// clock of the process; but for a store 0 means "never".
const BEGIN_US: u64 = 1_000_000;

/// Follows the simulation; stands still while nobody runs.
#[derive(Debug, Default)]
pub(crate) struct SimulatedClock(AtomicU64);

impl Clock for SimulatedClock {
    fn now_us(&self) -> u64 {
        let elapsed = turmoil::sim_elapsed().map_or(0, micros);
        let now_us = BEGIN_US + elapsed;
        self.0.fetch_max(now_us, Ordering::SeqCst).max(now_us)
    }
}

/// Prints what the services log, beside the events.
pub(crate) fn trace() {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_timer(Elapsed)
        .init();
}

struct Elapsed;

impl FormatTime for Elapsed {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        write!(writer, "{:9.3}", elapsed.as_secs_f64())
    }
}
