//! Parts of messages that a dead process has left on their way to another partition.

use std::time::{Duration, Instant};

use postrider_config::values::Period;
use postrider_protocol::QueueId;
use postrider_queue::store::Store as _;
use postrider_queue::store::redis::{Durability, RedisConfig, RedisStore, TimeSource};

use crate::moves::{CLOCK, PARTITIONS, clear, destinations, keys, open, start};
use crate::proxy::Proxy;
use crate::support::redis_server::RedisServer;
use crate::support::{message, settings};

/// Accepts a message for two partitions and dies between them.
async fn leave_a_part(server: &RedisServer, to: &[String]) -> QueueId {
    for bytes in (0..).step_by(41) {
        let proxy = Proxy::to(server.port()).await;
        let dying = open(server, Some(&proxy)).await;
        let id = QueueId::new();
        let new = message(id, 300, &[("a@x.test", &to[0]), ("b@x.test", &to[1])]);
        proxy.break_after(bytes);
        let accepted = dying.enqueue(vec![new]).await.remove(0);
        drop(proxy);
        if !keys(server, &format!("o:{id}.*")).is_empty() {
            return id;
        }
        assert!(accepted.is_err(), "no part was left");
    }
    unreachable!("some number of bytes is enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_its_way_is_exported() {
    let server = start();
    let to = destinations(&server).await;
    let id = leave_a_part(&server, &to).await;
    let store = open(&server, None).await;
    let exported = store.export(None, 100).await.unwrap();
    let of_it = exported.iter().find(|exported| {
        let new = exported.message.as_ref();
        new.is_some_and(|new| new.queue_id == id.to_string())
    });
    assert_eq!(of_it.unwrap().deliveries.len(), 2);
    assert_eq!(keys(&server, "o:*"), [""; 0]);
}

/// Connections of the store that wait for replicas end; the one that only reads stays.
fn cut_those_that_wait(server: &RedisServer) {
    let list = server.command(&["CLIENT", "LIST"]).unwrap();
    let list: String = redis::from_redis_value(list).unwrap();
    for line in list.lines() {
        let field = |name: &str| line.split(' ').find_map(|it| it.strip_prefix(name));
        if field("cmd=").is_some_and(|cmd| cmd.starts_with("wait")) {
            let id = field("id=").unwrap();
            server.command(&["CLIENT", "KILL", "ID", id]).unwrap();
        }
    }
}

/// A replica takes over, and the old server, which does not know yet, holds a part that nobody else has:
/// what it belongs to was never acknowledged, so the part must not go anywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failover_lost_does_not_go_out() {
    let old = start();
    let to = destinations(&old).await;
    clear(&old);
    let new = RedisServer::start();
    let third = RedisServer::start();
    for (replica, of) in [(&new, &old), (&third, &new)] {
        let port = of.port().to_string();
        replica.command(&["REPLICAOF", "127.0.0.1", &port]).unwrap();
    }
    let proxy = Proxy::to(old.port()).await;
    let config = RedisConfig {
        url: proxy.url(),
        partitions: PARTITIONS,
        durability: Durability::Replicated(1),
        connect_timeout: Period(Duration::from_secs(5)),
        ..old.config()
    };
    let store = RedisStore::open_at(&config, settings(), &TimeSource::key(CLOCK)).await;
    let store = store.unwrap();
    until_it_expires(&store).await;

    new.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    proxy.leads_to(new.port());
    let id = leave_a_part(&old, &to).await;
    assert!(!keys(&old, &format!("m:{id}")).is_empty());
    cut_those_that_wait(&old);
    for _ in 0..3 {
        until_it_expires(&store).await;
    }
    let there = keys(&new, &format!("m:{id}"));
    assert_eq!(there, [""; 0], "a part of what was lost");
}

async fn until_it_expires(store: &RedisStore) {
    let started = Instant::now();
    while let Err(error) = store.expire().await {
        assert!(started.elapsed().as_secs() < 20, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
