//! Messages into Maildirs, so that "delivered" is true after a power failure.
//!
//! A message is written once, into one recipient's `tmp`, and synced. Then it appears in each
//! recipient's `new` by a hard link or a rename, which a reader sees entirely or not at all, and
//! the `new` folders are synced. Only then is it reported.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use postrider_protocol::DeliveryId;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::dirsync::DirSync;
use super::draft::Draft;
use super::name;
use super::seen::SeenDeliveries;
use crate::accounts::AccountName;
use crate::metrics::Metrics;

/// The folders of a Maildir.
pub(crate) const FOLDERS: [&str; 3] = ["tmp", "new", "cur"];

/// What became of a recipient's copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It is on disk.
    New,
    /// It had been there before this call, from an earlier try at the same delivery.
    Already,
}

/// All Maildirs of this server.
pub(crate) struct Maildirs {
    root: PathBuf,
    directories: DirSync,
    seen: SeenDeliveries,
    /// Accounts whose folders this process knows to be durable, not only to exist: the process
    /// that made them may have died before it could sync them.
    durable: Mutex<HashSet<AccountName>>,
    drafts: AtomicU64,
    metrics: Metrics,
}

impl Maildirs {
    /// Prepares the folder that holds them.
    pub(crate) fn open(root: PathBuf, metrics: Metrics) -> io::Result<Self> {
        make_folder(&root)?;
        Ok(Self {
            root,
            directories: DirSync::default(),
            seen: SeenDeliveries::default(),
            durable: Mutex::default(),
            drafts: AtomicU64::new(0),
            metrics,
        })
    }

    /// The folder below which they all are.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The account's Maildir, whether it exists or not.
    pub(crate) fn folder(&self, account: &AccountName) -> PathBuf {
        self.root.join(name::folder(account))
    }

    /// Makes the account's Maildir unless it exists, and makes it durable.
    pub(crate) fn create(&self, account: &AccountName) -> io::Result<PathBuf> {
        let maildir = self.folder(account);
        for folder in FOLDERS {
            make_folder(&maildir.join(folder))?;
        }
        // Account, domain, root: whichever of them is new must not vanish with what it holds.
        for folder in maildir.ancestors().take(3) {
            self.sync_folder(folder)?;
        }
        self.durable().insert(account.clone());
        Ok(maildir)
    }

