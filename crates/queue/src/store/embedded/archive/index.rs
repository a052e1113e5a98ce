//! Where the journeys of a sealed file are: pairs of key and offset, sorted, searched on disk.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::super::finding::Finding;
use super::entry::{Entry, Key};
use super::scan;

const MAGIC: [u8; 8] = *b"PRjidx01";
/// Magic, CRC (and zero), pairs, file length, newest number, newest end, least id, greatest id.
const HEADER: usize = 8 + 8 + 8 + 8 + 8 + 8 + 16 + 16;
const PAIR: u64 = 16;

/// What is kept in memory of a sealed file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Summary {
    /// Bytes of the data file.
    pub(super) len: u64,
    pub(super) newest_number: u64,
    pub(super) newest_end_us: u64,
    least_id: u128,
    greatest_id: u128,
}

impl Summary {
    /// Whether an id can be in the file. Ids grow with time, so most files are passed over
    /// without a look; that is all that their order is used for.
    pub(super) fn may_hold(&self, id: u128) -> bool {
        (self.least_id..=self.greatest_id).contains(&id)
    }
}

/// The keys of a file that still grows.
#[derive(Debug)]
pub(super) struct Keys {
    pairs: BTreeSet<(u64, u64)>,
    pub(super) newest_number: u64,
    newest_end_us: u64,
    least_id: u128,
    greatest_id: u128,
}

impl Keys {
    fn new() -> Self {
        Self {
            pairs: BTreeSet::new(),
            newest_number: 0,
            newest_end_us: 0,
            least_id: u128::MAX,
            greatest_id: 0,
        }
    }

    /// Reads a data file from its start; gives the keys and the bytes up to the end of the last
    /// whole entry.
    pub(super) fn scan(
        file: &File,
        path: &Path,
        findings: &mut Vec<Finding>,
    ) -> io::Result<(Self, u64)> {
        let mut keys = Self::new();
        let end = scan::entries(file, path, findings, |entry, offset| {
            keys.add(entry, offset)
        })?;
        Ok((keys, end))
    }

    pub(super) fn add(&mut self, entry: &Entry, offset: u64) {
        self.pairs.extend(entry.keys().map(|key| (key.0, offset)));
        self.newest_number = self.newest_number.max(entry.number);
        self.newest_end_us = self.newest_end_us.max(entry.ended_us);
        self.least_id = self.least_id.min(entry.id);
        self.greatest_id = self.greatest_id.max(entry.id);
    }

    pub(super) fn holds(&self, key: Key) -> bool {
        self.newest(key, u64::MAX).is_some()
    }

    /// The newest entry with this key before an offset.
    pub(super) fn newest(&self, key: Key, before: u64) -> Option<u64> {
        let mut pairs = self.pairs.range((key.0, 0)..(key.0, before));
        pairs.next_back().map(|(_, offset)| *offset)
    }

    /// Writes the index of a data file that is complete.
    pub(super) fn write(&self, dir: &Path, number: u64, len: u64) -> io::Result<Index> {
        let mut bytes = vec![0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[16..24].copy_from_slice(&(self.pairs.len() as u64).to_le_bytes());
        bytes[24..32].copy_from_slice(&len.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.newest_number.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.newest_end_us.to_le_bytes());
        bytes[48..64].copy_from_slice(&self.least_id.to_le_bytes());
        bytes[64..80].copy_from_slice(&self.greatest_id.to_le_bytes());
        for (key, offset) in &self.pairs {
            bytes.extend_from_slice(&key.to_le_bytes());
            bytes.extend_from_slice(&offset.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes[16..]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        let path = path(dir, number);
        let unfinished = path.with_extension("index.new");
        let mut file = File::create(&unfinished)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, &path)?;
        File::open(dir)?.sync_all()?;
        Index::open(&path)
    }
}

/// The index of a sealed file.
#[derive(Debug)]
pub(super) struct Index {
    file: File,
    pairs: u64,
    pub(super) summary: Summary,
}

/// The path of an index.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.index"))
}

impl Index {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let bytes = std::fs::read(path)?;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the index is damaged");
        let (header, pairs) = bytes.split_at_checked(HEADER).ok_or_else(damaged)?;
        let number = |at: usize| {
            header[at..at + 8]
                .iter()
                .rev()
                .fold(0, |value, byte| value << 8 | u64::from(*byte))
        };
        let wide = |at: usize| u128::from(number(at)) | u128::from(number(at + 8)) << 64;
        let whole = header[..8] == MAGIC
            && number(8) == u64::from(crc32fast::hash(&bytes[16..]))
            && pairs.len() as u64 == number(16).saturating_mul(PAIR);
        if !whole {
            return Err(damaged());
        }
        Ok(Self {
            file: File::open(path)?,
            pairs: number(16),
            summary: Summary {
                len: number(24),
                newest_number: number(32),
                newest_end_us: number(40),
                least_id: wide(48),
                greatest_id: wide(64),
            },
        })
    }

    fn pair(&self, at: u64) -> io::Result<(u64, u64)> {
        let mut bytes = [0; PAIR as usize];
        self.file
            .read_exact_at(&mut bytes, HEADER as u64 + at * PAIR)?;
        let half = |at: usize| {
            bytes[at..at + 8]
                .iter()
                .rev()
                .fold(0, |value, byte| value << 8 | u64::from(*byte))
        };
        Ok((half(0), half(8)))
    }

    /// The newest entry with this key before an offset.
    pub(super) fn newest(&self, key: Key, before: u64) -> io::Result<Option<u64>> {
        let (mut low, mut high) = (0, self.pairs);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.pair(middle)? < (key.0, before) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let Some(last) = low.checked_sub(1) else {
            return Ok(None);
        };
        let (found, offset) = self.pair(last)?;
        Ok((found == key.0).then_some(offset))
    }

    /// Bytes of the index itself.
    pub(super) fn len(&self) -> u64 {
        HEADER as u64 + self.pairs * PAIR
    }
}
