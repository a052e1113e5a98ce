//! What Alice got, held against what Bob sent.

/// The header lines that a message has gained on its way, and whether the rest is the same.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Comparison<'a> {
    /// The lines on top that Bob did not send, e.g. "Received: from …", unfolded to names.
    pub(super) added: Vec<String>,
    /// What follows them.
    pub(super) rest: &'a [u8],
    /// Whether the rest is what Bob sent, octet for octet.
    pub(super) same: bool,
}

/// The header fields that servers put on top of a message: Return-Path (RFC 5321 section 4.4)
/// and Received.
const TRACE: [&str; 3] = ["return-path", "received", "delivered-to"];

/// Takes the trace fields off the top of `fetched` and compares the rest with `sent`. Nothing but
/// whole trace fields at the very top is taken off, each with its folded lines.
#[must_use]
pub(super) fn compare<'a>(sent: &[u8], fetched: &'a [u8]) -> Comparison<'a> {
    let mut added = Vec::new();
    let mut rest = fetched;
    while let Some((name, length)) = trace_field(rest) {
        added.push(name);
        rest = &rest[length..];
    }
    Comparison {
        added,
        same: rest == sent,
        rest,
    }
}

/// The name and the length of the trace field that a message begins with.
fn trace_field(message: &[u8]) -> Option<(String, usize)> {
    let mut lines = message.split_inclusive(|octet| *octet == b'\n');
    let first = lines.next()?;
    let colon = first.iter().position(|octet| *octet == b':')?;
    let name = std::str::from_utf8(&first[..colon]).ok()?;
    if !TRACE.contains(&name.to_ascii_lowercase().as_str()) {
        return None;
    }
    let folded: usize = lines
        .take_while(|line| line.starts_with(b" ") || line.starts_with(b"\t"))
        .map(<[u8]>::len)
        .sum();
    Some((name.to_owned(), first.len() + folded))
}

/// Where two messages part: the line, from 1, and what stands there in each.
#[must_use]
pub(super) fn first_difference(sent: &[u8], got: &[u8]) -> Option<(usize, String, String)> {
    let show = |line: Option<&[u8]>| {
        line.map_or_else(
            || "nothing".to_owned(),
            |line| format!("{:?}", String::from_utf8_lossy(line)),
        )
    };
    let mut sent = sent.split_inclusive(|octet| *octet == b'\n');
    let mut got = got.split_inclusive(|octet| *octet == b'\n');
    for number in 1.. {
        match (sent.next(), got.next()) {
            (None, None) => return None,
            (a, b) if a != b => return Some((number, show(a), show(b))),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &[u8] = b"From: a\r\n\r\n.\r\nx\r\n";

    #[test]
    fn trace_fields_come_off_and_nothing_else() {
        let mut got = b"Return-Path: <a>\r\nReceived: from x\r\n\tby y;\r\n z\r\n".to_vec();
        got.extend_from_slice(SENT);
        let comparison = compare(SENT, &got);
        assert_eq!(comparison.added, ["Return-Path", "Received"]);
        assert!(comparison.same);

        let other = b"X-Spam: no\r\nFrom: a\r\n\r\n.\r\nx\r\n";
        assert!(!compare(SENT, other).same);
        assert!(!compare(SENT, &SENT[..SENT.len() - 2]).same);
        assert!(!compare(SENT, b"").same);
    }

    #[test]
    fn the_first_difference_is_named() {
        let (line, sent, got) = first_difference(SENT, b"From: a\r\n\r\n..\r\nx\r\n").unwrap();
        assert_eq!(
            (line, sent.as_str(), got.as_str()),
            (3, "\".\\r\\n\"", "\"..\\r\\n\"")
        );
        assert_eq!(first_difference(SENT, SENT), None);
        let (line, _, got) = first_difference(SENT, &SENT[..11]).unwrap();
        assert_eq!((line, got.as_str()), (3, "nothing"));
    }
}
