//! A worker that stops holds up nothing that it will not do.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use postrider_protocol::api::{Queue as _, QueueAdmin as _};
use postrider_protocol::queue_v1::queue_frame::Frame;
use postrider_protocol::queue_v1::{DestinationStats, LeasedDelivery, OutcomeKind};
use postrider_queue::QueueService;

use crate::kit::{Worker, World, config, message};
use crate::slow::SlowStore;

/// Less than a lease: nothing but what is looked at here brings it so soon.
const SOON: Duration = Duration::from_millis(1500);

fn ids(deliveries: &[LeasedDelivery]) -> HashSet<&str> {
    deliveries
        .iter()
        .map(|delivery| delivery.delivery_id.as_str())
        .collect()
}

/// Reads deliveries until there are so many.
async fn get(worker: &mut Worker, many: usize) -> Vec<LeasedDelivery> {
    let mut all = Vec::new();
    while all.len() < many {
        all.extend(worker.deliveries().await);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_has_not_begun_is_elsewhere_at_once() {
    let mut config = config();
    config.slots_per_destination = 4;
    let world = World::new(config).await;
    for _ in 0..16 {
        world.accept("smtp:a.test").await;
    }
    let mut draining = world.worker("draining", 10).await;
    let sent = get(&mut draining, 16).await;
    let token = sent[0].token;
    let mut other = world.worker("other", 10).await;
    assert!(
        other.hears_nothing(&world.service).await,
        "all slots are taken"
    );
    // Two attempts are under way, and will be for a while.
    draining.drain();
    let (begun, not_begun) = sent.split_at(2);
    let drained = Instant::now();
    draining.give_back_part(token, not_begun, 2);
    // As many as two slots take.
    let mut again = get(&mut other, 8).await;
    assert!(drained.elapsed() < SOON, "{:?}", drained.elapsed());
    assert_eq!(other.slots_of("smtp:a.test"), 2);
    // What it had begun is its own to the end.
    for delivery in begun {
        draining.complete(delivery, OutcomeKind::Delivered);
    }
    draining.give_back(token);
    for delivery in &again {
        assert_eq!(delivery.attempt, 1, "giving back is no attempt");
        other.complete(delivery, OutcomeKind::Delivered);
    }
    let rest = get(&mut other, 6).await;
    for delivery in &rest {
        other.complete(delivery, OutcomeKind::Delivered);
    }
    again.extend(rest);
    assert_eq!(ids(&again), ids(not_begun));
    other.settled().await;
    draining.settled().await;
    let stats = world.service.stats().await.unwrap();
    assert_eq!((stats.delivered, stats.open), (16 + 1, 0));
    assert_eq!((stats.unknown_outcomes, stats.stale_completions), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_for_its_destination_goes_to_others() {
    let world = World::new(config()).await;
    let mut draining = world.worker("draining", 10).await;
    world.accept("smtp:a.test").await;
    let begun = draining.deliveries().await;
    let mut other = world.worker("other", 10).await;
    draining.drain();
    draining.give_back_part(begun[0].token, &[], 1);
    assert!(draining.hears_only_itself().await);
    let accepted = Instant::now();
    let id = world.accept("smtp:a.test").await;
    assert_eq!(other.deliveries().await[0].queue_id, id.to_string());
    assert!(accepted.elapsed() < SOON, "{:?}", accepted.elapsed());
    assert!(draining.hears_only_itself().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_on_its_way_to_it_comes_back_by_itself() {
    let world = World::new(config()).await;
    let mut draining = world.worker("draining", 10).await;
    for _ in 0..3 {
        world.accept("smtp:a.test").await;
    }
    let sent = get(&mut draining, 3).await;
    draining.drain();
    let mut other = world.worker("other", 10).await;
    // Its slots are still its own, so that it says nothing of them.
    draining.give_back_part(sent[0].token, &sent[1..], 0);
    let again = get(&mut other, 2).await;
    assert_eq!(ids(&again), ids(&sent[1..]));
    // What is given back twice, or by who does not have it, is nothing.
    draining.give_back_part(sent[0].token, &sent[1..], 0);
    draining.give_back_part(again[0].token, &again, 0);
    assert!(draining.hears_only_itself().await);
    assert!(other.hears_nothing(&world.service).await);
    other.complete(&again[0], OutcomeKind::Delivered);
    other.settled().await;
    let stats = world.service.stats().await.unwrap();
    assert_eq!((stats.delivered, stats.stale_completions), (1 + 1, 0));
}

async fn slots_in_use(service: &QueueService) -> u32 {
    let stats = service.stats().await.unwrap();
    let here = |one: &&DestinationStats| one.destination == "smtp:a.test";
    let here = stats.destinations.iter().find(here);
    here.map_or(0, |one| one.slots_in_use)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_cross_with_the_stop_go_back() {
    let (dir, config) = (tempfile::tempdir().unwrap(), config());
    let store = SlowStore::open(dir.path(), &config).await;
    let service = store.service(dir.path(), &config, "q");
    let accept = async |many: usize| {
        let all = (0..many).map(|_| message("smtp:a.test", b"x")).collect();
        service.enqueue(all).await.unwrap();
    };
    accept(1).await;
    let mut draining = Worker::hello(&service, "draining", 10).await;
    let begun = draining.deliveries().await.remove(0);
    // The lease grows in the store, and the worker says that it stops before it hears of that.
    store.next_grants_come_late(SOON);
    accept(6).await;
    while slots_in_use(&service).await == 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    draining.drain();
    draining.give_back_part(begun.token, &[], 1);
    let mut returned = Vec::new();
    while draining.slots_of("smtp:a.test") < 2 {
        if let Some(Frame::Deliveries(batch)) = draining.next().await {
            returned.extend(batch.deliveries);
        }
    }
    // Nothing is sent to it any more but what had left the queue.
    let leased = service.stats().await.unwrap().leased;
    while returned.len() as u64 + 1 < leased {
        returned.extend(draining.deliveries().await);
    }
    // It says of these what it has said before; told twice, or late, it is the same.
    for _ in 0..2 {
        draining.give_back_part(begun.token, &returned, 1);
    }
    let mut other = Worker::hello(&service, "other", 10).await;
    let all = get(&mut other, 6).await;
    assert!(all.iter().all(|delivery| delivery.attempt == 1));
    assert_eq!(
        slots_in_use(&service).await,
        1 + other.slots_of("smtp:a.test")
    );
    draining.complete(&begun, OutcomeKind::Delivered);
    draining.give_back(begun.token);
    for delivery in &all {
        other.complete(delivery, OutcomeKind::Delivered);
    }
    other.settled().await;
    draining.settled().await;
    let stats = service.stats().await.unwrap();
    assert_eq!((stats.delivered, stats.open), (7, 0));
    assert_eq!((stats.unknown_outcomes, stats.stale_completions), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_does_not_hear_of_goes_back_with_the_lease() {
    let (dir, config) = (tempfile::tempdir().unwrap(), config());
    let store = SlowStore::open(dir.path(), &config).await;
    let service = store.service(dir.path(), &config, "q");
    let all = (0..4).map(|_| message("smtp:a.test", b"x")).collect();
    service.enqueue(all).await.unwrap();
    let mut draining = Worker::hello(&service, "draining", 10).await;
    let sent = get(&mut draining, 4).await;
    let mut other = Worker::hello(&service, "other", 10).await;
    store.keep_parts();
    draining.drain();
    draining.give_back_part(sent[0].token, &sent[1..], 1);
    assert!(draining.hears_only_itself().await);
    assert!(other.hears_nothing(&service).await);
    assert_eq!(slots_in_use(&service).await, 4);
    draining.complete(&sent[0], OutcomeKind::Delivered);
    draining.give_back(sent[0].token);
    let again = get(&mut other, 3).await;
    assert_eq!(ids(&again), ids(&sent[1..]));
    assert!(again.iter().all(|delivery| delivery.attempt == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_stop_gives_nothing_back_in_part() {
    let world = World::new(config()).await;
    for _ in 0..3 {
        world.accept("smtp:a.test").await;
    }
    let mut worker = world.worker("worker", 10).await;
    let sent = get(&mut worker, 3).await;
    let mut other = world.worker("other", 10).await;
    let before = slots_in_use(&world.service).await;
    // Slots may have been granted that it does not know of yet.
    worker.give_back_part(sent[0].token, &sent[1..], 1);
    assert!(worker.hears_only_itself().await);
    assert!(other.hears_nothing(&world.service).await);
    assert_eq!(slots_in_use(&world.service).await, before);
}
