//! The log's writing end: records are staged in order, written together, synced together.
//!
//! Everything here happens under the store's lock, but for the sync itself (see `commit`).

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use super::ahead::Ahead;
use super::faults::Faults;
use super::frame::{Draft, HEADER, Kind, Location};
use super::quarantine;
use super::record::Head;
use super::segment::{PREFACE, Segment};

/// What the log needs to know of its surroundings.
pub(super) struct LogSettings {
    pub(super) dir: PathBuf,
    pub(super) segment_size: u64,
    /// Free space below which new mail is refused.
    pub(super) reserve: u64,
    pub(super) faults: Arc<dyn Faults>,
}

/// A record that is not durable yet. It is kept until it is, so that it can be written again
/// elsewhere if the disk fails.
struct Frame {
    draft: Draft,
    at: Location,
    number: u64,
    before: Location,
    /// Messages that remember its place.
    ids: Vec<u128>,
}

/// A record that got another place.
pub(super) struct Relocated {
    pub(super) ids: Vec<u128>,
    pub(super) from: Location,
    pub(super) to: Location,
}

/// The writing end of the log.
pub(super) struct Log {
    pub(super) settings: LogSettings,
    key: u64,
    segments: BTreeMap<u32, Arc<Segment>>,
    current: Arc<Segment>,
    /// What comes after it.
    pub(super) ahead: Arc<Ahead>,
    /// Where the next record goes.
    end: u64,
    /// The number of the next record.
    next: u64,
    staged: Vec<Frame>,
    written: VecDeque<Frame>,
    /// Bytes in `staged` and `written`.
    pending_bytes: usize,
    /// Segments with writes that are not synced yet, without the current one.
    unsynced: Vec<Arc<Segment>>,
    /// The number of the last durable record.
    pub(super) synced: u64,
    /// The last write or sync failed.
    pub(super) failing: bool,
    /// A sync failed, and what it covered has not been written elsewhere yet.
    pub(super) suspicious: bool,
    low_space: bool,
}

impl Log {
    /// A log that goes on in a new segment after the recovered ones.
    pub(super) fn start(
        settings: LogSettings,
        key: u64,
        segments: BTreeMap<u32, Arc<Segment>>,
        next: u64,
        head: &Head,
    ) -> io::Result<Self> {
        let number = segments.keys().next_back().map_or(1, |last| last + 1);
        let ahead = Ahead::new(
            settings.dir.clone(),
            key,
            settings.segment_size,
            settings.faults.clone(),
            number,
        );
        let current = ahead.take()?;
        let mut log = Self {
            settings,
            key,
            segments,
            ahead: Arc::new(ahead),
            end: PREFACE as u64,
            next,
            staged: Vec::new(),
            written: VecDeque::new(),
            pending_bytes: 0,
            unsynced: Vec::new(),
            synced: next - 1,
            failing: false,
            suspicious: false,
            low_space: false,
            current: current.clone(),
        };
        log.segments.insert(number, current);
        log.stage_head(head);
        log.look_at_space();
        Ok(log)
    }

    /// Makes sure that records of so many bytes fit into the current segment, beginning a new one
    /// if need be. After this, staging them cannot fail.
    pub(super) fn make_room(
        &mut self,
        bytes: usize,
        head: impl FnOnce() -> Head,
    ) -> io::Result<()> {
        let empty = self.end <= (PREFACE + 2 * HEADER + 128) as u64;
        if self.end + bytes as u64 <= self.settings.segment_size || empty {
            return Ok(());
        }
        self.flush()?;
        self.begin_segment()?;
        self.stage_head(&head());
        Ok(())
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        let next = self.ahead.take()?;
        self.unsynced
            .push(std::mem::replace(&mut self.current, next.clone()));
        self.segments.insert(next.number, next);
        self.end = PREFACE as u64;
        self.look_at_space();
        Ok(())
    }

    fn stage_head(&mut self, head: &Head) {
        let draft = Draft::new(Kind::Head, head, bytes::Bytes::new());
        self.stage(draft, Location::NONE, Vec::new());
    }

    /// Puts a record at the end of the log. It is written with the next flush.
    pub(super) fn stage(&mut self, draft: Draft, before: Location, ids: Vec<u128>) -> Location {
        let at = Location {
            segment: self.current.number,
            // Segments are at most 2 GiB and a frame at most 1 GiB.
            offset: self.end as u32,
        };
        let number = self.next;
        self.next += 1;
        self.end += draft.len() as u64;
        self.pending_bytes += draft.len();
        self.staged.push(Frame {
            draft,
            at,
            number,
            before,
            ids,
        });
        at
    }

    /// The number of the record that was staged last.
    pub(super) fn last(&self) -> u64 {
        self.next - 1
    }

