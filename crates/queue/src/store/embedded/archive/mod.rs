//! The journeys of messages that have ended.
//!
//! Files that only grow, each with the records of many messages; a full one is sealed with an
//! index beside it, in which a journey is found by binary search on disk. Nothing of it is kept
//! in memory but a few numbers a file. Whole files go when they are too old or take too much
//! space.

mod entry;
mod index;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

pub(super) use entry::{Entry, Piece};
use index::{Index, Keys};

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
    /// Opens the archive in a folder.
    pub(super) fn open(dir: &Path, limits: Limits) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut numbers: Vec<u64> = std::fs::read_dir(dir)?
            .filter_map(|entry| {
                let name = entry.ok()?.file_name();
                name.to_str()?.strip_suffix(".journeys")?.parse().ok()
            })
            .collect();
        numbers.sort_unstable();
        let active_number = numbers.pop().unwrap_or(1);
        let mut sealed = Vec::new();
        for number in numbers {
            sealed.push(Arc::new(Sealed::open(dir, number)?));
        }
        Ok(Self {
            active: Mutex::new(Active::open(dir, active_number)?),
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
        let next = Active::open(&self.dir, active.number + 1)?;
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
        let mut space: u64 = active_len
            + sealed
                .iter()
                .map(|file| file.index.summary.len)
                .sum::<u64>();
        while let Some(oldest) = sealed.first() {
            let old = oldest.index.summary.newest_end_us + micros(self.limits.keep) < now_us;
            if !old && space <= self.limits.space {
                break;
            }
            space -= oldest.index.summary.len;
            std::fs::remove_file(&oldest.path)?;
            std::fs::remove_file(index::path(&self.dir, oldest.number)).ok();
            sealed.remove(0);
        }
        Ok(())
    }

    /// The journey of a message.
    pub(super) fn find_id(&self, id: u128, now_us: u64) -> io::Result<Option<Entry>> {
        let key = entry::id_key(id);
        let mut found = self.find(
            key,
            1,
            now_us,
            |file| file.may_hold(id),
            |entry| entry.id == id,
        )?;
        Ok(found.pop())
    }

    /// Whether the message was added lately, as far as memory tells.
    pub(super) fn just_added(&self, id: u128) -> bool {
        let key = entry::id_key(id);
        let active = self.active();
        active.keys.holds(key) || active.previous.as_ref().is_some_and(|keys| keys.holds(key))
    }

    /// Journeys with this hash of a Message-ID, newest first.
    pub(super) fn find_message_id(
        &self,
        hash: u64,
        limit: usize,
        now_us: u64,
    ) -> io::Result<Vec<Entry>> {
        let key = entry::message_id_key(hash);
        self.find(
            key,
            limit,
            now_us,
            |_| true,
            |entry| entry.message_id == hash,
        )
    }

    fn find(
        &self,
        key: u64,
        limit: usize,
        now_us: u64,
        may_hold: impl Fn(&index::Summary) -> bool,
        matches: impl Fn(&Entry) -> bool,
    ) -> io::Result<Vec<Entry>> {
        let wanted =
            |entry: &Entry| matches(entry) && entry.ended_us + micros(self.limits.keep) >= now_us;
        let mut found = Vec::new();
        {
            let mut active = self.active();
            for offset in active.keys.offsets(key) {
                active.flush()?;
                found.extend(entry::read(&active.file, offset)?.filter(|entry| wanted(entry)));
            }
        }
        for file in self.sealed().iter().rev() {
            if found.len() >= limit {
                break;
            }
            if !may_hold(&file.index.summary) {
                continue;
            }
            for offset in file.index.offsets(key)? {
                found.extend(entry::read(&file.file, offset)?.filter(|entry| wanted(entry)));
            }
        }
        found.sort_by_key(|entry| std::cmp::Reverse((entry.ended_us, entry.number)));
        found.truncate(limit);
        Ok(found)
    }
}

fn data_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.journeys"))
}

impl Active {
    /// Opens the file, and drops a last entry that is not whole: the log still has it.
    fn open(dir: &Path, number: u64) -> io::Result<Self> {
        let path = data_path(dir, number);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        File::open(dir)?.sync_all()?;
        let (keys, len) = Keys::scan(&file)?;
        if file.metadata()?.len() > len {
            tracing::info!(path = %path.display(), offset = len, "the last journey was not whole: cut off, the log has it");
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
    fn open(dir: &Path, number: u64) -> io::Result<Self> {
        let path = data_path(dir, number);
        let file = File::open(&path)?;
        let index = match Index::open(&index::path(dir, number)) {
            Ok(index) => index,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the index of old journeys is made again");
                let (keys, len) = Keys::scan(&file)?;
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
            pieces: vec![Piece {
                kind: Kind::Accepted as u32,
                record: Bytes::from(vec![id as u8; 300]),
            }],
        }
    }

    fn limits(space: u64) -> Limits {
        Limits {
            keep: Duration::from_secs(1),
            space,
        }
    }

    #[test]
    fn journeys_are_found_before_and_after_sealing_and_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(dir.path(), limits(64 << 10)).unwrap();
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
            let newest: Vec<u128> = archive
                .find_message_id(5, 3, 0)
                .unwrap()
                .iter()
                .map(|entry| entry.id)
                .collect();
            assert_eq!(newest, [194, 184, 174]);
            assert_eq!(archive.newest_number(), 200);
        };
        check(&archive);
        archive.sync().unwrap();
        drop(archive);
        std::fs::remove_file(index::path(dir.path(), 1)).unwrap();
        check(&Archive::open(dir.path(), limits(64 << 10)).unwrap());
    }

    #[test]
    fn old_journeys_go() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(dir.path(), limits(16 << 10)).unwrap();
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
