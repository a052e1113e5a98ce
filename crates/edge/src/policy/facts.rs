//! What the stages know.

use std::net::{IpAddr, Ipv6Addr};

use crate::config::Role;

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its address; an IPv4 address that came over an IPv6 socket is an IPv4 address.
    pub address: IpAddr,
    /// The listener's role.
    pub role: Role,
    /// It comes from a trusted network.
    pub trusted: bool,
}

impl Client {
    /// A client.
    #[must_use]
    pub fn new(address: IpAddr, role: Role, trusted: bool) -> Self {
        Self {
            address: address.to_canonical(),
            role,
            trusted,
        }
    }

    /// What counts as one client for limits: an IPv4 address, or an IPv6 /64, because a single
    /// customer gets at least that many addresses.
    #[must_use]
    pub fn limit_key(address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        }
    }
}

/// At connect.
#[derive(Debug, Clone, Copy)]
pub struct ConnectFacts<'a> {
    /// Who connects.
    pub client: &'a Client,
    /// Connections open now, this one included.
    pub connections: u32,
    /// Connections open now from this client, this one included.
    pub connections_of_client: u32,
}

/// Within a session, after EHLO or HELO.
#[derive(Debug, Clone, Copy)]
pub struct SessionFacts<'a> {
    /// Who talks.
    pub client: &'a Client,
    /// What the client called itself.
    pub hello: &'a str,
    /// Whether TLS is in force.
    pub encrypted: bool,
    /// The account that has authenticated.
    pub account: Option<&'a str>,
}

/// At MAIL.
#[derive(Debug, Clone, Copy)]
pub struct MailFacts<'a> {
    /// The session.
    pub session: SessionFacts<'a>,
    /// `None` is the null reverse-path.
    pub reverse_path: Option<Address<'a>>,
}

/// At RCPT.
#[derive(Debug, Clone, Copy)]
pub struct RcptFacts<'a> {
    /// The session.
    pub session: SessionFacts<'a>,
    /// `None` is the null reverse-path.
    pub reverse_path: Option<Address<'a>>,
    /// The recipient.
    pub recipient: Address<'a>,
    /// Whether the recipient's domain is one of this server's.
    pub local: bool,
    /// Whether the recipient exists; known only for local ones, and where a stage needs it.
    pub existence: Option<Existence>,
}

/// When the header section of a message is known.
#[derive(Debug, Clone, Copy)]
pub struct ContentFacts<'a> {
    /// The session.
    pub session: SessionFacts<'a>,
    /// Received lines in the header section.
    pub hops: u32,
}

/// What the directory says of a local recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existence {
    /// It is there.
    Exists,
    /// It is not.
    NoSuchUser,
    /// The directory does not hold this domain.
    NotLocal,
    /// It has no room now.
    MailboxFull,
    /// The directory cannot say now.
    Unknown,
}

/// An address as the stages see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address<'a> {
    /// Left of the last `@`.
    pub local_part: &'a str,
    /// Right of it: a domain or an address literal; empty only for `<postmaster>`.
    pub domain: &'a str,
}

impl<'a> Address<'a> {
    /// Splits at the last `@`.
    #[must_use]
    pub fn parse(text: &'a str) -> Self {
        let (local_part, domain) = text.rsplit_once('@').unwrap_or((text, ""));
        Self { local_part, domain }
    }

    /// Whether it is the same address as this text; the domain's case does not matter, and,
    /// for people's sake, neither does that of the local part.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        let other = Address::parse(text);
        self.local_part.eq_ignore_ascii_case(other.local_part)
            && self.domain.eq_ignore_ascii_case(other.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_split_at_the_last_at_sign() {
        let odd = Address::parse("\"a@b\"@example.org");
        assert_eq!(odd.local_part, "\"a@b\"");
        assert_eq!(odd.domain, "example.org");
        assert!(Address::parse("Bob@Example.org").is("bob@example.ORG"));
        assert!(!Address::parse("bob@example.org").is("bob@example.net"));
    }

    #[test]
    fn an_ipv6_customer_is_one_client() {
        let key = |text: &str| Client::limit_key(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }
}
