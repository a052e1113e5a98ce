//! Reading a segment from its start, past damage.

use std::sync::Arc;

use bytes::Bytes;

use super::frame::{Foreign, HEADER, Header, MAGIC};
use super::segment::{PREFACE, Segment};

const WINDOW: usize = 64 << 10;
/// Where the disk refuses to read, what lies around is read in pieces of this size.
const BLOCK: usize = 4096;

/// What a scanner came upon.
pub(super) enum Found {
    /// A whole record. Its content was looked at only if that was asked for.
    Record {
        offset: u64,
        header: Header,
        record: Bytes,
        content_whole: bool,
    },
    /// A whole header of a record that this version does not know.
    Foreign { offset: u64, what: Foreign },
    /// Bytes that are no record, before a later whole one.
    Damage { from: u64, to: u64 },
    /// Nothing whole comes any more. What is left is not a record; all zeros if `clean`.
    End { at: u64, clean: bool },
}

/// Reads one segment. What the disk refuses to read counts as damaged, and is remembered.
pub(super) struct Scanner {
    segment: Arc<Segment>,
    check_content: bool,
    offset: u64,
    data_end: u64,
    window: Vec<u8>,
    window_at: u64,
    /// Ranges that could not be read, and why.
    pub(super) unreadable: Vec<Unreadable>,
}

/// A range that the disk refused to read.
pub(super) struct Unreadable {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) error: std::io::Error,
}

impl Scanner {
    pub(super) fn new(segment: Arc<Segment>, check_content: bool) -> Self {
        Self {
            data_end: segment.data_end(),
            segment,
            check_content,
            offset: PREFACE as u64,
            window: Vec::new(),
            window_at: 0,
            unreadable: Vec::new(),
        }
    }

    /// Where bytes end that were ever written.
    pub(super) fn data_end(&self) -> u64 {
        self.data_end
            .min(self.segment.file_len().unwrap_or(u64::MAX))
    }

    /// Bytes at an offset, fewer at the end of the file.
    fn bytes(&mut self, offset: u64, len: usize) -> &[u8] {
        let have = offset >= self.window_at
            && offset + len as u64 <= self.window_at + self.window.len() as u64;
        if !have {
            self.window.resize(len.max(WINDOW), 0);
            self.window_at = offset;
            let got = match self.segment.read_full(&mut self.window, offset) {
                Ok(got) => got,
                Err(_) => self.read_around(offset),
            };
            self.window.truncate(got);
        }
        let start = (offset - self.window_at) as usize;
        let end = (start + len).min(self.window.len());
        &self.window[start.min(end)..end]
    }

    /// Reads what can be read of the window; the rest of it is zeros, which are no record.
    fn read_around(&mut self, offset: u64) -> usize {
        let end = self
            .segment
            .file_len()
            .unwrap_or(u64::MAX)
            .saturating_sub(offset);
        let len = self
            .window
            .len()
            .min(usize::try_from(end).unwrap_or(usize::MAX));
        for start in (0..len).step_by(BLOCK) {
            let block = &mut self.window[start..(start + BLOCK).min(len)];
            if let Err(error) = self.segment.read_full(block, offset + start as u64) {
                block.fill(0);
                let (from, to) = (
                    offset + start as u64,
                    offset + start as u64 + block.len() as u64,
                );
                let last = self.unreadable.last_mut();
                match last.filter(|last| (last.from..=last.to).contains(&from)) {
                    Some(last) => last.to = last.to.max(to),
                    None => self.unreadable.push(Unreadable { from, to, error }),
                }
            }
        }
        len
    }

    fn is_unreadable(&self, from: u64, to: u64) -> bool {
        let mut ranges = self.unreadable.iter();
        ranges.any(|range| range.from < to && from < range.to)
    }

    fn header_at(&mut self, offset: u64) -> Result<Header, Option<Foreign>> {
        let (key, number) = (self.segment.key, self.segment.number);
        let Ok(bytes) = self.bytes(offset, HEADER).try_into() else {
            return Err(None);
        };
        Header::decode(bytes, key, number).ok_or_else(|| Header::foreign(bytes, key, number))
    }

    /// The next thing in the segment.
    pub(super) fn next(&mut self) -> Found {
        let offset = self.offset;
        let header = match self.header_at(offset) {
            Ok(header) => header,
            Err(Some(what)) => {
                // Its length may mean something else: whatever follows is looked for.
                self.offset += HEADER as u64;
                return Found::Foreign { offset, what };
            }
            Err(None) => return self.resync(offset),
        };
        let record = self.bytes(offset + HEADER as u64, header.record_len as usize);
        if record.len() < header.record_len as usize || crc32fast::hash(record) != header.record_crc
        {
            return self.resync(offset);
        }
        let record = Bytes::copy_from_slice(record);
        let mut content_whole = true;
        if self.check_content && header.content_len > 0 {
            let at = offset + HEADER as u64 + u64::from(header.record_len);
            let content = self.bytes(at, header.content_len as usize);
            content_whole = content.len() == header.content_len as usize
                && crc32fast::hash(content) == header.content_crc;
        }
        self.offset += header.frame_len();
        Found::Record {
            offset,
            header,
            record,
            content_whole,
        }
    }

    /// Looks for the next whole header behind a damaged place.
    fn resync(&mut self, from: u64) -> Found {
        let mut at = from;
        let mut clean = true;
        loop {
            // What was never written to reads as zeros, and holds no header.
            let bytes = match at >= self.data_end {
                true => &[],
                false => self.bytes(at, WINDOW),
            };
            if bytes.is_empty() {
                let clean = clean && !self.is_unreadable(from, u64::MAX);
                return Found::End { at: from, clean };
            }
            clean = clean && bytes.iter().all(|byte| *byte == 0);
            let len = bytes.len();
            let candidates: Vec<u64> = memchr::memmem::find_iter(bytes, &MAGIC)
                .map(|place| at + place as u64)
                .filter(|place| *place > from)
                .collect();
            for candidate in candidates {
                if !matches!(self.header_at(candidate), Err(None)) {
                    self.offset = candidate;
                    return Found::Damage {
                        from,
                        to: candidate,
                    };
                }
            }
            // A magic may lie across the border.
            at += (len - (MAGIC.len() - 1).min(len - 1)) as u64;
        }
    }
}
