//! Names of files and folders.

use std::fmt::Write as _;

use postrider_protocol::DeliveryId;

use crate::accounts::AccountName;

/// What separates a Maildir file's name from its flags.
pub(crate) const FLAGS: &str = ":2,";
/// Longest unique id that POP3 allows (RFC 1939 section 7).
const MAX_UNIQUE: usize = 70;

/// A text as the name of one folder: small letters, digits and `_ + = - .` stand for themselves,
/// every other byte is written as `%xx`. No text becomes `.`, `..`, hidden, or contains a slash,
/// and no two texts share a name.
fn encode(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'_' | b'+' | b'=' | b'-' => name.push(char::from(byte)),
            b'.' if at > 0 => name.push('.'),
            // Writing to a String cannot fail.
            byte => _ = write!(name, "%{byte:02x}"),
        }
    }
    name
}

/// The account's folder below the mail folder. At most 255 octets for the domain and 192 for the
/// local part, as their lengths are limited where names are parsed.
pub(crate) fn folder(account: &AccountName) -> String {
    format!(
        "{}/{}",
        encode(account.domain()),
        encode(account.local_part())
    )
}

/// What the name of a message's file says, `<seconds>.<unique>,S=<size>[,W=<size>][:2,<flags>]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileName<'a> {
    /// When the message was accepted, in seconds since 1970; 0 in names of other programs.
    pub(crate) seconds: u64,
    /// Everything before the flags.
    pub(crate) base: &'a str,
    /// What stands after `:2,`.
    pub(crate) flags: &'a str,
    /// The delivery that made the file, "<queue id>-<n>"; `None` in names of other programs.
    pub(crate) delivery: Option<&'a str>,
    /// Size on the wire, from `W=` or else `S=`, of files that this server wrote.
    pub(crate) wire_size: Option<u64>,
}

impl<'a> FileName<'a> {
    pub(crate) fn parse(name: &'a str) -> Self {
        let (base, flags) = name.split_once(FLAGS).unwrap_or((name, ""));
        let mut fields = base.split(',');
        let stem = fields.next().unwrap_or_default();
        let (seconds, unique) = stem.split_once('.').unwrap_or(("", stem));
        let mut parsed = Self {
            seconds: seconds.parse().unwrap_or(0),
            base,
            flags,
            delivery: is_delivery(unique).then_some(unique),
            wire_size: None,
        };
        if parsed.delivery.is_some() {
            for field in fields {
                if let Some(size) = field.strip_prefix("S=").or(field.strip_prefix("W=")) {
                    parsed.wire_size = size.parse().ok();
                }
            }
        }
        parsed
    }

    /// The id by which POP3 clients know the message for ever: the delivery's, or the name that
    /// another program gave it if POP3 allows that (RFC 1939 section 7), or else `None`.
    pub(crate) fn unique(&self) -> Option<&'a str> {
        let graphic = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        self.delivery
            .or_else(|| (self.base.len() <= MAX_UNIQUE && graphic(self.base)).then_some(self.base))
    }
}

fn is_delivery(text: &str) -> bool {
    text.split_once('-').is_some_and(|(id, number)| {
        id.parse::<postrider_protocol::QueueId>().is_ok()
            && number.parse::<u32>().is_ok_and(|n| n.to_string() == number)
    })
}

/// The part of a file's name that is the same for every try at the same delivery, so that a
/// repeated one is recognised: `<seconds>.<queue id>-<n>`, the seconds being those in the id.
pub(crate) fn stem(delivery: DeliveryId) -> String {
    let seconds = accepted_seconds(delivery);
    format!("{seconds}.{}-{}", delivery.queue_id, delivery.number)
}

/// The time that a queue id carries (a version 7 UUID begins with milliseconds, in 48 bits).
fn accepted_seconds(delivery: DeliveryId) -> u64 {
    let milliseconds = (delivery.queue_id.as_u128() >> 80) as u64;
    milliseconds / 1_000
}

/// The whole name. Readers that count line ends find the size on the wire in `W=`, where it is
/// not the size on disk.
pub(crate) fn file(stem: &str, size: u64, wire_size: u64) -> String {
    if size == wire_size {
        format!("{stem},S={size}")
    } else {
        format!("{stem},S={size},W={wire_size}")
    }
}

#[cfg(test)]
mod tests {
    use postrider_protocol::QueueId;

    use super::*;

    #[test]
    fn folders_stay_in_their_place() {
        for (name, expected) in [
            ("alice@c.test", "c.test/alice"),
            ("o'neil@c.test", "c.test/o%27neil"),
            ("a/b@c.test", "c.test/a%2fb"),
            ("%2f@c.test", "c.test/%252f"),
            ("ä@c.test", "c.test/%c3%a4"),
        ] {
            assert_eq!(folder(&AccountName::parse(name).unwrap()), expected);
        }
        for text in ["..", ".", "../../etc", "\0", "a\\b", ".hidden", "/"] {
            let name = encode(text);
            assert!(
                !name.contains(['/', '\0', '\\']) && !name.starts_with('.'),
                "{name}"
            );
        }
        let longest = format!("{}@c.test", "é".repeat(32));
        assert!(folder(&AccountName::parse(&longest).unwrap()).len() < 255);
    }

    #[test]
    fn names_say_what_they_hold() {
        let delivery = DeliveryId {
            queue_id: QueueId::new(),
            number: 3,
        };
        let name = file(&stem(delivery), 120, 120) + ":2,S";
        let parsed = FileName::parse(&name);
        let unique = format!("{}-3", delivery.queue_id);
        assert_eq!(parsed.delivery, Some(unique.as_str()));
        assert_eq!(parsed.unique(), Some(unique.as_str()));
        assert_eq!((parsed.wire_size, parsed.flags), (Some(120), "S"));
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        assert!(now.abs_diff(parsed.seconds) < 5);
        assert_eq!(
            FileName::parse(&file(&stem(delivery), 120, 130)).wire_size,
            Some(130)
        );
    }

    #[test]
    fn names_of_others_are_not_believed() {
        let parsed = FileName::parse("1700000000.M1P2.host,S=5,W=6:2,RS");
        assert_eq!((parsed.wire_size, parsed.flags), (None, "RS"));
        assert_eq!(parsed.unique(), Some("1700000000.M1P2.host,S=5,W=6"));
        assert_eq!(FileName::parse("has space").unique(), None);
        assert_eq!(FileName::parse(&"x".repeat(71)).unique(), None);
        for odd in ["", ":2,", "..", "1.", "a,S=", "1.-1,S=99"] {
            assert_eq!(FileName::parse(odd).wire_size, None, "{odd}");
        }
    }
}
