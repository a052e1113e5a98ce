//! One file of the log.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use rustix::fs::FallocateFlags;

use super::faults::Faults;
use super::frame::{HEADER, Header};

/// Bytes before the first record: magic, layout version, number, key, CRC.
pub(super) const PREFACE: usize = 32;
const MAGIC: &[u8; 8] = b"postlog1";

/// A segment: a file that grows at its end and is otherwise only read.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u32,
    pub(super) key: u64,
    pub(super) path: PathBuf,
    file: File,
    /// Bytes of whole records in it; what is behind is space held in advance.
    len: AtomicU64,
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
    pub(super) fn create(
        dir: &Path,
        number: u32,
        key: u64,
        size: u64,
        faults: &dyn Faults,
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
            .and_then(|()| faults.before_sync())
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
        }))
    }

    /// Opens a segment that is there. `known_key` stands in where its own preface is damaged.
    pub(super) fn open(path: &Path, number: u32, known_key: Option<u64>) -> io::Result<Arc<Self>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut bytes = [0; PREFACE];
        let key = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => read_preface(&bytes, number),
            Err(_) => None,
        };
        let key = key.or(known_key).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the start of the segment is damaged",
            )
        })?;
        let len = file.metadata()?.len();
        Ok(Arc::new(Self {
            number,
            key,
            path: path.to_owned(),
            file,
            len: AtomicU64::new(len),
        }))
    }

    /// Bytes up to the end of the last record.
    pub(super) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    pub(super) fn set_len(&self, len: u64) {
        self.len.store(len, Ordering::Release);
    }

    /// Writes slices one after the other at `offset`.
    pub(super) fn write(
        &self,
        mut slices: &mut [IoSlice<'_>],
        mut offset: u64,
        faults: &dyn Faults,
    ) -> io::Result<()> {
        let total = slices.iter().map(|slice| slice.len()).sum();
        if let Some(cut) = faults.before_write(total)? {
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
    pub(super) fn sync(&self, faults: &dyn Faults) -> io::Result<()> {
        faults.before_sync()?;
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
        self.file.read_at(buffer, offset)
    }

    /// Reads one record, and its content if it is wanted.
    pub(super) fn read(
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
        let got = read_full(self, &mut start, u64::from(offset)).map_err(io)?;
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
            let more =
                read_full(self, &mut frame[got..], u64::from(offset) + got as u64).map_err(io)?;
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

fn read_full(segment: &Segment, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match segment.read_at(&mut buffer[got..], offset + got as u64) {
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

fn read_preface(bytes: &[u8; PREFACE], number: u32) -> Option<u64> {
    let key = u64::from_le_bytes(bytes[12..20].try_into().ok()?);
    (*bytes == preface(number, key)).then_some(key)
}
