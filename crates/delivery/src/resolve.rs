//! What DNS says: mail exchangers and addresses (RFC 5321 section 5).
//!
//! One resolver, and with it one cache, serves the process. What DNS cannot say now is a
//! deferral; what it denies for good is a permanent failure; both come back as a [`Verdict`].

mod order;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use rand::seq::SliceRandom as _;

use crate::config::{AddressFamily, DeliveryConfig};
use crate::outcome::Verdict;

/// Answers about mail domains.
pub(crate) struct Resolver {
    dns: TokioResolver,
    own_name: String,
    family: AddressFamily,
    /// For one question in all, with repetitions.
    deadline: Duration,
}

/// The hosts that take mail for a domain, best first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exchangers {
    pub(crate) hosts: Vec<String>,
    /// There is no MX: the domain's own address counts (RFC 5321 section 5.1).
    pub(crate) implicit: bool,
}

/// Why an answer holds no records.
enum Nothing {
    /// The name does not exist.
    NoName,
    /// The name exists without records of this type.
    NoRecords,
    /// Nobody could say; in words for people.
    Unknown(String),
}

impl Resolver {
    /// A resolver for this configuration; `own_name` is what this server is called in MX records.
    pub(crate) fn new(config: &DeliveryConfig, own_name: &str) -> anyhow::Result<Self> {
        let of = |servers: &[SocketAddr]| {
            let servers = servers.iter().copied().map(name_server).collect();
            TokioResolver::builder_with_config(
                ResolverConfig::from_name_servers(servers),
                TokioRuntimeProvider::default(),
            )
        };
        let mut builder = if config.resolvers.is_empty() {
            TokioResolver::builder_tokio().unwrap_or_else(|error| {
                // As resolv.conf(5) has it for a system without that file.
                tracing::warn!(%error, "the system names no DNS servers; asking 127.0.0.1:53");
                of(&[SocketAddr::from(([127, 0, 0, 1], 53))])
            })
        } else {
            of(&config.resolvers)
        };
        let options = builder.options_mut();
        options.timeout = config.resolver_timeout.0;
        options.attempts = 2;
        options.cache_size = 32_768;
        options.try_tcp_on_error = true;
        Ok(Self {
            dns: builder.build().context("setting up DNS")?,
            own_name: own_name.to_owned(),
            family: config.addresses,
            deadline: config.resolver_timeout.0.saturating_mul(6),
        })
    }

    /// The exchangers of a domain, in the order in which they are to be tried.
    pub(crate) async fn exchangers(&self, domain: &str) -> Result<Exchangers, Verdict> {
        let implicit = || {
            // Mail that DNS routes to ourselves, and that is not ours, would come back for ever.
            if order::same_host(domain, &self.own_name) {
                return Err(order::looping(domain));
            }
            Ok(Exchangers {
                hosts: vec![domain.to_owned()],
                implicit: true,
            })
        };
        match self.ask(domain, RecordType::MX).await {
            Ok(lookup) => {
                let records = lookup
                    .answers()
                    .iter()
                    .filter_map(|record| match &record.data {
                        RData::MX(mx) => Some((mx.preference, host_name(&mx.exchange))),
                        _ => None,
                    })
                    .collect::<Vec<_>>();
                if records.is_empty() {
                    return implicit();
                }
                order::by_preference(domain, records, &self.own_name).map(|hosts| Exchangers {
                    hosts,
                    implicit: false,
                })
            }
            Err(Nothing::NoRecords) => implicit(),
            Err(Nothing::NoName) => Err(Verdict::failed(
                550,
                "5.1.2",
                format!("The domain {domain} does not exist"),
            )),
            Err(Nothing::Unknown(why)) => Err(Verdict::deferred(
                "4.4.3",
                format!("DNS did not say which servers take mail for {domain}: {why}"),
            )),
        }
    }

    /// The addresses of a host, the two kinds in turn. Empty if it has none.
    pub(crate) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Verdict> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![address]);
        }
        let (four, six) = match self.family {
            AddressFamily::Any => {
                let (four, six) = tokio::join!(
                    self.ask(host, RecordType::A),
                    self.ask(host, RecordType::AAAA)
                );
                (Some(four), Some(six))
            }
            AddressFamily::Ipv4 => (Some(self.ask(host, RecordType::A).await), None),
            AddressFamily::Ipv6 => (None, Some(self.ask(host, RecordType::AAAA).await)),
        };
        let mut unknown = None;
        let [four, six] = [four, six].map(|answer| match answer {
            Some(Ok(lookup)) => addresses_of(&lookup),
            Some(Err(Nothing::Unknown(why))) => {
                unknown = Some(why);
                Vec::new()
            }
            Some(Err(Nothing::NoName | Nothing::NoRecords)) | None => Vec::new(),
        });
        let addresses = order::alternate(four, six);
        match unknown {
            Some(why) if addresses.is_empty() => Err(Verdict::deferred(
                "4.4.3",
                format!("DNS did not say the address of {host}: {why}"),
            )),
            _ => Ok(addresses),
        }
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Result<Lookup, Nothing> {
        // A name that is none has no records, whoever is asked.
        let mut name = Name::from_ascii(name).map_err(|_| Nothing::NoName)?;
        name.set_fqdn(true);
        match tokio::time::timeout(self.deadline, self.dns.lookup(name, kind)).await {
            Ok(answer) => answer.map_err(|error| nothing(&error)),
            Err(_) => Err(Nothing::Unknown("no answer in time".to_owned())),
        }
    }
}

fn nothing(error: &NetError) -> Nothing {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(answer)) => match answer.response_code {
            ResponseCode::NXDomain => Nothing::NoName,
            ResponseCode::NoError => Nothing::NoRecords,
            other => Nothing::Unknown(other.to_string()),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => Nothing::Unknown(code.to_string()),
        NetError::Timeout => Nothing::Unknown("no answer in time".to_owned()),
        other => Nothing::Unknown(other.to_string()),
    }
}

/// The addresses of an answer, shuffled, so that the hosts behind one name share the load.
fn addresses_of(lookup: &Lookup) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = lookup
        .answers()
        .iter()
        .filter_map(|record| record.data.ip_addr())
        .collect();
    addresses.shuffle(&mut rand::rng());
    addresses
}

/// A name as text: ASCII, lower case, without the root's dot; the root itself is empty.
fn host_name(name: &Name) -> String {
    let text = name.to_ascii().to_ascii_lowercase();
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
        .map(|mut connection| {
            connection.port = address.port();
            connection
        })
        .to_vec();
    NameServerConfig::new(address.ip(), true, connections)
}
