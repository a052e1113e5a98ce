//! The settings of the Redis store.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use postrider_config::values::{Period, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The server that is asked if none is named.
const HERE: &str = "redis://127.0.0.1:6379/0";

/// Where Redis is, and what it must promise.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisConfig {
    /// How Redis is laid out: "standalone" (one server, at `url`), "sentinel" (a master that the
    /// Sentinels at `urls` know as `service`; failovers are followed) or "cluster" (Redis Cluster,
    /// found through the nodes at `urls`).
    pub kind: RedisKind,
    /// The server, for "standalone" only: "redis://host:port/database", "rediss://host:port/database"
    /// (TLS) or "unix:///path/to/socket". A password does not belong here, because addresses are
    /// logged; see `password_file`.
    pub url: String,
    /// The Sentinels, or some nodes of the cluster, for "sentinel" and "cluster" only: at least one
    /// that is up must be among them.
    /// Example: ["redis://10.0.0.1:26379", "redis://10.0.0.2:26379"]. "rediss://" for TLS, which
    /// then holds for all servers.
    pub urls: Vec<String>,
    /// What the Sentinels call the master.
    pub service: String,
    /// The database number, for "sentinel"; in `url` it is a part of the address, and a cluster
    /// has only one.
    pub database: u16,
    /// Into how many partitions the queue is divided; a destination belongs to one, and each is on
    /// one node of a cluster. Chosen at the first start and the same for ever. 0 stands for what the
    /// queue has, and at the first start for 16 in a cluster, otherwise 1. At most 1024; a few times
    /// the number of nodes that the cluster may grow to.
    pub partitions: u16,
    /// The user of Redis' access control lists. Empty is Redis' default user.
    pub username: String,
    /// A file whose first line is the password. Nothing is sent if neither this nor
    /// `password_env` is set.
    pub password_file: Option<PathBuf>,
    /// The name of an environment variable that holds the password, where a file does not suit.
    pub password_env: Option<String>,
    /// The user for the Sentinels.
    pub sentinel_username: String,
    /// A file whose first line is the password for the Sentinels.
    pub sentinel_password_file: Option<PathBuf>,
    /// The name of an environment variable that holds the password for the Sentinels.
    pub sentinel_password_env: Option<String>,
    /// A PEM file of the authorities that may have signed the servers' certificates, for TLS.
    /// Without it those count that the operating system trusts.
    pub ca: Option<PathBuf>,
    /// A PEM file with the certificate that this client shows, with `key`, where Redis asks for one
    /// (`tls-auth-clients`).
    pub certificate: Option<PathBuf>,
    /// A PEM file with the key of `certificate`.
    pub key: Option<PathBuf>,
    /// When accepted mail counts as safe: "fsync" (Redis has written it to its disk; needs
    /// `appendonly yes` and `appendfsync always`) or "replicated(n)" (n replicas have it as well;
    /// where Redis has WAITAOF, on their disks). "fsync" survives the loss of power of the machine
    /// that Redis runs on; where a replica can take over, only "replicated(n)" keeps the promise.
    pub durability: Durability,
    /// Start even if Redis' own settings cannot keep the promise, with a warning. Mail that was
    /// accepted may then be lost; meant for trying things out.
    pub allow_unsafe: bool,
    /// Memory for messages that this process has accepted and not handed out yet. Others are read
    /// from Redis when their turn comes.
    pub cache: Size,
    /// Wait for a connection to Redis, and for a new one after it was lost, before the call that
    /// needs it fails with "not available" (which the edge answers with 451).
    pub connect_timeout: Period,
    /// Wait for the answer to one command. A slow disk under `appendfsync always` shows here.
    pub response_timeout: Period,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            kind: RedisKind::Standalone,
            url: HERE.to_owned(),
            urls: Vec::new(),
            service: "postrider".to_owned(),
            database: 0,
            partitions: 0,
            username: String::new(),
            password_file: None,
            password_env: None,
            sentinel_username: String::new(),
            sentinel_password_file: None,
            sentinel_password_env: None,
            ca: None,
            certificate: None,
            key: None,
            durability: Durability::Fsync,
            allow_unsafe: false,
            cache: Size(32 << 20),
            connect_timeout: Period::seconds(3),
            response_timeout: Period::seconds(10),
        }
    }
}

/// How Redis is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RedisKind {
    /// One server.
    Standalone,
    /// A master with replicas, watched by Sentinels.
    Sentinel,
    /// Redis Cluster.
    Cluster,
}

impl RedisConfig {
    /// The addresses that connecting begins with, each with its key.
    pub(super) fn addresses(&self) -> Vec<(&'static str, &str)> {
        match self.kind {
            RedisKind::Standalone => vec![("url", self.url.as_str())],
            _ => self.urls.iter().map(|url| ("urls", url.as_str())).collect(),
        }
    }

