//! The journeys of messages that have ended.
//!
//! Files that only grow, each with the records of many messages; a full one is sealed with an
//! index beside it, in which a journey is found by binary search on disk. Nothing of it is kept
//! in memory but a few numbers a file. Whole files go when they are too old or take too much
//! space.

mod check;
mod entry;
mod index;
mod scan;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

pub(super) use check::check;
pub(super) use entry::{Entry, Key, Piece};
use index::{Index, Keys};

use super::finding::{Finding, FindingKind};
use crate::store::clock::micros;

/// A file is sealed at this size, unless the space for all of them is small.
const SEAL_AT: u64 = 64 << 20;
const BUFFER: usize = 256 << 10;

/// What is kept, and how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) keep: Duration,
    pub(super) space: u64,
}

/// A file that grows no more.
struct Sealed {
    number: u64,
    path: PathBuf,
    file: File,
    index: Index,
}

/// The file that grows.
struct Active {
    number: u64,
    path: PathBuf,
    file: File,
    /// Bytes in the file.
    len: u64,
    buffer: Vec<u8>,
    keys: Keys,
    /// The keys of the file before, as long as this one grows.
    previous: Option<Keys>,
    dirty: bool,
}

pub(super) struct Archive {
    dir: PathBuf,
    limits: Limits,
    active: Mutex<Active>,
    sealed: RwLock<Vec<Arc<Sealed>>>,
}

impl Archive {
    /// Opens the archive in a folder, and tells what is wrong with its files.
    pub(super) fn open(
        dir: &Path,
        limits: Limits,
        findings: &mut Vec<Finding>,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut numbers = numbers(dir)?;
        check::missing(dir, &numbers, findings);
        let active_number = numbers.pop().unwrap_or(1);
        let mut sealed = Vec::new();
        for number in numbers {
            sealed.push(Arc::new(Sealed::open(dir, number, findings)?));
        }
        Ok(Self {
            active: Mutex::new(Active::open(dir, active_number, findings)?),
            sealed: RwLock::new(sealed),
            dir: dir.to_owned(),
            limits,
        })
    }

    fn active(&self) -> std::sync::MutexGuard<'_, Active> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sealed(&self) -> Vec<Arc<Sealed>> {
        self.sealed
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The number of the last record of the log whose end of a message is in here.
    pub(super) fn newest_number(&self) -> u64 {
        let active = self.active().keys.newest_number;
        let sealed = self.sealed();
        sealed
            .iter()
            .map(|file| file.index.summary.newest_number)
            .fold(active, u64::max)
    }

