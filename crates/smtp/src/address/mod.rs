//! Mailbox addresses and paths (RFC 5321 sections 4.1.2 and 4.1.3; RFC 6531 for UTF-8).

mod domain;
mod local;
mod path;

use alloc::borrow::{Cow, ToOwned};
use alloc::boxed::Box;
use alloc::format;
use core::fmt;
use core::str::FromStr;

pub use domain::{AddressLiteral, Domain};
pub(crate) use path::bracketed_length as path_length;
pub use path::{ForwardPath, ReversePath};

/// Octets of a local part (RFC 5321 section 4.5.3.1.1).
pub const MAX_LOCAL_PART: usize = 64;
/// Octets of a domain (RFC 5321 section 4.5.3.1.2).
pub const MAX_DOMAIN: usize = 255;
/// Octets of an address: a path of 256 (RFC 5321 section 4.5.3.1.3) without its angle brackets.
pub const MAX_ADDRESS: usize = 254;

/// What is wrong with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// No `@` outside of a quoted string.
    #[error("an address needs a domain")]
    NoDomain,
    /// The local part is neither a dot-string nor a quoted string.
    #[error("bad local part")]
    LocalPart,
    /// The domain is neither a name nor an address literal.
    #[error("bad domain")]
    Domain,
    /// Local part, domain or the whole is longer than RFC 5321 section 4.5.3.1 allows.
    #[error("too long")]
    TooLong,
    /// The path is not `<address>`.
    #[error("a path needs angle brackets")]
    Brackets,
}

/// An address: `local-part@domain`, kept as it was written.
///
/// The local part means something to its host only (RFC 5321 section 2.3.11), so it is neither
/// unquoted nor put into another case here. Parsing what an address prints gives the same address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    text: Box<str>,
    /// Where the `@` between local part and domain is.
    at: u16,
}

