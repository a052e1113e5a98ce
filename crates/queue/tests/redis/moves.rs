//! Re-routing between partitions: whatever breaks off on the way, and whoever looks, a delivery is in one
//! of them, and leaves the queue once.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postrider_config::values::Period;
use postrider_protocol::queue_v1::{Filter, OutcomeKind, journey_event};
use postrider_protocol::{DeliveryId, QueueId};
use postrider_queue::store::redis::{RedisConfig, RedisStore, TimeSource};
use postrider_queue::store::{
    Act, By, Completed, Enqueued, Find, Store as _, StoreError, StoreSettings,
};
use redis::Value;

use crate::proxy::Proxy;
use crate::support::redis_server::RedisServer;
use crate::support::{completion, message, outcome, settings, worker};

pub(crate) const CLOCK: &str = "test-clock";
pub(crate) const PARTITIONS: u16 = 4;

pub(crate) fn start() -> RedisServer {
    let server = RedisServer::start();
    clear(&server);
    server
}

/// As at the beginning.
pub(crate) fn clear(server: &RedisServer) {
    server.command(&["FLUSHALL"]).unwrap();
    server.command(&["SET", CLOCK, "1800000000000000"]).unwrap();
}

/// A store that takes what has been left behind for left behind at once, since a test sets its clock.
pub(crate) async fn open(server: &RedisServer, by: Option<&Proxy>) -> Arc<RedisStore> {
    open_keeping(server, by, settings().journey_retention).await
}

/// The same, with journeys kept for so long.
async fn open_keeping(
    server: &RedisServer,
    by: Option<&Proxy>,
    journey_retention: Duration,
) -> Arc<RedisStore> {
    let config = RedisConfig {
        url: by.map_or_else(|| server.url(), Proxy::url),
        partitions: PARTITIONS,
        connect_timeout: Period(Duration::from_millis(if by.is_some() { 100 } else { 5000 })),
        ..server.config()
    };
    let settings = StoreSettings {
        journey_retention,
        ..settings()
    };
    let store = RedisStore::open_at(&config, settings, &TimeSource::key(CLOCK)).await;
    store.unwrap()
}

fn by() -> By {
    By {
        operator: "ann".to_owned(),
        reason: "a test".to_owned(),
    }
}

/// A destination of each partition, in the partitions' order.
pub(crate) async fn destinations(server: &RedisServer) -> Vec<String> {
    let store = open(server, None).await;
    let mut known = BTreeMap::new();
    for n in 0.. {
        if known.len() == usize::from(PARTITIONS) {
            break;
        }
        let to = format!("smtp:d{n}.test");
        let id = QueueId::new();
        let new = message(id, 300, &[("a@x.test", to.as_str())]);
        assert!(store.enqueue(vec![new]).await[0].is_ok());
        let key = keys(server, &format!("m:{id}")).remove(0);
        let partition = key.split(':').nth(1).unwrap().to_owned();
        known.entry(partition).or_insert(to);
    }
    clear(server);
    known.into_values().collect()
}

fn reroute(to: &str) -> Act {
    Act::Reroute {
        to: to.parse().unwrap(),
    }
}

/// Keys whose names end so, in all partitions.
pub(crate) fn keys(server: &RedisServer, end: &str) -> Vec<String> {
    let pattern = format!("pr1:*:{end}");
    redis::from_redis_value(server.command(&["KEYS", &pattern]).unwrap()).unwrap()
}

