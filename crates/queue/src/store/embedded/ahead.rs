//! The segment that comes next, made ahead so that no commit waits for a new file.
//!
//! One lock guards its number and its file: housekeeping makes it without the store's lock, and the
//! log may need it at that very moment. Two that make the same file would hurt each other's.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use super::faults::Faults;
use super::segment::Segment;

/// The next segment.
pub(super) struct Ahead {
    dir: PathBuf,
    key: u64,
    size: u64,
    faults: Arc<dyn Faults>,
    next: Mutex<Next>,
}

struct Next {
    number: u32,
    made: Option<Arc<Segment>>,
}

impl Ahead {
    /// None is made yet; the next one gets this number.
    pub(super) fn new(
        dir: PathBuf,
        key: u64,
        size: u64,
        faults: Arc<dyn Faults>,
        number: u32,
    ) -> Self {
        let next = Mutex::new(Next { number, made: None });
        Self {
            dir,
            key,
            size,
            faults,
            next,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create(&self, number: u32) -> io::Result<Arc<Segment>> {
        Segment::create(&self.dir, number, self.key, self.size, &self.faults)
    }

    /// Whether there is none, and nobody is making it. Does not wait.
    pub(super) fn is_wanted(&self) -> bool {
        match self.next.try_lock() {
            Ok(next) => next.made.is_none(),
            Err(TryLockError::Poisoned(next)) => next.get_ref().made.is_none(),
            Err(TryLockError::WouldBlock) => false,
        }
    }

    /// Makes it, unless it is there. Whoever takes it meanwhile waits.
    pub(super) fn make(&self) -> io::Result<()> {
        let mut next = self.lock();
        if next.made.is_none() {
            next.made = Some(self.create(next.number)?);
        }
        Ok(())
    }

    /// Takes it, and makes it first if need be.
    pub(super) fn take(&self) -> io::Result<Arc<Segment>> {
        let mut next = self.lock();
        let taken = match next.made.take() {
            Some(made) => made,
            None => self.create(next.number)?,
        };
        next.number += 1;
        Ok(taken)
    }

    /// Deletes what was made and not taken.
    pub(super) fn discard(&self) -> io::Result<()> {
        match self.lock().made.take() {
            Some(made) => std::fs::remove_file(&made.path),
            None => Ok(()),
        }
    }
}
