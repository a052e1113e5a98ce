//! A stored message on its way to a client: line ends and dots (RFC 1939 section 3).

/// How much of a message is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    /// The header, the blank line, and so many lines of the body (TOP).
    Top(u32),
}

/// Turns stored bytes into a multi-line response, whatever chunks they come in.
///
/// Every line of the output ends in CRLF, also those that a message ends in a bare LF, and each
/// that begins with a dot gets another one. So a client that takes a bare LF for a line's end
/// sees the same lines as one that does not, and no message can end its own response early.
#[derive(Debug)]
pub(crate) struct WireEncoder {
    left: Option<Left>,
    at_line_start: bool,
    /// The last byte was a CR.
    after_cr: bool,
}

/// What TOP still lets through.
#[derive(Debug)]
struct Left {
    in_header: bool,
    /// The present line has had nothing but a CR.
    blank: bool,
    lines: u32,
}

impl WireEncoder {
    pub(crate) fn new(part: Part) -> Self {
        Self {
            left: match part {
                Part::Whole => None,
                Part::Top(lines) => Some(Left {
                    in_header: true,
                    blank: true,
                    lines,
                }),
            },
            at_line_start: true,
            after_cr: false,
        }
    }

    /// Appends what the next bytes of the message are on the wire. Returns false when no more
    /// bytes are wanted.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> bool {
        out.reserve(bytes.len() + bytes.len() / 64 + 2);
        while !bytes.is_empty() {
            if self.at_line_start && self.is_done() {
                return false;
            }
            let end = memchr::memchr(b'\n', bytes);
            let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            self.text(line, out);
            bytes = rest;
            if end.is_some() {
                self.line_end(out);
                bytes = &bytes[1..];
            }
        }
        !(self.at_line_start && self.is_done())
    }

    /// Bytes of a line without its LF.
    fn text(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let Some(last) = text.last() else { return };
        if self.at_line_start && text[0] == b'.' {
            out.push(b'.');
        }
        out.extend_from_slice(text);
        self.at_line_start = false;
        if let Some(left) = &mut self.left {
            // A CR that proves not to be the line's end makes the line not blank.
            left.blank &= text == b"\r" && !self.after_cr;
        }
        self.after_cr = *last == b'\r';
    }

    fn line_end(&mut self, out: &mut Vec<u8>) {
        if !self.after_cr {
            out.push(b'\r');
        }
        out.push(b'\n');
        self.at_line_start = true;
        self.after_cr = false;
        if let Some(left) = &mut self.left {
            if !left.in_header {
                left.lines = left.lines.saturating_sub(1);
            } else if left.blank {
                left.in_header = false;
            }
            left.blank = true;
        }
    }

    fn is_done(&self) -> bool {
        self.left
            .as_ref()
            .is_some_and(|left| !left.in_header && left.lines == 0)
    }

    /// Appends the end of the response.
    pub(crate) fn finish(mut self, out: &mut Vec<u8>) {
        if !self.at_line_start {
            self.line_end(out);
        }
        out.extend_from_slice(b".\r\n");
    }
}

/// Counts the octets that a message has on the wire, stuffed dots and the final dot left out, as
/// LIST and STAT report them (RFC 1939 section 11).
#[derive(Debug, Default)]
pub(crate) struct WireSize {
    octets: u64,
    last: Option<u8>,
}

