//! What holds for the lines of content, however they are transferred.

use crate::reply::Reply;
use crate::status::EnhancedStatus;

/// Limits of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentLimits {
    /// Octets of a message without dot-stuffing; 0 means no limit.
    pub size: u64,
    /// Octets of a line without its CRLF; 0 means no limit. RFC 5322 section 2.1.1 says 998.
    pub line: u32,
}

/// Why content cannot be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentProblem {
    /// A CR without LF or a LF without CR (RFC 5321 section 2.3.8).
    BareLineEnd,
    /// A line beyond the limit.
    TooLongLine,
    /// More octets than the limit.
    TooLarge,
}

impl ContentProblem {
    /// The reply to the end of data that says so.
    #[must_use]
    pub fn reply(self) -> Reply {
        let (code, subject, detail, text) = match self {
            Self::BareLineEnd => (
                550,
                6,
                0,
                "Lines must end in CRLF; bare CR or LF is refused",
            ),
            Self::TooLongLine => (550, 6, 0, "A line is too long"),
            Self::TooLarge => (552, 3, 4, "Message is too large"),
        };
        Reply::new(code, EnhancedStatus::permanent(subject, detail), text)
    }
}

/// What is known of content that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContentSummary {
    /// Octets, without dot-stuffing and final dot.
    pub size: u64,
    /// There are octets above 127.
    pub eight_bit: bool,
}

/// Watches content for what can't be accepted.
#[derive(Debug, Clone)]
pub(crate) struct LineChecker {
    limits: ContentLimits,
    summary: ContentSummary,
    /// Octets of the present line, without a CR that may belong to its end.
    line: u64,
    after_cr: bool,
    problem: Option<ContentProblem>,
}

impl LineChecker {
    pub(crate) fn new(limits: ContentLimits) -> Self {
        Self {
            limits,
            summary: ContentSummary::default(),
            line: 0,
            after_cr: false,
            problem: None,
        }
    }

    pub(crate) fn problem(&self) -> Option<ContentProblem> {
        self.problem
    }

    pub(crate) fn summary(&self) -> ContentSummary {
        self.summary
    }

    /// The content has ended: a CR at its very end was bare.
    pub(crate) fn finish(&mut self) {
        if self.after_cr {
            self.report(ContentProblem::BareLineEnd);
        }
    }

    fn report(&mut self, problem: ContentProblem) {
        self.problem.get_or_insert(problem);
    }

    /// Looks at the next octets of content, any number of lines. What it reports does not depend
    /// on how the content is cut.
    pub(crate) fn check(&mut self, content: &[u8]) {
        let room = match self.limits.size {
            0 => u64::MAX,
            limit => limit.saturating_sub(self.summary.size),
        };
        self.summary.size = self.summary.size.saturating_add(content.len() as u64);
        if self.problem.is_some() {
            // It is refused already; the size is all that is still worth counting.
            return;
        }
        let within = usize::try_from(room).map_or(content, |n| &content[..content.len().min(n)]);
        self.summary.eight_bit = self.summary.eight_bit || !within.is_ascii();
        self.check_lines(within);
        if within.len() < content.len() {
            self.report(ContentProblem::TooLarge);
        }
    }

    fn check_lines(&mut self, content: &[u8]) {
        let mut rest = content;
        while let Some(&first) = rest.first() {
            if self.after_cr {
                self.after_cr = false;
                if first != b'\n' {
                    return self.report(ContentProblem::BareLineEnd);
                }
                self.line = 0;
                rest = &rest[1..];
                continue;
            }
            let Some(end) = memchr::memchr2(b'\r', b'\n', rest) else {
                return self.extend_line(rest.len());
            };
            self.extend_line(end);
            match rest[end..] {
                // The usual case in one go.
                [b'\r', b'\n', ..] => {
                    self.line = 0;
                    rest = &rest[end + 2..];
                }
                [b'\r'] => {
                    self.after_cr = true;
                    return;
                }
                _ => return self.report(ContentProblem::BareLineEnd),
            }
        }
    }

    fn extend_line(&mut self, octets: usize) {
        self.line += octets as u64;
        if self.limits.line != 0 && self.line > u64::from(self.limits.line) {
            self.report(ContentProblem::TooLongLine);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chunks: &[&[u8]]) -> LineChecker {
        let mut checker = LineChecker::new(ContentLimits { size: 20, line: 5 });
        for chunk in chunks {
            checker.check(chunk);
        }
        checker.finish();
        checker
    }

    #[test]
    fn good_lines() {
        let checker = check(&[b"12345\r", b"\n\r\nab\xff"]);
        assert_eq!(checker.problem(), None);
        assert_eq!(
            checker.summary(),
            ContentSummary {
                size: 12,
                eight_bit: true
            }
        );
    }

    #[test]
    fn bare_line_ends() {
        for chunks in [
            &[&b"a\nb"[..]][..],
            &[b"a\rb"],
            &[b"a\r", b"b"],
            &[b"a", b"\nb"],
            &[b"a\r\r\n"],
            &[b"a\r"],
            &[b"\n"],
        ] {
            assert_eq!(
                check(chunks).problem(),
                Some(ContentProblem::BareLineEnd),
                "{chunks:?}"
            );
        }
    }

    #[test]
    fn limits() {
        assert_eq!(
            check(&[b"123", b"456\r\n"]).problem(),
            Some(ContentProblem::TooLongLine)
        );
        assert_eq!(
            check(&[&b"123\r\n".repeat(4), b"1"]).problem(),
            Some(ContentProblem::TooLarge)
        );
    }
}
