//! Reading a segment from its start, past damage.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::{HEADER, Header, MAGIC};
use super::segment::{PREFACE, Segment};

const WINDOW: usize = 64 << 10;

/// What a scanner came upon.
pub(super) enum Found {
    /// A whole record. Its content was looked at only if that was asked for.
    Record {
        offset: u64,
        header: Header,
        record: Bytes,
        content_whole: bool,
    },
    /// Bytes that are no record, before a later whole one.
    Damage { from: u64, to: u64 },
    /// Nothing whole comes any more. What is left is not a record; all zeros if `clean`.
    End { at: u64, clean: bool },
}

/// Reads one segment.
pub(super) struct Scanner {
    segment: Arc<Segment>,
    check_content: bool,
    offset: u64,
    data_end: u64,
    window: Vec<u8>,
    window_at: u64,
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
        }
    }

    /// Bytes at an offset, fewer at the end of the file.
    fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let have = offset >= self.window_at
            && offset + len as u64 <= self.window_at + self.window.len() as u64;
        if !have {
            self.window.resize(len.max(WINDOW), 0);
            self.window_at = offset;
            let mut got = 0;
            while got < self.window.len() {
                match self
                    .segment
                    .read_at(&mut self.window[got..], offset + got as u64)
                {
                    Ok(0) => break,
                    Ok(more) => got += more,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            self.window.truncate(got);
        }
        let start = (offset - self.window_at) as usize;
        let end = (start + len).min(self.window.len());
        Ok(&self.window[start.min(end)..end])
    }

    fn header_at(&mut self, offset: u64) -> io::Result<Option<Header>> {
        let (key, number) = (self.segment.key, self.segment.number);
        let bytes = self.bytes(offset, HEADER)?;
        Ok(bytes
            .try_into()
            .ok()
            .and_then(|bytes| Header::decode(bytes, key, number)))
    }

    /// The next thing in the segment.
    pub(super) fn next(&mut self) -> io::Result<Found> {
        let offset = self.offset;
        let Some(header) = self.header_at(offset)? else {
            return self.resync(offset);
        };
        let record = self.bytes(offset + HEADER as u64, header.record_len as usize)?;
        if record.len() < header.record_len as usize || crc32fast::hash(record) != header.record_crc
        {
            return self.resync(offset);
        }
        let record = Bytes::copy_from_slice(record);
        let mut content_whole = true;
        if self.check_content && header.content_len > 0 {
            let at = offset + HEADER as u64 + u64::from(header.record_len);
            let content = self.bytes(at, header.content_len as usize)?;
            content_whole = content.len() == header.content_len as usize
                && crc32fast::hash(content) == header.content_crc;
        }
        self.offset += header.frame_len();
        Ok(Found::Record {
            offset,
            header,
            record,
            content_whole,
        })
    }

    /// Looks for the next whole header behind a damaged place.
    fn resync(&mut self, from: u64) -> io::Result<Found> {
        let mut at = from;
        let mut clean = true;
        loop {
            // What was never written to reads as zeros, and holds no header.
            if at >= self.data_end {
                return Ok(Found::End { at: from, clean });
            }
            let bytes = self.bytes(at, WINDOW)?;
            if bytes.is_empty() {
                return Ok(Found::End { at: from, clean });
            }
            clean = clean && bytes.iter().all(|byte| *byte == 0);
            let len = bytes.len();
            let candidates: Vec<u64> = memchr::memmem::find_iter(bytes, &MAGIC)
                .map(|place| at + place as u64)
                .filter(|place| *place > from)
                .collect();
            for candidate in candidates {
                if self.header_at(candidate)?.is_some() {
                    self.offset = candidate;
                    return Ok(Found::Damage {
                        from,
                        to: candidate,
                    });
                }
            }
            // A magic may lie across the border.
            at += (len - (MAGIC.len() - 1).min(len - 1)) as u64;
        }
    }
}