impl WireSize {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        self.octets += bytes.len() as u64;
        for at in memchr::memchr_iter(b'\n', bytes) {
            let before = if at == 0 {
                self.last
            } else {
                Some(bytes[at - 1])
            };
            if before != Some(b'\r') {
                self.octets += 1;
            }
        }
        self.last = Some(*last);
    }

    pub(crate) fn octets(&self) -> u64 {
        self.octets
            + match self.last {
                None | Some(b'\n') => 0,
                Some(b'\r') => 1,
                Some(_) => 2,
            }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(part: Part, chunks: &[&[u8]]) -> Vec<u8> {
        let mut encoder = WireEncoder::new(part);
        let mut out = Vec::new();
        for chunk in chunks {
            if !encoder.feed(chunk, &mut out) {
                break;
            }
        }
        encoder.finish(&mut out);
        out
    }

    /// What a client makes of it that knows only LF, as many do.
    fn lenient_client(wire: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        let mut lines = wire.split_inclusive(|byte| *byte == b'\n');
        for line in &mut lines {
            if line == b".\r\n" {
                break;
            }
            message.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
        assert_eq!(lines.next(), None, "something follows the final dot");
        message
    }

    /// What a client makes of it that knows only CRLF.
    fn strict_client(wire: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        let mut rest = wire;
        loop {
            let at = memchr::memmem::find(rest, b"\r\n").expect("a line end");
            let (line, after) = rest.split_at(at + 2);
            rest = after;
            if line == b".\r\n" {
                assert!(rest.is_empty(), "something follows the final dot");
                return message;
            }
            message.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
    }

    /// A message as it is in RFC 5322: every line ended by CRLF.
    fn canonical(bytes: &[u8]) -> Vec<u8> {
        let mut canonical = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            canonical.extend_from_slice(text);
            canonical.extend_from_slice(b"\r\n");
        }
        canonical
    }

    /// Content that is rich in what matters: line ends, dots, halves of CRLF.
    fn content() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            3 => Just(b'.'), 3 => Just(b'\r'), 3 => Just(b'\n'), 2 => Just(b'a'), 1 => any::<u8>(),
        ];
        let piece = prop_oneof![
            byte.prop_map(|byte| vec![byte]),
            Just(b"\r\n".to_vec()),
            Just(b"\r\n.\r\n".to_vec()),
        ];
        prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn every_client_gets_the_message_back(content in content()) {
            let wire = encode(Part::Whole, &[&content]);
            // A message that ends in a bare CR is ended by it and the LF that is added.
            let expected = canonical(&content);
            prop_assert_eq!(lenient_client(&wire), expected.clone());
            prop_assert_eq!(strict_client(&wire), expected.clone());
            let mut size = WireSize::default();
            size.feed(&content);
            prop_assert_eq!(size.octets(), expected.len() as u64);
        }

        #[test]
        fn proper_content_comes_back_byte_for_byte(
            lines in prop::collection::vec("[.a\u{e4}\t ]{0,6}", 0..30)
        ) {
            let content: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let wire = encode(Part::Whole, &[content.as_bytes()]);
            prop_assert_eq!(strict_client(&wire), content.into_bytes());
        }

        #[test]
        fn any_split_is_the_same(content in content(), cut in any::<prop::sample::Index>(), lines in 0_u32..5, top in any::<bool>()) {
            let part = if top { Part::Top(lines) } else { Part::Whole };
            let (a, b) = content.split_at(cut.index(content.len() + 1));
            prop_assert_eq!(encode(part, &[a, b]), encode(part, &[&content]));
            let bytes: Vec<&[u8]> = content.chunks(1).collect();
            prop_assert_eq!(encode(part, &bytes), encode(part, &[&content]));
            let mut size = WireSize::default();
            bytes.iter().for_each(|byte| size.feed(byte));
            prop_assert_eq!(size.octets(), canonical(&content).len() as u64);
        }
    }

    #[test]
    fn top_gives_header_and_lines() {
        let message = b"A: 1\r\nB: 2\r\n\r\none\r\n.two\r\nthree\r\n";
        let top = |lines| encode(Part::Top(lines), &[message]);
        assert_eq!(top(0), b"A: 1\r\nB: 2\r\n\r\n.\r\n");
        assert_eq!(top(2), b"A: 1\r\nB: 2\r\n\r\none\r\n..two\r\n.\r\n");
        assert_eq!(top(99), encode(Part::Whole, &[message]));
        assert_eq!(encode(Part::Top(5), &[b"A: 1"]), b"A: 1\r\n.\r\n");
        assert_eq!(encode(Part::Top(0), &[]), b".\r\n");
    }
}
