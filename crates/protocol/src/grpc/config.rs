//! The section `[services]`.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

use super::error::SetupError;

/// How the services reach each other when each runs as a process of its own. The one-process mode
/// does not use it, but for the operators' commands.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServicesConfig {
    /// Where edge, delivery and the operators' commands reach the queue: "http://host:port", or
    /// "https://host:port" with mutual TLS.
    pub queue: String,
    /// Where edge and delivery reach the mailboxes.
    pub mailbox: String,
    /// Where the queue listens for the other services.
    pub queue_listen: SocketAddr,
    /// Where the mailboxes listen for the other services.
    pub mailbox_listen: SocketAddr,
    /// PEM file with the authority that has signed the certificates of all services. Whoever holds a
    /// certificate of it is let in, so it should sign nothing else. Set all of `ca`,
    /// `certificate` and `key`, or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// PEM file with this service's certificate. It must be valid for the host name by which the
    /// others reach it, and for use by servers and by clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key of the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Whether services may talk without TLS off loopback too. Only for a network that nobody else
    /// can listen to: mail and passwords cross it in the clear, and whoever reaches a service is let in.
    pub allow_insecure: bool,
}

impl Default for ServicesConfig {
    fn default() -> Self {
        Self {
            queue: "http://127.0.0.1:8027".to_owned(),
            mailbox: "http://127.0.0.1:8028".to_owned(),
            queue_listen: SocketAddr::from(([127, 0, 0, 1], 8027)),
            mailbox_listen: SocketAddr::from(([127, 0, 0, 1], 8028)),
            ca: None,
            certificate: None,
            key: None,
            allow_insecure: false,
        }
    }
}

/// The files of mutual TLS, read.
pub(super) struct Pem {
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl ServicesConfig {
    /// What the types cannot say: problems, each with its key.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, address) in [("queue", &self.queue), ("mailbox", &self.mailbox)] {
            if let Err(error) = self.check_target(key, address) {
                problems.push(error.to_string());
            }
        }
        for (key, address) in [
            ("queue_listen", self.queue_listen),
            ("mailbox_listen", self.mailbox_listen),
        ] {
            if let Err(error) = self.check_listen(key, address) {
                problems.push(error.to_string());
            }
        }
        if let Err(error) = self.has_tls() {
            problems.push(error.to_string());
        }
        problems.dedup();
        problems
    }

    /// Whether all files of mutual TLS are set, and not only some.
    pub(super) fn has_tls(&self) -> Result<bool, SetupError> {
        let files = [
            ("ca", &self.ca),
            ("certificate", &self.certificate),
            ("key", &self.key),
        ];
        match files.iter().find(|(_, file)| file.is_none()) {
            None => Ok(true),
            Some((missing, _)) if files.iter().any(|(_, file)| file.is_some()) => {
                Err(SetupError::IncompleteTls { missing })
            }
            Some(_) => Ok(false),
        }
    }

    /// Refuses to listen off loopback without mutual TLS, unless told otherwise by name.
    pub(super) fn check_listen(&self, key: &str, address: SocketAddr) -> Result<(), SetupError> {
        if self.has_tls()? || self.allow_insecure || address.ip().is_loopback() {
            return Ok(());
        }
        Err(SetupError::Insecure {
            key: key.to_owned(),
            address: address.to_string(),
        })
    }

    /// The same for the side that calls, and the scheme must say what is done.
    pub(super) fn check_target(&self, key: &str, address: &str) -> Result<(), SetupError> {
        let tls = self.has_tls()?;
        let (scheme, example) = if tls {
            ("https://", "https://queue.example.org:8027")
        } else {
            ("http://", "http://127.0.0.1:8027")
        };
        let host = address
            .strip_prefix(scheme)
            .map(|rest| rest.trim_end_matches('/'))
            .and_then(|rest| rest.rsplit_once(':'))
            .filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
            .map(|(host, _)| host.trim_matches(['[', ']']))
            .ok_or_else(|| SetupError::Address {
                key: key.to_owned(),
                address: address.to_owned(),
                example,
            })?;
        let loopback = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if tls || self.allow_insecure || loopback {
            return Ok(());
        }
        Err(SetupError::Insecure {
            key: key.to_owned(),
            address: address.to_owned(),
        })
    }

    /// Reads the files, if they are set.
    pub(super) fn read_tls(&self) -> Result<Option<Pem>, SetupError> {
        self.has_tls()?;
        let read = |key: &'static str, path: &Path| {
            std::fs::read(path).map_err(|source| SetupError::File {
                key,
                path: path.to_owned(),
                source,
            })
        };
        match (&self.ca, &self.certificate, &self.key) {
            (Some(ca), Some(certificate), Some(key)) => Ok(Some(Pem {
                ca: read("ca", ca)?,
                certificate: read("certificate", certificate)?,
                key: read("key", key)?,
            })),
            _ => Ok(None),
        }
    }
}

impl Pem {
    pub(super) fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(Identity::from_pem(&self.certificate, &self.key))
            .client_ca_root(Certificate::from_pem(&self.ca))
            .timeout(super::deadline::CONNECT)
    }

    pub(super) fn client(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .identity(Identity::from_pem(&self.certificate, &self.key))
            .ca_certificate(Certificate::from_pem(&self.ca))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_needs_no_tls_and_the_network_does() {
        let config = ServicesConfig::default();
        assert!(config.validate().is_empty());
        let open = ServicesConfig {
            queue: "http://queue.internal:8027".to_owned(),
            queue_listen: "0.0.0.0:8027".parse().unwrap(),
            ..ServicesConfig::default()
        };
        let problems = open.validate();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("services.queue: http://queue.internal:8027 is not on"));
        assert!(problems[1].starts_with("services.queue_listen: 0.0.0.0:8027 is not on"));
        let told = ServicesConfig {
            allow_insecure: true,
            ..open
        };
        assert!(told.validate().is_empty());
    }

    #[test]
    fn tls_is_whole_or_absent_and_the_scheme_says_so() {
        let some = ServicesConfig {
            ca: Some("ca.pem".into()),
            certificate: Some("c.pem".into()),
            ..ServicesConfig::default()
        };
        assert!(
            some.validate()[0].starts_with("services.key: is missing"),
            "{:?}",
            some.validate()
        );
        let all = ServicesConfig {
            key: Some("k.pem".into()),
            ..some
        };
        assert!(all.validate()[0].contains("such as \"https://"));
    }

    #[test]
    fn addresses_that_are_none_are_refused() {
        for address in [
            "",
            "127.0.0.1:8027",
            "http://127.0.0.1",
            "http://:80",
            "https://[::1]:1",
        ] {
            let config = ServicesConfig {
                mailbox: address.to_owned(),
                ..ServicesConfig::default()
            };
            assert_eq!(config.validate().len(), 1, "{address}");
        }
        let six = ServicesConfig {
            mailbox: "http://[::1]:8028".to_owned(),
            ..ServicesConfig::default()
        };
        assert!(six.validate().is_empty());
    }
}
