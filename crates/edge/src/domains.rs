//! Which domains are here, and where a recipient's mail goes next.

use std::collections::HashSet;

use postrider_protocol::Destination;
use postrider_protocol::destination::{MAILBOX, SMTP};
use postrider_smtp::address::{Address, ForwardPath};

/// The domains whose mailboxes are on this server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Domains {
    /// In ASCII and lower case.
    local: HashSet<String>,
    /// Takes mail to `<postmaster>`, which names no domain.
    first: Option<String>,
}

/// A recipient with what follows from its domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Routed {
    /// The address; `<postmaster>` has become the postmaster of this server's first domain.
    pub(crate) address: String,
    /// Where it goes next.
    pub(crate) destination: Destination,
    /// Its domain is here.
    pub(crate) local: bool,
}

impl Domains {
    /// The domains of the config; the host's own name stands in where none is set, so that
    /// `<postmaster>` always has a domain.
    pub(crate) fn new(domains: &[String], hostname: &str) -> Self {
        Self {
            local: domains.iter().map(|domain| ascii(domain)).collect(),
            first: domains
                .first()
                .or((!hostname.is_empty()).then_some(&hostname.to_owned()))
                .map(|domain| ascii(domain)),
        }
    }

    /// Where mail to a path goes.
    pub(crate) fn route(&self, path: &ForwardPath) -> Routed {
        match path {
            ForwardPath::Address(address) => {
                let domain = address.domain_ascii();
                let local = self.local.contains(domain.as_ref());
                Routed {
                    destination: destination(&domain, local),
                    address: address.as_str().to_owned(),
                    local,
                }
            }
            // RFC 5321 section 4.5.1: this one must always be taken.
            ForwardPath::Postmaster => {
                let domain = self.first.as_deref().unwrap_or("localhost");
                Routed {
                    address: format!("postmaster@{domain}"),
                    destination: destination(domain, true),
                    local: true,
                }
            }
        }
    }
}

fn destination(domain: &str, local: bool) -> Destination {
    Destination::new(if local { MAILBOX } else { SMTP }, domain)
}

/// A domain of the config as addresses' domains are compared.
fn ascii(domain: &str) -> String {
    Address::parse(&format!("postmaster@{domain}")).map_or_else(
        |_| domain.to_ascii_lowercase(),
        |address| address.domain_ascii().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str) -> Routed {
        let domains = ["Here.test".to_owned(), "bücher.example".to_owned()];
        Domains::new(&domains, "mx.here.test").route(&ForwardPath::parse(path).unwrap())
    }

    #[test]
    fn local_domains_go_to_the_mailbox() {
        let here = route("Alice@HERE.test");
        assert_eq!(here.destination.as_str(), "mailbox:here.test");
        assert_eq!(here.address, "Alice@HERE.test");
        assert!(here.local);
        for path in ["a@bücher.example", "a@xn--bcher-kva.example"] {
            let idn = route(path);
            assert_eq!(idn.destination.as_str(), "mailbox:xn--bcher-kva.example");
        }
    }

    #[test]
    fn all_others_go_out() {
        assert_eq!(
            route("a@Example.ORG").destination.as_str(),
            "smtp:example.org"
        );
        assert_eq!(
            route("a@[192.0.2.1]").destination.as_str(),
            "smtp:[192.0.2.1]"
        );
        assert!(!route("a@sub.here.test").local);
    }

    #[test]
    fn postmaster_is_always_here() {
        let postmaster = route("Postmaster");
        assert_eq!(postmaster.address, "postmaster@here.test");
        assert_eq!(postmaster.destination.as_str(), "mailbox:here.test");
        let none = Domains::new(&[], "mx.test").route(&ForwardPath::Postmaster);
        assert_eq!(none.address, "postmaster@mx.test");
    }
}
