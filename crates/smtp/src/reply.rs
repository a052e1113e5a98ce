//! Replies (RFC 5321 section 4.2): what a server says to a command.

mod parser;

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;

use crate::ascii;
use crate::status::{Class, EnhancedStatus};

pub use parser::{MalformedReply, ReplyParser};

/// The longest line that is printed, CRLF included (RFC 5321 section 4.5.3.1.5).
pub const MAX_LINE: usize = 512;

/// A reply: code, enhanced status, text of one or more lines.
///
/// Cheap to make from constants: text that is `&'static str` is not copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    status: Option<EnhancedStatus>,
    text: Cow<'static, str>,
}

impl Reply {
    /// A reply with an enhanced status. Lines of the text are separated by `\n`. A code outside
    /// of 200 to 599 becomes 451, which promises nothing.
    #[must_use]
    pub fn new(code: u16, status: EnhancedStatus, text: impl Into<Cow<'static, str>>) -> Self {
        Self::with_optional_status(code, Some(status), text)
    }

    /// A reply without an enhanced status: greeting, EHLO, 354, 334 (RFC 2034 section 4).
    #[must_use]
    pub fn plain(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self::with_optional_status(code, None, text)
    }

    pub(crate) fn with_optional_status(
        code: u16,
        status: Option<EnhancedStatus>,
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            code: if (200..600).contains(&code) {
                code
            } else {
                451
            },
            status,
            text: text.into(),
        }
    }

    /// The three-digit code.
    #[must_use]
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status, if the reply has one.
    #[must_use]
    pub const fn status(&self) -> Option<EnhancedStatus> {
        self.status
    }

    /// The text without code and status; lines are separated by `\n`.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The lines of the text, without code and status.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.split('\n')
    }

    /// 2yz.
    #[must_use]
    pub const fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 3yz: the server waits for more, e.g. 354.
    #[must_use]
    pub const fn is_intermediate(&self) -> bool {
        self.code / 100 == 3
    }

    /// 4yz: a deferral.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5yz: a permanent failure.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// The class of the code; `None` for 3yz.
    #[must_use]
    pub const fn class(&self) -> Option<Class> {
        match self.code / 100 {
            2 => Some(Class::Success),
            4 => Some(Class::TransientFailure),
            5 => Some(Class::PermanentFailure),
            _ => None,
        }
    }

    /// Appends the reply as it goes over the wire, ending in CRLF.
    ///
    /// Whatever the text holds, each of its lines becomes one line of at most 512 octets of
    /// printable ASCII: control characters and others become `?`, so that a text that quotes
    /// somebody else can never forge a reply of its own.
    pub fn write_to(&self, output: &mut Vec<u8>) {
        let mut lines = self.lines().peekable();
        while let Some(line) = lines.next() {
            let start = output.len();
            let separator = if lines.peek().is_some() { b'-' } else { b' ' };
            push_code(self.code, output);
            output.push(separator);
            if let Some(status) = self.status {
                push_status(status, output);
                output.push(b' ');
            }
            let room = MAX_LINE - 2 - (output.len() - start);
            if line.len() <= room && ascii::is_printable(line.as_bytes()) {
                output.extend_from_slice(line.as_bytes());
            } else {
                output.extend(line.chars().take(room).map(printable));
            }
            output.extend_from_slice(b"\r\n");
        }
    }
}

fn printable(char: char) -> u8 {
    u8::try_from(char)
        .ok()
        .filter(|byte| (b' '..=b'~').contains(byte))
        .unwrap_or(b'?')
}

fn push_code(code: u16, output: &mut Vec<u8>) {
    output.extend([code / 100, code / 10 % 10, code % 10].map(|digit| b'0' + digit as u8));
}

fn push_status(status: EnhancedStatus, output: &mut Vec<u8>) {
    output.extend_from_slice(match status.class() {
        Class::Success => b"2.",
        Class::TransientFailure => b"4.",
        Class::PermanentFailure => b"5.",
    });
    push_number(status.subject(), output);
    output.push(b'.');
    push_number(status.detail(), output);
}

/// A number of at most three digits.
fn push_number(number: u16, output: &mut Vec<u8>) {
    let digits = [number / 100 % 10, number / 10 % 10, number % 10].map(|digit| b'0' + digit as u8);
    let leading = match number {
        0..=9 => 2,
        10..=99 => 1,
        _ => 0,
    };
    output.extend_from_slice(&digits[leading..]);
}

/// The reply on one line, for logs: `550 5.1.1 No such user`.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(status) = self.status {
            write!(f, " {status}")?;
        }
        for line in self.lines() {
            write!(f, " {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};

    fn wire(reply: &Reply) -> String {
        let mut output = Vec::new();
        reply.write_to(&mut output);
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn prints_one_line() {
        let reply = Reply::new(550, EnhancedStatus::permanent(1, 1), "No such user");
        assert_eq!(wire(&reply), "550 5.1.1 No such user\r\n");
        assert_eq!(reply.to_string(), "550 5.1.1 No such user");
    }

    #[test]
    fn prints_many_lines() {
        let reply = Reply::new(550, EnhancedStatus::permanent(7, 1), "No.\nReally not.");
        assert_eq!(wire(&reply), "550-5.7.1 No.\r\n550 5.7.1 Really not.\r\n");
        assert_eq!(wire(&Reply::plain(250, "a\nB")), "250-a\r\n250 B\r\n");
    }

    #[test]
    fn forges_no_line() {
        let reply = Reply::plain(550, String::from("said\r250 OK\u{85}é\0"));
        assert_eq!(wire(&reply), "550 said?250 OK???\r\n");
        assert_eq!(wire(&Reply::plain(250, "x".repeat(9000))).len(), MAX_LINE);
    }

    #[test]
    fn a_senseless_code_promises_nothing() {
        assert_eq!(Reply::plain(0, "").code(), 451);
        assert_eq!(Reply::plain(1250, "").code(), 451);
    }
}
