//! A Maildir as a POP3 session sees it: a list that stays as it is while the session lasts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::maildir::Maildirs;
use super::name::{FLAGS, FileName};
use super::wire::WireSize;
use crate::accounts::AccountName;

/// What holds the maildrop against a second session: a lock that the kernel takes back when the
/// session's process dies.
const LOCK_FILE: &str = "pop3.lock";

/// One message of a maildrop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    name: Arc<str>,
    /// It lies in `new`, not in `cur`.
    new: bool,
    /// Octets on the wire.
    size: u64,
}

impl Entry {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Appends the id by which clients know the message for ever (UIDL, RFC 1939 section 7).
    pub(crate) fn write_unique(&self, out: &mut Vec<u8>) {
        let name = FileName::parse(&self.name);
        match name.unique() {
            Some(unique) => out.extend_from_slice(unique.as_bytes()),
            None => {
                let digest = Sha256::digest(name.base.as_bytes());
                for byte in &digest[..16] {
                    out.extend_from_slice(format!("{byte:02x}").as_bytes());
                }
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn for_test(name: &str, size: u64) -> Self {
        Self {
            name: name.into(),
            new: true,
            size,
        }
    }
}

/// A maildrop that is open in one session and locked against others until it is dropped.
#[derive(Debug)]
pub(crate) struct Maildrop {
    maildir: PathBuf,
    _lock: File,
}

/// The answer to opening a maildrop.
#[derive(Debug)]
pub(crate) enum Locked {
    /// The session's own now, with its messages, oldest first.
    Opened(Maildrop, Vec<Entry>),
    /// Another session has it.
    InUse,
}

impl Maildirs {
    /// Opens and locks the account's maildrop, with at most `limit` of its oldest messages.
    pub(crate) fn open_maildrop(&self, account: &AccountName, limit: usize) -> io::Result<Locked> {
        let open = |maildir: &Path| {
            OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(maildir.join(LOCK_FILE))
        };
        let maildir = self.folder(account);
        let lock = match open(&maildir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => open(&self.create(account)?)?,
            lock => lock?,
        };
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(Locked::InUse),
            Err(error) => return Err(error.into()),
        }
        let entries = list(&maildir, limit)?;
        let maildrop = Maildrop {
            maildir,
            _lock: lock,
        };
        Ok(Locked::Opened(maildrop, entries))
    }

    /// Carries out what a session has decided: deletes messages, and moves those that it has
    /// retrieved from `new` to `cur`. Returns how many could not be deleted.
    pub(crate) fn update(
        &self,
        maildrop: &Maildrop,
        deleted: &[Entry],
        retrieved: &[Entry],
    ) -> usize {
        let mut failed = 0;
        for entry in deleted {
            match maildrop.find(entry).and_then(fs::remove_file) {
                Ok(()) => {}
                // Whoever deleted it, it is gone.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(maildir = %maildrop.maildir.display(), %error, "cannot delete a message");
                    failed += 1;
                }
            }
        }
        for entry in retrieved.iter().filter(|entry| entry.new) {
            let flags = if entry.name.contains(FLAGS) {
                ""
            } else {
                ":2,S"
            };
            let target = maildrop
                .maildir
                .join("cur")
                .join(format!("{}{flags}", entry.name));
            if let Err(error) = fs::rename(maildrop.path(entry), target) {
                tracing::debug!(maildir = %maildrop.maildir.display(), %error, "a message stays in new");
            }
        }
        for folder in ["new", "cur"] {
            if let Err(error) = self.sync_folder(&maildrop.maildir.join(folder)) {
                tracing::warn!(maildir = %maildrop.maildir.display(), %error, "deletions may come back after a power failure");
            }
        }
        failed
    }
}

impl Maildrop {
    /// Opens a message. `NotFound` if somebody else has deleted it.
    pub(crate) fn read(&self, entry: &Entry) -> io::Result<File> {
        File::open(self.find(entry)?)
    }

    fn path(&self, entry: &Entry) -> PathBuf {
        let folder = if entry.new { "new" } else { "cur" };
        self.maildir.join(folder).join(&*entry.name)
    }

    /// Where the message is now: another program may have moved it or changed its flags.
    fn find(&self, entry: &Entry) -> io::Result<PathBuf> {
        let path = self.path(entry);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found.map(|_| path),
        }
        let base = FileName::parse(&entry.name).base;
        for other in fs::read_dir(self.maildir.join("cur"))? {
            let other = other?;
            let name = other.file_name();
            if FileName::parse(name.to_str().unwrap_or_default()).base == base {
                return Ok(other.path());
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }
}

/// The oldest messages of a Maildir, by the time in their names.
fn list(maildir: &Path, limit: usize) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    // `new` first: what is moved to `cur` meanwhile is then seen twice, not missed.
    for folder in ["new", "cur"] {
        for entry in fs::read_dir(maildir.join(folder))? {
            let entry = entry?;
            // Not through links: a Maildir holds mail, not a way to other files.
            let name = entry.file_name();
            if let Some(name) = name.to_str()
                && !name.starts_with('.')
                && entry.file_type()?.is_file()
            {
                entries.push(Entry {
                    name: name.into(),
                    new: folder == "new",
                    size: 0,
                });
            }
            if entries.len() >= limit.saturating_mul(2).saturating_add(1_000) {
                order(&mut entries, limit);
            }
        }
    }
    order(&mut entries, limit);
    let mut sized = Vec::with_capacity(entries.len());
    for mut entry in entries {
        let folder = if entry.new { "new" } else { "cur" };
        match size(&maildir.join(folder), &entry.name) {
            Ok(size) => {
                entry.size = size;
                sized.push(entry);
            }
            // Moved or deleted meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sized)
}

/// Sorts, leaves out what was seen twice, and cuts off.
fn order(entries: &mut Vec<Entry>, limit: usize) {
    entries.sort_by(|a, b| {
        let (x, y) = (FileName::parse(&a.name), FileName::parse(&b.name));
        (x.seconds, x.base, a.new).cmp(&(y.seconds, y.base, b.new))
    });
    entries.dedup_by(|b, a| FileName::parse(&a.name).base == FileName::parse(&b.name).base);
    entries.truncate(limit);
}

/// Octets on the wire: from the name of files that this server wrote, or else by counting.
fn size(folder: &Path, name: &str) -> io::Result<u64> {
    if let Some(size) = FileName::parse(name).wire_size {
        return Ok(size);
    }
    let mut file = File::open(folder.join(name))?;
    let mut wire = WireSize::default();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(wire.octets()),
            Ok(read) => wire.feed(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
