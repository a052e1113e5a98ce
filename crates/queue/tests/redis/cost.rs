//! What mail costs Redis, counted; and measured, for the curious, by
//! `cargo test -p postrider-queue --test redis -- --nocapture cost`.

use std::sync::Arc;

use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::OutcomeKind;
use postrider_queue::store::redis::RedisStore;
use postrider_queue::store::{Completed, Store as _};

use crate::support::redis_server::RedisServer;
use crate::support::{completion, message, outcome, settings, worker};

/// Messages in all.
const MESSAGES: u64 = 4096;

/// CPU time of the server so far, in microseconds, and calls of scripts.
fn spent(server: &RedisServer) -> (f64, u64) {
    let info = |section: &str| -> String {
        let answer = server.command(&["INFO", section]).unwrap();
        redis::from_redis_value(answer).unwrap()
    };
    let number = |text: &str, name: &str, until: char| -> f64 {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        let value = value.map_or("0", |value| value.split(until).next().unwrap_or("0"));
        value.trim().parse().unwrap()
    };
    let cpu = info("cpu");
    let seconds = number(&cpu, "used_cpu_user:", ' ') + number(&cpu, "used_cpu_sys:", ' ');
    let calls = number(&info("commandstats"), "cmdstat_evalsha:calls=", ',');
    (seconds * 1e6, calls as u64)
}

/// Enqueues from so many tasks; a message of 4 KiB each.
async fn enqueue(store: &Arc<RedisStore>, tasks: u64, messages: u64) {
    let senders = (0..tasks).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..messages / tasks {
                let to = format!("smtp:d{}.test", n % 10);
                let new = message(QueueId::new(), 4096, &[("a@x.test", to.as_str())]);
                assert!(store.enqueue(vec![new]).await[0].is_ok());
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
}

/// Pulls and completes all that is due, a hundred deliveries at a time.
async fn deliver(store: &Arc<RedisStore>) -> u64 {
    let mut delivered = 0;
    let grants = store.lease(worker("w", 1000), 100).await.unwrap();
    for grant in grants {
        loop {
            let pulled = store.pull(grant.token, 100).await.unwrap().unwrap();
            if pulled.is_empty() {
                break;
            }
            let reports = pulled.iter().map(|delivery| {
                let done = vec![outcome("a@x.test", OutcomeKind::Delivered)];
                let id = delivery.delivery_id.parse().unwrap();
                completion(id, grant.token, delivery.attempt, done)
            });
            let results = store.complete(reports.collect()).await;
            assert!(
                results
                    .iter()
                    .all(|result| matches!(result, Ok(Completed::Done)))
            );
            delivered += results.len() as u64;
        }
        store.give_back(vec![grant.token]).await.unwrap();
    }
    delivered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_share_a_commit_and_one_waits_for_nobody() {
    let server = RedisServer::start();
    let store = RedisStore::open(&server.config(), settings())
        .await
        .unwrap();
    // Alone, each message has its own commit.
    enqueue(&store, 1, 64).await;
    assert_eq!(store.stats().await.unwrap().commits, 64);
    assert_eq!(deliver(&store).await, 64);

    let before = store.stats().await.unwrap().commits;
    let start = spent(&server);
    enqueue(&store, 64, MESSAGES).await;
    let enqueued = spent(&server);
    let commits = store.stats().await.unwrap().commits - before;
    assert!(
        commits <= MESSAGES / 8,
        "{commits} commits for {MESSAGES} messages"
    );

    assert_eq!(deliver(&store).await, MESSAGES);
    let end = spent(&server);
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.open, stats.delivered), (0, MESSAGES + 64));
    let each = |from: (f64, u64), to: (f64, u64)| (to.0 - from.0) / MESSAGES as f64;
    println!(
        "Redis, 4 KiB messages: {:.1} µs CPU to enqueue ({commits} commits), {:.1} µs to pull and \
         complete ({} calls)",
        each(start, enqueued),
        each(enqueued, end),
        end.1 - enqueued.1,
    );
}