    /// Adds a journey. It can be found from now on, and is durable after [`Self::sync`].
    pub(super) fn append(&self, entry: &Entry) -> io::Result<()> {
        let mut active = self.active();
        active.append(entry)?;
        if active.len + (active.buffer.len() as u64) < SEAL_AT.min(self.limits.space / 4).max(4096)
        {
            return Ok(());
        }
        active.sync()?;
        let next = Active::open(&self.dir, active.number + 1, &mut Vec::new())?;
        let full = std::mem::replace(&mut *active, next);
        let (sealed, keys) = Sealed::seal(full, &self.dir)?;
        active.previous = Some(keys);
        self.sealed
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::new(sealed));
        Ok(())
    }

    /// Makes what was added durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.active().sync()
    }

    /// Deletes files that are too old, and the oldest while all of them take too much space.
    pub(super) fn expire(&self, now_us: u64) -> io::Result<()> {
        let active_len = self.active().len;
        let mut sealed = self.sealed.write().unwrap_or_else(PoisonError::into_inner);
        let mut space: u64 = active_len + sealed.iter().map(|file| file.space()).sum::<u64>();
        while let Some(oldest) = sealed.first() {
            let old = oldest.index.summary.newest_end_us + micros(self.limits.keep) < now_us;
            if !old && space <= self.limits.space {
                break;
            }
            space -= oldest.space();
            std::fs::remove_file(&oldest.path)?;
            std::fs::remove_file(index::path(&self.dir, oldest.number)).ok();
            sealed.remove(0);
        }
        Ok(())
    }

    /// The journey of a message.
    pub(super) fn find_id(&self, id: u128, now_us: u64) -> io::Result<Option<Entry>> {
        let may_hold = |file: &index::Summary| file.may_hold(id);
        let is_it = |entry: &Entry| entry.id == id;
        let mut found = self.find(Key::id(id), 1, now_us, may_hold, is_it)?;
        Ok(found.pop())
    }

    /// Whether the message was added lately, as far as memory tells.
    pub(super) fn just_added(&self, id: u128) -> bool {
        let key = Key::id(id);
        let active = self.active();
        active.keys.holds(key) || active.previous.as_ref().is_some_and(|keys| keys.holds(key))
    }

    /// The newest journeys with a key that fit; as keys are hashes, not all of them do.
    pub(super) fn find_newest(
        &self,
        key: Key,
        limit: usize,
        now_us: u64,
        fits: impl Fn(&Entry) -> bool,
    ) -> io::Result<Vec<Entry>> {
        self.find(key, limit, now_us, |_| true, fits)
    }

    fn find(
        &self,
        key: Key,
        limit: usize,
        now_us: u64,
        may_hold: impl Fn(&index::Summary) -> bool,
        fits: impl Fn(&Entry) -> bool,
    ) -> io::Result<Vec<Entry>> {
        let wanted =
            |entry: &Entry| entry.ended_us + micros(self.limits.keep) >= now_us && fits(entry);
        let mut found = Vec::new();
        {
            let mut active = self.active();
            if active.keys.holds(key) {
                active.flush()?;
            }
            let mut before = u64::MAX;
            while found.len() < limit
                && let Some(offset) = active.keys.newest(key, before)
            {
                before = offset;
                let entry = read(&active.file, &active.path, offset)?;
                found.extend(entry.filter(|entry| wanted(entry)));
            }
        }
        for file in self.sealed().iter().rev() {
            if !may_hold(&file.index.summary) {
                continue;
            }
            let mut before = u64::MAX;
            while found.len() < limit
                && let Some(offset) = file.index.newest(key, before)?
            {
                before = offset;
                let entry = read(&file.file, &file.path, offset)?;
                found.extend(entry.filter(|entry| wanted(entry)));
            }
        }
        Ok(found)
    }
}

/// The numbers of the files in a folder, in order.
fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number: Option<u64> = name
            .to_str()
            .and_then(|name| name.strip_suffix(".journeys")?.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The entry at an offset that the keys name. One that is not whole any more is not silently left
/// out.
fn read(file: &File, path: &Path, offset: u64) -> io::Result<Option<Entry>> {
    let entry = entry::read(file, offset)?;
    if entry.is_none() {
        tracing::error!(file = %path.display(), offset, "a journey is damaged");
        crate::metrics::damaged_record();
    }
    Ok(entry)
}

fn data_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.journeys"))
}

impl Active {
    /// Opens the file, and drops a last entry that is not whole: the log still has it.
    fn open(dir: &Path, number: u64, findings: &mut Vec<Finding>) -> io::Result<Self> {
        let path = data_path(dir, number);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        File::open(dir)?.sync_all()?;
        let (keys, len) = Keys::scan(&file, &path, findings)?;
        if file.metadata()?.len() > len {
            file.set_len(len)?;
        }
        Ok(Self {
            number,
            path,
            file,
            len,
            buffer: Vec::new(),
            keys,
            previous: None,
            dirty: false,
        })
    }

    fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let offset = self.len + self.buffer.len() as u64;
        entry.encode(&mut self.buffer);
        self.keys.add(entry, offset);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.write_all_at(&self.buffer, self.len)?;
            self.len += self.buffer.len() as u64;
            self.buffer.clear();
            self.dirty = true;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        if self.dirty {
            self.file.sync_data()?;
            self.dirty = false;
        }
        Ok(())
    }
}

impl Sealed {
    /// Bytes that it takes with its index.
    fn space(&self) -> u64 {
        self.index.summary.len + self.index.len()
    }

    fn open(dir: &Path, number: u64, findings: &mut Vec<Finding>) -> io::Result<Self> {
        let path = data_path(dir, number);
        let file = File::open(&path)?;
        let index_path = index::path(dir, number);
        let index = match Index::open(&index_path) {
            Ok(index) => index,
            Err(error) => {
                let kind = FindingKind::DamagedIndex;
                findings.push(Finding::new(kind, &index_path, error.to_string()));
                let (keys, len) = Keys::scan(&file, &path, findings)?;
                keys.write(dir, number, len)?
            }
        };
        Ok(Self {
            number,
            path,
            file,
            index,
        })
    }