/// Where everything that is queued goes, by delivery, told in every way alike.
async fn whereabouts(store: &RedisStore) -> Vec<(DeliveryId, String)> {
    let listed = store.list(&Filter::default(), None, 1000).await.unwrap();
    let listed: Vec<(DeliveryId, String)> = listed
        .into_iter()
        .map(|status| (status.delivery_id.parse().unwrap(), status.destination))
        .collect();
    let ids: HashSet<QueueId> = listed.iter().map(|(id, _)| id.queue_id).collect();
    let mut shown = Vec::new();
    for id in &ids {
        let deliveries = store.show(*id).await.unwrap().unwrap().deliveries;
        let deliveries = deliveries.into_iter();
        shown.extend(deliveries.map(|it| (it.delivery_id.parse().unwrap(), it.destination)));
        assert!(!store.journey(*id).await.unwrap().unwrap().ended);
    }
    shown.sort();
    assert_eq!(shown, listed);
    let mut exported = Vec::new();
    for message in store.export(None, 1000).await.unwrap() {
        let queue_id: QueueId = message.message.unwrap().queue_id.parse().unwrap();
        exported.extend(message.deliveries.into_iter().map(|it| {
            let number = it.number;
            (DeliveryId { queue_id, number }, it.destination)
        }));
    }
    exported.sort();
    assert_eq!(exported, listed);
    let found = Find::Sender("sender@example.org".to_owned());
    let found = store.find(&found, 1000).await.unwrap();
    assert_eq!(found.into_iter().collect::<HashSet<_>>(), ids);
    let stats = store.stats().await.unwrap();
    let open = listed.len() as u64;
    assert_eq!((stats.open, stats.waiting, stats.held), (open, open, 0));
    assert_eq!(stats.accepted, stats.open + stats.delivered);
    let waiting: u64 = stats.destinations.iter().map(|to| to.waiting).sum();
    assert_eq!(waiting, open);
    listed
}

async fn acts_of_ann(store: &RedisStore, id: QueueId) -> usize {
    let journey = store.journey(id).await.unwrap().unwrap();
    let by_ann = |what: &&journey_event::What| matches!(what, journey_event::What::Notice(notice) if notice.operator == "ann");
    let told = journey
        .events
        .iter()
        .filter_map(|event| event.what.as_ref());
    told.filter(by_ann).count()
}

/// Delivers all that is due; each delivery with where it went.
async fn deliver_all(store: &RedisStore) -> Vec<(DeliveryId, String)> {
    let mut delivered = Vec::new();
    loop {
        let grants = store.lease(worker("w", 100), 100).await.unwrap();
        if grants.is_empty() {
            delivered.sort();
            return delivered;
        }
        for grant in grants {
            for delivery in store.pull(grant.token, 100).await.unwrap().unwrap() {
                assert_eq!(delivery.destination, grant.destination.as_str());
                let envelope = delivery.envelope.unwrap();
                assert_eq!(envelope.recipients.len(), 1);
                assert!(delivery.body.is_some_and(|body| body.size == 300));
                let id: DeliveryId = delivery.delivery_id.parse().unwrap();
                let done = vec![outcome(
                    &envelope.recipients[0].address,
                    OutcomeKind::Delivered,
                )];
                let report = completion(id, grant.token, delivery.attempt, done);
                let results = store.complete(vec![report]).await;
                assert!(matches!(results[0], Ok(Completed::Done)), "{results:?}");
                delivered.push((id, delivery.destination));
            }
            store.give_back(vec![grant.token]).await.unwrap();
        }
    }
}

/// Whether a call was carried out as far as it told; an error must say that it is worth asking again.
fn told<T>(answer: &Result<T, StoreError>) -> bool {
    match answer {
        Ok(_) => true,
        Err(error) if error.is_passing() => false,
        Err(error) => panic!("{error}"),
    }
}

