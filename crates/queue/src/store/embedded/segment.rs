//! One file of the log.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use rustix::fs::FallocateFlags;

use super::faults::Faults;
use super::frame::{HEADER, Header};

/// Bytes before the first record: magic with the layout's version, number, key, zero, CRC.
pub(super) const PREFACE: usize = 32;
const MAGIC: &[u8; 8] = b"postlog1";
/// The place of the layout's version in the magic.
const VERSION_AT: usize = 7;

/// What the first bytes of a segment's file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preface {
    /// What they should be, with the store's key.
    Whole(u64),
    /// Nothing was written yet.
    Blank,
    /// A later version's, with its digit.
    Foreign(char),
    /// Not what they should be, or not to be read.
    Damaged,
}

/// What may be done to a segment's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// A segment: a file that grows at its end and is otherwise only read.
pub(super) struct Segment {
    pub(super) number: u32,
    pub(super) key: u64,
    pub(super) path: PathBuf,
    file: File,
    /// Bytes of whole records in it; what is behind is space held in advance.
    len: AtomicU64,
    /// Something in it was found damaged.
    damaged: AtomicBool,
    faults: Arc<dyn Faults>,
}

/// Why a record could not be read back.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("{path}: no record at offset {offset}")]
    NoRecord { path: String, offset: u32 },
    #[error("{path}: the record at offset {offset} does not match its checksum")]
    Checksum { path: String, offset: u32 },
    #[error("{path}: {error}")]
    Io { path: String, error: io::Error },
}

impl Segment {
    /// The name of a segment's file.
    pub(super) fn path(dir: &Path, number: u32) -> PathBuf {
        dir.join(format!("{number:010}.log"))
    }

    /// Makes a new segment, with its space held in advance, so that a full disk shows here and
    /// not in the middle of a commit. Durable when it returns.
    ///
    /// Where the disk is too full for that it is made all the same: the outcomes of what still
    /// goes out must be written somewhere, and new mail is refused before it comes to this.
    pub(super) fn create(
        dir: &Path,
        number: u32,
        key: u64,
        size: u64,
        faults: &Arc<dyn Faults>,
    ) -> io::Result<Arc<Self>> {
        faults.before_write(PREFACE)?;
        let path = Self::path(dir, number);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        let made = hold_space(&file, size)
            .and_then(|()| file.write_all_at(&preface(number, key), 0))
            .and_then(|()| faults.before_sync(&path))
            .and_then(|()| file.sync_all())
            .and_then(|()| File::open(dir)?.sync_all());
        if let Err(error) = made {
            // Half a segment would only be in the way of the next try.
            std::fs::remove_file(&path).ok();
            return Err(error);
        }
        Ok(Arc::new(Self {
            number,
            key,
            path,
            file,
            len: AtomicU64::new(PREFACE as u64),
            damaged: AtomicBool::new(false),
            faults: faults.clone(),
        }))
    }

