//! How a record lies in a segment: a header, the record's own bytes, a message's content.
//!
//! Header, 48 bytes, numbers in little endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..4 | magic |
//! | 4..8 | CRC-32 of the bytes 8..48, seeded with the store's key |
//! | 8 | kind |
//! | 9 | version of the layout |
//! | 10..12 | zero |
//! | 12..16 | length of the record |
//! | 16..20 | length of the content |
//! | 20..24 | CRC-32 of the record |
//! | 24..28 | CRC-32 of the content |
//! | 28..32 | the segment's number |
//! | 32..40 | the record's number in the whole log |
//! | 40..48 | where the record before of the same message is: segment, offset |
//!
//! The lengths have a CRC of their own, so that a flipped bit in the content does not hide the
//! records behind it. The seed keeps out forgeries: a mail whose text looks like a record does
//! not become one when a reader looks for the next whole header behind a damaged place.

use bytes::Bytes;

/// Bytes of a header.
pub(super) const HEADER: usize = 48;
/// Marks the start of a header. Not text, so that mail rarely holds it.
pub(super) const MAGIC: [u8; 4] = [0xb7, b'P', b'r', 0x01];
const VERSION: u8 = 1;

/// Where a record starts. Segment 0 does not exist: it stands for no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(super) struct Location {
    pub(super) segment: u32,
    pub(super) offset: u32,
}

impl Location {
    pub(super) const NONE: Self = Self {
        segment: 0,
        offset: 0,
    };
}

/// What a record says. The numbers are stored: they are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// First in each segment: counts so far, the epoch.
    Head = 1,
    /// A message was accepted.
    Accepted = 2,
    /// Deliveries were handed to a worker.
    Leased = 3,
    /// A lease ended without outcome for what it held.
    LeaseEnded = 4,
    /// An attempt ended.
    Completed = 5,
    /// Something else happened to deliveries of a message.
    Changed = 6,
    /// A whole message with its state, written again so that an old segment can go.
    Moved = 7,
    /// An acceptance that was never acknowledged, taken back.
    Withdrawn = 8,
    /// A record of the service or a suspension was kept, or dropped.
    Kept = 9,
}

impl Kind {
    fn from_number(number: u8) -> Option<Self> {
        [
            Self::Head,
            Self::Accepted,
            Self::Leased,
            Self::LeaseEnded,
            Self::Completed,
            Self::Changed,
            Self::Moved,
            Self::Withdrawn,
            Self::Kept,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == number)
    }
}

/// A record on its way into the log. What does not depend on its place is computed beforehand,
/// outside of any lock.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) kind: Kind,
    pub(super) record: Bytes,
    pub(super) content: Bytes,
    record_crc: u32,
    content_crc: u32,
}

impl Draft {
    pub(super) fn new(kind: Kind, record: &impl prost::Message, content: Bytes) -> Self {
        let record = Bytes::from(record.encode_to_vec());
        Self {
            kind,
            record_crc: crc32fast::hash(&record),
            content_crc: crc32fast::hash(&content),
            record,
            content,
        }
    }

    /// Bytes that it takes in a segment.
    pub(super) fn len(&self) -> usize {
        HEADER + self.record.len() + self.content.len()
    }

    /// The header for a place.
    pub(super) fn header(&self, at: Location, number: u64, before: Location) -> Header {
        Header {
            kind: self.kind,
            record_len: self.record.len() as u32,
            content_len: self.content.len() as u32,
            record_crc: self.record_crc,
            content_crc: self.content_crc,
            segment: at.segment,
            number,
            before,
        }
    }
}

/// A header that is whole, of a record that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Foreign {
    pub(super) kind: u8,
    pub(super) version: u8,
}

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) record_len: u32,
    pub(super) content_len: u32,
    pub(super) record_crc: u32,
    pub(super) content_crc: u32,
    pub(super) segment: u32,
    pub(super) number: u64,
    pub(super) before: Location,
}

impl Header {
    /// Bytes of the whole frame.
    pub(super) fn frame_len(&self) -> u64 {
        HEADER as u64 + u64::from(self.record_len) + u64::from(self.content_len)
    }

