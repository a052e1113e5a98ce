//! One journey in a file: a header, then the records that make it up as the log had them.
//!
//! Header, 56 bytes, little endian: magic (4), CRC-32 of all that follows (4), length of the
//! records (4), zero (4), number of the log's record that ended the message (8), queue id (16),
//! hash of the Message-ID (8), end in Unix microseconds (8).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use prost::Message as _;

use super::super::message::stable_hash;

pub(super) const HEADER: usize = 56;
const MAGIC: [u8; 4] = *b"PRj1";

/// The journey of one ended message.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Entry {
    pub(in super::super) id: u128,
    /// Hash of the Message-ID, 0 if there is none.
    pub(in super::super) message_id: u64,
    /// The number of the record that ended the message.
    pub(in super::super) number: u64,
    pub(in super::super) ended_us: u64,
    pub(in super::super) pieces: Vec<Piece>,
}

/// One record of a journey.
#[derive(Clone, PartialEq, prost::Message)]
pub(in super::super) struct Piece {
    /// The record's kind in the log.
    #[prost(uint32, tag = "1")]
    pub(in super::super) kind: u32,
    #[prost(bytes = "bytes", tag = "2")]
    pub(in super::super) record: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Pieces {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
}

/// The key of a queue id in an index.
pub(super) fn id_key(id: u128) -> u64 {
    stable_hash(&id.to_be_bytes())
}

/// The key of a Message-ID's hash in an index. Kinds of keys differ, so that more can be added.
pub(super) fn message_id_key(hash: u64) -> u64 {
    hash.rotate_left(7) ^ 0x6d65_7373_6167_6531
}

impl Entry {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + HEADER, 0);
        for piece in &self.pieces {
            prost::encoding::message::encode(1, piece, out);
        }
        let len = (out.len() - start - HEADER) as u32;
        let entry = &mut out[start..];
        entry[..4].copy_from_slice(&MAGIC);
        entry[8..12].copy_from_slice(&len.to_le_bytes());
        entry[16..24].copy_from_slice(&self.number.to_le_bytes());
        entry[24..40].copy_from_slice(&self.id.to_le_bytes());
        entry[40..48].copy_from_slice(&self.message_id.to_le_bytes());
        entry[48..56].copy_from_slice(&self.ended_us.to_le_bytes());
        let crc = crc32fast::hash(&entry[8..]);
        entry[4..8].copy_from_slice(&crc.to_le_bytes());
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8]
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The entry at an offset, or `None` if there is no whole one.
pub(super) fn read(file: &File, offset: u64) -> io::Result<Option<Entry>> {
    Ok(read_with_len(file, offset)?.map(|(entry, _)| entry))
}

/// The entry at an offset and its length in bytes.
pub(super) fn read_with_len(file: &File, offset: u64) -> io::Result<Option<(Entry, u64)>> {
    let mut header = [0; HEADER];
    match file.read_exact_at(&mut header, offset) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let records_len = u64_at(&header, 8) & 0xffff_ffff;
    let whole = offset + HEADER as u64 + records_len <= file.metadata()?.len();
    if header[..4] != MAGIC || !whole {
        return Ok(None);
    }
    let mut records = vec![0; records_len as usize];
    file.read_exact_at(&mut records, offset + HEADER as u64)?;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[8..]);
    crc.update(&records);
    if crc.finalize().to_le_bytes() != header[4..8] {
        return Ok(None);
    }
    let Ok(Pieces { pieces }) = Pieces::decode(Bytes::from(records)) else {
        return Ok(None);
    };
    let entry = Entry {
        id: u128::from(u64_at(&header, 24)) | u128::from(u64_at(&header, 32)) << 64,
        message_id: u64_at(&header, 40),
        number: u64_at(&header, 16),
        ended_us: u64_at(&header, 48),
        pieces,
    };
    Ok(Some((entry, HEADER as u64 + records_len)))
}
