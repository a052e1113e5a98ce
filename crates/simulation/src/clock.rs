//! The store's clock: the simulation's.

use std::sync::atomic::{AtomicU64, Ordering};

use postrider_queue::store::clock::{Clock, micros};

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
