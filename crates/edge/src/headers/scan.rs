//! One pass over the header section while it arrives.

use memchr::memchr;

/// Longest Message-ID that is kept (RFC 5322 section 2.1.1 bounds a line to 998).
const MESSAGE_ID: usize = 998;

/// What the edge needs to know of a header section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers {
    /// Length in octets, without the empty line that ends it.
    pub(crate) len: usize,
    /// Received fields.
    pub(crate) hops: u32,
    /// There is a Date field.
    pub(crate) has_date: bool,
    /// There is a Message-ID field.
    pub(crate) has_message_id: bool,
    /// Its value without angle brackets; empty if there is none or it makes no sense.
    pub(crate) message_id: String,
    /// The section ends in an empty line, or with the message. Otherwise the body follows at
    /// once; where there is no field at all, whoever adds one must add the empty line too.
    pub(crate) ends_properly: bool,
}

/// Finds the end of a header section, looking at each octet once, however it arrives.
#[derive(Debug, Default)]
pub(crate) struct HeaderScan {
    /// Start of the first line that was not looked at.
    at: usize,
    /// How far that line was searched for its end, so that a long line in small pieces is not
    /// searched again and again.
    searched: usize,
    /// The Message-ID field's value starts here, and it may be folded over the next lines.
    message_id_from: Option<usize>,
    headers: Headers,
}

impl HeaderScan {
    /// Looks at what has arrived: `content` is everything from the message's first octet on.
    /// Returns the result once the section has ended.
    pub(crate) fn advance(&mut self, content: &[u8]) -> Option<Headers> {
        while let Some(found) = memchr(b'\n', &content[self.searched..]) {
            let line = &content[self.at..=self.searched + found];
            match Line::of(line) {
                Line::Continuation if self.at > 0 => {}
                Line::Field(name) => {
                    self.end_message_id(content);
                    self.field(name);
                }
                Line::Empty => return Some(self.end(content, true)),
                Line::Continuation | Line::Other => return Some(self.end(content, false)),
            }
            self.at += line.len();
            self.searched = self.at;
        }
        self.searched = content.len();
        None
    }

    /// The message has ended: what there is of it is the header section, unless it ended before.
    pub(crate) fn finish(&mut self, content: &[u8]) -> Headers {
        if let Some(headers) = self.advance(content) {
            return headers;
        }
        self.at = content.len();
        self.end(content, true)
    }

    fn field(&mut self, name: &[u8]) {
        if name.eq_ignore_ascii_case(b"received") {
            self.headers.hops += 1;
        } else if name.eq_ignore_ascii_case(b"date") {
            self.headers.has_date = true;
        } else if name.eq_ignore_ascii_case(b"message-id") && !self.headers.has_message_id {
            self.headers.has_message_id = true;
            self.message_id_from = Some(self.at + name.len());
        }
    }

    fn end_message_id(&mut self, content: &[u8]) {
        if let Some(from) = self.message_id_from.take() {
            self.headers.message_id = message_id(&content[from..self.at]);
        }
    }

    fn end(&mut self, content: &[u8], properly: bool) -> Headers {
        self.end_message_id(content);
        self.headers.len = self.at;
        self.headers.ends_properly = properly;
        std::mem::take(&mut self.headers)
    }
}

/// A line of a header section.
enum Line<'a> {
    Field(&'a [u8]),
    Continuation,
    Empty,
    /// No field: the body has begun without an empty line.
    Other,
}

impl<'a> Line<'a> {
    /// `line` ends in LF.
    fn of(line: &'a [u8]) -> Self {
        match line {
            [b'\n'] | [b'\r', b'\n'] => return Self::Empty,
            [b' ' | b'\t', ..] => return Self::Continuation,
            _ => {}
        }
        let Some(colon) = memchr(b':', line) else {
            return Self::Other;
        };
        // RFC 5322 section 4.5 still lets white space stand before the colon.
        let name = line[..colon].trim_ascii_end();
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
            return Self::Other;
        }
        Self::Field(name)
    }
}

/// What stands between the angle brackets, if it is something that can be shown and searched.
fn message_id(value: &[u8]) -> String {
    let inside = memchr(b'<', value).and_then(|open| {
        let rest = &value[open + 1..];
        memchr(b'>', rest).map(|close| &rest[..close])
    });
    match inside {
        Some(id) if id.len() <= MESSAGE_ID && id.iter().all(u8::is_ascii_graphic) => {
            String::from_utf8_lossy(id).into_owned()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(content: &str) -> Headers {
        let whole = HeaderScan::default().finish(content.as_bytes());
        // However it arrives, the result is the same.
        for step in 1..content.len().min(40) {
            let mut scan = HeaderScan::default();
            let early = (0..content.len())
                .step_by(step)
                .find_map(|end| scan.advance(&content.as_bytes()[..end]));
            let result = early.unwrap_or_else(|| scan.finish(content.as_bytes()));
            assert_eq!(result, whole, "step {step}");
        }
        whole
    }

    #[test]
    fn an_ordinary_message() {
        let headers = scan(
            "Received: from a\r\n by b; date\r\nRECEIVED: from c\r\nDate: now\r\n\
             Message-Id : <x@y>\r\nSubject: Received: no\r\n\r\nReceived: in the body\r\n",
        );
        assert_eq!(headers.hops, 2);
        assert!(headers.has_date && headers.has_message_id && headers.ends_properly);
        assert_eq!(headers.message_id, "x@y");
        assert_eq!(headers.len, 103);
    }

    #[test]
    fn a_folded_message_id() {
        assert_eq!(
            scan("Message-ID:\r\n\t<x@y>\r\nTo: <a@b>\r\n\r\n").message_id,
            "x@y"
        );
        assert_eq!(scan("Message-ID:\r\n <x@y>\r\n").message_id, "x@y");
    }

    #[test]
    fn senseless_message_ids_are_not_kept() {
        for content in [
            "Message-ID: x@y\r\n\r\n",
            "Message-ID: <x@\r\n y>\r\n\r\n",
            "Message-ID: <é@y>\r\n\r\n",
            "Message-ID:\r\n\r\n<x@y>",
        ] {
            let headers = scan(content);
            assert!(headers.has_message_id, "{content}");
            assert_eq!(headers.message_id, "", "{content}");
        }
        let long = format!("Message-ID: <{}>\r\n\r\n", "x".repeat(MESSAGE_ID + 1));
        assert_eq!(scan(&long).message_id, "");
    }

    #[test]
    fn no_header_section() {
        let empty = scan("\r\nbody\r\n");
        assert_eq!((empty.len, empty.ends_properly), (0, true));
        let body = scan("just text\r\nDate: x\r\n");
        assert_eq!(
            (body.len, body.ends_properly, body.has_date),
            (0, false, false)
        );
        let folded = scan(" text\r\n");
        assert_eq!((folded.len, folded.ends_properly), (0, false));
        assert_eq!(scan("").len, 0);
    }

    #[test]
    fn the_section_may_be_the_whole_message() {
        let headers = scan("Subject: x\r\n");
        assert_eq!((headers.len, headers.ends_properly), (12, true));
    }
}
