//! The servers to try for a hop, one after the other.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::config::DeliveryConfig;
use crate::connection::Target;
use crate::metrics;
use crate::outcome::Verdict;
use crate::resolve::Resolver;
use crate::route::Hop;
use crate::unreachable::Unreachable;

/// Addresses tried in one attempt.
const MOST_TRIES: u32 = 8;

/// Gives one server after the other: hosts by preference, each with its addresses, which are
/// only looked up when the host's turn comes. Keeps the reasons why none was good.
pub(crate) struct Targets<'a> {
    resolver: &'a Resolver,
    config: &'a DeliveryConfig,
    unreachable: &'a Unreachable,
    hosts: VecDeque<String>,
    addresses: VecDeque<Target>,
    port: u16,
    source: Source,
    tries: u32,
    problem: Option<Verdict>,
}

/// Where the hosts come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// MX records.
    Mx,
    /// The domain itself, for want of MX records.
    Domain,
    /// The routing table.
    Route,
}

impl<'a> Targets<'a> {
    pub(crate) async fn of(
        hop: &Hop,
        resolver: &'a Resolver,
        config: &'a DeliveryConfig,
        unreachable: &'a Unreachable,
    ) -> Self {
        let mut targets = Self {
            resolver,
            config,
            unreachable,
            hosts: VecDeque::new(),
            addresses: VecDeque::new(),
            port: config.port,
            source: Source::Route,
            tries: 0,
            problem: None,
        };
        match hop {
            Hop::Smarthost(smarthost) => {
                targets.port = smarthost.port;
                targets.hosts.push_back(smarthost.host.clone());
            }
            Hop::Mx { domain, port, .. } => {
                targets.port = *port;
                targets.ask(domain).await;
            }
            Hop::Discard => {}
        }
        targets
    }

    async fn ask(&mut self, domain: &str) {
        if let Some(literal) = domain.strip_prefix('[') {
            self.source = Source::Domain;
            match literal_address(literal) {
                Some(address) => self.add(domain, vec![address]),
                None => self.note(Verdict::failed(
                    550,
                    "5.1.2",
                    format!("{domain} is not an address that mail can be sent to"),
                )),
            }
            return;
        }
        let begun = Instant::now();
        match self.resolver.exchangers(domain).await {
            Ok(exchangers) => {
                self.source = if exchangers.implicit {
                    Source::Domain
                } else {
                    Source::Mx
                };
                self.hosts = exchangers.hosts.into();
            }
            Err(verdict) => self.note(verdict),
        }
        metrics::handles().dns.record(begun.elapsed().as_secs_f64());
    }

    /// The next server to try, or `None` if there is none left.
    pub(crate) async fn next(&mut self) -> Option<Target> {
        loop {
            if self.tries >= MOST_TRIES {
                return None;
            }
            let Some(target) = self.addresses.pop_front() else {
                let host = self.hosts.pop_front()?;
                self.look_up(&host).await;
                continue;
            };
            match self.unreachable.reason(target.address) {
                Some(reason) => self.note(Verdict::deferred("4.4.1", reason)),
                None => {
                    self.tries += 1;
                    return Some(target);
                }
            }
        }
    }

    async fn look_up(&mut self, host: &str) {
        let begun = Instant::now();
        let answer = self.resolver.addresses(host).await;
        metrics::handles().dns.record(begun.elapsed().as_secs_f64());
        match answer {
            Ok(addresses) if addresses.is_empty() => self.note(match self.source {
                Source::Domain => Verdict::failed(
                    550,
                    "5.4.4",
                    format!("The domain {host} has neither mail servers (MX) nor an address"),
                ),
                // Somebody's mistake that is likely to be mended.
                Source::Mx => Verdict::deferred(
                    "4.4.4",
                    format!("The mail server {host} has no address in DNS"),
                ),
                Source::Route => Verdict::deferred(
                    "4.3.5",
                    format!("The configured smarthost {host} has no address"),
                ),
            }),
            Ok(addresses) => self.add(host, addresses),
            Err(verdict) => self.note(verdict),
        }
    }

    fn add(&mut self, host: &str, addresses: Vec<IpAddr>) {
        for ip in addresses {
            if self.source != Source::Route && self.config.refuses(ip) {
                self.note(Verdict::failed(
                    554,
                    "5.4.4",
                    format!("DNS names {ip} for {host}, where no other mail server can be"),
                ));
                continue;
            }
            self.addresses.push_back(Target {
                host: host.to_owned(),
                address: SocketAddr::new(ip, self.port),
            });
        }
    }

    /// Remembers why a server was no good. A reason that may pass outweighs one for good: as
    /// long as one server may yet take the mail, it is not returned.
    pub(crate) fn note(&mut self, verdict: Verdict) {
        let outweighed = self
            .problem
            .as_ref()
            .is_some_and(|known| known.is_deferred() && !verdict.is_deferred());
        if !outweighed {
            self.problem = Some(verdict);
        }
    }

    /// Why no server was good.
    pub(crate) fn problem(self) -> Verdict {
        self.problem
            .unwrap_or_else(|| Verdict::deferred("4.4.4", "No mail server could be tried"))
    }
}

/// "192.0.2.1]", "IPv6:2001:db8::1]" (RFC 5321 section 4.1.3).
fn literal_address(rest: &str) -> Option<IpAddr> {
    let literal = rest.strip_suffix(']')?;
    match literal.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => literal[5..].parse().ok().map(IpAddr::V6),
        _ => literal.parse().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read() {
        assert_eq!(literal_address("192.0.2.1]"), "192.0.2.1".parse().ok());
        assert_eq!(
            literal_address("ipv6:2001:db8::1]"),
            "2001:db8::1".parse().ok()
        );
        for bad in [
            "192.0.2.1",
            "2001:db8::1]",
            "x-tag:1]",
            "]",
            "IPv6:1.2.3.4]",
        ] {
            assert_eq!(literal_address(bad), None, "{bad}");
        }
    }
}
