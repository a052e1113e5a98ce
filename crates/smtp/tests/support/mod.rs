//! Drivers without sockets, shared by the tests and the fuzz targets.
//!
//! They carry out what the sessions ask, by a fixed policy that `tests/dialogues/README.md`
//! describes.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test uses a part of it"
)]

pub mod client;
pub mod dialogue;
pub mod harness;
pub mod relay;
pub mod server;

/// Cuts bytes into pieces, whose lengths are given in turn and again and again (0 counts as 1).
pub fn cut<'a>(bytes: &'a [u8], lengths: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    let mut lengths = lengths.iter().cycle();
    while !rest.is_empty() {
        let length = lengths
            .next()
            .map_or(rest.len(), |n| usize::from(*n).max(1));
        let (piece, after) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}
