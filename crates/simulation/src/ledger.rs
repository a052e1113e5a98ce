//! What was promised and what arrived, kept outside of everything that can crash.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is known of one simulation.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Recipients that a 250 took responsibility for, with the message's queue id.
    pub(crate) acknowledged: BTreeMap<String, String>,
    /// How often each recipient's message was taken by a sink, answered or not.
    pub(crate) arrived: BTreeMap<String, u32>,
    /// Recipients that a DSN said had failed, and how often.
    pub(crate) told_failed: BTreeMap<String, u32>,
    /// Connections that workers hold open now, by sink, and the most that there were.
    pub(crate) open: BTreeMap<String, u32>,
    pub(crate) most_open: BTreeMap<String, u32>,
    /// What went wrong already.
    pub(crate) problems: Vec<String>,
    events: u64,
    digest: DefaultHasher,
}

/// Shared by all hosts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Book>>);

impl Ledger {
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event of a host to the digest.
    pub(crate) fn event(&self, what: &str) {
        self.event_at(turmoil::sim_elapsed().unwrap_or_default(), what);
    }

    /// Adds an event to the digest.
    pub(crate) fn event_at(&self, at: Duration, what: &str) {
        let mut book = self.book();
        book.events += 1;
        (at, what).hash(&mut book.digest);
        if crate::is_traced() {
            println!("{:9.3} {what}", at.as_secs_f64());
        }
    }

    /// So many events, with this digest.
    pub(crate) fn digest(&self) -> (u64, u64) {
        let book = self.book();
        (book.events, book.digest.finish())
    }
}