    pub(super) fn encode(&self, key: u64) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[8] = self.kind as u8;
        bytes[9] = VERSION;
        bytes[12..16].copy_from_slice(&self.record_len.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.content_len.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.record_crc.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.content_crc.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.segment.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.number.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.before.segment.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.before.offset.to_le_bytes());
        let crc = header_crc(&bytes, key);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header in these bytes, if they are one of this store and segment.
    pub(super) fn decode(bytes: &[u8; HEADER], key: u64, segment: u32) -> Option<Self> {
        if bytes[..4] != MAGIC || number32(bytes, 4) != header_crc(bytes, key) {
            return None;
        }
        let header = Self {
            kind: Kind::from_number(bytes[8])?,
            record_len: number32(bytes, 12),
            content_len: number32(bytes, 16),
            record_crc: number32(bytes, 20),
            content_crc: number32(bytes, 24),
            segment: number32(bytes, 28),
            number: u64::from(number32(bytes, 32)) | u64::from(number32(bytes, 36)) << 32,
            before: Location {
                segment: number32(bytes, 40),
                offset: number32(bytes, 44),
            },
        };
        (header.segment == segment && bytes[9] == VERSION).then_some(header)
    }

    /// What these bytes say, if they are a whole header of this store and segment that
    /// [`Self::decode`] does not know: a later version wrote it.
    pub(super) fn foreign(bytes: &[u8; HEADER], key: u64, segment: u32) -> Option<Foreign> {
        let whole = bytes[..4] == MAGIC
            && number32(bytes, 4) == header_crc(bytes, key)
            && number32(bytes, 28) == segment;
        let foreign = Foreign {
            kind: bytes[8],
            version: bytes[9],
        };
        let known = foreign.version == VERSION && Kind::from_number(foreign.kind).is_some();
        (whole && !known).then_some(foreign)
    }
}

fn header_crc(bytes: &[u8; HEADER], key: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    // Twice the key, before and after: a CRC is linear, and a seed that is only put in front
    // could be moved along by who knows one header.
    hasher.update(&key.to_le_bytes());
    hasher.update(&bytes[8..]);
    hasher.update(&key.rotate_left(29).to_le_bytes());
    hasher.finalize()
}

fn number32(bytes: &[u8; HEADER], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_encode_and_decode() {
        let header = Header {
            kind: Kind::Completed,
            record_len: 17,
            content_len: 4096,
            record_crc: 1,
            content_crc: 2,
            segment: 9,
            number: u64::MAX - 5,
            before: Location {
                segment: 8,
                offset: 77,
            },
        };
        let bytes = header.encode(42);
        assert_eq!(Header::decode(&bytes, 42, 9), Some(header));
        assert_eq!(Header::decode(&bytes, 42, 10), None);
        assert_eq!(Header::decode(&bytes, 43, 9), None);
        for bit in 0..HEADER * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            let decoded = Header::decode(&flipped, 42, 9);
            // The two unused bytes are covered too.
            assert_eq!(decoded, None, "bit {bit}");
            assert_eq!(Header::foreign(&flipped, 42, 9), None, "bit {bit}");
        }
    }

    #[test]
    fn what_a_later_version_wrote_is_known_as_such() {
        let header = Draft::new(Kind::Head, &(), Bytes::new()).header(
            Location {
                segment: 9,
                offset: 32,
            },
            1,
            Location::NONE,
        );
        let later = |place: usize, value: u8| {
            let mut bytes = header.encode(42);
            bytes[place] = value;
            let crc = header_crc(&bytes, 42);
            bytes[4..8].copy_from_slice(&crc.to_le_bytes());
            (
                Header::decode(&bytes, 42, 9),
                Header::foreign(&bytes, 42, 9).map(|foreign| (foreign.kind, foreign.version)),
            )
        };
        assert_eq!(later(8, 1), (Some(header), None));
        assert_eq!(later(8, 200), (None, Some((200, VERSION))));
        assert_eq!(later(9, 2), (None, Some((1, 2))));
    }
}