/// Cuts the way to Redis after each number of bytes of answers, in the middle of a re-routing of one of
/// two deliveries of a message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_breaks_off_anywhere_is_finished() {
    let server = start();
    let to = destinations(&server).await;
    let (mut bytes, mut undone, mut half_done) = (0, 0, 0);
    loop {
        clear(&server);
        let store = open(&server, None).await;
        let id = QueueId::new();
        let new = message(id, 300, &[("a@x.test", &to[0]), ("b@x.test", &to[1])]);
        assert!(store.enqueue(vec![new.clone()]).await[0].is_ok());
        let moves = DeliveryId {
            queue_id: id,
            number: 0,
        };
        let stays = DeliveryId {
            queue_id: id,
            number: 1,
        };

        let proxy = Proxy::to(server.port()).await;
        let dying = open(&server, Some(&proxy)).await;
        proxy.break_after(bytes);
        let answer = dying.act(&reroute(&to[2]), &[moves], &by()).await;
        let whole = !proxy.is_cut();
        drop(dying);
        drop(proxy);
        half_done += usize::from(!keys(&server, "moving").is_empty());

        let before = whereabouts(&store).await;
        let done = before[0].1 == to[2];
        assert!(done || !told(&answer), "after {bytes}: {before:?}");
        undone += usize::from(!done);
        let now = if done { &to[2] } else { &to[0] };
        let expected = [(moves, now.clone()), (stays, to[1].clone())];
        assert_eq!(before, expected, "after {bytes}");
        assert_eq!(acts_of_ann(&store, id).await, usize::from(done));
        let again = store.enqueue(vec![new]).await;
        assert!(again[0].is_ok(), "{again:?}");
        // An act finds it wherever it is.
        let until_us = None;
        let held = store.act(&Act::Hold { until_us }, &[moves], &by()).await;
        assert_eq!(held.unwrap(), [true], "after {bytes}");
        let released = store.act(&Act::Release, &[moves, stays], &by()).await;
        assert_eq!(released.unwrap(), [true, false]);

        store.expire().await.unwrap();
        assert_eq!(keys(&server, "moving"), [""; 0]);
        assert_eq!(whereabouts(&store).await, expected);
        assert_eq!(deliver_all(&store).await, expected, "after {bytes}");
        let stats = store.stats().await.unwrap();
        assert_eq!((stats.accepted, stats.delivered, stats.open), (2, 2, 0));
        assert_eq!(stats.messages, 0);
        for rest in ["m:*", "b:*", "index", "load", "ready:*", "later:*", "held"] {
            assert_eq!(keys(&server, rest), [""; 0], "after {bytes}");
        }
        assert!(store.journey(id).await.unwrap().unwrap().ended);
        if whole {
            break;
        }
        bytes += 61;
    }
    // Otherwise nothing was tried.
    assert!(undone > 0 && half_done > 2, "{undone} {half_done}");
}

/// Has a process re-route a delivery that dies before it sends what has this in it.
async fn die_before(server: &RedisServer, what: &str, to: &str, delivery: DeliveryId) {
    let proxy = Proxy::to(server.port()).await;
    let dying = open(server, Some(&proxy)).await;
    proxy.break_before(what);
    told(&dying.act(&reroute(to), &[delivery], &by()).await);
    assert!(proxy.is_cut(), "nothing broke off");
}

/// Only this says that the first move of a delivery has ended: it went to the partition.
fn first_has_arrived(partition: usize) -> String {
    format!("\r\n1 {partition}\r\n")
}

/// Whether a delivery is on its way, and in how many partitions its message is.
fn on_its_way(server: &RedisServer, delivery: DeliveryId) -> (bool, usize) {
    let name = delivery.to_string();
    let mut moving = keys(server, "moving").into_iter();
    let is_moving = |key: String| server.command(&["ZSCORE", &key, &name]).unwrap() != Value::Nil;
    let message = keys(server, &format!("m:{}", delivery.queue_id));
    (moving.any(is_moving), message.len())
}

fn assert_all_is_over(server: &RedisServer, about: &str) {
    for rest in [
        "m:*", "b:*", "index", "load", "ready:*", "later:*", "held", "moving",
    ] {
        assert_eq!(keys(server, rest), [""; 0], "{about}");
    }
    for kept in ["v:*", "j:*"] {
        for key in keys(server, kept) {
            let left = server.command(&["PTTL", &key]).unwrap();
            assert!(
                matches!(left, Value::Int(0..)),
                "{about}: {key} stays for ever"
            );
        }
    }
}

