//! The settings of the Redis store.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use postrider_config::values::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where Redis is, and what it must promise.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisConfig {
    /// The server: "redis://host:port/database" or "unix:///path/to/socket". A password does not
    /// belong here, because addresses are logged; see `password_file`.
    pub url: String,
    /// The user of Redis' access control lists. Empty is Redis' default user.
    pub username: String,
    /// A file whose first line is the password. Nothing is sent if it is unset.
    pub password_file: Option<PathBuf>,
    /// When accepted mail counts as safe: "fsync" (Redis has written it to its disk; needs
    /// `appendonly yes` and `appendfsync always`) or "replicated(n)" (n replicas have it as well;
    /// where Redis has WAITAOF, on their disks). The default survives the loss of power of the
    /// one machine that Redis runs on.
    pub durability: Durability,
    /// Start even if Redis' own settings cannot keep the promise, with a warning. Mail that was
    /// accepted may then be lost; meant for trying things out.
    pub allow_unsafe: bool,
    /// Wait for a connection to Redis, and for a new one after it was lost, before the call that
    /// needs it fails with "not available" (which the edge answers with 451).
    pub connect_timeout: Period,
    /// Wait for the answer to one command. A slow disk under `appendfsync always` shows here.
    pub response_timeout: Period,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379/0".to_owned(),
            username: String::new(),
            password_file: None,
            durability: Durability::Fsync,
            allow_unsafe: false,
            connect_timeout: Period::seconds(3),
            response_timeout: Period::seconds(10),
        }
    }
}

impl RedisConfig {
    /// What is wrong with the settings, each with its key.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        match redis::IntoConnectionInfo::into_connection_info(self.url.as_str()) {
            Err(_) => problems.push(
                "queue.redis.url: not an address such as \"redis://127.0.0.1:6379/0\" or \"unix:///run/redis.sock\""
                    .to_owned(),
            ),
            Ok(info) => {
                if info.redis_settings().password().is_some() {
                    problems.push("queue.redis.url: holds a password; put it into a file and name it in queue.redis.password_file".to_owned());
                }
                if !self.username.is_empty() && self.password_file.is_none() {
                    problems.push("queue.redis.username: needs a password_file".to_owned());
                }
            }
        }
        for (key, period) in [
            ("connect_timeout", self.connect_timeout),
            ("response_timeout", self.response_timeout),
        ] {
            if period.0.is_zero() {
                problems.push(format!("queue.redis.{key}: must be longer than nothing"));
            }
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
}
