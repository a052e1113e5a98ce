//! The demo's message: everything that may go wrong between two programs that speak SMTP.

/// The lines of the text after the header section, with what makes each of them hard.
pub(super) const LINES: &[&str] = &[
    "Dear Alice,",
    "",
    "a line with nothing but a dot ends a message on the wire. Here is one:",
    ".",
    "and the message goes on. So do lines that begin with dots:",
    ".hidden",
    "..",
    "...and so on",
    "",
    "Gr\u{fc}\u{df}e aus K\u{f6}ln, \u{65e5}\u{672c}\u{8a9e}: eight bits, as they are.",
    "",
    "Bob",
];

/// A message as a mail program makes it: lines end in CRLF, not yet dot-stuffed.
#[must_use]
pub(super) fn build(from: &str, to: &str, date: &str, message_id: &str) -> Vec<u8> {
    let header = [
        format!("Date: {date}"),
        format!("From: Bob <{from}>"),
        format!("To: Alice <{to}>"),
        "Subject: A dot on a line of its own".to_owned(),
        format!("Message-ID: <{message_id}>"),
        "MIME-Version: 1.0".to_owned(),
        "Content-Type: text/plain; charset=utf-8".to_owned(),
        "Content-Transfer-Encoding: 8bit".to_owned(),
        String::new(),
    ];
    let lines = header
        .iter()
        .map(String::as_str)
        .chain(LINES.iter().copied());
    lines.fold(Vec::new(), |mut message, line| {
        message.extend_from_slice(line.as_bytes());
        message.extend_from_slice(b"\r\n");
        message
    })
}

/// The octets that stand for a message on the wire: a line that begins with a dot gets another
/// one before it, and a lone dot ends it (RFC 5321 section 4.5.2).
#[must_use]
pub(super) fn stuff(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(message.len() + 8);
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

/// The message that lines from the wire stand for, up to the lone dot; none if it never comes.
/// RFC 1939 section 3 stuffs the lines of a multi-line response in the same way.
#[must_use]
pub(super) fn unstuff(wire: &[u8]) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(wire.len());
    for line in wire.split_inclusive(|octet| *octet == b'\n') {
        match line {
            b".\r\n" => return Some(message),
            [b'.', rest @ ..] => message.extend_from_slice(rest),
            line => message.extend_from_slice(line),
        }
    }
    None
}

/// A line whose octets on the wire are worth seeing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sight {
    /// Which line of the message, from 1.
    pub(super) number: usize,
    /// The line in the message.
    pub(super) line: String,
    /// The line on the wire.
    pub(super) on_the_wire: String,
}

/// The lines of a message that begin with a dot or are not ASCII, each with the line that stands
/// for it in `wire`, which is what was sent.
#[must_use]
pub(super) fn sights(message: &[u8], wire: &[u8]) -> Vec<Sight> {
    fn lines(octets: &[u8]) -> impl Iterator<Item = &[u8]> {
        octets.split_inclusive(|octet| *octet == b'\n')
    }
    let show = |line: &[u8]| String::from_utf8_lossy(line).trim_end().to_owned();
    lines(message)
        .zip(lines(wire))
        .enumerate()
        .filter(|(_, (line, _))| line.starts_with(b".") || !line.is_ascii())
        .map(|(at, (line, sent))| Sight {
            number: at + 1,
            line: show(line),
            on_the_wire: show(sent),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_dot_goes_out_as_two() {
        let message = build("bob@bob.test", "alice@alice.test", "d", "m@bob.test");
        let wire = stuff(&message);
        let sights = sights(&message, &wire);
        assert_eq!(sights[0].line, ".");
        assert_eq!(sights[0].on_the_wire, "..");
        assert_eq!(sights[1].on_the_wire, "..hidden");
        assert_eq!(sights.len(), 5, "four lines with dots, one of eight bits");
        assert_eq!(unstuff(&wire).unwrap(), message);
        // Without stuffing the message would end at its lone dot.
        let cut = position_of_lone_dot(&message);
        assert_eq!(unstuff(&message).unwrap(), message[..cut]);
    }

    fn position_of_lone_dot(message: &[u8]) -> usize {
        message
            .windows(5)
            .position(|octets| octets == b"\r\n.\r\n")
            .map(|at| at + 2)
            .unwrap()
    }
}