    fn seal(active: Active, dir: &Path) -> io::Result<(Self, Keys)> {
        let sealed = Self {
            number: active.number,
            index: active.keys.write(dir, active.number, active.len)?,
            path: active.path,
            file: active.file,
        };
        Ok((sealed, active.keys))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::frame::Kind;
    use super::*;

    fn entry(id: u128) -> Entry {
        Entry {
            id,
            message_id: id as u64 % 10 + 1,
            number: id as u64,
            ended_us: 1000 * id as u64,
            addresses: vec![Key::sender(&format!("s{}@a.test", id % 10)).0],
            pieces: vec![Piece {
                kind: Kind::Accepted as u32,
                record: Bytes::from(vec![id as u8; 300]),
            }],
        }
    }

    fn open(dir: &Path, space: u64) -> Archive {
        open_hurt(dir, space).0
    }

    fn open_hurt(dir: &Path, space: u64) -> (Archive, Vec<Finding>) {
        let limits = Limits {
            keep: Duration::from_secs(1),
            space,
        };
        let mut findings = Vec::new();
        let archive = Archive::open(dir, limits, &mut findings).unwrap();
        (archive, findings)
    }

    #[test]
    fn damage_costs_the_journey_in_which_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let archive = open(dir.path(), 64 << 20);
        for id in 1..=10 {
            archive.append(&entry(id)).unwrap();
        }
        archive.sync().unwrap();
        drop(archive);
        let path = data_path(dir.path(), 1);
        let whole = std::fs::read(&path).unwrap();
        let len = whole.len() / 10;
        for at in (4 * len..5 * len).step_by(11) {
            let mut hurt = whole.clone();
            hurt[at] ^= 4;
            std::fs::write(&path, hurt).unwrap();
            let (archive, findings) = open_hurt(dir.path(), 64 << 20);
            for id in 1..=10 {
                let found = archive.find_id(id, 0).unwrap();
                assert_eq!(found.is_some(), id != 5, "journey {id}, hurt at {at}");
            }
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert_eq!(findings[0].kind, FindingKind::DamagedJourneys);
            assert_eq!(findings[0].offset, Some(4 * len as u64));
            assert_eq!(findings[0].len, Some(len as u64));
        }
    }

    #[test]
    fn journeys_are_found_before_and_after_sealing_and_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let archive = open(dir.path(), 64 << 10);
        for id in 1..=200 {
            archive.append(&entry(id)).unwrap();
        }
        let check = |archive: &Archive| {
            assert!(archive.sealed().len() > 2);
            for id in 1..=200 {
                let found = archive.find_id(id, 0).unwrap().unwrap();
                assert_eq!((found.id, found.pieces.len()), (id, 1));
                assert_eq!(found.pieces[0].record, vec![id as u8; 300]);
            }
            assert!(archive.find_id(201, 0).unwrap().is_none());
            let key = Key::sender("S4@A.test");
            let newest = |limit, fits: fn(&Entry) -> bool| -> Vec<u128> {
                let found = archive.find_newest(key, limit, 0, fits).unwrap();
                found.iter().map(|entry| entry.id).collect()
            };
            assert_eq!(newest(3, |_| true), [194, 184, 174]);
            assert_eq!(newest(1, |entry| entry.id < 20), [14]);
            assert_eq!(newest(100, |_| true).len(), 20);
            assert_eq!(archive.newest_number(), 200);
        };
        check(&archive);
        archive.sync().unwrap();
        drop(archive);
        std::fs::remove_file(index::path(dir.path(), 1)).unwrap();
        check(&open(dir.path(), 64 << 10));
    }

    #[test]
    fn old_journeys_go() {
        let dir = tempfile::tempdir().unwrap();
        let archive = open(dir.path(), 16 << 10);
        for id in 1..=200 {
            archive.append(&entry(id)).unwrap();
        }
        archive.expire(0).unwrap();
        assert!(archive.find_id(1, 0).unwrap().is_none(), "too much space");
        assert!(archive.find_id(200, 0).unwrap().is_some());
        assert!(
            archive.find_id(200, 2_000_000).unwrap().is_none(),
            "too old"
        );
    }
}
