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

use super::super::frame::Kind;
use super::super::message::stable_hash;
use super::super::record::{AcceptedAddresses, Addresses, MovedAddresses};

pub(super) const HEADER: usize = 56;
pub(super) const MAGIC: [u8; 4] = *b"PRj1";

/// The journey of one ended message.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Entry {
    pub(in super::super) id: u128,
    /// Hash of the Message-ID, 0 if there is none.
    pub(in super::super) message_id: u64,
    /// The number of the record that ended the message.
    pub(in super::super) number: u64,
    pub(in super::super) ended_us: u64,
    /// The keys of its sender and recipients; entries of 0.1 have none.
    pub(in super::super) addresses: Vec<u64>,
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
    #[prost(fixed64, repeated, tag = "2")]
    addresses: Vec<u64>,
}

/// By what a journey is found in an index: a hash, mixed by kind so that kinds differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Key(pub(super) u64);

impl Key {
    pub(super) fn id(id: u128) -> Self {
        Self(stable_hash(&id.to_be_bytes()))
    }

    fn message_id_hash(hash: u64) -> Self {
        Self(hash.rotate_left(7) ^ 0x6d65_7373_6167_6531)
    }

    pub(in super::super) fn message_id(message_id: &str) -> Self {
        Self::message_id_hash(stable_hash(message_id.as_bytes()))
    }

    pub(in super::super) fn sender(address: &str) -> Self {
        Self(address_hash(address).rotate_left(13) ^ 0x7365_6e64_6572_2031)
    }

    pub(in super::super) fn recipient(address: &str) -> Self {
        Self(address_hash(address).rotate_left(19) ^ 0x7265_6369_7069_656e)
    }
}

/// Whom the acceptance names with which a journey begins.
fn addresses(piece: &Piece) -> Option<Addresses> {
    let is = |kind: Kind| piece.kind == kind as u32;
    let accepted = if is(Kind::Accepted) {
        AcceptedAddresses::decode(piece.record.clone()).ok()
    } else if is(Kind::Moved) {
        let moved = MovedAddresses::decode(piece.record.clone()).ok()?;
        moved.accepted
    } else {
        None
    };
    accepted.and_then(AcceptedAddresses::into_addresses)
}

fn address_hash(address: &str) -> u64 {
    stable_hash(address.to_ascii_lowercase().as_bytes())
}

impl Entry {
    /// Adds the keys of sender and recipients.
    pub(in super::super) fn with_addresses(mut self) -> Self {
        if let Some(named) = self.pieces.first().and_then(addresses) {
            self.addresses.push(Key::sender(&named.reverse_path).0);
            let recipients = named.recipients.iter();
            self.addresses
                .extend(recipients.map(|recipient| Key::recipient(&recipient.address).0));
            self.addresses.sort_unstable();
            self.addresses.dedup();
        }
        self
    }

    /// Everything that it is found by.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        let message_id = (self.message_id != 0).then(|| Key::message_id_hash(self.message_id));
        let addresses = self.addresses.iter().map(|key| Key(*key));
        std::iter::once(Key::id(self.id))
            .chain(message_id)
            .chain(addresses)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + HEADER, 0);
        for piece in &self.pieces {
            prost::encoding::message::encode(1, piece, out);
        }
        prost::encoding::fixed64::encode_packed(2, &self.addresses, out);
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
    let Ok(Pieces { pieces, addresses }) = Pieces::decode(Bytes::from(records)) else {
        return Ok(None);
    };
    let entry = Entry {
        id: u128::from(u64_at(&header, 24)) | u128::from(u64_at(&header, 32)) << 64,
        message_id: u64_at(&header, 40),
        number: u64_at(&header, 16),
        ended_us: u64_at(&header, 48),
        addresses,
        pieces,
    };
    Ok(Some((entry, HEADER as u64 + records_len)))
}