    /// Opens a segment that is there, whose records are of the store with this key.
    pub(super) fn open(
        path: &Path,
        number: u32,
        key: u64,
        access: Access,
        faults: &Arc<dyn Faults>,
    ) -> io::Result<Arc<Self>> {
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::Write)
            .open(path)?;
        let len = file.metadata()?.len();
        Ok(Arc::new(Self {
            number,
            key,
            path: path.to_owned(),
            file,
            len: AtomicU64::new(len),
            damaged: AtomicBool::new(false),
            faults: faults.clone(),
        }))
    }

    /// Looks at the first bytes of a segment's file.
    pub(super) fn look(path: &Path, number: u32, faults: &dyn Faults) -> io::Result<Preface> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("this is not a file"));
        }
        let mut bytes = [0; PREFACE];
        let read = faults
            .before_read(path, 0, PREFACE)
            .and_then(|()| read_full(|buffer, at| file.read_at(buffer, at), &mut bytes, 0));
        Ok(match read {
            Ok(PREFACE) => read_preface(&bytes, number),
            Ok(got) if bytes[..got].iter().all(|byte| *byte == 0) => Preface::Blank,
            Ok(_) | Err(_) => Preface::Damaged,
        })
    }

    /// Bytes up to the end of the last record.
    pub(super) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    pub(super) fn set_len(&self, len: u64) {
        self.len.store(len, Ordering::Release);
    }

    /// Remembers that something in it is damaged: it is not to be deleted.
    pub(super) fn mark_damaged(&self) {
        self.damaged.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Writes slices one after the other at `offset`.
    pub(super) fn write(&self, mut slices: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        let total = slices.iter().map(|slice| slice.len()).sum();
        if let Some(cut) = self.faults.before_write(total)? {
            // A test asks for a write that is cut in the middle, as a crash would.
            let whole: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            self.file
                .write_all_at(&whole[..cut.min(whole.len())], offset)?;
            return Err(io::Error::other("write cut short"));
        }
        while !slices.is_empty() {
            // The kernel takes at most 1,024 slices a call.
            let most = slices.len().min(1024);
            let written = match rustix::io::pwritev(&self.file, &slices[..most], offset) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
            };
            offset += written as u64;
            IoSlice::advance_slices(&mut slices, written);
        }
        Ok(())
    }

    /// Makes everything written so far durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.faults.before_sync(&self.path)?;
        rustix::fs::fdatasync(&self.file)?;
        Ok(())
    }

    /// Cuts off what is behind the last record.
    pub(super) fn trim(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.set_len(len);
        Ok(())
    }

    /// Behind this only space comes that was never written to. Segments are given their space in
    /// advance, and reading all of it would take long after a crash. To be asked before reading:
    /// what was read counts as written with some file systems.
    pub(super) fn data_end(&self) -> u64 {
        use rustix::fs::{SeekFrom, seek};
        use rustix::io::Errno;
        let mut end = 0;
        loop {
            match seek(&self.file, SeekFrom::Data(end))
                .and_then(|data| seek(&self.file, SeekFrom::Hole(data)))
            {
                Ok(hole) if hole > end => end = hole,
                Err(Errno::NXIO) => return end,
                // Not every file system can tell.
                Ok(_) | Err(_) => return u64::MAX,
            }
        }
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.faults.before_read(&self.path, offset, buffer.len())?;
        self.file.read_at(buffer, offset)
    }

    /// Fills the buffer from an offset on; returns how much of it there was.
    pub(super) fn read_full(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        read_full(|buffer, at| self.read_at(buffer, at), buffer, offset)
    }

    /// Bytes in the file, with what is held in advance.
    pub(super) fn file_len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Reads one record, and its content if it is wanted.
    pub(super) fn read(
        &self,
        offset: u32,
        with_content: bool,
    ) -> Result<(Header, Bytes, Bytes), ReadError> {
        self.try_read(offset, with_content)
            .inspect_err(|_| self.mark_damaged())
    }

    fn try_read(
        &self,
        offset: u32,
        with_content: bool,
    ) -> Result<(Header, Bytes, Bytes), ReadError> {
        let path = || self.path.display().to_string();
        let io = |error| ReadError::Io {
            path: path(),
            error,
        };
        // Most records are shorter than this, so one read is enough.
        let mut start = BytesMut::zeroed(2048);
        let got = self.read_full(&mut start, u64::from(offset)).map_err(io)?;
        let header = start
            .get(..HEADER)
            .filter(|_| got >= HEADER)
            .and_then(|bytes| bytes.try_into().ok())
            .and_then(|bytes| Header::decode(bytes, self.key, self.number))
            .ok_or_else(|| ReadError::NoRecord {
                path: path(),
                offset,
            })?;
        let record_end = HEADER + header.record_len as usize;
        let end = match with_content {
            true => record_end + header.content_len as usize,
            false => record_end,
        };
        let mut frame = start;
        if end > got {
            // Both lengths are covered by the header's checksum, so they are what was written.
            frame.resize(end, 0);
            let more = self
                .read_full(&mut frame[got..], u64::from(offset) + got as u64)
                .map_err(io)?;
            if got + more < end {
                return Err(ReadError::Checksum {
                    path: path(),
                    offset,
                });
            }
        }
        frame.truncate(end);
        let mut frame = frame.freeze();
        let content = frame.split_off(record_end);
        let record = frame.split_off(HEADER);
        if crc32fast::hash(&record) != header.record_crc
            || with_content && crc32fast::hash(&content) != header.content_crc
        {
            return Err(ReadError::Checksum {
                path: path(),
                offset,
            });
        }
        Ok((header, record, content))
    }
}

fn read_full(
    read_at: impl Fn(&mut [u8], u64) -> io::Result<usize>,
    buffer: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match read_at(&mut buffer[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

fn hold_space(file: &File, size: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) => Ok(()),
        // Not every file system can; then a full disk shows when it is written.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        // Some of it may have been held: that goes back, and the segment grows as it is written.
        Err(rustix::io::Errno::NOSPC) => file.set_len(0),
        Err(error) => Err(error.into()),
    }
}

fn preface(number: u32, key: u64) -> [u8; PREFACE] {
    let mut bytes = [0; PREFACE];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&number.to_le_bytes());
    bytes[12..20].copy_from_slice(&key.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn read_preface(bytes: &[u8; PREFACE], number: u32) -> Preface {
    let key = bytes[12..20]
        .iter()
        .rev()
        .fold(0, |key, byte| key << 8 | u64::from(*byte));
    let expected = preface(number, key);
    if *bytes == expected {
        return Preface::Whole(key);
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return Preface::Blank;
    }
    let differ = bytes.iter().zip(&expected).filter(|(a, b)| a != b).count();
    let version = char::from(bytes[VERSION_AT]);
    let later = bytes[..VERSION_AT] == MAGIC[..VERSION_AT] && version.is_ascii_digit();
    match later && version > char::from(MAGIC[VERSION_AT]) {
        // One wrong byte in what is otherwise ours is damage, not a version.
        true if differ > 1 => Preface::Foreign(version),
        _ => Preface::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_segment_says_what_it_is() {
        let ours = preface(7, 42);
        assert_eq!(read_preface(&ours, 7), Preface::Whole(42));
        assert_eq!(read_preface(&ours, 8), Preface::Damaged, "renamed");
        assert_eq!(read_preface(&[0; PREFACE], 7), Preface::Blank);
        for bit in 0..PREFACE * 8 {
            let mut flipped = ours;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read_preface(&flipped, 7), Preface::Damaged, "bit {bit}");
        }
        let mut later = ours;
        later[VERSION_AT] = b'2';
        later[20..].copy_from_slice(&[9; 12]);
        assert_eq!(read_preface(&later, 7), Preface::Foreign('2'));
    }
}
