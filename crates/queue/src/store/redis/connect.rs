//! Connecting, and checking that the server can keep what it will be trusted with.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo as _, Value, cmd};

use super::config::{Durability, RedisConfig};

/// Makes connections to one server.
pub(super) struct Connector {
    client: Client,
    address: String,
    config: RedisConfig,
}

/// What a server says of itself.
struct Server {
    info: HashMap<String, String>,
    /// Its settings, or why it does not tell them.
    settings: Result<HashMap<String, String>, String>,
}

impl Connector {
    /// Reads the password; connects nowhere yet.
    pub(super) fn new(config: &RedisConfig) -> anyhow::Result<Self> {
        let problems = config.validate();
        if !problems.is_empty() {
            bail!("{}", problems.join("; "));
        }
        let info = config
            .url
            .as_str()
            .into_connection_info()
            .context("queue.redis.url")?;
        let address = info.addr().to_string();
        let mut redis = info.redis_settings().clone();
        if !config.username.is_empty() {
            redis = redis.set_username(&config.username);
        }
        if let Some(file) = &config.password_file {
            let content = std::fs::read_to_string(file)
                .with_context(|| format!("reading queue.redis.password_file {}", file.display()))?;
            redis = redis.set_password(content.lines().next().unwrap_or_default());
        }
        // A peer that vanished without a word is noticed even where nothing is being asked.
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(10))
            .with_interval(Duration::from_secs(3))
            .with_retries(3);
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(keepalive);
        let info = info.set_redis_settings(redis).set_tcp_settings(tcp);
        Ok(Self {
            client: Client::open(info).context("queue.redis.url")?,
            address,
            config: config.clone(),
        })
    }

    /// Host and port, or the path of the socket.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.config.connect_timeout.0
    }

    pub(super) fn response_timeout(&self) -> Duration {
        self.config.response_timeout.0
    }

    /// A new connection to a server that was checked.
    pub(super) async fn connect(&self) -> anyhow::Result<MultiplexedConnection> {
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout()))
            .set_response_timeout(Some(self.response_timeout()));
        let mut connection = self
            .client
            .get_multiplexed_async_connection_with_config(&settings)
            .await
            .with_context(|| format!("connecting to Redis at {}", self.address))?;
        let server = Server::ask(&mut connection)
            .await
            .with_context(|| format!("asking Redis at {} about itself", self.address))?;
        self.check(&server)?;
        Ok(connection)
    }

    /// A new connection that listens to channels.
    pub(super) async fn listen(&self) -> anyhow::Result<PubSub> {
        let connected = self.client.get_async_pubsub();
        let connected = tokio::time::timeout(self.connect_timeout(), connected).await;
        Ok(connected.context("no answer in time")??)
    }

    /// The command that waits for what makes writes durable, where the answer alone does not say so.
    pub(super) async fn wait_command(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> anyhow::Result<Option<Cmd>> {
        let Durability::Replicated(replicas) = self.config.durability else {
            return Ok(None);
        };
        let server = Server::ask(connection).await?;
        // Shorter than the response's deadline, so that the answer says how many there were.
        let wait_ms = (self.response_timeout() * 3 / 4).as_millis().max(1) as u64;
        let mut wait;
        if server.version() >= (7, 2) && server.setting("appendonly") == Some("yes") {
            wait = cmd("WAITAOF");
            wait.arg(1).arg(replicas).arg(wait_ms);
        } else {
            wait = cmd("WAIT");
            wait.arg(replicas).arg(wait_ms);
        }
        Ok(Some(wait))
    }

    fn check(&self, server: &Server) -> anyhow::Result<()> {
        if server.info("loading") == Some("1") {
            bail!("Redis at {} is still loading its data", self.address);
        }
        if server.info("role").is_some_and(|role| role != "master") {
            bail!("Redis at {} is a replica and takes no writes", self.address);
        }
        if server.version() < (7, 0) {
            bail!("Redis at {} is too old: 7.0 is needed", self.address);
        }
        let problems = problems(server, self.config.durability);
        if problems.is_empty() {
            return Ok(());
        }
        let told = format!(
            "Redis at {} can lose mail that was accepted: {}. Set it so with CONFIG SET and in \
             redis.conf, or start with `allow_unsafe = true` under [queue.redis]",
            self.address,
            problems.join("; ")
        );
        if self.config.allow_unsafe {
            tracing::warn!("{told}");
            return Ok(());
        }
        bail!(told)
    }
}

