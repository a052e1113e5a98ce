//! What a session wants written.

use alloc::vec::Vec;

use crate::outline::{Outline, Speaker};
use crate::reply::Reply;

/// Where a session puts the bytes for the other side, and the outline of the dialogue.
///
/// The driver owns it: it writes `bytes` to the socket and clears them. Nothing in it matters to
/// the session, so a driver frees the memory while the connection is idle
/// (`output.bytes = Vec::new()`).
#[derive(Debug, Default)]
pub struct Output {
    /// Bytes to write. The driver clears what it has written.
    pub bytes: Vec<u8>,
    /// The outline of the dialogue, for the message's journey.
    pub outline: Outline,
}

impl Output {
    /// An output that keeps the outline of the dialogue.
    #[must_use]
    pub fn with_outline() -> Self {
        Self {
            bytes: Vec::new(),
            outline: Outline::new(),
        }
    }

    /// An output without outline.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn reply(&mut self, reply: &Reply) {
        let start = self.bytes.len();
        reply.write_to(&mut self.bytes);
        self.outline
            .push_wire(Speaker::Server, &self.bytes[start..]);
    }

    pub(crate) fn command(&mut self, parts: &[&str]) {
        let start = self.bytes.len();
        for part in parts {
            self.bytes.extend_from_slice(part.as_bytes());
        }
        self.outline
            .push_bytes(Speaker::Client, &self.bytes[start..]);
        self.bytes.extend_from_slice(b"\r\n");
    }
}
