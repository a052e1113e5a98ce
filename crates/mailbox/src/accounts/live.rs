//! The accounts as the running service sees them: the file's present state, whoever changed it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use arc_swap::ArcSwap;
use tracing::{info, warn};

use super::table::{Table, TableError};

/// How long a file must have been left alone that is changed in place.
const SETTLED: Duration = Duration::from_millis(200);

/// What tells one state of the file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// `None` if there is no file.
    fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(data) => Ok(Some(Self {
                inode: data.ino(),
                size: data.size(),
                modified: (data.mtime(), data.mtime_nsec()),
                changed: (data.ctime(), data.ctime_nsec()),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Stamp {
    /// Whether somebody has just changed the file in place, and so may not be done: half a file
    /// would be half of the accounts. (A file that replaces the old one was complete before.)
    fn is_being_written(&self, before: Self) -> bool {
        let (seconds, nanoseconds) = self.modified;
        let modified = Duration::new(
            u64::try_from(seconds).unwrap_or(0),
            u32::try_from(nanoseconds).unwrap_or(0),
        );
        let age = SystemTime::now().duration_since(UNIX_EPOCH + modified);
        self.inode == before.inode && age.is_ok_and(|age| age < SETTLED)
    }
}

/// Why the accounts file could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Malformed(#[from] TableError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The accounts file, read again whenever it has changed.
///
/// Each question looks at the file's stamp, which costs one system call (about a microsecond)
/// and needs no watcher that might miss something. A file that has become unreadable, malformed
/// or has gone keeps its last good state in force, because the other choice is to refuse
/// everybody's mail for good over a slip of the editor; the log says so.
pub(crate) struct LiveAccounts {
    path: PathBuf,
    table: ArcSwap<Table>,
    /// The state of the file that was last looked into, good or bad.
    seen: ArcSwap<Option<Stamp>>,
    reloading: Mutex<()>,
}

impl LiveAccounts {
    /// Reads the file for the first time. A missing one means no accounts yet.
    pub(crate) fn open(path: PathBuf) -> Result<Self, LoadError> {
        let seen = Stamp::of(&path)?;
        let table = match seen {
            Some(_) => Table::parse(&fs::read_to_string(&path)?)?,
            None => Table::default(),
        };
        if let Ok(data) = fs::metadata(&path)
            && data.mode() & 0o077 != 0
        {
            warn!(path = %path.display(), "the accounts file is open to other users of the machine");
        }
        Ok(Self {
            path,
            table: ArcSwap::from_pointee(table),
            seen: ArcSwap::from_pointee(seen),
            reloading: Mutex::new(()),
        })
    }

    /// The accounts as they are now.
    pub(crate) fn now(&self) -> Arc<Table> {
        let stamp = Stamp::of(&self.path);
        if !matches!(&stamp, Ok(stamp) if *stamp == **self.seen.load()) {
            self.reload(stamp);
        }
        self.table.load_full()
    }

    fn reload(&self, stamp: io::Result<Option<Stamp>>) {
        // One reads, the others go on with what was true a moment ago.
        let _reloading = match self.reloading.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let path = self.path.display();
        if let (Ok(Some(now)), Some(before)) = (&stamp, **self.seen.load())
            && now.is_being_written(before)
        {
            return;
        }
        let stamp = match stamp {
            Ok(stamp) => stamp,
            Err(error) => {
                warn!(%path, %error, "the accounts file cannot be looked at; its last state stays in force");
                return;
            }
        };
        let read = match stamp {
            Some(_) => fs::read_to_string(&self.path)
                .map_err(LoadError::from)
                .and_then(|text| Ok(Table::parse(&text)?)),
            None => Err(io::Error::from(io::ErrorKind::NotFound).into()),
        };
        match read {
            Ok(table) => {
                info!(%path, accounts = table.accounts().len(), "accounts read again");
                self.table.store(Arc::new(table));
            }
            Err(error) => {
                warn!(%path, %error, "the accounts file cannot be used; its last state stays in force");
            }
        }
        // Also after a failure: the log says it once, and the next change is looked into. The
        // stamp is the one from before reading, so that a change during it is seen next time.
        self.seen.store(Arc::new(stamp));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the command line does it.
    fn replace(path: &Path, text: &str) {
        let other = path.with_extension("new");
        fs::write(&other, text).unwrap();
        fs::rename(other, path).unwrap();
    }

    #[test]
    fn changes_are_seen_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts");
        let accounts = LiveAccounts::open(path.clone()).unwrap();
        assert!(accounts.now().get("a@c.test").is_none());
        for round in 0..20 {
            replace(&path, &format!("a@c.test ! x{round}@c.test\n"));
            assert!(accounts.now().get(&format!("x{round}@c.test")).is_some());
        }
    }

    #[test]
    fn half_a_file_is_not_taken_for_a_whole_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts");
        fs::write(&path, "a@c.test !\nb@c.test !\n").unwrap();
        let accounts = LiveAccounts::open(path.clone()).unwrap();
        fs::write(&path, "a@c.test !\n").unwrap();
        assert!(accounts.now().get("b@c.test").is_some());
        fs::write(&path, "a@c.test !\nb@c.test !\nc@c.test !\n").unwrap();
        assert!(accounts.now().get("b@c.test").is_some());
        std::thread::sleep(SETTLED);
        assert!(accounts.now().get("c@c.test").is_some());
    }

    #[test]
    fn a_slip_of_the_editor_refuses_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts");
        fs::write(&path, "a@c.test !\n").unwrap();
        let accounts = LiveAccounts::open(path.clone()).unwrap();
        replace(&path, "a@c.test\n");
        assert!(accounts.now().get("a@c.test").is_some());
        fs::remove_file(&path).unwrap();
        assert!(accounts.now().get("a@c.test").is_some());
        replace(&path, "b@c.test !\n");
        assert!(accounts.now().get("a@c.test").is_none());
        assert!(accounts.now().get("b@c.test").is_some());
    }

    #[test]
    fn a_broken_file_stops_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts");
        fs::write(&path, "a@c.test\n").unwrap();
        assert!(LiveAccounts::open(path).is_err());
    }
}
