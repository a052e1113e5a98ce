//! The receiving side of dot-stuffing.

use super::lines::{ContentLimits, ContentProblem, ContentSummary, LineChecker};

/// What the decoder found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Content without dot-stuffing: a piece of the input (or, for an octet that the decoder had
    /// to hold back, a constant).
    Content(&'a [u8]),
    /// The content can't be accepted. Said once; no content follows, but the end does.
    Refused(ContentProblem),
    /// The input is used up.
    NeedMore,
    /// CRLF.CRLF: the message has ended. What follows in the input are commands.
    End,
}

/// Undoes dot-stuffing and finds the end of the message, without copying.
///
/// Content that can't be accepted is still followed to its end, so that the reply comes at the
/// right place; from then on no content comes out.
#[derive(Debug, Clone)]
pub struct ContentDecoder {
    place: Place,
    checker: LineChecker,
}

/// Where in a line the next octet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the start of a line: a dot here is stuffing, or the end.
    LineStart,
    Within,
    /// After a CR within a line.
    Cr,
    /// After a dot at the start of a line. It was taken away.
    Dot,
    /// After dot and CR at the start of a line. The CR is held back.
    DotCr,
}

impl ContentDecoder {
    /// A decoder at the start of content (after the 354).
    #[must_use]
    pub fn new(limits: ContentLimits) -> Self {
        Self {
            place: Place::LineStart,
            checker: LineChecker::new(limits),
        }
    }

    /// Why the content can't be accepted, as soon as it is known.
    #[must_use]
    pub fn problem(&self) -> Option<ContentProblem> {
        self.checker.problem()
    }

    /// Size so far, and whether there were octets above 127.
    #[must_use]
    pub fn summary(&self) -> ContentSummary {
        self.checker.summary()
    }

    /// Takes some of the input. Returns how many octets it took and what they were; to be called
    /// with the rest until it needs more or the message has ended.
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> (usize, Piece<'a>) {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            let Some(&first) = rest.first() else {
                return (consumed, Piece::NeedMore);
            };
            match (self.place, first) {
                (Place::LineStart, b'.') => {
                    self.place = Place::Dot;
                    consumed += 1;
                }
                (Place::Dot, b'\r') => {
                    self.place = Place::DotCr;
                    consumed += 1;
                }
                (Place::DotCr, b'\n') => return (consumed + 1, Piece::End),
                (Place::DotCr, _) => {
                    // Dot, CR and no LF: the CR is content after all, and a bare one.
                    self.place = Place::Cr;
                    if let Some(piece) = self.accept(b"\r") {
                        return (consumed, piece);
                    }
                }
                (Place::LineStart | Place::Within | Place::Cr | Place::Dot, _) => {
                    let length = self.run(rest);
                    let run = &rest[..length];
                    consumed += length;
                    if let Some(piece) = self.accept(run) {
                        return (consumed, piece);
                    }
                }
            }
        }
    }

    /// Octets up to the next dot at the start of a line, at least one. Sets the place after them.
    fn run(&mut self, rest: &[u8]) -> usize {
        let completes_cr = self.place == Place::Cr;
        for line_feed in memchr::memmem::find_iter(rest, b"\n.") {
            let is_line_end = match line_feed.checked_sub(1) {
                Some(before) => rest[before] == b'\r',
                None => completes_cr,
            };
            if is_line_end {
                self.place = Place::LineStart;
                return line_feed + 1;
            }
        }
        self.place = match rest {
            [.., b'\r', b'\n'] => Place::LineStart,
            [b'\n'] if completes_cr => Place::LineStart,
            [.., b'\r'] => Place::Cr,
            _ => Place::Within,
        };
        rest.len()
    }

    /// What is to be said about a run of content; nothing if that was said before.
    fn accept<'a>(&mut self, content: &'a [u8]) -> Option<Piece<'a>> {
        let refused_before = self.checker.problem().is_some();
        self.checker.check(content);
        match self.checker.problem() {
            None => Some(Piece::Content(content)),
            Some(problem) if !refused_before => Some(Piece::Refused(problem)),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const LIMITS: ContentLimits = ContentLimits { size: 0, line: 0 };

    /// Content, octets consumed, whether it ended, problem.
    fn decode(chunks: &[&[u8]]) -> (Vec<u8>, usize, bool, Option<ContentProblem>) {
        let mut decoder = ContentDecoder::new(LIMITS);
        let (mut content, mut total) = (Vec::new(), 0);
        for chunk in chunks {
            let mut rest = *chunk;
            loop {
                let (consumed, piece) = decoder.decode(rest);
                rest = &rest[consumed..];
                total += consumed;
                match piece {
                    Piece::Content(piece) => content.extend_from_slice(piece),
                    Piece::Refused(_) => {}
                    Piece::NeedMore => break,
                    Piece::End => return (content, total, true, decoder.problem()),
                }
            }
        }
        (content, total, false, decoder.problem())
    }

    #[test]
    fn any_split_gives_the_same() {
        for (input, content) in [
            (&b".\r\n"[..], &b""[..]),
            (b"a\r\n.\r\n", b"a\r\n"),
            (b"..\r\n...\r\n.\r\n", b".\r\n..\r\n"),
            (b".a\r\n.\r\n", b"a\r\n"),
            (b"\r\n\r\n..\r\n.\r\n", b"\r\n\r\n.\r\n"),
            (b"a.\r\n.b.\r\n\xff\r\n.\r\n", b"a.\r\nb.\r\n\xff\r\n"),
        ] {
            for at in 0..=input.len() {
                let expected = (content.to_vec(), input.len(), true, None);
                assert_eq!(decode(&[&input[..at], &input[at..]]), expected);
            }
            let bytes: Vec<&[u8]> = input.chunks(1).collect();
            assert_eq!(decode(&bytes).0, content);
        }
    }

    #[test]
    fn stops_at_the_end() {
        let (content, consumed, ended, _) = decode(&[b"a\r\n.\r\nQUIT\r\n"]);
        assert_eq!(
            (content.as_slice(), consumed, ended),
            (&b"a\r\n"[..], 6, true)
        );
    }

    #[test]
    fn nothing_but_crlf_dot_crlf_ends() {
        for input in [
            &b"a\n.\n"[..],
            b"a\n.\r\n",
            b"a\r\n.\n",
            b"a\r\n.\r",
            b"a\r.\r",
            b"a\r.\r\n",
            b"a\r\n.\r.\r",
            b"a\r\n.\rb\n",
            b"a\n\r.\n\r",
            b"\n.\r\n",
        ] {
            let (_, _, ended, _) = decode(&[input]);
            assert!(!ended, "{input:?}");
            // The message still ends properly after all of that, and is refused.
            let (_, consumed, ended, problem) = decode(&[input, b"x\r\n.\r\n"]);
            assert!(ended && consumed == input.len() + 6, "{input:?}");
            assert_eq!(problem, Some(ContentProblem::BareLineEnd), "{input:?}");
        }
    }
}
