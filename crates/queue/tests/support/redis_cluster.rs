//! A Redis Cluster of a test's own.

use std::time::{Duration, Instant};

use postrider_config::values::Period;
use postrider_queue::store::redis::{RedisConfig, RedisKind};
use redis::Value;

use super::redis_server::{RedisServer, SAFE, free_port};

/// Slots of a cluster.
const SLOTS: u16 = 16384;

/// Masters, each with an equal share of the slots; and perhaps a replica of each.
pub struct RedisCluster {
    pub masters: Vec<RedisServer>,
    pub replicas: Vec<RedisServer>,
}

fn node() -> RedisServer {
    let bus = free_port().to_string();
    let settings = [
        SAFE,
        &[
            ("cluster-enabled", "yes"),
            ("cluster-port", &bus),
            ("cluster-node-timeout", "1500"),
            ("cluster-require-full-coverage", "no"),
            ("repl-diskless-sync-delay", "0"),
        ],
    ]
    .concat();
    RedisServer::with(&settings)
}

/// Waits until something holds.
#[track_caller]
pub fn until(mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(60), "never came");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A text answer.
pub fn text(server: &RedisServer, words: &[&str]) -> String {
    let answer = server.command(words).unwrap();
    redis::from_redis_value(answer).unwrap()
}

impl RedisCluster {
    /// Starts one of so many masters, each with a replica or not.
    pub fn start(masters: usize, with_replicas: bool) -> Self {
        let cluster = Self {
            masters: (0..masters).map(|_| node()).collect(),
            replicas: (0..if with_replicas { masters } else { 0 })
                .map(|_| node())
                .collect(),
        };
        let share = SLOTS / masters as u16;
        for (n, master) in cluster.masters.iter().enumerate() {
            let first = share * n as u16;
            let last = if n + 1 == masters {
                SLOTS
            } else {
                first + share
            } - 1;
            let range = [first.to_string(), last.to_string()];
            let add = ["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]];
            master.command(&add).unwrap();
            let epoch = (n + 1).to_string();
            master
                .command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch])
                .unwrap();
        }
        let first = &cluster.masters[0];
        for node in cluster.nodes().skip(1) {
            let (port, bus) = (node.port().to_string(), node.setting("cluster-port"));
            first
                .command(&["CLUSTER", "MEET", "127.0.0.1", &port, bus])
                .unwrap();
        }
        let all = cluster.nodes().count();
        for node in cluster.nodes() {
            until(|| text(node, &["CLUSTER", "NODES"]).lines().count() == all);
        }
        for (master, replica) in cluster.masters.iter().zip(&cluster.replicas) {
            let id = text(master, &["CLUSTER", "MYID"]);
            until(|| replica.command(&["CLUSTER", "REPLICATE", &id]).is_ok());
            until(|| text(replica, &["INFO", "replication"]).contains("master_link_status:up"));
        }
        for node in cluster.nodes() {
            until(|| text(node, &["CLUSTER", "INFO"]).contains("cluster_state:ok"));
        }
        cluster
    }

    /// All servers.
    pub fn nodes(&self) -> impl Iterator<Item = &RedisServer> {
        self.masters.iter().chain(&self.replicas)
    }

    /// The store's settings for it.
    pub fn config(&self) -> RedisConfig {
        RedisConfig {
            kind: RedisKind::Cluster,
            urls: self
                .masters
                .iter()
                .map(|node| format!("redis://127.0.0.1:{}", node.port()))
                .collect(),
            connect_timeout: Period(Duration::from_millis(500)),
            response_timeout: Period(Duration::from_secs(2)),
            ..RedisConfig::default()
        }
    }

    /// Slots in use at a master, with how many keys.
    pub fn slots_in_use(&self, master: usize) -> Vec<u16> {
        let node = &self.masters[master];
        let ranges = node.command(&["CLUSTER", "SLOTS"]).unwrap();
        let ranges: Vec<Vec<Value>> = redis::from_redis_value(ranges).unwrap();
        let mut used = Vec::new();
        for range in ranges {
            let first: u16 = redis::from_redis_value(range[0].clone()).unwrap();
            let last: u16 = redis::from_redis_value(range[1].clone()).unwrap();
            let Value::Array(owner) = &range[2] else {
                continue;
            };
            if owner[1] != Value::Int(node.port().into()) {
                continue;
            }
            used.extend((first..=last).filter(|slot| {
                let count = node.command(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]);
                count.is_ok_and(|count| count != Value::Int(0))
            }));
        }
        used
    }

    /// Moves a slot as `redis-cli --cluster reshard` does, so many keys at a time.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize, keys: usize) {
        let (source, target) = (&self.masters[from], &self.masters[to]);
        let (source_id, target_id) = (
            text(source, &["CLUSTER", "MYID"]),
            text(target, &["CLUSTER", "MYID"]),
        );
        let (slot, port, keys) = (
            slot.to_string(),
            target.port().to_string(),
            keys.to_string(),
        );
        let set_slot = |node: &RedisServer, what: &str, id: &str| {
            node.command(&["CLUSTER", "SETSLOT", &slot, what, id])
                .unwrap();
        };
        set_slot(target, "IMPORTING", &source_id);
        set_slot(source, "MIGRATING", &target_id);
        loop {
            let found = source.command(&["CLUSTER", "GETKEYSINSLOT", &slot, &keys]);
            let found: Vec<String> = redis::from_redis_value(found.unwrap()).unwrap();
            if found.is_empty() {
                break;
            }
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(found.iter().map(String::as_str));
            source.command(&migrate).unwrap();
        }
        for node in [target, source] {
            set_slot(node, "NODE", &target_id);
        }
        for node in &self.masters {
            // The others hear of it by themselves; a node that is down does later.
            drop(node.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]));
        }
    }
}