    fn durable(&self) -> MutexGuard<'_, HashSet<AccountName>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a message in the Maildir of the first account where that is possible.
    pub(crate) fn draft(
        &self,
        delivery: DeliveryId,
        accounts: &[AccountName],
    ) -> io::Result<Draft> {
        let number = self.drafts.fetch_add(1, Ordering::Relaxed);
        let file = format!("{}.{}.{number}", name::stem(delivery), std::process::id());
        let mut failure = io::Error::from(io::ErrorKind::InvalidInput);
        for account in accounts {
            let path = self.folder(account).join("tmp").join(&file);
            let draft = match Draft::create(path.clone()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.create(account).and_then(|_| Draft::create(path))
                }
                made => made,
            };
            match draft {
                Ok(draft) => return Ok(draft),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Finishes a message: a durable copy in every account's `new`. One result an account.
    pub(crate) fn publish(
        &self,
        mut draft: Draft,
        delivery: DeliveryId,
        accounts: &[AccountName],
    ) -> Vec<io::Result<Stored>> {
        self.metrics.file_synced();
        if let Err(error) = draft.sync() {
            // What the kernel could not write once it may have dropped: the file is worthless.
            let again = || io::Error::new(error.kind(), error.to_string());
            return accounts.iter().map(|_| Err(again())).collect();
        }
        let stem = name::stem(delivery);
        let file = name::file(&stem, draft.size(), draft.wire_size());
        let mut results: Vec<io::Result<Stored>> = Vec::with_capacity(accounts.len());
        for (index, account) in accounts.iter().enumerate() {
            let last = index + 1 == accounts.len();
            results.push(self.appear(&mut draft, last, account, &stem, &file));
        }
        // Afterwards, so that one commit of the file system's journal serves all of them.
        for (result, account) in results.iter_mut().zip(accounts) {
            if let Ok(Some(folder)) = result
                .as_ref()
                .map(|stored| self.unsynced(account, *stored))
                && let Err(error) = self.sync_folder(&folder)
            {
                *result = Err(error);
            }
        }
        results
    }

    /// Puts the file into the account's `new`, unless an earlier try has done so.
    fn appear(
        &self,
        draft: &mut Draft,
        last: bool,
        account: &AccountName,
        stem: &str,
        file: &str,
    ) -> io::Result<Stored> {
        let maildir = self.folder(account);
        let durable = self.durable().contains(account);
        if !durable {
            self.create(account)?;
        }
        let target = maildir.join("new").join(file);
        // In this order: a client may move the copy of an earlier try from `new` to `cur` at any
        // moment, and looked for the other way round it could be missed in both.
        match fs::symlink_metadata(&target) {
            Ok(_) => return self.already(&maildir),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match self.seen.contains(&maildir.join("cur"), stem) {
            Ok(true) => return self.already(&maildir),
            Ok(false) => {}
            // Somebody has deleted the folder under us.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.create(account)?;
            }
            Err(error) => return Err(error),
        }
        let put = if last {
            rename(draft, &target)
        } else {
            fs::hard_link(draft.path(), &target)
        };
        match put {
            Ok(()) => Ok(Stored::New),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.already(&maildir),
            Err(error) if cannot_link(&error) => self.copy(draft, account, &target),
            Err(error) => Err(error),
        }
    }

    /// Reports an earlier copy only when it is surely durable: its own try may have died, or may
    /// still be, between rename and sync.
    fn already(&self, maildir: &Path) -> io::Result<Stored> {
        self.sync_folder(&maildir.join("new"))?;
        self.sync_folder(&maildir.join("cur"))?;
        Ok(Stored::Already)
    }

    fn unsynced(&self, account: &AccountName, stored: Stored) -> Option<PathBuf> {
        (stored == Stored::New).then(|| self.folder(account).join("new"))
    }

    /// For file systems without hard links, or with too many to one file: a copy of its own.
    fn copy(&self, draft: &Draft, account: &AccountName, target: &Path) -> io::Result<Stored> {
        let number = self.drafts.fetch_add(1, Ordering::Relaxed);
        let file = format!("copy.{}.{number}", std::process::id());
        let mut copy = Draft::create(self.folder(account).join("tmp").join(file))?;
        let mut source = File::open(draft.path())?;
        io::copy(&mut source, copy.file())?;
        self.metrics.file_synced();
        copy.sync()?;
        rename(&mut copy, target)?;
        Ok(Stored::New)
    }

    /// Makes a folder's entries durable, together with whoever else asks for it now.
    pub(crate) fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.directories
            .sync(folder, || self.metrics.directory_synced())
    }
}

/// Renames a draft unless the target exists.
fn rename(draft: &mut Draft, target: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, draft.path(), CWD, target, RenameFlags::NOREPLACE) {
        Ok(()) => {
            draft.was_moved();
            Ok(())
        }
        // A file system that knows no such rename (NFS): the draft's own name goes when it drops.
        Err(Errno::INVAL | Errno::NOSYS) => fs::hard_link(draft.path(), target),
        Err(error) => Err(error.into()),
    }
}

fn cannot_link(error: &io::Error) -> bool {
    let errors = [
        Errno::MLINK,
        Errno::XDEV,
        Errno::PERM,
        Errno::NOTSUP,
        Errno::NOSYS,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| errors.iter().any(|errno| errno.raw_os_error() == code))
}

/// Makes a folder and those above it, readable by their owner only.
fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests;
