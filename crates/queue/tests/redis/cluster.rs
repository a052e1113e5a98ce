//! Redis Cluster: partitions spread over its nodes, resharding and failovers are survived, and a dead
//! node takes only its own partitions with it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::{Filter, OutcomeKind, journey_event};
use postrider_queue::store::redis::{Durability, RedisConfig, RedisStore};
use postrider_queue::store::{Completed, Enqueued, Find, Renewed, Store as _, StoreSettings};

use crate::load::Load;
use crate::support::redis_cluster::{RedisCluster, text, until};
use crate::support::{completion, message, outcome, settings, worker};

fn destinations(number: usize) -> Vec<String> {
    (0..number).map(|n| format!("smtp:d{n}.test")).collect()
}

async fn open(cluster: &RedisCluster) -> Arc<RedisStore> {
    let store = RedisStore::open(&cluster.config(), settings()).await;
    store.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_to_many_destinations_is_one_message() {
    let cluster = tokio::task::block_in_place(|| RedisCluster::start(3, false));
    let store = open(&cluster).await;
    let to = destinations(40);
    let recipients: Vec<(String, String)> = to
        .iter()
        .enumerate()
        .map(|(n, to)| (format!("r{n}@x.test"), to.clone()))
        .collect();
    let recipients: Vec<(&str, &str)> = recipients
        .iter()
        .map(|(address, to)| (address.as_str(), to.as_str()))
        .collect();
    let id = QueueId::new();
    let new = message(id, 3000, &recipients);
    let results = store.enqueue(vec![new.clone(), new.clone()]).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let again = store.enqueue(vec![new]).await;
    assert!(matches!(again[0], Ok(Enqueued::AlreadyAccepted)));

    // All parts are there: on every node, in lists, in counts, in one journey.
    for master in 0..3 {
        assert!(!cluster.slots_in_use(master).is_empty());
    }
    let listed = store.list(&Filter::default(), None, 1000).await.unwrap();
    let numbers: Vec<String> = listed.iter().map(|row| row.delivery_id.clone()).collect();
    let expected: Vec<String> = (0..40).map(|n| format!("{id}.{n}")).collect();
    assert_eq!(numbers, expected);
    let shown = store.show(id).await.unwrap().unwrap();
    assert_eq!(shown.deliveries.len(), 40);
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.accepted, stats.open, stats.waiting), (40, 40, 40));
    let page = store
        .list(&Filter::default(), Some(numbers[9].parse().unwrap()), 5)
        .await;
    assert_eq!(page.unwrap()[0].delivery_id, numbers[10]);
    let found = store
        .find(&Find::Sender("sender@example.org".to_owned()), 10)
        .await;
    assert_eq!(found.unwrap(), [id]);

    // One is bounced: its DSN goes to a destination of another partition.
    let mut done = 0;
    let mut dsn_ids = HashSet::new();
    while done < 40 {
        let grants = store.lease(worker("w", 12), 100).await.unwrap();
        assert!(!grants.is_empty(), "nothing after {done}");
        for grant in grants {
            if grant.destination.as_str() == "smtp:bounces.test" {
                continue;
            }
            let pulled = store.pull(grant.token, 10).await.unwrap().unwrap();
            for delivery in pulled {
                assert_eq!(delivery.token, grant.token);
                let number: usize = delivery
                    .delivery_id
                    .rsplit_once('.')
                    .unwrap()
                    .1
                    .parse()
                    .unwrap();
                let address = format!("r{number}@x.test");
                let mut report = completion(
                    delivery.delivery_id.parse().unwrap(),
                    grant.token,
                    1,
                    vec![outcome(&address, OutcomeKind::Failed)],
                );
                let dsn = QueueId::new();
                dsn_ids.insert(dsn);
                report.dsn = vec![message(
                    dsn,
                    100,
                    &[("sender@example.org", "smtp:bounces.test")],
                )];
                let results = store.complete(vec![report.clone(), report]).await;
                assert!(
                    results
                        .iter()
                        .all(|result| matches!(result, Ok(Completed::Done))),
                    "{results:?}"
                );
                done += 1;
            }
            store.give_back(vec![grant.token]).await.unwrap();
        }
    }
    let left = store.list(&Filter::default(), None, 1000).await.unwrap();
    let ids: HashSet<QueueId> = left
        .iter()
        .map(|row| row.queue_id.parse().unwrap())
        .collect();
    assert_eq!(ids, dsn_ids);
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.failed, stats.open, stats.accepted), (40, 40, 80));
    let journey = store.journey(id).await.unwrap().unwrap();
    let count = |wanted: fn(&journey_event::What) -> bool| {
        let events = journey
            .events
            .iter()
            .filter_map(|event| event.what.as_ref());
        events.filter(|what| wanted(what)).count()
    };
    assert_eq!(
        count(|what| matches!(what, journey_event::What::Queued(_))),
        1
    );
    assert_eq!(
        count(|what| matches!(what, journey_event::What::Attempt(_))),
        40
    );
    assert_eq!(
        count(|what| matches!(what, journey_event::What::Notice(_))),
        40
    );
    assert!(journey.ended);
    // Nothing is left on the way.
    for node in &cluster.masters {
        assert_eq!(
            text(
                node,
                &["EVAL", "return tostring(#redis.call('KEYS', '*:o*'))", "0"]
            ),
            "0"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_partitions_is_for_ever() {
    let cluster = tokio::task::block_in_place(|| RedisCluster::start(3, false));
    let with = |partitions| RedisConfig {
        partitions,
        ..cluster.config()
    };
    RedisStore::open(&with(8), settings()).await.unwrap();
    RedisStore::open(&with(0), settings()).await.unwrap();
    let Err(told) = RedisStore::open(&with(16), settings()).await else {
        panic!("another number was accepted");
    };
    assert!(told.to_string().contains("set it to 8"), "{told}");
}

/// Slots move to and fro under load, a few keys at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn resharding_under_load_loses_nothing() {
    let cluster = tokio::task::block_in_place(|| RedisCluster::start(3, false));
    let store = open(&cluster).await;
    let load = Load::start(&store, 6, &destinations(30));
    tokio::task::block_in_place(|| {
        load.flows(200);
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            for slot in cluster.slots_in_use(from).into_iter().take(3) {
                cluster.move_slot(slot, from, to, 20);
            }
            load.flows(100);
        }
    });
    load.finish().await;
}

