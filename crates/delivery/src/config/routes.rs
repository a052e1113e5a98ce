//! The entries of `[[delivery.routes]]`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::is_host_name;

/// One line of the routing table. It matches if both patterns do.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteConfig {
    /// The recipient's domain: "example.org", "*.example.org" (any name below it, and itself
    /// not), or "*".
    pub recipient: Pattern,
    /// The domain of the reverse-path, written likewise; "<>" stands for the null reverse-path.
    pub sender: Pattern,
    /// "mx" (as DNS says), a smarthost "relay.example.net:587" (its A and AAAA records; without
    /// a port, that of `delivery.port`), or "discard" (counts as delivered and goes nowhere).
    pub via: Via,
    /// TLS on this route, if not as `delivery.tls` says.
    pub tls: Option<TlsPolicy>,
    /// The account at the smarthost. AUTH is only used over TLS.
    pub username: String,
    /// A file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// The environment variable that holds the password.
    pub password_env: Option<String>,
}

impl RouteConfig {
    pub(crate) fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let passwords =
            u8::from(self.password_file.is_some()) + u8::from(self.password_env.is_some());
        let smarthost = matches!(self.via, Via::Smarthost { .. });
        if !smarthost && (passwords > 0 || !self.username.is_empty()) {
            problems.push("only a smarthost takes a username and a password".to_owned());
        }
        if smarthost && (passwords == 0) != self.username.is_empty() {
            problems.push("username goes with one of password_file and password_env".to_owned());
        }
        if passwords == 2 {
            problems.push("password_file and password_env exclude each other".to_owned());
        }
        if !self.username.is_empty() && self.tls == Some(TlsPolicy::None) {
            problems.push("a password is never sent without TLS: tls must not be none".to_owned());
        }
        problems
    }
}

/// What connections must be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TlsPolicy {
    /// TLS where it is offered, without looking at the certificate; else plain.
    Opportunistic,
    /// TLS with a certificate that is valid for the host, or no delivery.
    Required,
    /// Never TLS.
    None,
}

/// A pattern of domains.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub enum Pattern {
    /// "*"
    #[default]
    Any,
    /// "<>": no domain at all.
    Null,
    /// "example.org"
    Exactly(String),
    /// "*.example.org", kept as ".example.org".
    Below(String),
}

impl Pattern {
    /// Whether the pattern matches a domain in lower case; the empty one is the null
    /// reverse-path's.
    #[must_use]
    pub fn matches(&self, domain: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Null => domain.is_empty(),
            Self::Exactly(name) => domain == name,
            Self::Below(suffix) => domain.ends_with(suffix.as_str()) && domain != suffix,
        }
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.trim().to_ascii_lowercase();
        match name.as_str() {
            "*" | "" => return Ok(Self::Any),
            "<>" => return Ok(Self::Null),
            _ => {}
        }
        let bare = name.strip_prefix("*.").unwrap_or(&name);
        if !is_host_name(bare) {
            return Err(format!(
                "{text:?} is not a pattern of domains such as \"example.org\" or \"*.example.org\""
            ));
        }
        Ok(if bare.len() == name.len() {
            Self::Exactly(name)
        } else {
            Self::Below(format!(".{bare}"))
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Null => f.write_str("<>"),
            Self::Exactly(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// Where a route leads.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub enum Via {
    /// As DNS says.
    #[default]
    Mx,
    /// To this host.
    Smarthost {
        /// A name, or an address without brackets.
        host: String,
        /// Its port; `None` is the port of all deliveries.
        port: Option<u16>,
    },
    /// Nowhere.
    Discard,
}

impl FromStr for Via {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        match text {
            "mx" => return Ok(Self::Mx),
            "discard" => return Ok(Self::Discard),
            _ => {}
        }
        let problem = || {
            format!(
                "{text:?} is neither \"mx\" nor \"discard\" nor a host such as \"relay.example.net:587\""
            )
        };
        let (host, port) = split_port(text).ok_or_else(problem)?;
        let address = host.parse::<std::net::IpAddr>().is_ok();
        if port == Some(0) || !(address || is_host_name(host)) {
            return Err(problem());
        }
        Ok(Self::Smarthost {
            host: host.to_ascii_lowercase(),
            port,
        })
    }
}

/// "host", "host:25", "192.0.2.1:25", "[2001:db8::1]:25".
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port.parse().ok()?))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match text.split_once(':') {
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
        None => Some((text, None)),
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mx => f.write_str("mx"),
            Self::Discard => f.write_str("discard"),
            Self::Smarthost { host, port } => {
                if host.contains(':') {
                    write!(f, "[{host}]")?;
                } else {
                    f.write_str(host)?;
                }
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
        }
    }
}

/// Serde by way of the text form.
macro_rules! as_text {
    ($kind:ty) => {
        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}
as_text!(Pattern);
as_text!(Via);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_what_they_say() {
        let below: Pattern = "*.Example.org".parse().unwrap();
        assert!(below.matches("mail.example.org"));
        assert!(!below.matches("example.org"));
        assert!(!below.matches("badexample.org"));
        let exactly: Pattern = "example.org".parse().unwrap();
        assert!(exactly.matches("example.org"));
        assert!(!exactly.matches("mail.example.org"));
        assert!("<>".parse::<Pattern>().unwrap().matches(""));
        assert!(Pattern::Any.matches("") && Pattern::Any.matches("x.y"));
        assert!("exa mple".parse::<Pattern>().is_err());
    }

    #[test]
    fn texts_print_and_parse() {
        for text in ["*", "<>", "example.org", "*.example.org"] {
            assert_eq!(text.parse::<Pattern>().unwrap().to_string(), text);
        }
        for text in [
            "mx",
            "discard",
            "relay.example.net:587",
            "relay.example.net",
            "[2001:db8::1]:25",
            "127.0.0.1:2525",
        ] {
            assert_eq!(text.parse::<Via>().unwrap().to_string(), text);
        }
        for text in ["", "host:", "host:0", "host:99999", "a b", "[::1", "[::1]x"] {
            assert!(text.parse::<Via>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn credentials_need_a_smarthost_and_tls() {
        let route = |via: &str, tls| RouteConfig {
            via: via.parse().unwrap(),
            tls,
            username: "me".to_owned(),
            password_env: Some("SECRET".to_owned()),
            ..RouteConfig::default()
        };
        assert!(route("relay.test:587", None).validate().is_empty());
        assert!(!route("mx", None).validate().is_empty());
        assert!(
            !route("relay.test", Some(TlsPolicy::None))
                .validate()
                .is_empty()
        );
    }
}
