//! The store under test, and what a test can do to it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postrider_queue::policy::{Policies, Policy, Unknown};
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
    /// Makes what lies beneath fail, at once or after some more writes.
    async fn break_down(&mut self, writes: u64);
    /// Mends it, and brings the store up again.
    async fn mend(&mut self);
    /// A new, empty store takes its place, on the same clock.
    async fn replace(&mut self);
    /// Whether leases outlive a crash. Otherwise they have expired when the store is up again.
    fn leases_survive(&self) -> bool;
    /// Whether ended messages are forgotten by the test's clock.
    fn forgets(&self) -> bool;
    /// The settings that it enforces.
    fn settings(&self) -> StoreSettings;
}

/// The settings of the model tests: few slots, short times, so that limits are met often.
pub(crate) fn settings() -> StoreSettings {
    let hour = Policy {
        lifetime: Duration::from_secs(3600),
        // No sum of steps of the clock, so that nothing is due at the very moment.
        delay_warning: Some(Duration::from_millis(777_777)),
        ..Policy::default()
    };
    let careful = Policy {
        lifetime: Duration::from_secs(900),
        unknown: Unknown::Hold,
        delay_warning: None,
        ..hour.clone()
    };
    let patient = Policy {
        lifetime: Duration::from_secs(9000),
        ..hour.clone()
    };
    StoreSettings {
        lease: Duration::from_secs(10),
        slots_per_destination: 3,
        policies: Arc::new(Policies {
            default: hour,
            by_destination: vec![
                ("smtp:d1.test".parse().unwrap(), careful),
                ("mailbox:*".parse().unwrap(), patient),
            ],
            weights: vec![("t2".to_owned(), 3)],
        }),
        journey_retention: Duration::from_secs(7200),
        instance: "queue@model".to_owned(),
    }
}