/// `kill -9` of a master: the rest goes on, and what it had is there when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dead_node_takes_only_its_partitions_along() {
    let mut cluster = tokio::task::block_in_place(|| RedisCluster::start(3, false));
    let store = open(&cluster).await;
    let load = Load::start(&store, 4, &destinations(30));
    tokio::task::block_in_place(|| {
        load.flows(100);
        cluster.masters[1].kill();
        std::thread::sleep(Duration::from_millis(300));
        // A store that starts now does so without it.
        load.flows(100);
    });
    let late = open(&cluster).await;
    let mut accepted = 0;
    for destination in destinations(30) {
        let new = message(QueueId::new(), 10, &[("a@x.test", &destination)]);
        accepted += usize::from(late.enqueue(vec![new]).await[0].is_ok());
    }
    assert!((5..30).contains(&accepted), "{accepted}");
    tokio::task::block_in_place(|| {
        cluster.masters[1].run();
        load.flows(200);
    });
    until_all_accepted(&late).await;
    load.finish().await;
}

/// A worker with leases on two nodes, of which one hangs, and then is dead: nobody is told that the leases
/// there were renewed, and those on the other are, in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_on_a_node_that_is_away_do_not_pass_for_renewed() {
    let mut cluster = tokio::task::block_in_place(|| RedisCluster::start(2, false));
    let settings = StoreSettings {
        lease: Duration::from_secs(30),
        ..settings()
    };
    let store = RedisStore::open(&cluster.config(), settings.clone()).await;
    let store = store.unwrap();
    for destination in destinations(20) {
        let new = message(QueueId::new(), 10, &[("a@x.test", &destination)]);
        assert!(store.enqueue(vec![new]).await[0].is_ok());
    }
    let grants = store.lease(worker("w", 20), 20).await.unwrap();
    let tokens: Vec<u64> = grants.iter().map(|grant| grant.token).collect();
    assert_eq!(tokens.len(), 20);
    let all = store.renew(tokens.clone()).await.unwrap();
    assert_eq!(all, Renewed::default());

    for dead in [false, true] {
        match dead {
            false => drop(cluster.masters[1].command(&["CLIENT", "PAUSE", "60000"])),
            true => tokio::task::block_in_place(|| cluster.masters[1].kill()),
        }
        let started = Instant::now();
        let renewed = store.renew(tokens.clone()).await.unwrap();
        let took = started.elapsed();
        assert!(took < settings.lease / 4, "{took:?}");
        assert_eq!(renewed.stale, [0_u64; 0]);
        let away = renewed.unreached.len();
        assert!((1..20).contains(&away), "{away} on the node that is away");
    }
}

async fn until_all_accepted(store: &RedisStore) {
    for destination in destinations(30) {
        let new = message(QueueId::new(), 10, &[("a@x.test", &destination)]);
        let mut last = None;
        for _ in 0..40 {
            last = Some(store.enqueue(vec![new.clone()]).await.remove(0));
            if matches!(last, Some(Ok(_))) {
                break;
            }
        }
        assert!(matches!(last, Some(Ok(_))), "{last:?}");
    }
}

/// `kill -9` of a master whose replica takes over.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_takes_over_and_lacks_nothing_acknowledged() {
    let mut cluster = tokio::task::block_in_place(|| RedisCluster::start(3, true));
    let fsync = RedisStore::open(&cluster.config(), settings()).await;
    let Err(told) = fsync else {
        panic!("a promise that cannot be kept was made");
    };
    assert!(told.to_string().contains("replicated(1)"), "{told}");
    let config = RedisConfig {
        durability: Durability::Replicated(1),
        ..cluster.config()
    };
    let store = RedisStore::open(&config, settings()).await.unwrap();
    let load = Load::start(&store, 6, &destinations(30));
    tokio::task::block_in_place(|| {
        load.flows(100);
        cluster.masters[0].kill();
        let promoted = &cluster.replicas[0];
        until(|| text(promoted, &["INFO", "replication"]).contains("role:master"));
        // It comes back as the replica of the new master, which has nobody to confirm its writes
        // until then.
        cluster.masters[0].run();
        load.flows(300);
    });
    load.finish().await;
}
