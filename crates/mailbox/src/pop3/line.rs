//! Bytes into lines, of bounded length.

/// Longest line, line end included. RFC 2449 section 4 allows 255 octets a command; an AUTH
/// PLAIN response (RFC 4616) of the longest name and password takes more.
pub(crate) const MAX_LINE: usize = 2_048;

/// What has come in and was not yet taken out. It holds no memory while it is empty.
#[derive(Debug, Default)]
pub(crate) struct LineBuffer {
    bytes: Vec<u8>,
    /// Where the first line begins.
    start: usize,
    /// Where to go on looking for a line end.
    searched: usize,
    /// The rest of a line that was too long is being skipped.
    skipping: bool,
}

/// One line out of the buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// Without its line end. A bare LF ends a line too: people type them, and in POP3 nothing
    /// but commands passes in this direction, so there is nothing to smuggle.
    Whole(&'a [u8]),
    /// It was longer than [`MAX_LINE`]; all of it is gone.
    TooLong,
}

impl LineBuffer {
    /// Where the next bytes are to be appended.
    pub(crate) fn space(&mut self) -> &mut Vec<u8> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        &mut self.bytes
    }

    /// Takes out the next line. `None` if its end is still to come.
    pub(crate) fn next_line(&mut self) -> Option<Line<'_>> {
        let found = memchr::memchr(b'\n', &self.bytes[self.searched..]);
        let Some(end) = found.map(|at| self.searched + at) else {
            self.searched = self.bytes.len();
            let pending = self.bytes.len() - self.start;
            self.skipping |= pending >= MAX_LINE;
            if self.skipping || pending == 0 {
                self.clear();
            }
            return None;
        };
        let start = std::mem::replace(&mut self.start, end + 1);
        self.searched = end + 1;
        if std::mem::take(&mut self.skipping) || end - start >= MAX_LINE {
            return Some(Line::TooLong);
        }
        let line = &self.bytes[start..end];
        Some(Line::Whole(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    /// Forgets what has come in, e.g. plain text that was sent ahead of a TLS handshake.
    pub(crate) fn clear(&mut self) {
        self.bytes = Vec::new();
        self.start = 0;
        self.searched = 0;
    }

    /// What has come in of the next line.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
        let mut buffer = LineBuffer::default();
        let mut lines = Vec::new();
        for chunk in chunks {
            buffer.space().extend_from_slice(chunk);
            while let Some(line) = buffer.next_line() {
                lines.push(match line {
                    Line::Whole(line) => Some(line.to_vec()),
                    Line::TooLong => None,
                });
            }
            assert!(buffer.pending().len() < MAX_LINE);
        }
        lines
    }

    fn some(line: &str) -> Option<Vec<u8>> {
        Some(line.as_bytes().to_vec())
    }

    #[test]
    fn lines_end_at_either_line_end() {
        assert_eq!(
            lines(&[b"A\r\nB\nC", b"\r", b"\n\r\nrest"]),
            [some("A"), some("B"), some("C"), some("")]
        );
    }

    #[test]
    fn long_lines_are_dropped_and_reported_once() {
        let long = [b'x'; MAX_LINE * 5];
        assert_eq!(
            lines(&[&long, &long, b"\r\nQUIT\r\n"]),
            [None, some("QUIT")]
        );
        assert_eq!(lines(&[&[&long[..], b"\nQ\n"].concat()]), [None, some("Q")]);
    }

    proptest! {
        #[test]
        fn any_split_is_the_same(
            parts in prop::collection::vec(prop_oneof![
                Just(b"\r\n".to_vec()), Just(b"\n".to_vec()), Just(b"QUIT".to_vec()),
                (1_usize..3_000).prop_map(|n| vec![b'x'; n]),
            ], 0..12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let all = parts.concat();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(all.len() + 1)).collect();
            at.extend([0, all.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &all[pair[0]..pair[1]]).collect();
            prop_assert_eq!(lines(&chunks), lines(&[&all]));
        }
    }
}
