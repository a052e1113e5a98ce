//! The trace line (RFC 5321 section 4.4).

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::SystemTime;

use postrider_protocol::QueueId;

use super::date;

/// Longest piece of the other side's words that goes into a trace line.
const WORD: usize = 255;

/// What a Received line tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    /// What the client called itself.
    pub(crate) hello: &'a str,
    /// Its address.
    pub(crate) client: IpAddr,
    /// This server.
    pub(crate) hostname: &'a str,
    /// How it came in.
    pub(crate) with: Protocol,
    /// The message's name.
    pub(crate) id: QueueId,
    /// The recipient, if there is only one: a line with several would tell each of the others.
    pub(crate) recipient: Option<&'a str>,
    /// MT-PRIORITY; 0 is not worth a word.
    pub(crate) priority: i8,
    /// When.
    pub(crate) now: SystemTime,
}

/// What the `with` clause is made of (RFC 3848, RFC 6531 section 4.3).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Protocol {
    /// The client said EHLO rather than HELO.
    pub(crate) extended: bool,
    /// TLS is in force.
    pub(crate) encrypted: bool,
    /// The client has authenticated.
    pub(crate) authenticated: bool,
    /// SMTPUTF8 was asked for.
    pub(crate) utf8: bool,
}

impl Protocol {
    fn push(self, out: &mut String) {
        out.push_str(match self {
            Self { utf8: true, .. } => "UTF8SMTP",
            Self { extended: true, .. } => "ESMTP",
            _ => "SMTP",
        });
        if self.encrypted {
            out.push('S');
        }
        if self.authenticated {
            out.push('A');
        }
    }
}

/// Appends the trace line, folded, with its CRLF.
pub(crate) fn received(facts: &Received<'_>, out: &mut String) {
    out.push_str("Received: from ");
    push_word(facts.hello, facts.with.utf8, out);
    out.push_str(" ([");
    if facts.client.is_ipv6() {
        out.push_str("IPv6:");
    }
    // Writing to a String cannot fail.
    let _infallible = write!(out, "{}])\r\n\tby {} with ", facts.client, facts.hostname);
    facts.with.push(out);
    let _infallible = write!(out, " id {}", facts.id);
    if let Some(recipient) = facts.recipient
        && recipient.len() <= WORD
    {
        out.push_str("\r\n\tfor <");
        out.push_str(recipient);
        out.push('>');
    }
    if facts.priority != 0 {
        // RFC 6710 section 10.
        let _infallible = write!(out, "\r\n\tpriority {}", facts.priority);
    }
    out.push_str(";\r\n\t");
    date::push(facts.now, out);
    out.push_str("\r\n");
}

/// The client's own words, cut and without what could be read as part of the line's structure.
/// Letters beyond ASCII stay only where the message may hold them (RFC 6532).
fn push_word(word: &str, utf8: bool, out: &mut String) {
    let before = out.len();
    out.extend(word.chars().take(WORD).map(|char| match char {
        '!'..='\'' | '*'..=':' | '<'..='~' => char,
        char if utf8 && !char.is_ascii() && char.is_alphanumeric() => char,
        _ => '?',
    }));
    if out.len() == before {
        out.push_str("unknown");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Received<'static> {
        Received {
            hello: "client.example",
            client: "192.0.2.1".parse().unwrap(),
            hostname: "mx.here.test",
            with: Protocol {
                extended: true,
                encrypted: true,
                ..Protocol::default()
            },
            id: QueueId::from_u128(7),
            recipient: Some("alice@here.test"),
            priority: 0,
            now: SystemTime::UNIX_EPOCH,
        }
    }

    fn line(facts: &Received<'_>) -> String {
        let mut out = String::new();
        received(facts, &mut out);
        out
    }

    #[test]
    fn the_usual_line() {
        assert_eq!(
            line(&facts()),
            "Received: from client.example ([192.0.2.1])\r\n\
             \tby mx.here.test with ESMTPS id 00000000000000000000000007\r\n\
             \tfor <alice@here.test>;\r\n\
             \tThu, 1 Jan 1970 00:00:00 +0000\r\n"
        );
    }

    #[test]
    fn an_urgent_message() {
        let urgent = Received {
            priority: -3,
            ..facts()
        };
        assert!(line(&urgent).contains("\r\n\tfor <alice@here.test>\r\n\tpriority -3;\r\n"));
    }

    #[test]
    fn several_recipients_are_not_told_of_each_other() {
        let several = Received {
            recipient: None,
            ..facts()
        };
        assert!(!line(&several).contains("for <"));
    }

    #[test]
    fn an_ipv6_client() {
        let client = Received {
            client: "2001:db8::1".parse().unwrap(),
            ..facts()
        };
        assert!(line(&client).contains("([IPv6:2001:db8::1])"));
    }

    #[test]
    fn the_protocol_names() {
        let name = |extended, encrypted, authenticated, utf8| {
            let mut out = String::new();
            Protocol {
                extended,
                encrypted,
                authenticated,
                utf8,
            }
            .push(&mut out);
            out
        };
        assert_eq!(name(false, false, false, false), "SMTP");
        assert_eq!(name(true, false, false, false), "ESMTP");
        assert_eq!(name(true, true, false, false), "ESMTPS");
        assert_eq!(name(true, true, true, false), "ESMTPSA");
        assert_eq!(name(true, true, true, true), "UTF8SMTPSA");
    }

    #[test]
    fn nobody_forges_the_structure() {
        let hostile = Received {
            hello: "x) by evil (a;\r\nBcc: y",
            ..facts()
        };
        assert!(
            line(&hostile).starts_with("Received: from x??by?evil??a???Bcc:?y ([192.0.2.1])\r\n")
        );
        let silent = Received {
            hello: "",
            ..facts()
        };
        assert!(line(&silent).starts_with("Received: from unknown (["));
        let long = Received {
            hello: &"x".repeat(5_000),
            ..facts()
        };
        assert!(line(&long).len() < 600);
    }
}
