//! Which server takes writes now: the one that there is, the one that the Sentinels name, or the
//! one of a slot in a cluster.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::{ConnectionAddr, Value, cmd};

use super::access::{Access, Whom, address_like, addresses};
use super::config::{RedisConfig, RedisKind};

/// The longest wait for one Sentinel, or for one node's word of the cluster.
const ASKING: Duration = Duration::from_secs(1);

/// Finds servers.
pub(super) struct Locator {
    first: Vec<ConnectionAddr>,
    topology: Topology,
    asking: Duration,
}

enum Topology {
    Standalone,
    Sentinel { service: String, access: Access },
    Cluster(Box<Cluster>),
}

struct Cluster {
    access: Access,
    /// Nodes that were there when it was last asked.
    nodes: Mutex<Vec<ConnectionAddr>>,
    /// Where slots are by the word of the server that had them before. Newer than what other
    /// nodes may know.
    moved: Mutex<HashMap<u16, ConnectionAddr>>,
}

impl Locator {
    pub(super) fn new(config: &RedisConfig) -> anyhow::Result<Self> {
        let topology = match config.kind {
            RedisKind::Standalone => Topology::Standalone,
            RedisKind::Sentinel => Topology::Sentinel {
                service: config.service.clone(),
                access: Access::new(config, Whom::Sentinels)?,
            },
            RedisKind::Cluster => Topology::Cluster(Box::new(Cluster {
                access: Access::new(config, Whom::Servers)?,
                nodes: Mutex::default(),
                moved: Mutex::default(),
            })),
        };
        Ok(Self {
            first: addresses(config)?,
            topology,
            asking: ASKING.min(config.connect_timeout.0),
        })
    }

    /// Where writes to a slot go now. The slot only matters in a cluster.
    pub(super) async fn master(&self, slot: u16) -> anyhow::Result<ConnectionAddr> {
        match &self.topology {
            Topology::Standalone => self.first.first().cloned().context("no address"),
            Topology::Sentinel { service, access } => self.ask_sentinels(service, access).await,
            Topology::Cluster(cluster) => self.ask_cluster(cluster, slot).await,
        }
    }

    /// A server says that a slot is at another one ("MOVED 1234 host:port").
    pub(super) fn moved(&self, told: &str) {
        let Topology::Cluster(cluster) = &self.topology else {
            return;
        };
        let mut words = told.split(' ');
        let slot = words.next().and_then(|slot| slot.parse().ok());
        let place = words.next().and_then(|place| place.rsplit_once(':'));
        if let (Some(slot), Some((host, port)), Some(like)) = (slot, place, self.first.first())
            && let Ok(port) = port.parse()
            && !host.is_empty()
        {
            let address = address_like(like, host, port);
            lock(&cluster.moved).insert(slot, address);
        }
    }

    /// Asks all Sentinels, and believes the newest configuration that a majority's answers hold; with
    /// fewer answers the newest of these. An isolated Sentinel may name a master that is none any
    /// more.
    async fn ask_sentinels(
        &self,
        service: &str,
        access: &Access,
    ) -> anyhow::Result<ConnectionAddr> {
        let mut asked: FuturesUnordered<_> = self
            .first
            .iter()
            .map(|sentinel| async move {
                let asked = ask_sentinel(access, sentinel, service);
                match tokio::time::timeout(self.asking, asked).await {
                    Ok(answer) => answer,
                    Err(_) => bail!("the Sentinel at {sentinel} does not answer"),
                }
            })
            .collect();
        let mut answers = 0;
        let mut newest: Option<(u64, ConnectionAddr)> = None;
        let mut reason = None;
        while answers <= self.first.len() / 2
            && let Some(answer) = asked.next().await
        {
            match answer {
                Ok((epoch, address)) => {
                    answers += 1;
                    if newest.as_ref().is_none_or(|(known, _)| epoch > *known) {
                        newest = Some((epoch, address));
                    }
                }
                Err(error) => reason = Some(error),
            }
        }
        match (newest, reason) {
            (Some((_, address)), _) => Ok(address),
            (None, Some(reason)) => Err(reason),
            (None, None) => bail!("no Sentinel is named in queue.redis.urls"),
        }
    }

