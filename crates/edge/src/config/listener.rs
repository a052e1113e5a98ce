//! Where mail is taken, and in which role.

use std::net::{Ipv6Addr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One listening socket.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerConfig {
    /// Address and port, e.g. `192.0.2.1:25` or `[::]:25`. `[::]` takes IPv4 as well, and falls
    /// back to "0.0.0.0" on a machine without IPv6.
    #[schemars(with = "String")]
    pub address: SocketAddr,

    /// Who talks here: "mx" other servers (port 25), "submission" mail programs that start TLS
    /// by STARTTLS (port 587), "submissions" mail programs that speak TLS from the first byte
    /// (port 465). Both kinds of submission ask for AUTH.
    pub role: Role,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv6Addr::UNSPECIFIED, Role::Mx.standard_port())),
            role: Role::Mx,
        }
    }
}

impl ListenerConfig {
    /// The three roles at their standard ports, on every address of the machine.
    #[must_use]
    pub fn standard() -> Vec<Self> {
        [Role::Mx, Role::Submission, Role::Submissions]
            .into_iter()
            .map(|role| Self {
                address: SocketAddr::from((Ipv6Addr::UNSPECIFIED, role.standard_port())),
                role,
            })
            .collect()
    }
}

/// Who talks at a listener.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Other servers, with mail for the domains that are here (RFC 5321).
    Mx,
    /// Mail programs, after STARTTLS and AUTH (RFC 6409).
    Submission,
    /// Mail programs, with TLS from the first byte, and AUTH (RFC 8314 section 3.3).
    Submissions,
}

impl Role {
    /// The name as it stands in the config, the metrics and a message's origin.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mx => "mx",
            Self::Submission => "submission",
            Self::Submissions => "submissions",
        }
    }

    /// Whether mail programs hand in mail here, rather than servers.
    #[must_use]
    pub fn is_submission(self) -> bool {
        self != Self::Mx
    }

    /// Whether TLS begins with the connection.
    #[must_use]
    pub fn is_implicit_tls(self) -> bool {
        self == Self::Submissions
    }

    fn standard_port(self) -> u16 {
        match self {
            Self::Mx => 25,
            Self::Submission => 587,
            Self::Submissions => 465,
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
