//! The sending side of dot-stuffing.

use alloc::vec::Vec;

/// Makes content fit for the wire: doubles dots at line starts, ends it with CRLF.CRLF.
///
/// It never writes a bare CR or LF, whatever it is given: each becomes CRLF (RFC 5321 section
/// 2.3.8 forbids sending them, and some server would take one for a line end).
#[derive(Debug, Clone)]
pub struct DotStuffer {
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    LineStart,
    Within,
    /// After a CR; CRLF is written already.
    Cr,
}

impl Default for DotStuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl DotStuffer {
    /// A stuffer at the start of content.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            place: Place::LineStart,
        }
    }

    /// Appends a chunk of content to `output`.
    pub fn encode(&mut self, content: &[u8], output: &mut Vec<u8>) {
        output.reserve(content.len() + content.len() / 32 + 8);
        let mut rest = content;
        if self.place == Place::Cr && !rest.is_empty() {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            self.place = Place::LineStart;
        }
        while let Some(&first) = rest.first() {
            if self.place == Place::LineStart && first == b'.' {
                output.push(b'.');
            }
            // As much as needs no change goes in one piece.
            let length = unchanged(rest);
            output.extend_from_slice(&rest[..length]);
            self.place = match rest[..length] {
                [.., b'\n'] => Place::LineStart,
                [] => self.place,
                _ => Place::Within,
            };
            rest = &rest[length..];
            match rest {
                [b'\r'] => {
                    output.extend_from_slice(b"\r\n");
                    self.place = Place::Cr;
                    return;
                }
                [b'.', ..] | [] => {}
                [_bare, after @ ..] => {
                    output.extend_from_slice(b"\r\n");
                    self.place = Place::LineStart;
                    rest = after;
                }
            }
        }
    }

    /// Appends the end: CRLF if the last line has none, then the lone dot.
    pub fn finish(self, output: &mut Vec<u8>) {
        if self.place == Place::Within {
            output.extend_from_slice(b"\r\n");
        }
        output.extend_from_slice(b".\r\n");
    }
}

/// Octets from the start that can go as they are: up to a dot at the start of a later line, a
/// bare CR or LF, or a CR at the very end, which may be bare.
fn unchanged(content: &[u8]) -> usize {
    let mut position = 0;
    while let Some(offset) = memchr::memchr2(b'\r', b'\n', &content[position..]) {
        let end = position + offset;
        if !content[end..].starts_with(b"\r\n") {
            return end;
        }
        position = end + 2;
        if content.get(position) == Some(&b'.') {
            return position;
        }
    }
    content.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(chunks: &[&[u8]]) -> Vec<u8> {
        let (mut stuffer, mut output) = (DotStuffer::new(), Vec::new());
        for chunk in chunks {
            stuffer.encode(chunk, &mut output);
        }
        stuffer.finish(&mut output);
        output
    }

    #[test]
    fn any_split_gives_the_same() {
        for (content, wire) in [
            (&b""[..], &b".\r\n"[..]),
            (b"a", b"a\r\n.\r\n"),
            (b"a\r\n", b"a\r\n.\r\n"),
            (b".", b"..\r\n.\r\n"),
            (b".\r\n..\r\n.a", b"..\r\n...\r\n..a\r\n.\r\n"),
            (b"\r\n\r\n.\r\n", b"\r\n\r\n..\r\n.\r\n"),
            (b"a.b\r\nc.\r\n", b"a.b\r\nc.\r\n.\r\n"),
            // Bare line ends.
            (b"a\n.\nb", b"a\r\n..\r\nb\r\n.\r\n"),
            (b"a\r.\rb", b"a\r\n..\r\nb\r\n.\r\n"),
            (b"a\n\rb\r\r\n\r", b"a\r\n\r\nb\r\n\r\n\r\n.\r\n"),
        ] {
            for at in 0..=content.len() {
                let split = encode(&[&content[..at], &content[at..]]);
                assert_eq!(split, wire, "{content:?} split at {at}");
            }
            assert_eq!(encode(&content.chunks(1).collect::<Vec<_>>()), wire);
        }
    }
}
