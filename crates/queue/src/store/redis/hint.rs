//! What a process knows of a partition without asking it, so that with many partitions it asks only
//! those that may have something.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashMap;

/// Sets of transports that are told apart; there are hardly more than two.
const MOST_SETS: usize = 64;

/// Hints on one partition. They err towards asking.
#[derive(Debug)]
pub(super) struct Hint {
    /// Counts what may have made something grantable.
    came: AtomicU64,
    /// By transports: the count when the partition last had nothing more to grant for them.
    exhausted: Mutex<HashMap<Vec<String>, u64>>,
    /// Something is to come sooner than was known.
    nearer: AtomicBool,
    /// When something is to come, by the partition's last word; unset if it has not been asked.
    next: Mutex<Option<Option<Instant>>>,
}

impl Default for Hint {
    fn default() -> Self {
        Self {
            came: AtomicU64::new(0),
            exhausted: Mutex::default(),
            nearer: AtomicBool::new(true),
            next: Mutex::default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hint {
    /// A delivery may have become due, or a slot free.
    pub(super) fn something_came(&self) {
        self.came.fetch_add(1, Ordering::AcqRel);
    }

    /// The count to give to [`Hint::exhausted`] after asking.
    pub(super) fn count(&self) -> u64 {
        self.came.load(Ordering::Acquire)
    }

    /// For these transports it had nothing more to grant, as of a count from before it was asked.
    pub(super) fn exhausted(&self, transports: &[String], count: u64) {
        let mut exhausted = lock(&self.exhausted);
        if exhausted.len() >= MOST_SETS {
            exhausted.clear();
        }
        exhausted.insert(transports.to_vec(), count);
    }

    /// Whether asking it for leases may be of use.
    pub(super) fn may_grant(&self, transports: &[String]) -> bool {
        lock(&self.exhausted).get(transports) != Some(&self.count())
    }

    /// Ask when something is to come.
    pub(super) fn time_came_nearer(&self) {
        self.nearer.store(true, Ordering::Release);
    }

    /// How long nothing is to come, if that is known.
    pub(super) fn quiet(&self) -> Option<Option<Duration>> {
        if self.nearer.swap(false, Ordering::AcqRel) {
            return None;
        }
        match *lock(&self.next) {
            Some(Some(at)) => {
                let left = at.checked_duration_since(Instant::now())?;
                Some(Some(left))
            }
            Some(None) => Some(None),
            None => None,
        }
    }

    /// The partition's word on when something is to come, or that it gave none.
    pub(super) fn set_next(&self, next: Option<Option<Duration>>) {
        *lock(&self.next) = next.map(|next| next.map(|wait| Instant::now() + wait));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_again_once_something_came() {
        let hint = Hint::default();
        let smtp = ["smtp".to_owned()];
        assert!(hint.may_grant(&smtp));
        let before = hint.count();
        hint.exhausted(&smtp, before);
        assert!(!hint.may_grant(&smtp));
        assert!(hint.may_grant(&["mailbox".to_owned()]));
        hint.something_came();
        assert!(hint.may_grant(&smtp));
        // What came while it was asked is not overlooked.
        hint.exhausted(&smtp, before);
        assert!(hint.may_grant(&smtp));
    }

    #[test]
    fn time_is_asked_for_once_and_again_when_it_is_up() {
        let hint = Hint::default();
        assert_eq!(hint.quiet(), None);
        hint.set_next(Some(None));
        assert_eq!(hint.quiet(), Some(None));
        hint.set_next(Some(Some(Duration::from_secs(60))));
        assert!(hint.quiet().is_some_and(|wait| wait.is_some()));
        hint.time_came_nearer();
        assert_eq!(hint.quiet(), None);
        hint.set_next(Some(Some(Duration::ZERO)));
        assert_eq!(hint.quiet(), None);
    }
}