    async fn ask_cluster(&self, cluster: &Cluster, slot: u16) -> anyhow::Result<ConnectionAddr> {
        if let Some(address) = lock(&cluster.moved).remove(&slot) {
            return Ok(address);
        }
        let mut nodes = lock(&cluster.nodes).clone();
        nodes.extend(self.first.iter().cloned());
        let mut reason = None;
        for node in nodes {
            let asked = slots(&cluster.access, &node);
            match tokio::time::timeout(self.asking, asked).await {
                Ok(Ok(ranges)) => {
                    if let Some(owner) = self.learn(cluster, &node, &ranges, slot) {
                        return Ok(owner);
                    }
                    reason = Some(anyhow::anyhow!(
                        "no node of the Redis Cluster serves slot {slot}"
                    ));
                }
                Ok(Err(error)) => reason = Some(error),
                Err(_) => {
                    reason = Some(anyhow::anyhow!("Redis at {node} does not answer"));
                }
            }
        }
        Err(reason.unwrap_or_else(|| anyhow::anyhow!("no node is named in queue.redis.urls")))
    }

    /// Remembers the nodes that there are, and returns the owner of a slot.
    fn learn(
        &self,
        cluster: &Cluster,
        asked: &ConnectionAddr,
        ranges: &[Range],
        slot: u16,
    ) -> Option<ConnectionAddr> {
        let mut nodes: Vec<ConnectionAddr> = Vec::new();
        let mut owner = None;
        for range in ranges {
            // A node that does not know its own address stands for the one that was asked.
            let address = match range.host.as_str() {
                "" | "?" => match asked {
                    ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => {
                        address_like(asked, host, range.port)
                    }
                    _ => asked.clone(),
                },
                host => address_like(asked, host, range.port),
            };
            if (range.first..=range.last).contains(&slot) {
                owner = Some(address.clone());
            }
            if !nodes.contains(&address) {
                nodes.push(address);
            }
        }
        *lock(&cluster.nodes) = nodes;
        owner
    }
}

/// Slots and the address of their master.
struct Range {
    first: u16,
    last: u16,
    host: String,
    port: u16,
}

async fn slots(access: &Access, node: &ConnectionAddr) -> anyhow::Result<Vec<Range>> {
    let mut connection = access.connect(node).await?;
    let answer: Vec<Vec<Value>> = cmd("CLUSTER")
        .arg("SLOTS")
        .query_async(&mut connection)
        .await
        .with_context(|| format!("asking Redis at {node} about its cluster"))?;
    let mut ranges = Vec::with_capacity(answer.len());
    for range in answer {
        let mut fields = range.into_iter();
        let mut next = || fields.next().context("a range of slots is cut short");
        let (first, last) = (
            redis::from_redis_value(next()?)?,
            redis::from_redis_value(next()?)?,
        );
        let Value::Array(master) = next()? else {
            bail!("a range of slots without its master");
        };
        let mut master = master.into_iter();
        let host: Option<String> =
            redis::from_redis_value(master.next().context("a master without its host")?)?;
        let port = redis::from_redis_value(master.next().context("a master without its port")?)?;
        ranges.push(Range {
            first,
            last,
            host: host.unwrap_or_default(),
            port,
        });
    }
    Ok(ranges)
}

/// The epoch of a Sentinel's configuration, and the master in it.
async fn ask_sentinel(
    access: &Access,
    sentinel: &ConnectionAddr,
    service: &str,
) -> anyhow::Result<(u64, ConnectionAddr)> {
    let mut connection = access.connect(sentinel).await?;
    let told: HashMap<String, String> = cmd("SENTINEL")
        .arg("MASTER")
        .arg(service)
        .query_async(&mut connection)
        .await
        .with_context(|| format!("asking the Sentinel at {sentinel} for {service:?}"))?;
    let field = |name: &str| {
        let value = told.get(name).map(String::as_str);
        value.with_context(|| format!("the Sentinel at {sentinel} does not tell the {name}"))
    };
    let address = address_like(sentinel, field("ip")?, field("port")?.parse()?);
    Ok((field("config-epoch")?.parse()?, address))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