/// It has arrived, nobody has said so where it came from, and an operator wants it back there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_comes_back_before_its_first_move_has_ended() {
    let server = start();
    let to = destinations(&server).await;
    for case in 0..8 {
        let (from, over) = if case & 1 == 0 { (1, 0) } else { (0, 1) };
        let (alone, swept) = (case & 2 == 0, case & 4 == 0);
        let about = format!("from {from} over {over}, alone {alone}, swept {swept}");
        clear(&server);
        let store = open(&server, None).await;
        let id = QueueId::new();
        let moves = DeliveryId {
            queue_id: id,
            number: 0,
        };
        let mut expected = vec![(moves, to[from].clone())];
        let mut recipients = vec![("a@x.test", to[from].as_str())];
        if !alone {
            // Another one of the message stays in the partition.
            recipients.push(("b@x.test", &to[over]));
            let stays = DeliveryId {
                queue_id: id,
                number: 1,
            };
            expected.push((stays, to[from].clone()));
        }
        let new = message(id, 300, &recipients);
        assert!(store.enqueue(vec![new]).await[0].is_ok());
        for (stays, to) in &expected[1..] {
            let moved = store.act(&reroute(to), &[*stays], &by()).await;
            assert_eq!(moved.unwrap(), [true]);
        }
        die_before(&server, &first_has_arrived(over), &to[over], moves).await;
        assert_eq!(on_its_way(&server, moves), (true, 2), "{about}");

        if swept {
            // Both moves are left to whoever sweeps, the second one perhaps first.
            die_before(&server, &first_has_arrived(over), &to[from], moves).await;
            assert_eq!(keys(&server, "moving").len(), 2, "{about}");
            store.expire().await.unwrap();
        } else {
            let changed = store.act(&reroute(&to[from]), &[moves], &by()).await;
            assert_eq!(changed.unwrap(), [true], "{about}");
        }
        assert_eq!(whereabouts(&store).await, expected, "{about}");
        store.expire().await.unwrap();
        assert_eq!(on_its_way(&server, moves), (false, 1), "{about}");
        assert_eq!(whereabouts(&store).await, expected, "{about}");
        assert_eq!(deliver_all(&store).await, expected, "{about}");
        let stats = store.stats().await.unwrap();
        let all = expected.len() as u64;
        assert_eq!(
            (stats.accepted, stats.delivered, stats.open),
            (all, all, 0),
            "{about}"
        );
        assert!(store.journey(id).await.unwrap().unwrap().ended);
        assert_all_is_over(&server, &about);
    }
}

/// A delivery that has arrived and ended does not hold up another one of its message, nor what comes after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_ended_where_it_went_holds_up_no_other() {
    let server = start();
    let to = destinations(&server).await;
    let store = open(&server, None).await;
    let id = QueueId::new();
    let new = message(id, 300, &[("a@x.test", &to[0]), ("b@x.test", &to[1])]);
    assert!(store.enqueue(vec![new]).await[0].is_ok());
    let [ended, left] = [0, 1].map(|number| DeliveryId {
        queue_id: id,
        number,
    });
    let moved = store.act(&reroute(&to[0]), &[left], &by()).await;
    assert_eq!(moved.unwrap(), [true]);
    die_before(&server, &first_has_arrived(2), &to[2], ended).await;
    die_before(&server, "MSETNX", &to[2], left).await;
    assert_eq!(on_its_way(&server, ended), (true, 2));
    assert_eq!(on_its_way(&server, left), (true, 2));
    assert_eq!(deliver_all(&store).await, [(ended, to[2].clone())]);

    store.expire().await.unwrap();
    assert_eq!(whereabouts(&store).await, [(left, to[2].clone())]);
    assert_eq!(deliver_all(&store).await, [(left, to[2].clone())]);
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.accepted, stats.delivered, stats.open), (2, 2, 0));
    assert_all_is_over(&server, "");
}

/// What has arrived and ended is known, however short journeys are kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_ended_does_not_come_again() {
    let server = start();
    let to = destinations(&server).await;
    let keep = Duration::ZERO;
    let store = open_keeping(&server, None, keep).await;
    let id = QueueId::new();
    let new = message(id, 300, &[("a@x.test", &to[0]), ("b@x.test", &to[1])]);
    assert!(store.enqueue(vec![new.clone()]).await[0].is_ok());
    let [moves, stays] = [0, 1].map(|number| DeliveryId {
        queue_id: id,
        number,
    });
    die_before(&server, &first_has_arrived(1), &to[1], moves).await;
    let delivered = deliver_all(&store).await;
    assert_eq!(delivered, [(moves, to[1].clone()), (stays, to[1].clone())]);
    // Redis forgets by its own clock.
    tokio::time::sleep(Duration::from_millis(20)).await;
    store.expire().await.unwrap();
    assert_eq!(deliver_all(&store).await, []);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let again = store.enqueue(vec![new]).await.remove(0);
    assert!(matches!(again, Ok(Enqueued::AlreadyAccepted)), "{again:?}");

    let new = message(QueueId::new(), 300, &[("a@x.test", &to[1])]);
    let new = vec![new, message(QueueId::new(), 300, &[("a@x.test", &to[2])])];
    for known in [false, true] {
        for accepted in store.enqueue(new.clone()).await {
            let accepted = accepted.unwrap();
            assert_eq!(accepted == Enqueued::AlreadyAccepted, known);
        }
        assert_eq!(deliver_all(&store).await.is_empty(), known);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for new in new {
        let id = new.queue_id.parse().unwrap();
        assert_eq!(store.journey(id).await.unwrap(), None);
    }
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.accepted, stats.delivered, stats.open), (4, 4, 0));
    assert_eq!(stats.messages, 0);
    assert_all_is_over(&server, "");
}

