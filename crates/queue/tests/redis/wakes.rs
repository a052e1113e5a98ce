//! Who holds a destination hears of all that comes due there, also where every slot is taken.

use std::time::{Duration, Instant};

use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::{LeasedDelivery, OutcomeKind, Suspension};
use postrider_queue::store::redis::RedisStore;
use postrider_queue::store::{Completed, Store as _, Wake};
use tokio::sync::broadcast::Receiver;

use crate::support::redis_server::RedisServer;
use crate::support::{completion, message, outcome, settings, worker};

/// Waits for a wake that satisfies `wanted`, and returns how long it took.
pub(crate) async fn wake(wakes: &mut Receiver<Wake>, wanted: impl Fn(&Wake) -> bool) -> Duration {
    let started = Instant::now();
    loop {
        let next = tokio::time::timeout(Duration::from_secs(5), wakes.recv()).await;
        if wanted(&next.expect("no wake came").unwrap()) {
            return started.elapsed();
        }
    }
}

pub(crate) fn is_for(wake: &Wake, destination: &str) -> bool {
    matches!(wake, Wake::Destination(to) if to.as_str() == destination)
}

const TO: &str = "smtp:x.test";

async fn accept(store: &RedisStore, size: usize) {
    let new = message(QueueId::new(), size, &[("a@x.test", TO)]);
    assert!(store.enqueue(vec![new]).await[0].is_ok());
}

/// A store, all of whose slots at the destination are held, and the token.
async fn held(server: &RedisServer) -> (std::sync::Arc<RedisStore>, u64) {
    let store = RedisStore::open(&server.config(), settings())
        .await
        .unwrap();
    let slots = settings().slots_per_destination;
    for _ in 0..slots {
        accept(&store, 100).await;
    }
    let grants = store.lease(worker("w", 1000), 1).await.unwrap();
    assert_eq!(grants[0].slots, slots);
    work_off(&store, grants[0].token).await;
    (store, grants[0].token)
}

/// Pulls and completes until nothing comes, without waiting for a wake.
async fn work_off(store: &RedisStore, token: u64) -> usize {
    let mut done = 0;
    loop {
        let pulled = store.pull(token, 1000).await.unwrap().unwrap();
        if pulled.is_empty() {
            return done;
        }
        done += pulled.len();
        complete(store, token, &pulled).await;
    }
}

async fn complete(store: &RedisStore, token: u64, pulled: &[LeasedDelivery]) {
    let ends = pulled.iter().map(|leased| {
        let delivered = outcome("a@x.test", OutcomeKind::Delivered);
        completion(
            leased.delivery_id.parse().unwrap(),
            token,
            leased.attempt,
            vec![delivered],
        )
    });
    for done in store.complete(ends.collect()).await {
        assert_eq!(done.unwrap(), Completed::Done);
    }
}

#[tokio::test]
async fn who_holds_every_slot_hears_of_what_comes() {
    let server = RedisServer::start();
    let (store, token) = held(&server).await;
    for _ in 0..3 {
        let mut wakes = store.watch();
        accept(&store, 100).await;
        wake(&mut wakes, |wake| is_for(wake, TO)).await;
        assert_eq!(work_off(&store, token).await, 1);
    }
}

#[tokio::test]
async fn who_holds_every_slot_hears_of_the_end_of_a_suspension() {
    let server = RedisServer::start();
    let (store, token) = held(&server).await;
    let suspension = Suspension {
        id: "s".to_owned(),
        destination: TO.to_owned(),
        ..Suspension::default()
    };
    store.suspend(suspension).await.unwrap();
    accept(&store, 100).await;
    assert_eq!(work_off(&store, token).await, 0);
    let mut wakes = store.watch();
    assert!(store.resume("s").await.unwrap());
    wake(&mut wakes, |wake| is_for(wake, TO)).await;
    assert_eq!(work_off(&store, token).await, 1);
}

/// Fewer than asked for come where they would be too large together.
#[tokio::test]
async fn a_short_answer_is_followed_by_a_wake_if_more_is_due() {
    let server = RedisServer::start();
    let (store, token) = held(&server).await;
    for _ in 0..60 {
        accept(&store, 60_000).await;
    }
    let mut left = 60;
    let mut wakes = store.watch();
    loop {
        let pulled = store.pull(token, left).await.unwrap().unwrap();
        complete(&store, token, &pulled).await;
        left -= pulled.len();
        if left == 0 {
            break;
        }
        wake(&mut wakes, |wake| is_for(wake, TO)).await;
    }
    assert_eq!(work_off(&store, token).await, 0);
}
