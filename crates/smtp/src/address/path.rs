//! Paths: what stands in the angle brackets of MAIL and RCPT (RFC 5321 section 4.1.2).

use core::fmt;

use super::{Address, Domain, InvalidAddress};

/// Where notifications about a message go; the argument of MAIL FROM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: nobody is to be notified (RFC 5321 section 4.5.5).
    Null,
    /// `<address>`
    Address(Address),
}

/// Where a message goes; the argument of RCPT TO.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ForwardPath {
    /// `<postmaster>` without a domain, in any case (RFC 5321 section 4.1.1.3).
    Postmaster,
    /// `<address>`
    Address(Address),
}

impl ReversePath {
    /// Parses what stands between the angle brackets; nothing is the null reverse-path. A source
    /// route before the address is dropped.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        if text.is_empty() {
            return Ok(Self::Null);
        }
        Address::parse(without_route(text)?).map(Self::Address)
    }

    /// The address; `None` for the null reverse-path.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Null => None,
            Self::Address(address) => Some(address),
        }
    }

    /// The address without angle brackets; empty for the null reverse-path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.address().map_or("", Address::as_str)
    }
}

impl ForwardPath {
    /// Parses what stands between the angle brackets. A source route before the address is
    /// dropped.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let text = without_route(text)?;
        if text.eq_ignore_ascii_case("postmaster") {
            return Ok(Self::Postmaster);
        }
        Address::parse(text).map(Self::Address)
    }

    /// The address; `None` for the postmaster without a domain.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Postmaster => None,
            Self::Address(address) => Some(address),
        }
    }

    /// The address without angle brackets, or `postmaster`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.address().map_or("postmaster", Address::as_str)
    }
}

/// With angle brackets.
impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.as_str())
    }
}

/// With angle brackets.
impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.as_str())
    }
}

/// Drops a source route, `@one,@two:`, which must be accepted and should be ignored
/// (RFC 5321 appendix C).
fn without_route(text: &str) -> Result<&str, InvalidAddress> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    let mut rest = text;
    loop {
        let hop = rest.strip_prefix('@').ok_or(InvalidAddress::Domain)?;
        // A literal may hold a colon that does not end the route.
        let literal = if hop.starts_with('[') {
            hop.find(']').unwrap_or(0)
        } else {
            0
        };
        let end = hop[literal..]
            .find([',', ':'])
            .ok_or(InvalidAddress::Domain)?
            + literal;
        Domain::parse(&hop[..end])?;
        rest = &hop[end + 1..];
        if hop.as_bytes()[end] == b':' {
            return Ok(rest);
        }
    }
}

/// Octets of the path at the start of `text`, with its angle brackets. A `>` within a quoted
/// string does not end it.
pub(crate) fn bracketed_length(text: &str) -> Option<usize> {
    if !text.starts_with('<') {
        return None;
    }
    let (mut quoted, mut escaped) = (false, false);
    for (position, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(position + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn null_and_postmaster() {
        assert_eq!(ReversePath::parse(""), Ok(ReversePath::Null));
        assert_eq!(ReversePath::Null.to_string(), "<>");
        assert_eq!(
            ForwardPath::parse("PostMaster"),
            Ok(ForwardPath::Postmaster)
        );
        assert!(ForwardPath::parse("").is_err());
        assert!(ForwardPath::parse("bob").is_err());
        assert!(ReversePath::parse("postmaster").is_err());
    }

    #[test]
    fn ignores_source_routes() {
        let path = ForwardPath::parse("@one.example,@[IPv6:::1]:bob@example.org").unwrap();
        assert_eq!(path.to_string(), "<bob@example.org>");
        for bad in [
            "@one.example",
            "@one.example,bob@a.org",
            "@:bob@a.org",
            "@a,@b:",
            "@[:x",
        ] {
            assert!(ForwardPath::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn finds_the_end_of_a_path() {
        assert_eq!(bracketed_length("<a@b> SIZE=1"), Some(5));
        assert_eq!(bracketed_length("<\"a>\\\"b\"@c> x"), Some(11));
        assert_eq!(bracketed_length("<a@b"), None);
        assert_eq!(bracketed_length("a@b>"), None);
    }
}