/// A message's own part for a partition may still lie in an outbox when another delivery of it has moved
/// there already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_comes_late_is_not_taken_for_known() {
    let server = start();
    let to = destinations(&server).await;
    let (mut bytes, mut late) = (0, 0);
    loop {
        clear(&server);
        // With its journey still there when it comes, and without.
        let keep = [settings().journey_retention, Duration::ZERO][late / 2 % 2];
        let store = open_keeping(&server, None, keep).await;
        let proxy = Proxy::to(server.port()).await;
        let dying = open_keeping(&server, Some(&proxy), keep).await;
        let id = QueueId::new();
        let new = message(
            id,
            300,
            &[
                ("a@x.test", &to[0]),
                ("b@x.test", &to[1]),
                ("c@x.test", &to[2]),
            ],
        );
        proxy.break_after(bytes);
        let accepted = dying.enqueue(vec![new]).await.remove(0);
        let whole = !proxy.is_cut();
        drop(dying);
        drop(proxy);
        if !keys(&server, "o:*").is_empty() {
            late += 1;
            let moves = DeliveryId {
                queue_id: id,
                number: 0,
            };
            let moved = store.act(&reroute(&to[1]), &[moves], &by()).await;
            assert_eq!(moved.unwrap(), [true]);
            if late % 2 == 0 {
                // What has moved may leave before the rest arrives.
                let delivered = deliver_all(&store).await;
                assert!(delivered.contains(&(moves, to[1].clone())), "{delivered:?}");
            }
            while !keys(&server, "o:*").is_empty() {
                store.expire().await.unwrap();
            }
        }
        deliver_all(&store).await;
        let stats = store.stats().await.unwrap();
        let all = if stats.accepted == 0 { 0 } else { 3 };
        assert_eq!(
            (stats.accepted, stats.delivered, stats.open),
            (all, all, 0),
            "after {bytes}"
        );
        assert!(stats.accepted == 3 || !told(&accepted));
        if whole {
            break;
        }
        bytes += 41;
    }
    assert!(late > 3, "{late}");
}

/// Deliveries go to and fro while others look, carry, and take them for theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_looks_sees_each_delivery_once() {
    let server = start();
    let to = destinations(&server).await;
    let store = open(&server, None).await;
    let mut ids = Vec::new();
    for n in 0..20 {
        let id = QueueId::new();
        let new = message(id, 300, &[("a@x.test", &to[n % 4])]);
        assert!(store.enqueue(vec![new]).await[0].is_ok());
        ids.push(DeliveryId {
            queue_id: id,
            number: 0,
        });
    }
    ids.sort();
    let stop = Arc::new(AtomicBool::new(false));
    let mut others = Vec::new();
    for looks in [true, true, false] {
        let (stop, ids) = (stop.clone(), ids.clone());
        let other = open(&server, None).await;
        others.push(tokio::spawn(async move {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                if looks {
                    let listed = other.list(&Filter::default(), None, 1000).await.unwrap();
                    let listed: Vec<DeliveryId> = listed
                        .iter()
                        .map(|status| status.delivery_id.parse().unwrap())
                        .collect();
                    assert_eq!(listed, ids);
                    let stats = other.stats().await.unwrap();
                    assert_eq!((stats.open, stats.accepted, stats.waiting), (20, 20, 20));
                } else {
                    other.expire().await.unwrap();
                }
                rounds += 1;
            }
            rounds
        }));
    }
    for round in 1..=40 {
        // Some of them each time, so that there are moments in which nothing moves.
        let some: Vec<DeliveryId> = ids.iter().copied().skip(round % 3).step_by(3).collect();
        let act = reroute(&to[round % 4]);
        let changed = store.act(&act, &some, &by()).await.unwrap();
        assert!(round < 4 || changed.contains(&true));
    }
    stop.store(true, Ordering::Relaxed);
    for other in others {
        assert!(other.await.unwrap() > 5);
    }
    assert_eq!(keys(&server, "moving"), [""; 0]);
    let delivered = deliver_all(&store).await;
    let delivered: Vec<DeliveryId> = delivered.into_iter().map(|(id, _)| id).collect();
    assert_eq!(delivered, ids);
}