    /// What is wrong with the settings, each with its key.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, problem: &str| {
            if !holds {
                problems.push(format!("queue.redis.{problem}"));
            }
        };
        let mut tls = Vec::new();
        for (key, url) in self.addresses() {
            let Ok(info) = redis::IntoConnectionInfo::into_connection_info(url) else {
                require(
                    false,
                    &format!(
                        "{key}: not an address such as \"redis://127.0.0.1:6379/0\", \"rediss://redis.example.org:6379\" or \"unix:///run/redis.sock\""
                    ),
                );
                continue;
            };
            let settings = info.redis_settings();
            require(
                settings.password().is_none(),
                &format!(
                    "{key}: holds a password; put it into a file and name it in queue.redis.password_file"
                ),
            );
            tls.push(matches!(info.addr(), redis::ConnectionAddr::TcpTls { .. }));
            require(
                !matches!(
                    info.addr(),
                    redis::ConnectionAddr::TcpTls { insecure: true, .. }
                ),
                &format!("{key}: #insecure is not supported; name the authority in queue.redis.ca"),
            );
            if self.kind != RedisKind::Standalone {
                require(
                    !matches!(info.addr(), redis::ConnectionAddr::Unix(_)),
                    &format!("{key}: a socket of this machine cannot stand for several servers"),
                );
                require(
                    settings.db() == 0,
                    &format!("{key}: the number of a database does not belong here"),
                );
            }
        }
        require(
            tls.windows(2).all(|pair| pair[0] == pair[1]),
            "urls: either all with TLS or none",
        );
        if self.kind == RedisKind::Standalone {
            require(
                self.urls.is_empty(),
                "urls: only for kind = \"sentinel\" or \"cluster\"; set queue.redis.kind to what stands \
                 behind these addresses, or write one server's address into queue.redis.url",
            );
        } else {
            require(!self.urls.is_empty(), "urls: names no server");
            require(
                self.url == HERE,
                "url: only for kind = \"standalone\"; write the addresses of the Sentinels, or of nodes of \
                 the cluster, into queue.redis.urls",
            );
        }
        require(
            self.kind != RedisKind::Sentinel || !self.service.is_empty(),
            "service: the Sentinels' name of the master is needed",
        );
        require(
            self.kind == RedisKind::Sentinel || self.database == 0,
            "database: only for kind = \"sentinel\"",
        );
        require(
            self.certificate.is_some() == self.key.is_some(),
            "certificate and queue.redis.key: only together",
        );
        let tls_files = self.ca.is_some() || self.certificate.is_some();
        require(
            !tls_files || tls.first().is_none_or(|tls| *tls),
            "ca and queue.redis.certificate: only with addresses of \"rediss://\"",
        );
        for (prefix, username, file, env) in [
            ("", &self.username, &self.password_file, &self.password_env),
            (
                "sentinel_",
                &self.sentinel_username,
                &self.sentinel_password_file,
                &self.sentinel_password_env,
            ),
        ] {
            require(
                file.is_none() || env.is_none(),
                &format!("{prefix}password_file and {prefix}password_env: only one of them"),
            );
            require(
                username.is_empty() || file.is_some() || env.is_some(),
                &format!("{prefix}username: needs a {prefix}password_file or {prefix}password_env"),
            );
        }
        require(
            self.partitions <= super::partition::MOST,
            "partitions: at most 1024",
        );
        for (key, period) in [
            ("connect_timeout", self.connect_timeout),
            ("response_timeout", self.response_timeout),
        ] {
            require(
                !period.0.is_zero(),
                &format!("{key}: must be longer than nothing"),
            );
        }
        problems
    }
}

/// When accepted mail counts as safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub enum Durability {
    /// Redis has synced it to its own disk.
    Fsync,
    /// So many replicas have it.
    Replicated(u8),
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fsync => f.write_str("fsync"),
            Self::Replicated(replicas) => write!(f, "replicated({replicas})"),
        }
    }
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "fsync" {
            return Ok(Self::Fsync);
        }
        text.strip_prefix("replicated(")
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|number| number.parse().ok())
            .filter(|replicas| *replicas > 0)
            .map(Self::Replicated)
            .ok_or_else(|| format!("{text:?} is neither \"fsync\" nor \"replicated(1)\" to (255)"))
    }
}

impl<'de> Deserialize<'de> for Durability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl Serialize for Durability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_prints_and_parses() {
        for level in [
            Durability::Fsync,
            Durability::Replicated(1),
            Durability::Replicated(255),
        ] {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        for bad in ["", "none", "replicated(0)", "replicated(256)", "replicated"] {
            assert!(bad.parse::<Durability>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused() {
        let config = RedisConfig {
            url: "redis://:secret@127.0.0.1:6379/0".to_owned(),
            ..RedisConfig::default()
        };
        let problems = config.validate();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("queue.redis.url:") && !problems[0].contains("secret"));
        assert!(RedisConfig::default().validate().is_empty());
    }

    #[test]
    fn every_topology_says_what_it_lacks() {
        let problems = |set: fn(&mut RedisConfig)| {
            let mut config = RedisConfig::default();
            set(&mut config);
            config.validate().join("\n")
        };
        assert!(
            problems(|config| config.kind = RedisKind::Cluster).starts_with("queue.redis.urls:")
        );
        let two = |config: &mut RedisConfig, one: &str, other: &str| {
            config.kind = RedisKind::Sentinel;
            config.urls = vec![one.to_owned(), other.to_owned()];
        };
        let mut sentinel = RedisConfig::default();
        two(&mut sentinel, "redis://a:26379", "redis://b:26379");
        assert_eq!(sentinel.validate(), Vec::<String>::new());
        two(&mut sentinel, "redis://a:26379", "rediss://b:26379");
        assert!(sentinel.validate()[0].contains("TLS"));
        two(&mut sentinel, "redis://a:26379/1", "unix:///run/redis.sock");
        assert_eq!(sentinel.validate().len(), 2);
        assert_eq!(
            problems(|config| config.urls = vec!["redis://a:6379".to_owned()])
                .matches("queue.redis.urls: only for")
                .count(),
            1
        );
        sentinel.urls = vec!["redis://a:26379".to_owned()];
        sentinel.url = "redis://a:6379/0".to_owned();
        assert!(
            sentinel
                .validate()
                .join("\n")
                .starts_with("queue.redis.url: only for")
        );
        assert!(problems(|config| config.ca = Some("ca.pem".into())).contains("rediss://"));
        assert!(problems(|config| config.key = Some("key.pem".into())).contains("together"));
        assert!(
            problems(|config| config.url = "rediss://a:6379/#insecure".to_owned())
                .contains("queue.redis.ca")
        );
    }
}
