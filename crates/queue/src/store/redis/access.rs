//! How servers are reached: credentials, TLS, and a client for an address.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo as _, ProtocolVersion, RedisConnectionInfo, TlsCertificates,
};

use super::config::RedisConfig;

/// Reaches servers that share credentials.
#[derive(Clone)]
pub(super) struct Access {
    /// User, password, database.
    login: RedisConnectionInfo,
    certificates: Option<TlsCertificates>,
    connect_timeout: Duration,
    response_timeout: Duration,
}

/// Whose credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    Servers,
    Sentinels,
}

impl Access {
    /// Reads passwords and certificates from where the settings say.
    pub(super) fn new(config: &RedisConfig, whom: Whom) -> anyhow::Result<Self> {
        let (prefix, username, file, env) = match whom {
            Whom::Servers => (
                "",
                &config.username,
                &config.password_file,
                &config.password_env,
            ),
            Whom::Sentinels => (
                "sentinel_",
                &config.sentinel_username,
                &config.sentinel_password_file,
                &config.sentinel_password_env,
            ),
        };
        let mut login = RedisConnectionInfo::default();
        if whom == Whom::Servers {
            login = login.set_db(database(config)?);
        }
        if !username.is_empty() {
            login = login.set_username(username);
        }
        if let Some(file) = file {
            let content = std::fs::read_to_string(file).with_context(|| {
                format!(
                    "reading queue.redis.{prefix}password_file {}",
                    file.display()
                )
            })?;
            login = login.set_password(content.lines().next().unwrap_or_default());
        } else if let Some(name) = env {
            let Ok(password) = std::env::var(name) else {
                bail!(
                    "queue.redis.{prefix}password_env: there is no environment variable {name:?}"
                );
            };
            login = login.set_password(password);
        }
        Ok(Self {
            login,
            certificates: certificates(config)?,
            connect_timeout: config.connect_timeout.0,
            response_timeout: config.response_timeout.0,
        })
    }

    /// A client for the server at an address.
    fn client(
        &self,
        address: &ConnectionAddr,
        protocol: ProtocolVersion,
    ) -> anyhow::Result<Client> {
        // A peer that vanished without a word is noticed even where nothing is being asked.
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(10))
            .with_interval(Duration::from_secs(3))
            .with_retries(3);
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(keepalive);
        let info: ConnectionInfo = address
            .clone()
            .into_connection_info()?
            .set_redis_settings(self.login.clone().set_protocol(protocol))
            .set_tcp_settings(tcp);
        let client = match (&self.certificates, address) {
            (Some(certificates), ConnectionAddr::TcpTls { .. }) => {
                Client::build_with_tls(info, certificates.clone())
            }
            _ => Client::open(info),
        };
        client.with_context(|| format!("a client for Redis at {address}"))
    }

    /// A new connection.
    pub(super) async fn connect(
        &self,
        address: &ConnectionAddr,
    ) -> anyhow::Result<MultiplexedConnection> {
        let client = self.client(address, ProtocolVersion::RESP2)?;
        client
            .get_multiplexed_async_connection_with_config(&self.settings())
            .await
            .with_context(|| format!("connecting to Redis at {address}"))
    }

    /// A new connection that hands over what the server says unasked.
    pub(super) async fn listen(
        &self,
        address: &ConnectionAddr,
        hear: impl AsyncPushSender,
    ) -> anyhow::Result<MultiplexedConnection> {
        let client = self.client(address, ProtocolVersion::RESP3)?;
        client
            .get_multiplexed_async_connection_with_config(&self.settings().set_push_sender(hear))
            .await
            .with_context(|| format!("connecting to Redis at {address}"))
    }

    fn settings(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(self.response_timeout))
    }
}

/// The addresses that connecting begins with.
pub(super) fn addresses(config: &RedisConfig) -> anyhow::Result<Vec<ConnectionAddr>> {
    config
        .addresses()
        .into_iter()
        .map(|(key, url)| {
            let info = url.into_connection_info();
            let info = info.with_context(|| format!("queue.redis.{key}"))?;
            Ok(info.addr().clone())
        })
        .collect()
}

/// The same kind of address, for another server.
pub(super) fn address_like(like: &ConnectionAddr, host: &str, port: u16) -> ConnectionAddr {
    match like {
        ConnectionAddr::TcpTls { .. } => ConnectionAddr::TcpTls {
            host: host.to_owned(),
            port,
            insecure: false,
            tls_params: None,
        },
        _ => ConnectionAddr::Tcp(host.to_owned(), port),
    }
}

fn database(config: &RedisConfig) -> anyhow::Result<i64> {
    if config.kind != super::RedisKind::Standalone {
        return Ok(config.database.into());
    }
    let info = config.url.as_str().into_connection_info();
    Ok(info.context("queue.redis.url")?.redis_settings().db())
}

fn certificates(config: &RedisConfig) -> anyhow::Result<Option<TlsCertificates>> {
    let read = |key: &str, file: &Path| {
        std::fs::read(file).with_context(|| format!("reading queue.redis.{key} {}", file.display()))
    };
    let root_cert = match &config.ca {
        Some(file) => Some(read("ca", file)?),
        None => None,
    };
    let client_tls = match (&config.certificate, &config.key) {
        (Some(certificate), Some(key)) => Some(ClientTlsConfig {
            client_cert: read("certificate", certificate)?,
            client_key: read("key", key)?,
        }),
        _ => None,
    };
    if root_cert.is_none() && client_tls.is_none() {
        return Ok(None);
    }
    Ok(Some(TlsCertificates {
        client_tls,
        root_cert,
    }))
}
