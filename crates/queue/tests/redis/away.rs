//! A node that is away holds up nothing that is on its way to others.

use std::time::{Duration, Instant};

use postrider_protocol::{DeliveryId, QueueId};
use postrider_queue::store::redis::RedisStore;
use postrider_queue::store::{Act, By, Store as _};
use redis::Value;

use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_server::RedisServer;
use crate::support::{message, settings, worker};

/// More than are carried in one go.
const MANY: usize = 120;

/// A destination of each master of a cluster, in their order.
pub(crate) async fn destinations(store: &RedisStore, cluster: &RedisCluster) -> Vec<String> {
    let mut to: Vec<Option<String>> = vec![None; cluster.masters.len()];
    for n in 0.. {
        if to.iter().all(Option::is_some) {
            break;
        }
        let destination = format!("smtp:d{n}.test");
        let id = QueueId::new();
        let new = message(id, 300, &[("a@x.test", &destination)]);
        assert!(store.enqueue(vec![new]).await[0].is_ok());
        for (node, master) in cluster.masters.iter().enumerate() {
            if holds(master, &[id]) {
                to[node].get_or_insert_with(|| destination.clone());
            }
        }
    }
    to.into_iter().flatten().collect()
}

/// Whether a server has all of these messages.
fn holds(server: &RedisServer, ids: &[QueueId]) -> bool {
    ids.iter().all(|id| {
        let found = server.command(&["KEYS", &format!("*:m:{id}")]).unwrap();
        found != Value::Array(Vec::new())
    })
}

/// Lets the store do what is due until a server has all of these messages; whether it comes to that.
async fn comes_to(store: &RedisStore, server: &RedisServer, ids: &[QueueId]) -> bool {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds(server, ids) {
        if Instant::now() > end {
            return false;
        }
        store.expire().await.ok();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_moves_goes_past_what_must_wait() {
    let mut cluster = tokio::task::block_in_place(|| RedisCluster::start(3, false));
    let store = RedisStore::open(&cluster.config(), settings())
        .await
        .unwrap();
    let to = destinations(&store, &cluster).await;
    let mut ids = Vec::new();
    for _ in 0..=MANY {
        let id = QueueId::new();
        let new = message(id, 300, &[("a@x.test", &to[0])]);
        assert!(store.enqueue(vec![new]).await[0].is_ok());
        ids.push(id);
    }
    // They leave when their lease ends, in the order of their ids.
    let mut leases = Vec::new();
    loop {
        let grants = store.lease(worker("w", 1), 100).await.unwrap();
        let Some(grant) = grants.first() else { break };
        let pulled = store.pull(grant.token, 500).await.unwrap().unwrap();
        assert!(!pulled.is_empty());
        leases.push(grant.token);
    }
    let (last, stay) = ids.split_last().unwrap();
    for (ids, to) in [(stay, &to[1]), (&[*last][..], &to[2])] {
        let moves: Vec<DeliveryId> = ids
            .iter()
            .map(|id| DeliveryId {
                queue_id: *id,
                number: 0,
            })
            .collect();
        let act = Act::Reroute {
            to: to.parse().unwrap(),
        };
        let by = By {
            operator: "ann".to_owned(),
            reason: String::new(),
        };
        let changed = store.act(&act, &moves, &by).await.unwrap();
        assert_eq!(changed, vec![true; ids.len()]);
    }
    tokio::task::block_in_place(|| cluster.masters[1].kill());
    store.give_back(leases).await.unwrap();
    assert!(comes_to(&store, &cluster.masters[2], &[*last]).await);
    tokio::task::block_in_place(|| cluster.masters[1].run());
    assert!(comes_to(&store, &cluster.masters[1], stay).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_messages_go_past_what_must_wait() {
    let mut cluster = tokio::task::block_in_place(|| RedisCluster::start(5, false));
    let store = RedisStore::open(&cluster.config(), settings())
        .await
        .unwrap();
    let to = destinations(&store, &cluster).await;
    // Three of five are enough for a cluster.
    tokio::task::block_in_place(|| {
        cluster.masters[1].kill();
        cluster.masters[2].kill();
    });
    // All are accepted where there is a node; the parts for the others wait.
    let mut ids = [Vec::new(), Vec::new()];
    for (ids, other) in ids.iter_mut().zip(&to[1..3]) {
        for _ in 0..MANY {
            let id = QueueId::new();
            let new = message(id, 300, &[("a@x.test", &to[0]), ("b@x.test", other)]);
            // The store may have to notice first who is away.
            let mut accepted = false;
            for _ in 0..20 {
                accepted = accepted || store.enqueue(vec![new.clone()]).await[0].is_ok();
            }
            assert!(accepted);
            ids.push(id);
        }
    }
    tokio::task::block_in_place(|| cluster.masters[2].run());
    assert!(comes_to(&store, &cluster.masters[2], &ids[1]).await);
    tokio::task::block_in_place(|| cluster.masters[1].run());
    assert!(comes_to(&store, &cluster.masters[1], &ids[0]).await);
}
