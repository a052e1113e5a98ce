//! What mail costs Redis, counted; and measured, for the curious, by
//! `cargo test -p postrider-queue --test redis -- --nocapture cost`.

use std::sync::Arc;
use std::time::Duration;

use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::OutcomeKind;
use postrider_queue::store::redis::RedisStore;
use postrider_queue::store::{Completed, Store as _, StoreSettings};

use crate::support::redis_server::RedisServer;
use crate::support::{completion, message, outcome, settings, worker};

/// Messages in all.
const MESSAGES: u64 = 4096;
/// Bytes of a body where memory is measured: little, since allocators round large ones up by more
/// than all the rest takes.
const BODY: usize = 256;
/// Messages that wait, to see what memory each takes; a hundred thousand if so asked.
fn waiting() -> u64 {
    let wanted = std::env::var("POSTRIDER_COST_WAITING");
    wanted
        .ok()
        .and_then(|number| number.parse().ok())
        .unwrap_or(20_000)
}

/// What a server has spent so far.
#[derive(Debug, Clone, Copy)]
struct Spent {
    /// CPU time in microseconds.
    cpu: f64,
    /// Calls of scripts.
    scripts: f64,
    /// Commands, also those that scripts call.
    commands: f64,
    /// System calls that write: each sync of the log follows one, and so does each answer.
    writes: f64,
}

fn info(server: &RedisServer, section: &str) -> String {
    let answer = server.command(&["INFO", section]).unwrap();
    redis::from_redis_value(answer).unwrap()
}

fn number(text: &str, name: &str) -> f64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let digits = |text: &str| text.split([' ', ',']).next().unwrap_or_default().to_owned();
    value.map_or(0.0, |value| digits(value).trim().parse().unwrap())
}

fn spent(server: &RedisServer) -> Spent {
    let cpu = info(server, "cpu");
    let commands = info(server, "commandstats");
    let io = std::fs::read_to_string(format!("/proc/{}/io", server.pid())).unwrap();
    Spent {
        cpu: 1e6 * (number(&cpu, "used_cpu_user:") + number(&cpu, "used_cpu_sys:")),
        scripts: number(&commands, "cmdstat_evalsha:calls="),
        commands: commands
            .lines()
            .filter_map(|line| line.split_once(":"))
            .map(|(_, calls)| number(calls, "calls="))
            .sum(),
        writes: number(&io, "syscw: "),
    }
}

/// Enqueues from so many tasks; bodies of so many bytes.
async fn enqueue(store: &Arc<RedisStore>, tasks: u64, messages: u64, size: usize) {
    let senders = (0..tasks).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..messages / tasks {
                let to = format!("smtp:d{}.test", n % 10);
                let new = message(QueueId::new(), size, &[("a@x.test", to.as_str())]);
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

/// A server whose log is not rewritten in the middle.
async fn start() -> (RedisServer, Arc<RedisStore>) {
    let server = RedisServer::with(&[
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("auto-aof-rewrite-min-size", "2gb"),
    ]);
    let settings = StoreSettings {
        lease: Duration::from_secs(300),
        ..settings()
    };
    let store = RedisStore::open(&server.config(), settings).await.unwrap();
    (server, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_share_a_commit_and_one_waits_for_nobody() {
    let (server, store) = start().await;
    // Alone, each message has its own commit and its own sync: one write to the log, one answer, and what
    // whoever listens is told.
    let start = spent(&server);
    enqueue(&store, 1, 64, 4096).await;
    let alone = spent(&server);
    assert_eq!(store.stats().await.unwrap().commits, 64);
    let writes = alone.writes - start.writes;
    assert!((128.0..=64.0 * 3.0 + 16.0).contains(&writes), "{writes}");
    assert_eq!(deliver(&store).await, 64);

    let before = store.stats().await.unwrap().commits;
    let start = spent(&server);
    enqueue(&store, 64, MESSAGES, 4096).await;
    let enqueued = spent(&server);
    let commits = store.stats().await.unwrap().commits - before;
    let each = |number: f64| number / MESSAGES as f64;
    // Each commit has been answered, so at most the other writes were to the log.
    let syncs = enqueued.writes - start.writes - commits as f64;
    assert!(
        each(syncs) <= 1.0 / 8.0 && each(commits as f64) <= 1.0 / 8.0,
        "{commits} commits, at most {syncs} syncs for {MESSAGES} messages"
    );

    assert_eq!(deliver(&store).await, MESSAGES);
    let end = spent(&server);
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.open, stats.delivered), (0, MESSAGES + 64));
    println!(
        "Redis, 4 KiB messages: {:.1} µs CPU to enqueue ({commits} commits, {:.1} commands each), \
         {:.1} µs to pull and complete ({} calls, {:.1} commands each)",
        each(enqueued.cpu - start.cpu),
        each(enqueued.commands - start.commands),
        each(end.cpu - enqueued.cpu),
        end.scripts - enqueued.scripts,
        each(end.commands - enqueued.commands),
    );
    // Of content, journey, names to find it by and state, from beginning to end.
    let commands = each(end.commands - start.commands);
    assert!(commands < 16.0, "{commands} commands for each message");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_takes_little_memory() {
    let (server, store) = start().await;
    let memory = || number(&info(&server, "memory"), "used_memory:");
    enqueue(&store, 1, 64, BODY).await;
    let before = memory();
    enqueue(&store, 64, waiting(), BODY).await;
    let each = (memory() - before) / (waiting() / 64 * 64) as f64 - BODY as f64;
    println!("Redis: {each:.0} bytes for each waiting delivery, beside its body");
    assert!(each <= 1536.0, "{each} bytes");
}
