//! The client's parser of replies: incremental, bounded.

use alloc::string::String;

use super::Reply;
use crate::status::EnhancedStatus;

/// The longest reply line that is taken. RFC 5321 section 4.5.3.1.5 says 512; servers that
/// quote a policy's URL pass that.
const MAX_LINE: usize = 2048;
/// Lines of one reply that are read before the other side counts as broken.
const MAX_LINES: u32 = 256;
/// Octets of text that are kept of one reply; what goes beyond is dropped.
const MAX_TEXT: usize = 8 * 1024;

/// Bytes that are no reply, or one that does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedReply {
    /// A line does not begin with a three-digit code and a space or hyphen.
    #[error("a reply line without a reply code")]
    NoCode,
    /// A line of more than 2,048 octets.
    #[error("a reply line that is too long")]
    LongLine,
    /// More than 256 lines.
    #[error("a reply of too many lines")]
    TooManyLines,
}

/// Takes replies out of a stream of bytes.
///
/// It looks at whole lines and keeps the lines of an unfinished reply, at most 8 KiB of text.
/// A line that is not complete stays in the caller's buffer. Liberal where that harms nobody: a
/// bare LF ends a line too, and where the lines of one reply disagree about the code, the last
/// one holds (it is the one that ends the reply).
#[derive(Debug, Default)]
pub struct ReplyParser {
    text: String,
    lines: u32,
    status: Option<EnhancedStatus>,
}

impl ReplyParser {
    /// A parser at the beginning of a reply.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes lines from `input` up to the end of one reply. Returns how many octets it took,
    /// and the reply if it is complete.
    ///
    /// # Errors
    /// What came is no reply, or passes the limits. The connection is of no use any more.
    pub fn receive(&mut self, input: &[u8]) -> Result<(usize, Option<Reply>), MalformedReply> {
        let mut consumed = 0;
        while let Some(end) = memchr::memchr(b'\n', &input[consumed..]) {
            let line = &input[consumed..consumed + end];
            consumed += end + 1;
            if let Some(reply) = self.line(line.strip_suffix(b"\r").unwrap_or(line))? {
                return Ok((consumed, Some(reply)));
            }
        }
        if input.len() - consumed > MAX_LINE {
            return Err(MalformedReply::LongLine);
        }
        Ok((consumed, None))
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, MalformedReply> {
        if line.len() > MAX_LINE {
            return Err(MalformedReply::LongLine);
        }
        let (code, last, text) = split(line).ok_or(MalformedReply::NoCode)?;
        if self.lines >= MAX_LINES {
            return Err(MalformedReply::TooManyLines);
        }
        let text = String::from_utf8_lossy(text);
        let status = EnhancedStatus::split_from(&text);
        if self.lines == 0 {
            self.status = status.map(|(status, _)| status);
        } else {
            self.push("\n");
        }
        self.lines += 1;
        match status {
            // Each line repeats the status (RFC 2034 section 4); the reply has it once.
            Some((status, rest)) if Some(status) == self.status => self.push(rest),
            _ => self.push(&text),
        }
        if !last {
            return Ok(None);
        }
        self.lines = 0;
        Ok(Some(Reply::with_optional_status(
            code,
            self.status.take(),
            core::mem::take(&mut self.text),
        )))
    }

    fn push(&mut self, text: &str) {
        for char in text.chars() {
            let char = if char.is_control() && char != '\n' {
                '?'
            } else {
                char
            };
            if self.text.len() + char.len_utf8() <= MAX_TEXT {
                self.text.push(char);
            }
        }
    }
}

/// Code, whether it is the last line, text.
fn split(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (code, rest) = line.split_first_chunk::<3>()?;
    let [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9'] = code else {
        return None;
    };
    let code = code
        .iter()
        .fold(0, |n, digit| n * 10 + u16::from(digit - b'0'));
    match rest.split_first() {
        None => Some((code, true, rest)),
        Some((b' ', text)) => Some((code, true, text)),
        Some((b'-', text)) => Some((code, false, text)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn parse(input: &[u8]) -> Result<(usize, Option<Reply>), MalformedReply> {
        ReplyParser::new().receive(input)
    }

    #[test]
    fn takes_one_reply_at_a_time() {
        let (consumed, reply) = parse(b"250 2.1.0 fine\r\n550 no\r\n").unwrap();
        assert_eq!(consumed, 16);
        assert_eq!(
            reply,
            Some(Reply::new(250, EnhancedStatus::success(1, 0), "fine"))
        );
    }

    #[test]
    fn takes_many_lines() {
        let (_, reply) = parse(b"550-5.7.1 one\r\n550-5.7.1 two\r\n550 three\r\n").unwrap();
        assert_eq!(
            reply,
            Some(Reply::new(
                550,
                EnhancedStatus::permanent(7, 1),
                "one\ntwo\nthree"
            ))
        );
    }

    #[test]
    fn waits_for_whole_lines() {
        let mut parser = ReplyParser::new();
        assert_eq!(parser.receive(b"250-a\r\n250 "), Ok((7, None)));
        assert_eq!(
            parser.receive(b"250 b\r\n"),
            Ok((7, Some(Reply::plain(250, "a\nb"))))
        );
    }

    #[test]
    fn refuses_what_is_no_reply() {
        for input in [
            &b"hello\r\n"[..],
            b"\r\n",
            b"25\r\n",
            b"650 x\r\n",
            b"250x\r\n",
            b"1a0 x\n",
        ] {
            assert_eq!(parse(input), Err(MalformedReply::NoCode));
        }
    }

    #[test]
    fn takes_no_endless_reply() {
        assert_eq!(parse(&[b'2'; 5000]), Err(MalformedReply::LongLine));
        let lines: Vec<u8> = b"250-x\r\n".repeat(1000);
        assert_eq!(parse(&lines), Err(MalformedReply::TooManyLines));
        let mut lines: Vec<u8> = [b"250-", &[b'x'; 1000][..], b"\r\n"].concat().repeat(100);
        lines.extend(b"250 x\r\n");
        let reply = parse(&lines).unwrap().1.unwrap();
        assert!(reply.text().len() <= MAX_TEXT);
    }

    #[test]
    fn shows_no_control_characters() {
        let (_, reply) = parse(b"550 a\x1b[2Jb\r\xffc\n").unwrap();
        assert_eq!(reply.unwrap().text(), "a?[2Jb?\u{fffd}c");
    }
}