/// What an operator wants of a leased delivery is done when its attempt is over, also if that is elsewhere.
#[tokio::test]
async fn a_leased_delivery_leaves_when_its_attempt_is_over() {
    let server = start();
    let to = destinations(&server).await;
    for ends in 0..3 {
        clear(&server);
        let store = open(&server, None).await;
        let id = QueueId::new();
        assert!(
            store
                .enqueue(vec![message(id, 300, &[("a@x.test", &to[0])])])
                .await[0]
                .is_ok()
        );
        let delivery = DeliveryId {
            queue_id: id,
            number: 0,
        };
        let grant = store.lease(worker("w", 1), 1).await.unwrap().remove(0);
        let pulled = store.pull(grant.token, 1).await.unwrap().unwrap();
        assert_eq!(pulled[0].delivery_id, delivery.to_string());
        for (new, changes) in [(&to[1], true), (&to[1], false), (&to[2], true)] {
            let changed = store.act(&reroute(new), &[delivery], &by()).await.unwrap();
            assert_eq!(changed, [changes], "{new}");
        }
        match ends {
            0 => {
                let deferred = vec![outcome("a@x.test", OutcomeKind::Deferred)];
                let mut report = completion(delivery, grant.token, 1, deferred);
                report.retry_after = Duration::ZERO;
                let results = store.complete(vec![report.clone(), report]).await;
                let done = |result: &Result<_, _>| matches!(result, Ok(Completed::Done));
                assert!(results.iter().all(done), "{results:?}");
            }
            1 => {}
            _ => {
                // The lease expires.
                server.command(&["INCRBY", CLOCK, "20000000"]).unwrap();
                store.expire().await.unwrap();
            }
        }
        store.give_back(vec![grant.token]).await.unwrap();
        let there = whereabouts(&store).await;
        assert_eq!(there, [(delivery, to[2].clone())], "{ends}");
        assert_eq!(acts_of_ann(&store, id).await, 2);
        assert_eq!(deliver_all(&store).await, there);
    }
}

/// With a partition's server away, re-routing to it is refused, and can be asked for again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_on_its_way_to_where_nobody_is() {
    let mut cluster = tokio::task::block_in_place(|| {
        crate::support::redis_cluster::RedisCluster::start(3, false)
    });
    let store = RedisStore::open(&cluster.config(), settings())
        .await
        .unwrap();
    let to = crate::away::destinations(&store, &cluster).await;
    let id = QueueId::new();
    assert!(
        store
            .enqueue(vec![message(id, 300, &[("a@x.test", &to[0])])])
            .await[0]
            .is_ok()
    );
    let delivery = DeliveryId {
        queue_id: id,
        number: 0,
    };
    assert_eq!(
        store
            .act(&reroute(&to[2]), &[delivery], &by())
            .await
            .unwrap(),
        [true]
    );
    tokio::task::block_in_place(|| cluster.masters[1].kill());
    let refused = store.act(&reroute(&to[1]), &[delivery], &by()).await;
    assert!(!told(&refused), "{refused:?}");
    tokio::task::block_in_place(|| cluster.masters[1].run());
    let started = Instant::now();
    let mut changed = store.act(&reroute(&to[1]), &[delivery], &by()).await;
    while changed.is_err() && started.elapsed().as_secs() < 30 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        changed = store.act(&reroute(&to[1]), &[delivery], &by()).await;
    }
    assert!(told(&changed));
    let shown = store.show(id).await.unwrap().unwrap();
    assert_eq!(shown.deliveries.len(), 1);
    assert_eq!(shown.deliveries[0].destination, to[1]);
}
