//! Where a recipient's mail goes next.

use std::fmt;
use std::str::FromStr;

/// Transport and domain: `smtp:example.org`, `mailbox:here.test`.
///
/// The domain is in lower case and, where it is international, in its ASCII form, so that
/// equal destinations are equal as text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination(String);

/// The transport of recipients whose mailbox is here.
pub const MAILBOX: &str = "mailbox";
/// The transport of recipients on other servers, by SMTP.
pub const SMTP: &str = "smtp";

impl Destination {
    /// The destination of a domain (already ASCII) or address literal over a transport.
    #[must_use]
    pub fn new(transport: &str, domain: &str) -> Self {
        Self(format!("{transport}:{}", domain.to_ascii_lowercase()))
    }

    /// `smtp`, `mailbox`.
    #[must_use]
    pub fn transport(&self) -> &str {
        self.0
            .split_once(':')
            .map_or("", |(transport, _)| transport)
    }

    /// The domain or address literal.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, domain)| domain)
    }

    /// The whole as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text that is no destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a destination: transport:domain")]
pub struct InvalidDestination;

impl FromStr for Destination {
    type Err = InvalidDestination;

    fn from_str(text: &str) -> Result<Self, InvalidDestination> {
        match text.split_once(':') {
            Some((transport, domain))
                if !transport.is_empty()
                    && !domain.is_empty()
                    && transport.bytes().all(|byte| byte.is_ascii_lowercase())
                    && !domain
                        .bytes()
                        .any(|byte| byte.is_ascii_uppercase() || byte <= b' ') =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(InvalidDestination),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_print_and_parse() {
        let destination = Destination::new(SMTP, "Example.ORG");
        assert_eq!(destination.as_str(), "smtp:example.org");
        assert_eq!(destination.transport(), "smtp");
        assert_eq!(destination.domain(), "example.org");
        assert_eq!("smtp:example.org".parse(), Ok(destination));
        assert!("example.org".parse::<Destination>().is_err());
        assert!(":x".parse::<Destination>().is_err());
    }
}
