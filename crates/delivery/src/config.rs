//! The section `[delivery]`.

mod dsn;
mod routes;
mod timeouts;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use postrider_config::values::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use dsn::DsnConfig;
pub use routes::{Pattern, RouteConfig, TlsPolicy, Via};
pub use timeouts::Timeouts;

/// How mail leaves: routes, DNS, TLS, connections, time-outs, DSNs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeliveryConfig {
    /// Connections that this worker holds open in all. The queue shares them out between
    /// destinations; how many one destination gets is set there, for all workers together.
    /// Each costs some tens of KiB while it is in use. A change needs a restart.
    pub connections: u32,
    /// The name that this client gives in EHLO. Empty stands for `[server] hostname`. Many
    /// servers want it to resolve to the address that the connection comes from.
    pub client_name: String,
    /// The port that other servers are reached at when the MX or the recipient's domain names
    /// them (RFC 5321 section 4.5.4.2). Another than 25 makes sense on a test bench only.
    pub port: u16,
    /// DNS servers to ask, e.g. `["127.0.0.1:53"]`. Empty stands for the system's
    /// (`/etc/resolv.conf`). A caching resolver on the same machine is best.
    pub resolvers: Vec<SocketAddr>,
    /// Wait for one answer of a DNS server; it is asked twice before the delivery is deferred.
    pub resolver_timeout: Period,
    /// Which addresses of a host are tried: "any", "ipv4" or "ipv6". With "any" the two kinds
    /// alternate, so that one broken kind costs one connect time-out only.
    pub addresses: AddressFamily,
    /// Local addresses to connect from, at most one of each kind matters: the first IPv4 and
    /// the first IPv6 address of the list. Empty leaves the choice to the system.
    pub source_addresses: Vec<IpAddr>,
    /// Networks that are never connected to when DNS or an address literal names them. The
    /// default keeps mail for a domain whose MX points at `127.0.0.1` from coming back to this
    /// server as if from a trusted client. Smarthosts of `routes` are yours and are not
    /// restricted; nor is anything while `port` is not 25, because then no real MX is meant.
    #[schemars(with = "Vec<String>")]
    pub refused_networks: Vec<IpNet>,
    /// Where mail goes, if not to the MX of its domain. The first match counts.
    pub routes: Vec<RouteConfig>,
    /// TLS where no route says otherwise: "opportunistic" takes TLS where it is offered and
    /// verifies no certificate (RFC 7435), "required" delivers only over TLS with a certificate
    /// that is valid for the host, "none" never uses it.
    pub tls: TlsPolicy,
    /// A PEM file of certification authorities that count besides the system's where TLS is
    /// required, e.g. of a smarthost with a private one. A change needs a restart.
    pub tls_ca_file: Option<PathBuf>,
    /// Transactions on one connection before it is closed. 0 means no limit.
    pub messages_per_connection: u32,
    /// Recipients in one transaction; more are split. RFC 5321 section 4.5.3.1.8 obliges every
    /// server to take 100. Servers that take fewer say so, and the rest follows in a next one.
    pub recipients_per_transaction: u32,
    /// How long a connection stays open without a message before it is closed. Longer saves
    /// handshakes, but occupies the other server, and slots that other destinations may want.
    pub idle: Period,
    /// How long an address that could not be reached is passed over without a new try.
    pub unreachable: Period,
    /// Waits for the other side.
    pub timeouts: Timeouts,
    /// How long transactions in hand may take to finish when the service stops.
    pub drain: Period,
    /// Delivery status notifications.
    pub dsn: DsnConfig,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            connections: 500,
            client_name: String::new(),
            port: 25,
            resolvers: Vec::new(),
            resolver_timeout: Period::seconds(5),
            addresses: AddressFamily::Any,
            source_addresses: Vec::new(),
            refused_networks: REFUSED.iter().filter_map(|net| net.parse().ok()).collect(),
            routes: Vec::new(),
            tls: TlsPolicy::Opportunistic,
            tls_ca_file: None,
            messages_per_connection: 100,
            recipients_per_transaction: 100,
            idle: Period::seconds(5),
            unreachable: Period::seconds(60),
            timeouts: Timeouts::default(),
            drain: Period::seconds(30),
            dsn: DsnConfig::default(),
        }
    }
}

/// This host, loopback, multicast, broadcast: no other server can be there.
const REFUSED: [&str; 7] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "::/128",
    "::1/128",
    "ff00::/8",
];

impl DeliveryConfig {
    /// Problems that the types cannot rule out, each with the key's name.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.connections == 0 {
            problems.push("delivery.connections: at least 1".to_owned());
        }
        if self.recipients_per_transaction == 0 {
            problems.push("delivery.recipients_per_transaction: at least 1".to_owned());
        }
        if self.port == 0 {
            problems.push("delivery.port: 0 is no port to connect to".to_owned());
        }
        if !self.client_name.is_empty() && !is_host_name(&self.client_name) {
            problems.push(format!(
                "delivery.client_name: {:?} is not a host name",
                self.client_name
            ));
        }
        problems.extend(self.timeouts.validate());
        problems.extend(self.dsn.validate());
        for (number, route) in self.routes.iter().enumerate() {
            problems.extend(
                route
                    .validate()
                    .into_iter()
                    .map(|problem| format!("delivery.routes[{number}]: {problem}")),
            );
        }
        problems
    }

    /// Whether DNS may send us to this address.
    pub(crate) fn refuses(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.port == 25
            && self
                .refused_networks
                .iter()
                .any(|net| net.contains(&address))
    }
}

/// Which kinds of addresses are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AddressFamily {
    /// Both, in turn.
    Any,
    /// A records only.
    Ipv4,
    /// AAAA records only.
    Ipv6,
}

/// Letters, digits, hyphens and dots, or an address literal: what EHLO takes.
pub(crate) fn is_host_name(text: &str) -> bool {
    if let Some(literal) = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        let literal = literal.strip_prefix("IPv6:").unwrap_or(literal);
        return literal.parse::<IpAddr>().is_ok();
    }
    !text.is_empty()
        && text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid() {
        let config = DeliveryConfig::default();
        assert_eq!(config.validate(), Vec::<String>::new());
        assert_eq!(config.refused_networks.len(), REFUSED.len());
    }

    #[test]
    fn loopback_is_refused_on_the_smtp_port_only() {
        let mut config = DeliveryConfig::default();
        for refused in ["127.0.0.1", "::1", "0.0.0.0", "::ffff:127.0.0.1"] {
            assert!(config.refuses(refused.parse().unwrap()), "{refused}");
        }
        assert!(!config.refuses("192.0.2.1".parse().unwrap()));
        config.port = 2525;
        assert!(!config.refuses("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn every_problem_is_told() {
        let config = DeliveryConfig {
            connections: 0,
            client_name: "no host".to_owned(),
            routes: vec![RouteConfig {
                username: "someone".to_owned(),
                ..RouteConfig::default()
            }],
            ..DeliveryConfig::default()
        };
        let problems = config.validate().join("\n");
        for key in ["connections", "client_name", "routes[0]"] {
            assert!(problems.contains(key), "{key} in {problems}");
        }
    }
}
