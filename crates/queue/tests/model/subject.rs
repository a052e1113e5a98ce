//! The store under test, and what a test can do to it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postrider_queue::store::{Store, StoreSettings};

/// When every history begins, Unix time in microseconds.
pub(crate) const BEGIN_US: u64 = 1_800_000_000_000_000;

/// How a store is brought down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The process ends without a word.
    Process,
    /// What lies beneath goes down as well: the Redis server, by `kill -9`.
    Server,
}

/// A store with a clock that the test sets.
#[async_trait]
pub(crate) trait Subject: Send {
    /// The store as it runs now.
    fn store(&self) -> Arc<dyn Store>;
    /// Sets the clock forward.
    async fn advance(&mut self, by: Duration);
    /// Brings it down and up again.
    async fn crash(&mut self, how: Crash);
    /// Makes what lies beneath fail, perhaps only after some more writes.
    async fn break_down(&mut self, writes: u64);
    /// Mends it, and brings the store up again.
    async fn mend(&mut self);
    /// Whether leases outlive a crash. Otherwise they have expired when the store is up again.
    fn leases_survive(&self) -> bool;
    /// Whether ended messages are forgotten by the test's clock.
    fn forgets(&self) -> bool;
    /// The settings that it enforces.
    fn settings(&self) -> StoreSettings;
}

/// The settings of the model tests: few slots, short times, so that limits are met often.
pub(crate) fn settings() -> StoreSettings {
    StoreSettings {
        lease: Duration::from_secs(10),
        slots_per_destination: 3,
        lifetime: Duration::from_secs(3600),
        journey_retention: Duration::from_secs(7200),
        instance: "queue@model".to_owned(),
    }
}
