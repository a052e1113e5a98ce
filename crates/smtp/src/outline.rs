//! The outline of a dialogue, as it may be shown to people: secrets and content left out.

use alloc::string::String;
use alloc::vec::Vec;

use crate::ascii;

/// Octets of text that an outline keeps; lines that come later are dropped.
const MAX_TEXT: usize = 32 * 1024;
/// Octets that are kept of one line.
const MAX_LINE: usize = 512;

/// Whose words a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// The client's.
    Client,
    /// The server's.
    Server,
    /// Neither side's: `TLS 1.3 established`.
    Note,
}

/// A line of an outline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutlineLine<'a> {
    /// Whose words.
    pub speaker: Speaker,
    /// The words, printable: `AUTH PLAIN [hidden]`, `[4312 octets of content]`.
    pub text: &'a str,
    /// Microseconds since whatever the driver counts from; 0 if it was never stamped.
    pub at_us: u64,
}

/// Collects the lines of a dialogue in one growing buffer, or nothing at all.
///
/// Sessions have no clock: they add lines, and the driver stamps what is new after each call
/// with [`stamp`](Self::stamp). The server session keeps the lines before the first transaction
/// of a connection (greeting, EHLO, TLS, AUTH) and lets go of an earlier transaction's lines when
/// the next one begins, so that the outline is always that of the present message. At most 32 KiB
/// are kept.
#[derive(Debug, Clone, Default)]
pub struct Outline {
    enabled: bool,
    text: String,
    marks: Vec<Mark>,
    stamped: usize,
    transaction: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    speaker: Speaker,
    end: u32,
    at_us: u64,
}

impl Outline {
    /// An outline that collects.
    #[must_use]
    pub fn new() -> Self {
        Self {
            enabled: true,
            ..Self::default()
        }
    }

    /// An outline that collects nothing and costs nothing.
    #[must_use]
    pub fn disabled() -> Self {
        Self::default()
    }

    /// Gives every line that has no time yet this one, in microseconds since whatever the driver
    /// counts from.
    pub fn stamp(&mut self, at_us: u64) {
        for mark in self.marks.get_mut(self.stamped..).unwrap_or_default() {
            mark.at_us = at_us;
        }
        self.stamped = self.marks.len();
    }

    /// Adds a note of the driver's: `TLSv1.3 established`, `connection lost`.
    pub fn note(&mut self, text: &str) {
        self.push(Speaker::Note, text);
    }

    /// The lines, in order.
    pub fn lines(&self) -> impl Iterator<Item = OutlineLine<'_>> {
        let mut start = 0;
        self.marks.iter().map(move |mark| {
            let text = &self.text[start..mark.end as usize];
            start = mark.end as usize;
            OutlineLine {
                speaker: mark.speaker,
                text,
                at_us: mark.at_us,
            }
        })
    }

    /// Number of lines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether there is no line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Lets go of all lines, and of their memory.
    pub fn clear(&mut self) {
        *self = Self {
            enabled: self.enabled,
            ..Self::default()
        };
    }

    /// Lets go of the lines of the transaction before, if there was one, and remembers that one
    /// begins here.
    pub(crate) fn begin_transaction(&mut self) {
        match self.transaction {
            Some(line) => self.truncate(line),
            None => self.transaction = Some(self.marks.len()),
        }
    }

    fn truncate(&mut self, lines: usize) {
        self.marks.truncate(lines);
        self.stamped = self.stamped.min(lines);
        let end = self.marks.last().map_or(0, |mark| mark.end as usize);
        self.text.truncate(end);
    }

    /// Adds a line; characters that are not printable are shown as `?`.
    pub(crate) fn push(&mut self, speaker: Speaker, text: &str) {
        self.push_bytes(speaker, text.as_bytes());
    }

    /// Adds a line of bytes from the wire, without its line end.
    pub(crate) fn push_bytes(&mut self, speaker: Speaker, line: &[u8]) {
        if !self.enabled || self.text.len() > MAX_TEXT {
            return;
        }
        let shown = &line[..line.len().min(MAX_LINE)];
        match core::str::from_utf8(shown) {
            Ok(text) if ascii::is_printable(shown) => self.text.push_str(text),
            Ok(text) if !text.contains(|c: char| c.is_control()) => self.text.push_str(text),
            _ => {
                let text = String::from_utf8_lossy(shown);
                let printable = |c: char| if c.is_control() { '?' } else { c };
                self.text.extend(text.chars().map(printable));
            }
        }
        if shown.len() < line.len() {
            self.text.push('…');
        }
        self.marks.push(Mark {
            speaker,
            // At most MAX_TEXT and one line, so it fits.
            end: u32::try_from(self.text.len()).unwrap_or(u32::MAX),
            at_us: 0,
        });
    }

    /// Adds to the line that was added last.
    pub(crate) fn append(&mut self, text: &str) {
        if let Some(mark) = self.marks.last_mut() {
            self.text.push_str(text);
            mark.end = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        }
    }

    /// Adds each line of a piece of wire text that ends in CRLF.
    pub(crate) fn push_wire(&mut self, speaker: Speaker, wire: &[u8]) {
        if !self.enabled {
            return;
        }
        for line in wire
            .strip_suffix(b"\n")
            .unwrap_or(wire)
            .split(|byte| *byte == b'\n')
        {
            self.push_bytes(speaker, line.strip_suffix(b"\r").unwrap_or(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn texts(outline: &Outline) -> Vec<(&str, u64)> {
        outline
            .lines()
            .map(|line| (line.text, line.at_us))
            .collect()
    }

    #[test]
    fn stamps_what_is_new() {
        let mut outline = Outline::new();
        outline.push_wire(Speaker::Server, b"250-a\r\n250 b\r\n");
        outline.stamp(5);
        outline.push(Speaker::Client, "QUIT");
        outline.stamp(9);
        assert_eq!(
            texts(&outline),
            vec![("250-a", 5), ("250 b", 5), ("QUIT", 9)]
        );
    }

    #[test]
    fn keeps_the_preamble_and_the_present_transaction() {
        let mut outline = Outline::new();
        outline.push(Speaker::Client, "EHLO a");
        outline.begin_transaction();
        outline.push(Speaker::Client, "MAIL one");
        outline.stamp(1);
        outline.begin_transaction();
        outline.push(Speaker::Client, "MAIL two");
        outline.stamp(2);
        assert_eq!(texts(&outline), vec![("EHLO a", 1), ("MAIL two", 2)]);
    }

    #[test]
    fn is_bounded_and_printable() {
        let mut outline = Outline::new();
        outline.push_bytes(Speaker::Client, b"a\x1b\xffb");
        assert_eq!(texts(&outline), vec![("a?\u{fffd}b", 0)]);
        for _ in 0..1000 {
            outline.push_bytes(Speaker::Client, &[b'x'; 4000]);
        }
        assert!(outline.text.len() < MAX_TEXT + 2 * MAX_LINE);
    }

    #[test]
    fn disabled_keeps_nothing() {
        let mut outline = Outline::disabled();
        outline.push(Speaker::Note, "x");
        outline.note("y");
        assert!(outline.is_empty());
    }
}
