//! What follows from the configuration and is replaced as a whole when that is reloaded.

use std::sync::Arc;

use anyhow::ensure;
use arc_swap::ArcSwap;
use postrider_config::ServerConfig;

use crate::config::DeliveryConfig;
use crate::dsn::Notifier;
use crate::resolve::Resolver;
use crate::route::Routes;

/// The current [`Active`]. Whoever begins something takes a snapshot and finishes with it.
pub(crate) type Live = Arc<ArcSwap<Active>>;

/// A configuration, ready for use.
pub(crate) struct Active {
    pub(crate) config: DeliveryConfig,
    /// For EHLO.
    pub(crate) client_name: String,
    pub(crate) routes: Routes,
    pub(crate) resolver: Resolver,
    pub(crate) notifier: Notifier,
}

impl Active {
    pub(crate) fn new(
        server: &ServerConfig,
        config: DeliveryConfig,
        instance: &str,
    ) -> anyhow::Result<Self> {
        let problems = config.validate();
        ensure!(problems.is_empty(), "{}", problems.join("\n"));
        let client_name = if config.client_name.is_empty() {
            server.hostname.clone()
        } else {
            config.client_name.clone()
        };
        Ok(Self {
            routes: Routes::new(&config)?,
            resolver: Resolver::new(&config, &server.hostname)?,
            notifier: Notifier::new(server, &config.dsn, instance),
            client_name,
            config,
        })
    }
}

/// Takes over a changed configuration while the service runs.
#[derive(Clone)]
pub struct Reloader {
    pub(crate) live: Live,
    pub(crate) server: ServerConfig,
    pub(crate) instance: String,
}

impl Reloader {
    /// Replaces routes, DNS servers, TLS policy, time-outs and the rest; connections that are
    /// open stay as they are until they close. Returns what could not be taken over, in words;
    /// if the new configuration is wrong as such, the old one stays in force.
    #[must_use]
    pub fn reload(&self, config: DeliveryConfig) -> Vec<String> {
        let before = self.live.load();
        let mut left = Vec::new();
        if config.connections != before.config.connections {
            left.push("delivery.connections takes effect after a restart".to_owned());
        }
        match Active::new(&self.server, config, &self.instance) {
            Ok(active) => self.live.store(Arc::new(active)),
            Err(error) => {
                left.push(format!("[delivery] stays as it was: {error:#}"));
            }
        }
        left
    }
}
