//! What a server says of itself, and whether it can keep what it will be trusted with.

use std::collections::HashMap;

use anyhow::bail;
use redis::aio::MultiplexedConnection;
use redis::cmd;

use super::config::{Durability, RedisConfig, RedisKind};

/// Why a server that is there is not fit for the queue.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unfit(String);

/// What a server says of itself.
pub(super) struct Server {
    info: HashMap<String, String>,
    /// Its settings, or why it does not tell them.
    settings: Result<HashMap<String, String>, String>,
}

impl Server {
    pub(super) async fn ask(connection: &mut MultiplexedConnection) -> anyhow::Result<Self> {
        let text: String = cmd("INFO").query_async(connection).await?;
        let info = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
            .collect();
        let mut settings = Ok(HashMap::new());
        for name in [
            "appendonly",
            "appendfsync",
            "no-appendfsync-on-rewrite",
            "maxmemory-policy",
            "cluster-require-full-coverage",
        ] {
            let answer: Result<HashMap<String, String>, _> = cmd("CONFIG")
                .arg("GET")
                .arg(name)
                .query_async(connection)
                .await;
            match answer {
                Ok(found) => {
                    if let Ok(settings) = &mut settings {
                        settings.extend(found);
                    }
                }
                // Hosted servers forbid CONFIG; a lost connection is another matter.
                Err(error) if error.code().is_some() => settings = Err(error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self { info, settings })
    }

    fn info(&self, key: &str) -> Option<&str> {
        self.info.get(key).map(String::as_str)
    }

    fn setting(&self, name: &str) -> Option<&str> {
        self.settings.as_ref().ok()?.get(name).map(String::as_str)
    }

    /// Major and minor; a server that does not say is taken for a very old one.
    fn version(&self) -> (u32, u32) {
        let mut parts = self
            .info("redis_version")
            .unwrap_or_default()
            .split('.')
            .map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }

    /// Whether a wait for disks is to be had, and not only one for replicas.
    pub(super) fn waits_for_disks(&self) -> bool {
        self.version() >= (7, 2) && self.setting("appendonly") == Some("yes")
    }

    fn replicas(&self) -> u32 {
        let replicas = self.info("connected_slaves").unwrap_or_default();
        replicas.parse().unwrap_or(0)
    }

    /// Refuses a server that cannot be worked with, or not safely.
    pub(super) fn check(&self, config: &RedisConfig, address: &str) -> anyhow::Result<()> {
        if self.info("loading") == Some("1") {
            bail!("Redis at {address} is still loading its data");
        }
        if self.info("role").is_some_and(|role| role != "master") {
            bail!("Redis at {address} is a replica and takes no writes");
        }
        if self.version() < (7, 0) {
            bail!(Unfit(format!(
                "Redis at {address} is too old: 7.0 is needed"
            )));
        }
        match (config.kind, self.info("cluster_enabled") == Some("1")) {
            (RedisKind::Cluster, false) => bail!(Unfit(format!(
                "Redis at {address} is no node of a cluster: set queue.redis.kind to \"standalone\" \
                 or \"sentinel\""
            ))),
            (RedisKind::Standalone | RedisKind::Sentinel, true) => bail!(Unfit(format!(
                "Redis at {address} is a node of a cluster: set queue.redis.kind to \"cluster\" and \
                 queue.redis.urls to some of its nodes"
            ))),
            _ => {}
        }
        self.advise(config, address);
        let problems = self.problems(config);
        if problems.is_empty() {
            return Ok(());
        }
        let told = format!(
            "Redis at {address} can lose mail that was accepted: {}. Set it so with CONFIG SET and \
             in redis.conf, or start with `allow_unsafe = true` under [queue.redis]",
            problems.join("; ")
        );
        if config.allow_unsafe {
            tracing::warn!("{told}");
            return Ok(());
        }
        bail!(Unfit(told))
    }

    /// What is not unsafe, but will hurt.
    fn advise(&self, config: &RedisConfig, address: &str) {
        if let Durability::Replicated(wanted) = config.durability
            && self.replicas() < u32::from(wanted)
        {
            tracing::warn!(
                address,
                replicas = self.replicas(),
                wanted,
                "Redis has too few replicas: until they are there, mail is answered with 451"
            );
        }
        if config.kind == RedisKind::Cluster
            && self.setting("cluster-require-full-coverage") == Some("yes")
        {
            tracing::warn!(
                address,
                "one lost node of the Redis Cluster stops the whole queue: set \
                 `cluster-require-full-coverage no` on every node"
            );
        }
    }

    /// What stands between the server's settings and the promise, each with what to set.
    fn problems(&self, config: &RedisConfig) -> Vec<String> {
        if let Err(reason) = &self.settings {
            return vec![format!("it does not tell its settings ({reason})")];
        }
        let mut problems = Vec::new();
        let mut require = |name: &str, wanted: &str, otherwise: &str| match self.setting(name) {
            Some(value) if value == wanted => {}
            Some(value) => problems.push(format!(
                "{name} is {value}, set `{name} {wanted}` ({otherwise})"
            )),
            None => {}
        };
        require(
            "maxmemory-policy",
            "noeviction",
            "otherwise queued mail is deleted when the memory is full",
        );
        require(
            "appendonly",
            "yes",
            match config.durability {
                Durability::Fsync => "otherwise a crash loses everything since the last snapshot",
                Durability::Replicated(_) => {
                    "otherwise a master that is restarted comes back empty, and its replicas copy \
                     that"
                }
            },
        );
        // A wait for disks asks for this master's as well.
        let waits_for_disks =
            matches!(config.durability, Durability::Replicated(_)) && self.waits_for_disks();
        if !waits_for_disks {
            require(
                "appendfsync",
                "always",
                "otherwise a loss of power loses the last second",
            );
        }
        require(
            "no-appendfsync-on-rewrite",
            "no",
            "otherwise nothing is synced while the log is rewritten",
        );
        let can_be_replaced = match config.kind {
            RedisKind::Standalone => false,
            RedisKind::Sentinel => true,
            RedisKind::Cluster => self.replicas() > 0,
        };
        if can_be_replaced && config.durability == Durability::Fsync {
            problems.push(
                "a replica can take over that does not have it yet, set `durability = \
                 \"replicated(1)\"` under [queue.redis]"
                    .to_owned(),
            );
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(info: &[(&str, &str)], settings: &[(&str, &str)]) -> Server {
        let owned = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        Server {
            info: owned(info),
            settings: Ok(owned(settings)),
        }
    }

    const SAFE: &[(&str, &str)] = &[
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("no-appendfsync-on-rewrite", "no"),
        ("maxmemory-policy", "noeviction"),
    ];

    fn config(kind: RedisKind, durability: Durability) -> RedisConfig {
        RedisConfig {
            kind,
            durability,
            ..RedisConfig::default()
        }
    }

    #[test]
    fn says_exactly_what_to_set() {
        let unsafe_server = server(
            &[("redis_version", "7.0.15")],
            &[
                ("appendonly", "no"),
                ("appendfsync", "everysec"),
                ("no-appendfsync-on-rewrite", "yes"),
                ("maxmemory-policy", "allkeys-lru"),
            ],
        );
        for durability in [Durability::Fsync, Durability::Replicated(1)] {
            let problems = unsafe_server.problems(&config(RedisKind::Standalone, durability));
            let told = problems.join("\n");
            for wanted in [
                "`appendonly yes`",
                "`appendfsync always`",
                "`no-appendfsync-on-rewrite no`",
                "`maxmemory-policy noeviction`",
            ] {
                assert!(told.contains(wanted), "{told}");
            }
        }
        assert_eq!(unsafe_server.version(), (7, 0));
    }

    #[test]
    fn a_wait_for_disks_makes_up_for_appendfsync() {
        let mut settings = SAFE.to_vec();
        settings[1].1 = "everysec";
        let replicated = config(RedisKind::Sentinel, Durability::Replicated(1));
        let old = server(&[("redis_version", "7.0.15")], &settings);
        assert_eq!(old.problems(&replicated).len(), 1);
        let new = server(&[("redis_version", "7.2.4")], &settings);
        assert_eq!(new.problems(&replicated), Vec::<String>::new());
        assert_eq!(
            new.problems(&config(RedisKind::Standalone, Durability::Fsync))
                .len(),
            1
        );
    }

    #[test]
    fn fsync_alone_is_refused_where_a_replica_can_take_over() {
        let fsync = |kind| config(kind, Durability::Fsync);
        let alone = server(&[("redis_version", "7.0.15")], SAFE);
        assert!(alone.problems(&fsync(RedisKind::Standalone)).is_empty());
        assert!(alone.problems(&fsync(RedisKind::Cluster)).is_empty());
        let told = alone.problems(&fsync(RedisKind::Sentinel)).join("");
        assert!(told.contains("replicated(1)"), "{told}");
        let info = [("redis_version", "7.0.15"), ("connected_slaves", "1")];
        let followed = server(&info, SAFE);
        assert_eq!(followed.problems(&fsync(RedisKind::Cluster)).len(), 1);
    }

    #[test]
    fn the_wrong_kind_is_named() {
        let node = server(
            &[("redis_version", "7.0.15"), ("cluster_enabled", "1")],
            SAFE,
        );
        let fsync = |kind| config(kind, Durability::Fsync);
        let told = node.check(&fsync(RedisKind::Standalone), "a:1");
        assert!(told.unwrap_err().to_string().contains("\"cluster\""));
        let alone = server(&[("redis_version", "7.0.15")], SAFE);
        let told = alone.check(&fsync(RedisKind::Cluster), "a:1");
        assert!(told.unwrap_err().to_string().contains("\"standalone\""));
    }
}