/// What stands between the server's settings and the promise, each with what to set.
fn problems(server: &Server, durability: Durability) -> Vec<String> {
    if let Err(reason) = &server.settings {
        return vec![format!("it does not tell its settings ({reason})")];
    }
    let mut problems = Vec::new();
    let mut require = |name: &str, wanted: &str, otherwise: &str| match server.setting(name) {
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
    if durability == Durability::Fsync {
        require(
            "appendonly",
            "yes",
            "otherwise a crash loses everything since the last snapshot",
        );
        require(
            "appendfsync",
            "always",
            "otherwise a loss of power loses the last second",
        );
        require(
            "no-appendfsync-on-rewrite",
            "no",
            "otherwise nothing is synced while the log is rewritten",
        );
    }
    problems
}

/// Whether the answer to a wait says that there are copies enough.
pub(super) fn is_enough(wait: &Cmd, answer: &Value) -> bool {
    let number = |at: usize| -> Option<i64> {
        wait.args_iter().nth(at).and_then(|arg| match arg {
            redis::Arg::Simple(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        })
    };
    match answer {
        // WAIT n: the replicas that have it.
        Value::Int(replicas) => number(1).is_some_and(|wanted| *replicas >= wanted),
        // WAITAOF local n: how many synced it here, and on replicas.
        Value::Array(counts) => match counts.as_slice() {
            [Value::Int(local), Value::Int(replicas)] => {
                *local >= 1 && number(2).is_some_and(|wanted| *replicas >= wanted)
            }
            _ => false,
        },
        _ => false,
    }
}

impl Server {
    async fn ask(connection: &mut MultiplexedConnection) -> anyhow::Result<Self> {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(settings: &[(&str, &str)]) -> Server {
        Server {
            info: HashMap::from([("redis_version".to_owned(), "7.0.15".to_owned())]),
            settings: Ok(settings
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()),
        }
    }

    #[test]
    fn says_exactly_what_to_set() {
        let unsafe_server = server(&[
            ("appendonly", "no"),
            ("appendfsync", "everysec"),
            ("no-appendfsync-on-rewrite", "yes"),
            ("maxmemory-policy", "allkeys-lru"),
        ]);
        let told = problems(&unsafe_server, Durability::Fsync).join("\n");
        for wanted in [
            "`appendonly yes`",
            "`appendfsync always`",
            "`no-appendfsync-on-rewrite no`",
            "`maxmemory-policy noeviction`",
        ] {
            assert!(told.contains(wanted), "{told}");
        }
        assert_eq!(problems(&unsafe_server, Durability::Replicated(1)).len(), 1);
        assert_eq!(unsafe_server.version(), (7, 0));
    }

    #[test]
    fn counts_copies() {
        let mut wait = cmd("WAIT");
        wait.arg(2).arg(100);
        assert!(is_enough(&wait, &Value::Int(2)));
        assert!(!is_enough(&wait, &Value::Int(1)));
        assert!(!is_enough(&wait, &Value::Nil));
        let mut wait = cmd("WAITAOF");
        wait.arg(1).arg(1).arg(100);
        let answer = |local, replicas| Value::Array(vec![Value::Int(local), Value::Int(replicas)]);
        assert!(is_enough(&wait, &answer(1, 1)));
        assert!(!is_enough(&wait, &answer(0, 1)));
        assert!(!is_enough(&wait, &answer(1, 0)));
    }
}