impl Address {
    /// Parses `local-part@domain`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let at = local::length(text).ok_or(InvalidAddress::LocalPart)?;
        let Some(domain) = text[at..].strip_prefix('@') else {
            return Err(if at == text.len() {
                InvalidAddress::NoDomain
            } else {
                InvalidAddress::LocalPart
            });
        };
        if at > MAX_LOCAL_PART || text.len() > MAX_ADDRESS {
            return Err(InvalidAddress::TooLong);
        }
        Domain::parse(domain)?;
        Ok(Self {
            text: text.into(),
            at: u16::try_from(at).map_err(|_| InvalidAddress::TooLong)?,
        })
    }

    /// The whole, as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The local part as it was written, with quotes if it has some.
    #[must_use]
    pub fn local_part(&self) -> &str {
        &self.text[..usize::from(self.at)]
    }

    /// The local part as its host is to understand it: without quotes and quoting backslashes.
    #[must_use]
    pub fn local_part_unquoted(&self) -> Cow<'_, str> {
        local::unquote(self.local_part())
    }

    /// The domain as it was written.
    #[must_use]
    pub fn domain_text(&self) -> &str {
        &self.text[usize::from(self.at) + 1..]
    }

    /// The domain: a name or an address literal.
    #[must_use]
    pub fn domain(&self) -> Domain<'_> {
        // It was parsed before, so the fallback is never taken.
        Domain::parse(self.domain_text()).unwrap_or(Domain::Name(self.domain_text()))
    }

    /// The domain for comparing and for DNS: in lower case, international labels as A-labels;
    /// an address literal with its brackets.
    #[must_use]
    pub fn domain_ascii(&self) -> Cow<'_, str> {
        domain::ascii(self.domain_text()).unwrap_or(Cow::Borrowed(self.domain_text()))
    }

    /// Whether it can only travel with SMTPUTF8 as it is written (RFC 6531 section 3.2).
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// The same mailbox in ASCII: the domain's international labels as A-labels. `None` if the
    /// local part is international, because only its host may know another name for it.
    #[must_use]
    pub fn to_ascii(&self) -> Option<Self> {
        if self.is_ascii() {
            return Some(self.clone());
        }
        if !self.local_part().is_ascii() {
            return None;
        }
        Self::parse(&format!("{}@{}", self.local_part(), self.domain_ascii())).ok()
    }

    /// The same mailbox for people: A-labels of the domain as U-labels.
    #[must_use]
    pub fn to_unicode(&self) -> Self {
        let domain = domain::unicode(self.domain_text());
        Self::parse(&format!("{}@{domain}", self.local_part())).unwrap_or_else(|_| self.clone())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({:?})", self.text.to_owned())
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn takes_what_the_grammar_allows() {
        for text in [
            "bob@example.org",
            "Bob.Smith+tag@Example.ORG",
            "a!#$%&'*/=?^_`{|}~-b@example.org",
            "\"two words\"@example.org",
            "\"a@b>c\\\"d\"@example.org",
            "\"\"@example.org",
            "bob@localhost",
            "bob@a_b.example.org",
            "bob@[192.0.2.1]",
            "bob@[IPv6:2001:db8::1]",
            "bob@[x-tag:some.thing]",
            "bob@bücher.example",
            "用户@例え.テスト",
            "bob@xn--bcher-kva.example",
        ] {
            let address = Address::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(address.to_string(), text);
            assert_eq!(Address::parse(&address.to_string()), Ok(address));
        }
    }

    #[test]
    fn refuses_what_it_does_not() {
        use InvalidAddress as E;
        for (text, error) in [
            ("bob", E::NoDomain),
            ("", E::LocalPart),
            ("@example.org", E::LocalPart),
            ("bob@", E::Domain),
            (".bob@example.org", E::LocalPart),
            ("bob.@example.org", E::LocalPart),
            ("a..b@example.org", E::LocalPart),
            ("a b@example.org", E::LocalPart),
            ("a(b)@example.org", E::LocalPart),
            ("\"open@example.org", E::LocalPart),
            ("\"a\"b@example.org", E::LocalPart),
            ("\"a\u{7}\"@example.org", E::LocalPart),
            ("a\u{85}b@example.org", E::LocalPart),
            ("bob@-a.org", E::Domain),
            ("bob@a-.org", E::Domain),
            ("bob@a..org", E::Domain),
            ("bob@a.org.", E::Domain),
            ("bob@.a.org", E::Domain),
            ("bob@a b.org", E::Domain),
            ("bob@a@b.org", E::Domain),
            ("bob@a>.org", E::Domain),
            ("bob@[192.0.2]", E::Domain),
            ("bob@[192.0.2.1", E::Domain),
            ("bob@[IPv6:192.0.2.1]", E::Domain),
            ("bob@[IPv6:::g]", E::Domain),
            ("bob@[tag:]", E::Domain),
            ("bob@[tag:a]b]", E::Domain),
            ("bob@bü cher.example", E::Domain),
            ("bob@ü/.example", E::Domain),
        ] {
            assert_eq!(Address::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn holds_to_the_lengths() {
        let local = "a".repeat(64);
        assert!(Address::parse(&format!("{local}@b.org")).is_ok());
        assert_eq!(
            Address::parse(&format!("{local}a@b.org")),
            Err(InvalidAddress::TooLong)
        );
        let domain = ["abcdefg."; 24].concat() + "org";
        assert!(Address::parse(&format!("{}@{domain}", "a".repeat(58))).is_ok());
        assert_eq!(
            Address::parse(&format!("{}@{domain}", "a".repeat(60))),
            Err(InvalidAddress::TooLong)
        );
        let label = "x".repeat(64);
        assert_eq!(
            Address::parse(&format!("a@{label}.org")),
            Err(InvalidAddress::Domain)
        );
    }

    #[test]
    fn compares_domains_in_ascii() {
        for (text, ascii) in [
            ("a@Example.ORG", "example.org"),
            ("a@BÜCHER.example", "xn--bcher-kva.example"),
            ("a@XN--BCHER-KVA.example", "xn--bcher-kva.example"),
            ("a@[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]"),
            ("a@faß.example", "xn--fa-hia.example"),
        ] {
            assert_eq!(Address::parse(text).unwrap().domain_ascii(), ascii);
        }
        let address = Address::parse("bob@bücher.example").unwrap();
        let ascii = address.to_ascii().unwrap();
        assert_eq!(ascii.as_str(), "bob@xn--bcher-kva.example");
        assert_eq!(ascii.to_unicode(), address);
        assert_eq!(Address::parse("ü@a.example").unwrap().to_ascii(), None);
    }

    #[test]
    fn unquotes_the_local_part() {
        let address = Address::parse("\"a \\\"b\\\" c\"@example.org").unwrap();
        assert_eq!(address.local_part_unquoted(), "a \"b\" c");
        assert_eq!(
            Address::parse("bob@example.org")
                .unwrap()
                .local_part_unquoted(),
            "bob"
        );
    }
}