    /// Bytes that wait to become durable.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Hands what is staged to the operating system: it survives this process now.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.suspicious {
            return Err(io::Error::other("an earlier sync failed"));
        }
        let Some(first) = self.staged.first() else {
            return Ok(());
        };
        let start = u64::from(first.at.offset);
        let headers: Vec<[u8; HEADER]> = self
            .staged
            .iter()
            .map(|frame| {
                frame
                    .draft
                    .header(frame.at, frame.number, frame.before)
                    .encode(self.key)
            })
            .collect();
        let mut slices = Vec::with_capacity(self.staged.len() * 3);
        for (frame, header) in self.staged.iter().zip(&headers) {
            slices.push(IoSlice::new(header));
            slices.push(IoSlice::new(&frame.draft.record));
            if !frame.draft.content.is_empty() {
                slices.push(IoSlice::new(&frame.draft.content));
            }
        }
        let result = self.current.write(&mut slices, start);
        if let Err(error) = result {
            self.failing = true;
            // Whole records of a refused batch must not be found after a crash. Should this fail
            // too, they may be: they were not acknowledged, so that is allowed, only not nice.
            self.current.trim(start).ok();
            return Err(error);
        }
        self.current.set_len(self.end);
        self.written.extend(self.staged.drain(..));
        Ok(())
    }

    /// What a sync now would make durable: the segments to sync, the current one last, and the last
    /// record's number.
    pub(super) fn to_sync(&self) -> (Vec<Arc<Segment>>, u64) {
        let mut segments = self.unsynced.clone();
        segments.push(self.current.clone());
        let last = self
            .written
            .back()
            .map_or(self.synced, |frame| frame.number);
        (segments, last)
    }

    /// The sync of these segments succeeded: everything up to `last` is durable. Returns segments
    /// that are complete now. The last of them is not: it was the current one when the sync began,
    /// and if it is full by now, that sync did not cover all that is in it.
    pub(super) fn note_synced(&mut self, last: u64, synced: &[Arc<Segment>]) -> Vec<Arc<Segment>> {
        self.failing = false;
        self.synced = self.synced.max(last);
        while self
            .written
            .front()
            .is_some_and(|frame| frame.number <= last)
        {
            if let Some(frame) = self.written.pop_front() {
                self.pending_bytes -= frame.draft.len();
            }
        }
        let full = synced.split_last().map_or(&[][..], |(_, full)| full);
        let (complete, rest) = self
            .unsynced
            .drain(..)
            .partition(|segment| full.iter().any(|done| done.number == segment.number));
        self.unsynced = rest;
        complete
    }

    /// A sync failed. What it covered may be on disk or not, and asking again would not tell: the
    /// kernel reports a failed writeback once, then counts the pages as clean. So nothing that was
    /// written since the last good sync is trusted where it lies: all of it is staged again
    /// in a new segment, whose head voids the first copies.
    ///
    /// `head` holds the counts as of now. They are staged behind the records that they include.
    pub(super) fn distrust(&mut self, head: Head) -> io::Result<Vec<Relocated>> {
        self.failing = true;
        self.suspicious = true;
        // It may have been made on the same bad ground, but its creation was synced.
        self.begin_segment()?;
        self.suspicious = false;
        self.unsynced.clear();
        let mut frames: Vec<Frame> = self.written.drain(..).collect();
        frames.append(&mut self.staged);
        self.pending_bytes = 0;
        self.next = self.synced + 1;
        self.stage_head(&Head {
            voids_from: self.next,
            ..head
        });
        let mut places = std::collections::HashMap::new();
        let mut relocated = Vec::new();
        for frame in frames {
            if frame.draft.kind == Kind::Head {
                continue;
            }
            let before = places.get(&frame.before).copied().unwrap_or(frame.before);
            let to = self.stage(frame.draft, before, frame.ids.clone());
            places.insert(frame.at, to);
            relocated.push(Relocated {
                ids: frame.ids,
                from: frame.at,
                to,
            });
        }
        self.stage_head(&head);
        Ok(relocated)
    }

    /// Whether too little space is left for new mail.
    pub(super) fn is_low_on_space(&mut self) -> bool {
        if self.low_space {
            self.look_at_space();
        }
        self.low_space
    }

    fn look_at_space(&mut self) {
        if let Ok(space) = rustix::fs::statvfs(&self.settings.dir) {
            self.low_space = space.f_bavail * space.f_frsize < self.settings.reserve;
        }
    }

    /// The segment with this number, if it is (still) there.
    pub(super) fn segment(&self, number: u32) -> Option<Arc<Segment>> {
        self.segments.get(&number).cloned()
    }

    /// The oldest segment, unless it is the current one or not yet durable.
    pub(super) fn oldest_complete(&self) -> Option<Arc<Segment>> {
        let (number, oldest) = self.segments.first_key_value()?;
        let in_use = *number == self.current.number
            || self
                .unsynced
                .iter()
                .any(|segment| segment.number == *number);
        (!in_use).then(|| oldest.clone())
    }

    /// Deletes the oldest segment; one in which something is damaged is put aside.
    pub(super) fn remove_oldest(&mut self) -> io::Result<()> {
        if let Some(oldest) = self.oldest_complete() {
            match oldest.is_damaged() {
                true => quarantine::retire(&self.settings.dir, &oldest.path)?,
                false => std::fs::remove_file(&oldest.path)?,
            }
            self.segments.remove(&oldest.number);
        }
        Ok(())
    }

    /// Bytes of all segments' records.
    pub(super) fn total_bytes(&self) -> u64 {
        self.segments
            .values()
            .map(|segment| segment.len())
            .sum::<u64>()
    }

    /// What is staged was written and synced, and the space held in advance is given back.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.flush()?;
        self.current.trim(self.end)?;
        self.ahead.discard()
    }
}
