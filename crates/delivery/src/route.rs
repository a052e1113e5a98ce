//! Which way a delivery goes: the routing table, compiled.

use std::sync::Arc;

use anyhow::Context as _;
use postrider_smtp::credentials::Credentials;

use crate::config::{DeliveryConfig, Pattern, RouteConfig, TlsPolicy, Via};

/// The next hop of a delivery. Two deliveries with equal hops may share a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hop {
    /// To the servers that DNS names for the recipient's domain.
    Mx {
        /// The domain or address literal.
        domain: String,
        port: u16,
        tls: TlsPolicy,
    },
    /// To one configured host.
    Smarthost(Arc<Smarthost>),
    /// Nowhere.
    Discard,
}

/// A host that mail is handed to, whatever DNS says about the recipient.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Smarthost {
    /// A name, or an address.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: TlsPolicy,
    pub(crate) credentials: Option<Credentials>,
}

/// The table.
pub(crate) struct Routes {
    lines: Vec<Line>,
    port: u16,
    tls: TlsPolicy,
}

struct Line {
    recipient: Pattern,
    sender: Pattern,
    target: Target,
}

enum Target {
    Mx(TlsPolicy),
    Smarthost(Arc<Smarthost>),
    Discard,
}

impl Routes {
    /// Compiles the table; passwords are read now, so that a missing one is told at start.
    pub(crate) fn new(config: &DeliveryConfig) -> anyhow::Result<Self> {
        let lines = config
            .routes
            .iter()
            .enumerate()
            .map(|(number, route)| {
                Line::new(route, config).with_context(|| format!("delivery.routes[{number}]"))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            lines,
            port: config.port,
            tls: config.tls,
        })
    }

    /// The hop for a recipient's domain (or address literal) and a reverse-path.
    pub(crate) fn hop(&self, domain: &str, reverse_path: &str) -> Hop {
        let mx = |tls| Hop::Mx {
            domain: domain.to_owned(),
            port: self.port,
            tls,
        };
        if self.lines.is_empty() {
            return mx(self.tls);
        }
        let sender = reverse_path
            .rsplit_once('@')
            .map_or("", |(_, domain)| domain)
            .to_ascii_lowercase();
        self.lines
            .iter()
            .find(|line| line.recipient.matches(domain) && line.sender.matches(&sender))
            .map_or_else(
                || mx(self.tls),
                |line| match &line.target {
                    Target::Mx(tls) => mx(*tls),
                    Target::Smarthost(host) => Hop::Smarthost(host.clone()),
                    Target::Discard => Hop::Discard,
                },
            )
    }
}

impl Line {
    fn new(route: &RouteConfig, config: &DeliveryConfig) -> anyhow::Result<Self> {
        let target = match &route.via {
            Via::Discard => Target::Discard,
            Via::Mx => Target::Mx(route.tls.unwrap_or(config.tls)),
            Via::Smarthost { host, port } => {
                let credentials = credentials(route)?;
                // A password goes to nobody whose certificate does not name the host, unless
                // the route says so itself.
                let otherwise = match credentials {
                    Some(_) => TlsPolicy::Required,
                    None => config.tls,
                };
                Target::Smarthost(Arc::new(Smarthost {
                    host: host.clone(),
                    port: port.unwrap_or(config.port),
                    tls: route.tls.unwrap_or(otherwise),
                    credentials,
                }))
            }
        };
        Ok(Self {
            recipient: route.recipient.clone(),
            sender: route.sender.clone(),
            target,
        })
    }
}

fn credentials(route: &RouteConfig) -> anyhow::Result<Option<Credentials>> {
    let password = match (&route.password_file, &route.password_env) {
        (Some(file), _) => std::fs::read_to_string(file)
            .with_context(|| format!("password_file {}", file.display()))?
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
        (None, Some(name)) => {
            std::env::var(name).with_context(|| format!("password_env {name}"))?
        }
        (None, None) => return Ok(None),
    };
    anyhow::ensure!(!password.is_empty(), "the password is empty");
    Ok(Some(Credentials::new(route.username.as_str(), password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(routes: Vec<RouteConfig>) -> Routes {
        Routes::new(&DeliveryConfig {
            routes,
            ..DeliveryConfig::default()
        })
        .unwrap()
    }

    fn route(recipient: &str, sender: &str, via: &str) -> RouteConfig {
        RouteConfig {
            recipient: recipient.parse().unwrap(),
            sender: sender.parse().unwrap(),
            via: via.parse().unwrap(),
            ..RouteConfig::default()
        }
    }

    #[test]
    fn the_first_match_counts() {
        let routes = table(vec![
            route("void.test", "*", "discard"),
            route("*", "<>", "bounces.relay.test:26"),
            route("*.inside.test", "Here.test", "relay.test"),
        ]);
        assert_eq!(routes.hop("void.test", "a@b.test"), Hop::Discard);
        let Hop::Smarthost(host) = routes.hop("x.test", "") else {
            panic!("the null reverse-path has a route");
        };
        assert_eq!((host.host.as_str(), host.port), ("bounces.relay.test", 26));
        let Hop::Smarthost(host) = routes.hop("a.inside.test", "bob@HERE.test") else {
            panic!("both patterns match");
        };
        assert_eq!((host.host.as_str(), host.port), ("relay.test", 25));
        assert!(matches!(
            routes.hop("a.inside.test", "bob@there.test"),
            Hop::Mx { .. }
        ));
    }

    #[test]
    fn a_password_asks_for_a_verified_host_and_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "geheim\nsecond line").unwrap();
        let routes = table(vec![RouteConfig {
            username: "me".to_owned(),
            password_file: Some(file),
            ..route("*", "*", "relay.test:587")
        }]);
        let hop = routes.hop("x.test", "a@b.test");
        assert!(!format!("{hop:?}").contains("geheim"));
        let Hop::Smarthost(host) = hop else {
            panic!("it is a smarthost");
        };
        assert_eq!(host.tls, TlsPolicy::Required);
        assert_eq!(&*host.credentials.as_ref().unwrap().password, "geheim");
    }

    #[test]
    fn a_missing_password_is_told_at_start() {
        let config = DeliveryConfig {
            routes: vec![RouteConfig {
                username: "me".to_owned(),
                password_file: Some("/nonexistent/password".into()),
                ..route("*", "*", "relay.test")
            }],
            ..DeliveryConfig::default()
        };
        let error = format!("{:#}", Routes::new(&config).err().unwrap());
        assert!(error.contains("routes[0]"), "{error}");
    }
}
