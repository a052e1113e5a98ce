//! Directory syncs that concurrent deliveries share.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Makes the entries of directories durable. Whoever asks while a sync of the same directory is
/// under way waits for the next one, which serves all who came meanwhile; nobody waits who is alone.
#[derive(Default)]
pub(crate) struct DirSync {
    groups: Mutex<HashMap<PathBuf, Arc<Group>>>,
}

#[derive(Default)]
struct Group {
    state: Mutex<State>,
    turn: Condvar,
}

#[derive(Default)]
struct State {
    /// Syncs that have begun and those that have ended; they differ by one while one runs.
    begun: u64,
    ended: u64,
    /// The last sync that failed, and how.
    failed: Option<(u64, io::ErrorKind, String)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Neither map nor counters are ever left half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DirSync {
    /// Returns when every entry that was in the directory at the time of the call is durable.
    /// `ran` is told of each sync that this call itself carries out.
    pub(crate) fn sync(&self, path: &Path, ran: impl Fn()) -> io::Result<()> {
        let group = lock(&self.groups)
            .entry(path.to_owned())
            .or_default()
            .clone();
        let result = group.sync(|| {
            ran();
            File::open(path)?.sync_all()
        });
        let mut groups = lock(&self.groups);
        drop(group);
        if groups
            .get(path)
            .is_some_and(|group| Arc::strong_count(group) == 1)
        {
            groups.remove(path);
        }
        result
    }
}

impl Group {
    fn sync(&self, run: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let mut state = lock(&self.state);
        // The one under way may have begun before the caller's change: only a later one counts.
        let mine = state.begun + 1;
        loop {
            if state.ended >= mine {
                return match &state.failed {
                    // A success after a failure proves nothing: the kernel reports an error once.
                    Some((number, kind, words)) if *number >= mine => {
                        Err(io::Error::new(*kind, words.clone()))
                    }
                    _ => Ok(()),
                };
            }
            if state.begun > state.ended {
                state = self
                    .turn
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.begun += 1;
            drop(state);
            let result = run();
            state = lock(&self.state);
            state.ended = state.begun;
            if let Err(error) = result {
                state.failed = Some((state.ended, error.kind(), error.to_string()));
            }
            self.turn.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn syncs_are_shared_and_never_too_early() {
        let group = Group::default();
        let (changes, synced, runs) = (
            AtomicUsize::new(0),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let mine = changes.fetch_add(1, Ordering::SeqCst) + 1;
                        group
                            .sync(|| {
                                let covered = changes.load(Ordering::SeqCst);
                                std::thread::sleep(Duration::from_micros(300));
                                synced.fetch_max(covered, Ordering::SeqCst);
                                runs.fetch_add(1, Ordering::SeqCst);
                                Ok(())
                            })
                            .unwrap();
                        assert!(synced.load(Ordering::SeqCst) >= mine);
                    }
                });
            }
        });
        assert!(runs.load(Ordering::SeqCst) < 200, "{runs:?} of 320");
    }

    #[test]
    fn a_failure_reaches_those_it_concerns() {
        let group = Group::default();
        assert!(
            group
                .sync(|| Err(io::ErrorKind::StorageFull.into()))
                .is_err()
        );
        assert!(group.sync(|| Ok(())).is_ok());
        let missing = DirSync::default().sync(Path::new("/nonexistent-folder"), || ());
        assert!(missing.is_err());
    }

    #[test]
    fn idle_directories_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let sync = DirSync::default();
        sync.sync(folder.path(), || ()).unwrap();
        assert!(lock(&sync.groups).is_empty());
    }
}
