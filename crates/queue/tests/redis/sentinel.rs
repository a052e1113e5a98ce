//! A master with a replica behind three Sentinels: failovers are followed and lose nothing.

use std::time::{Duration, Instant};

use postrider_config::values::Period;
use postrider_queue::store::redis::{Durability, RedisConfig, RedisKind, RedisStore};
use redis::Value;

use crate::load::Load;
use crate::support::redis_server::{RedisServer, SAFE};
use crate::support::settings;

const NAME: &str = "postrider";

struct Watched {
    servers: [RedisServer; 2],
    sentinels: Vec<RedisServer>,
}

impl Watched {
    fn start() -> Self {
        let settings = [SAFE, &[("repl-diskless-sync-delay", "0")]].concat();
        let master = RedisServer::with(&settings);
        let replica = RedisServer::with(&settings);
        replica
            .command(&["REPLICAOF", "127.0.0.1", &master.port().to_string()])
            .unwrap();
        let sentinels: Vec<_> = (0..3)
            .map(|_| RedisServer::sentinel(NAME, &master, 2))
            .collect();
        let watched = Self {
            servers: [master, replica],
            sentinels,
        };
        // They know the replica and each other.
        for sentinel in &watched.sentinels {
            until(|| {
                let known = |what: &str| match sentinel.command(&["SENTINEL", what, NAME]) {
                    Ok(Value::Array(rows)) => rows.len(),
                    _ => 0,
                };
                known("REPLICAS") == 1 && known("SENTINELS") == 2
            });
        }
        watched
    }

    fn config(&self) -> RedisConfig {
        RedisConfig {
            kind: RedisKind::Sentinel,
            urls: self
                .sentinels
                .iter()
                .map(|sentinel| format!("redis://127.0.0.1:{}", sentinel.port()))
                .collect(),
            service: NAME.to_owned(),
            durability: Durability::Replicated(1),
            connect_timeout: Period(Duration::from_millis(500)),
            response_timeout: Period(Duration::from_millis(1000)),
            ..RedisConfig::default()
        }
    }

    /// Which server is the master and has a replica that follows it.
    fn healthy_master(&self) -> Option<usize> {
        self.servers.iter().position(|server| {
            let Ok(info) = server.command(&["INFO", "replication"]) else {
                return false;
            };
            let info: String = redis::from_redis_value(info).unwrap();
            info.contains("role:master") && info.contains("state=online")
        })
    }
}

#[track_caller]
fn until(mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(30), "never came");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `kill -9` of the master, twice, under load. What was acknowledged is there once, tokens grow, and
/// it flows again, at the latest when a lease is over that was granted by an answer nobody got.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failover_loses_nothing_acknowledged() {
    let mut watched = tokio::task::block_in_place(Watched::start);
    let store = RedisStore::open(&watched.config(), settings()).await;
    let store = store.unwrap();
    let load = Load::start(&store, 6, &["smtp:x.test".to_owned()]);
    tokio::task::block_in_place(|| {
        for _ in 0..2 {
            load.flows(50);
            let mut master = 0;
            until(|| {
                watched
                    .healthy_master()
                    .inspect(|found| master = *found)
                    .is_some()
            });
            watched.servers[master].kill();
            // The other takes over, and has nobody to confirm its writes until the dead one comes back as
            // its replica.
            let other = 1 - master;
            until(|| {
                let role = watched.servers[other].command(&["ROLE"]);
                matches!(role, Ok(Value::Array(role)) if role[0] == Value::BulkString(b"master".to_vec()))
            });
            std::thread::sleep(Duration::from_millis(500));
            watched.servers[master].run();
            // The Sentinels would see to it as well, but only after ten seconds.
            let port = watched.servers[other].port().to_string();
            let back = watched.servers[master].command(&["REPLICAOF", "127.0.0.1", &port]);
            back.unwrap();
            until(|| watched.healthy_master().is_some());
        }
        load.flows(50);
    });
    let outcome = load.finish().await;
    assert!(outcome.leases > 2, "{}", outcome.leases);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_lose_mail_in_a_failover_is_refused() {
    let watched = tokio::task::block_in_place(Watched::start);
    let refusal = async |config: RedisConfig| match RedisStore::open(&config, settings()).await {
        Ok(_) => panic!("it was accepted"),
        Err(error) => format!("{error:#}"),
    };
    let told = refusal(RedisConfig {
        durability: Durability::Fsync,
        ..watched.config()
    })
    .await;
    assert!(told.contains("replicated(1)"), "{told}");
    let told = refusal(RedisConfig {
        service: "nobody".to_owned(),
        ..watched.config()
    })
    .await;
    assert!(told.contains("nobody"), "{told}");
    let told = refusal(RedisConfig {
        urls: vec!["redis://127.0.0.1:1".to_owned()],
        ..watched.config()
    })
    .await;
    assert!(told.contains("127.0.0.1:1"), "{told}");
}
