//! What a session wants written.

use alloc::vec::Vec;
use core::fmt;

use crate::ascii;
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

    /// A command line. Control characters, which only a malformed configuration could bring in,
    /// become `?`, so that a command stays one line.
    pub(crate) fn command(&mut self, parts: fmt::Arguments<'_>) {
        let start = self.line(parts);
        self.outline
            .push_bytes(Speaker::Client, &self.bytes[start..self.bytes.len() - 2]);
    }

    /// A line that is shown as something else.
    pub(crate) fn secret(&mut self, line: fmt::Arguments<'_>, shown: &str) {
        self.line(line);
        self.outline.push(Speaker::Client, shown);
    }

    /// Appends a line with its CRLF; returns where it starts.
    fn line(&mut self, line: fmt::Arguments<'_>) -> usize {
        let start = self.bytes.len();
        // Writing to memory cannot fail.
        let _infallible = fmt::Write::write_fmt(&mut Sink(&mut self.bytes), line);
        if ascii::has_control(&self.bytes[start..]) {
            for byte in &mut self.bytes[start..] {
                if byte.is_ascii_control() {
                    *byte = b'?';
                }
            }
        }
        self.bytes.extend_from_slice(b"\r\n");
        start
    }
}

struct Sink<'a>(&'a mut Vec<u8>);

impl fmt::Write for Sink<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
