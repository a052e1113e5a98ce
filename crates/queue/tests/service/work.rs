//! Deliveries are pushed to those who can take them, within their limits.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use postrider_config::values::Period;
use postrider_protocol::api::QueueAdmin;
use postrider_protocol::queue_v1::queue_frame::Frame;
use postrider_protocol::queue_v1::{
    Heartbeat, LeaseList, OutcomeKind, completion_ack, worker_frame,
};
use postrider_queue::QueueConfig;
use tokio_util::sync::CancellationToken;

use crate::kit::Worker;
use crate::kit::{World, config, open};
use crate::slow::SlowStore;

async fn with_lease(lease: Period) -> (World, Duration) {
    let config = QueueConfig { lease, ..config() };
    (World::new(config).await, lease.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_pushed_and_its_outcome_confirmed() {
    let world = World::new(config()).await;
    let mut worker = world.worker("w", 10).await;
    let id = world.accept("smtp:a.test").await;
    let deliveries = worker.deliveries().await;
    assert_eq!(deliveries[0].queue_id, id.to_string());
    worker.complete(&deliveries[0], OutcomeKind::Delivered);
    let Some(Frame::Acks(acks)) = worker.next().await else {
        panic!("no ack");
    };
    assert_eq!(acks.acks[0].status(), completion_ack::Status::Done);
    assert_eq!(world.service.stats().await.unwrap().delivered, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_system_pushes_at_once() {
    let world = World::new(config()).await;
    let mut worker = world.worker("w", 10).await;
    let mut waits = Vec::new();
    for _ in 0..50 {
        world.accept("smtp:a.test").await;
        let accepted = Instant::now();
        let deliveries = worker.deliveries().await;
        waits.push(accepted.elapsed());
        worker.complete(&deliveries[0], OutcomeKind::Delivered);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    waits.sort();
    // Far below what any polling would take. The best quarter: other tests are no idle system.
    assert!(waits[12] < Duration::from_millis(10), "{waits:?}");
}

/// The worker takes a lease to last from a heartbeat that was answered while the grant was under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_comes_late_is_renewed_before_the_worker_hears_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = config();
    let store = SlowStore::open(dir.path(), &config).await;
    let service = store.service(dir.path(), &config, "q");
    let world = World { dir, service };
    let mut worker = world.worker("w", 10).await;
    store.next_grants_come_late(Duration::from_millis(1_500));
    world.accept("smtp:a.test").await;
    let deliveries = worker.deliveries().await;
    worker.stop_heart();
    tokio::time::sleep(Duration::from_millis(800)).await;
    worker.complete(&deliveries[0], OutcomeKind::Delivered);
    let Some(Frame::Acks(acks)) = worker.next().await else {
        panic!("no ack");
    };
    assert_eq!(acks.acks[0].status(), completion_ack::Status::Done);
}

/// The first lease call begins a lease, of which the worker never hears; the next adds slots to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_began_with_a_lost_answer_is_renewed_before_the_worker_hears_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = config();
    let store = SlowStore::open(dir.path(), &config).await;
    let service = store.service(dir.path(), &config, "q");
    let world = World { dir, service };
    let mut worker = world.worker("w", 10).await;
    // Longer than it takes to hear of a lease that was not renewed.
    store.renewals_take(Duration::from_millis(500));
    store.loses_next_grants();
    world.accept("smtp:a.test").await;
    store.has_lost_grants().await;
    world.accept("smtp:a.test").await;
    let token = loop {
        if let Frame::Grant(grant) = worker.next().await.unwrap() {
            assert!(grant.slots > 1, "{grant:?}");
            break grant.token;
        }
    };
    assert!(store.has_renewed(token));
    let mut came = 0;
    while came < 2 {
        came += worker.deliveries().await.len();
    }
}

/// Every answer is late, and mail goes out nevertheless.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_slow_all_the_time_is_no_standstill() {
    let dir = tempfile::tempdir().unwrap();
    let config = config();
    let store = SlowStore::open(dir.path(), &config).await;
    let service = store.service(dir.path(), &config, "q");
    let world = World { dir, service };
    let mut worker = world.worker("w", 10).await;
    store.renewals_take(Duration::from_millis(300));
    for destination in ["smtp:a.test", "smtp:b.test", "smtp:c.test"] {
        store.next_grants_come_late(Duration::from_millis(300));
        world.accept(destination).await;
        let deliveries = worker.deliveries().await;
        worker.complete(&deliveries[0], OutcomeKind::Delivered);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_used_again() {
    let world = World::new(config()).await;
    let mut worker = world.worker("w", 10).await;
    let mut tokens = HashSet::new();
    for _ in 0..20 {
        world.accept("smtp:a.test").await;
        let deliveries = worker.deliveries().await;
        tokens.insert(deliveries[0].token);
        worker.complete(&deliveries[0], OutcomeKind::Delivered);
    }
    assert_eq!(tokens.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_a_destination_is_never_exceeded() {
    let mut config = config();
    config.slots_per_destination = 5;
    let world = World::new(config).await;
    for _ in 0..200 {
        world.accept("smtp:big.test").await;
    }
    let mut workers = Vec::new();
    for name in ["a", "b", "c"] {
        workers.push(world.worker(name, 3).await);
    }
    let mut done = 0;
    while done < 200 {
        for worker in &mut workers {
            // Give the others a chance: what is not there now comes later.
            let Ok(frame) = tokio::time::timeout(Duration::from_millis(20), worker.next()).await
            else {
                continue;
            };
            if let Some(Frame::Deliveries(batch)) = frame {
                for delivery in batch.deliveries {
                    worker.complete(&delivery, OutcomeKind::Delivered);
                    done += 1;
                }
            }
        }
        let slots: u32 = workers
            .iter()
            .flat_map(|worker| worker.grants.values())
            .map(|(_, slots)| slots)
            .sum();
        assert!(slots <= 5, "{slots} slots are granted");
    }
    let stats = world.service.stats().await.unwrap();
    assert_eq!(stats.unknown_outcomes, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_gets_no_more_slots_than_it_has() {
    let world = World::new(config()).await;
    for n in 0..6 {
        world.accept(&format!("smtp:d{n}.test")).await;
    }
    let mut worker = world.worker("w", 2).await;
    let mut seen = 0;
    while seen < 6 {
        match worker.next().await.unwrap() {
            Frame::Deliveries(batch) => {
                for delivery in batch.deliveries {
                    assert!(worker.grants.len() <= 2);
                    worker.complete(&delivery, OutcomeKind::Delivered);
                    seen += 1;
                }
            }
            // The other destinations wait for the slots of these.
            Frame::WantedBack(list) => {
                for token in list.tokens {
                    worker.give_back(token);
                }
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_leases_are_wanted_back_when_mail_waits_elsewhere() {
    let world = World::new(config()).await;
    let mut worker = world.worker("w", 1).await;
    world.accept("smtp:a.test").await;
    let first = worker.deliveries().await;
    worker.complete(&first[0], OutcomeKind::Delivered);
    world.accept("smtp:b.test").await;
    let list = loop {
        match worker.next().await.unwrap() {
            Frame::WantedBack(list) => break list,
            Frame::Acks(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list.tokens, [first[0].token]);
    worker.give_back(first[0].token);
    let second = worker.deliveries().await;
    assert_eq!(second[0].destination, "smtp:b.test");
    assert!(second[0].token > first[0].token);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_workers_deliveries_go_elsewhere() {
    let (world, lease) = with_lease(Period::seconds(4)).await;
    let mut dead = world.worker("dead", 10).await;
    world.accept("smtp:a.test").await;
    let lost = dead.deliveries().await;
    dead.stop_heart();
    let mut other = world.worker("other", 10).await;
    let died = Instant::now();
    let again = other.deliveries().await;
    // One lease time, and not two.
    let waited = died.elapsed();
    assert!(waited < lease * 7 / 4, "{waited:?}");
    assert_eq!(again[0].delivery_id, lost[0].delivery_id);
    assert_eq!(again[0].attempt, 2);
    // People know workers, and not what tells their conversations apart.
    let journeys = world.service.journey(lost[0].queue_id.clone()).await;
    let told = format!("{journeys:?}");
    let text = "\"lease of dead expired: outcome unknown\"";
    assert!(told.contains(text), "{told}");
    // It wakes up and reports: too late.
    let mut late = Worker::hello(&world.service, "dead", 10).await;
    late.complete(&lost[0], OutcomeKind::Failed);
    other.complete(&again[0], OutcomeKind::Delivered);
    let Some(Frame::Acks(acks)) = other.next().await else {
        panic!("no ack");
    };
    assert_eq!(acks.acks[0].status(), completion_ack::Status::Done);
    let stats = world.service.stats().await.unwrap();
    assert_eq!((stats.delivered, stats.failed), (1, 0));
    assert_eq!(stats.unknown_outcomes, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_after_its_last_words_is_not_mistaken_for_a_waiting_one() {
    let (world, lease) = with_lease(Period::seconds(4)).await;
    let mut dead = world.worker("dead", 10).await;
    world.accept("smtp:a.test").await;
    dead.deliveries().await;
    let mut other = world.worker("other", 5).await;
    dead.stop_heart();
    dead.say(worker_frame::Frame::Heartbeat(Heartbeat::default()));
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Its lease ends a lease time after the heartbeat, its conversation a little later.
    dead.say(worker_frame::Frame::GiveBack(LeaseList { tokens: vec![0] }));
    let died = Instant::now();
    other.deliveries().await;
    let waited = died.elapsed();
    assert!(waited < lease * 7 / 4, "{waited:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_worker_gets_nothing_new() {
    let (world, lease) = with_lease(Period::seconds(10)).await;
    let mut quiet = world.worker("quiet", 1000).await;
    let mut other = world.worker("other", 10).await;
    // While it lives it has the most free slots.
    world.accept("smtp:a.test").await;
    quiet.deliveries().await;
    quiet.stop_heart();
    // It is quiet, and its conversation is not over.
    tokio::time::sleep(lease * 6 / 10).await;
    world.accept("smtp:b.test").await;
    let accepted = Instant::now();
    assert_eq!(other.deliveries().await[0].destination, "smtp:b.test");
    let waited = accepted.elapsed();
    assert!(waited < lease * 3 / 10, "{waited:?}");
    // It was not even asked first.
    assert!(quiet.hears_only_itself().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_worker_cannot_take_goes_to_others_at_once() {
    let world = World::new(config()).await;
    let mut workers = [world.worker("a", 5).await, world.worker("b", 5).await];
    let together = (0..10).map(|n| world.accept_at(format!("smtp:d{n}.test")));
    futures_util::future::join_all(together).await;
    // Nothing is completed, so that no slot gets free.
    let mut seen = HashSet::new();
    for worker in &mut workers {
        for _ in 0..5 {
            seen.extend(worker.deliveries().await.into_iter().map(|d| d.destination));
        }
    }
    assert_eq!(seen.len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_workers_together_never_hold_nine_slots() {
    let mut config = config();
    config.slots_per_destination = 8;
    let world = World::new(config).await;
    for _ in 0..150 {
        world.accept("smtp:big.test").await;
    }
    let mut workers = Vec::new();
    for n in 0..10 {
        workers.push(world.worker(&format!("w{n}"), 5).await);
    }
    let (mut done, mut most) = (0, 0);
    while done < 150 {
        for (n, worker) in workers.iter_mut().enumerate() {
            let wait = Duration::from_millis(5);
            let Ok(frame) = tokio::time::timeout(wait, worker.next()).await else {
                continue;
            };
            if let Some(Frame::Deliveries(batch)) = frame {
                for delivery in batch.deliveries {
                    worker.complete(&delivery, OutcomeKind::Delivered);
                    done += 1;
                }
            }
            // Some come and go.
            if n % 3 == 0 {
                for token in worker.grants.keys().copied().collect::<Vec<_>>() {
                    worker.give_back(token);
                }
            }
        }
        let slots: u32 = workers
            .iter()
            .flat_map(|worker| worker.grants.values())
            .map(|(_, slots)| slots)
            .sum();
        most = most.max(slots);
        let stats = world.service.stats().await.unwrap();
        for destination in stats.destinations {
            assert!(destination.slots_in_use <= 8, "{destination:?}");
        }
    }
    assert!(most <= 8, "{most} slots are granted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_destination_is_shared_and_a_small_one_is_not() {
    let mut config = config();
    config.slots_per_destination = 12;
    let world = World::new(config).await;
    let mut workers = [world.worker("a", 100).await, world.worker("b", 100).await];
    // Nothing is completed: each four ask for a slot more.
    for _ in 0..12 {
        world.accept("smtp:small.test").await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for _ in 0..60 {
        world.accept("smtp:large.test").await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let holders = |workers: &[Worker], to| workers.iter().filter(|it| it.slots_of(to) > 0).count();
    let began = Instant::now();
    while holders(&workers, "smtp:large.test") < 2 {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "it is not shared"
        );
        for worker in &mut workers {
            let wait = Duration::from_millis(20);
            tokio::time::timeout(wait, worker.next()).await.ok();
        }
    }
    assert_eq!(holders(&workers, "smtp:small.test"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_lost_its_connection_tells_later() {
    let world = World::new(config()).await;
    let mut worker = world.worker("w", 10).await;
    world.accept("smtp:a.test").await;
    let delivery = worker.deliveries().await.remove(0);
    drop(worker);
    let mut worker = world.worker("w", 10).await;
    worker.complete(&delivery, OutcomeKind::Delivered);
    let Some(Frame::Acks(acks)) = worker.next().await else {
        panic!("no ack");
    };
    assert_eq!(acks.acks[0].status(), completion_ack::Status::Done);
    assert_eq!(world.service.stats().await.unwrap().unknown_outcomes, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_worker_gets_nothing_new() {
    let world = World::new(config()).await;
    let mut draining = world.worker("draining", 100).await;
    world.accept("smtp:a.test").await;
    let delivery = draining.deliveries().await.remove(0);
    draining.drain();
    assert!(draining.hears_only_itself().await);
    let mut other = world.worker("other", 10).await;
    world.accept("smtp:b.test").await;
    assert_eq!(other.deliveries().await[0].destination, "smtp:b.test");
    assert!(draining.hears_only_itself().await);
    draining.complete(&delivery, OutcomeKind::Delivered);
    assert!(matches!(draining.next().await, Some(Frame::Acks(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deferred_delivery_comes_back_when_it_is_due() {
    let mut config = config();
    config.retry.first = Period(Duration::from_millis(300));
    config.retry.most = Period(Duration::from_millis(300));
    config.retry.jitter = 0.0;
    let world = World::new(config).await;
    let mut worker = world.worker("w", 10).await;
    world.accept("smtp:a.test").await;
    let first = worker.deliveries().await.remove(0);
    let deferred = Instant::now();
    worker.complete(&first, OutcomeKind::Deferred);
    let second = worker.deliveries().await.remove(0);
    let waited = deferred.elapsed();
    assert!(waited >= Duration::from_millis(290), "{waited:?}");
    // By its own time, and not because a lease has ended.
    assert!(waited < Duration::from_millis(1500), "{waited:?}");
    assert_eq!(second.attempt, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_is_gentle() {
    let world = World::new(config()).await;
    let mut worker = world.worker("w", 10).await;
    world.accept("smtp:a.test").await;
    let delivery = worker.deliveries().await.remove(0);
    let shutdown = CancellationToken::new();
    let running = {
        let (service, shutdown) = (world.service.clone(), shutdown.clone());
        tokio::spawn(async move { service.run(shutdown).await })
    };
    shutdown.cancel();
    assert!(matches!(worker.next().await, Some(Frame::WantedBack(_))));
    worker.complete(&delivery, OutcomeKind::Delivered);
    worker.give_back(delivery.token);
    assert!(matches!(worker.next().await, Some(Frame::Acks(_))));
    assert!(worker.next().await.is_none());
    running.await.unwrap().unwrap();
    let dir = world.dir;
    drop(world.service);
    let service = open(dir.path(), config()).await;
    let stats = service.stats().await.unwrap();
    assert_eq!(
        (stats.delivered, stats.unknown_outcomes, stats.open),
        (1, 0, 0)
    );
}
