//! `kill -9` of each process, and of Redis, at random moments while numbered messages flow: each
//! accepted message arrives, and each duplicate has a reason that the journey names.

use std::time::Duration;

use postrider_tests::redis::Redis;
use postrider_tests::server::{Mode, Server, Settings, Store};
use postrider_tests::sink::Sink;
use postrider_tests::source::{self, Load};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

const MESSAGES: u64 = 5_000;

/// The moments of the kills repeat with the seed; what they hit does not.
fn seed() -> u64 {
    std::env::var("POSTRIDER_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(rand::random)
}

#[test]
fn one_process_embedded() {
    crash(Mode::OneProcess, false);
}

#[test]
fn one_process_redis() {
    crash(Mode::OneProcess, true);
}

#[test]
fn split_embedded() {
    crash(Mode::Split, false);
}

#[test]
fn split_redis() {
    crash(Mode::Split, true);
}

fn crash(mode: Mode, with_redis: bool) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(crash_under_load(mode, with_redis));
}

async fn crash_under_load(mode: Mode, with_redis: bool) {
    let seed = seed();
    println!("POSTRIDER_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut redis = with_redis.then(|| Redis::start(&dir.path().join("redis")).unwrap());
    let sink = Sink::start().await.unwrap();
    let settings = Settings {
        mode,
        store: redis
            .as_ref()
            .map_or(Store::Embedded, |redis| Store::Redis(redis.url())),
        relay_to: Some(sink.address),
        retry: Duration::from_millis(200),
        environment: vec![("POSTRIDER__QUEUE__LEASE", "2s".to_owned())],
        ..Settings::default()
    };
    let mut server = Server::start(&dir.path().join("server"), &settings).unwrap();
    let load = Load {
        messages: MESSAGES,
        connections: 10,
        size: 2_048,
        pause: Duration::from_millis(10),
        persist: Some(Duration::from_secs(60)),
        ..Load::default()
    };
    let address = ([127, 0, 0, 1], server.ports.mx).into();
    let sending = tokio::spawn(async move { source::send(address, &load).await });

    let mut victims: Vec<&str> = server.names();
    if redis.is_some() {
        victims.push("redis-server");
    }
    let mut kills = 0;
    // Every victim at least twice, also where the load is through sooner.
    while !sending.is_finished() || kills < 2 * victims.len() {
        tokio::time::sleep(Duration::from_millis(random.random_range(100..900))).await;
        let victim = victims[kills % victims.len()];
        match (&mut redis, victim) {
            (Some(redis), "redis-server") => {
                redis.kill();
                redis.restart().unwrap();
            }
            _ => {
                server.kill(victim);
                server.start_process(victim).unwrap();
            }
        }
        kills += 1;
        assert!(
            kills < 500,
            "the load does not come to an end: {}",
            server.logs()
        );
    }
    let sent = sending
        .await
        .unwrap()
        .unwrap_or_else(|error| panic!("{error:#}: {}", server.logs()));
    server.wait_until_ready(Duration::from_secs(30)).unwrap();
    sink.wait_for(usize::try_from(MESSAGES).unwrap(), Duration::from_secs(30))
        .await;

    let lost: Vec<u64> = sent
        .accepted
        .iter()
        .map(|(number, _)| *number)
        .filter(|number| sink.counts.arrival(*number).is_none())
        .collect();
    assert!(
        lost.is_empty(),
        "seed {seed}: accepted and lost: {lost:?}; {}",
        server.logs()
    );
    assert_eq!(sent.accepted.len(), usize::try_from(MESSAGES).unwrap());
    assert_eq!(sink.counts.damaged(), 0);
    explain(&server, &sink, &sent, kills);
}

/// A message may arrive twice where its sender never saw the reply and sent it again, or where
/// the journey says that an attempt's outcome is unknown; for no other reason.
fn explain(server: &Server, sink: &Sink, sent: &source::Sent, kills: usize) {
    let repeated = sink.counts.repeated();
    let (mut by_source, mut by_server) = (0, 0);
    for (number, times) in &repeated {
        if sent.unanswered.contains(number) {
            by_source += 1;
            continue;
        }
        let journey = server
            .cli(&["journey", "--json", &format!("load.{number}@load.test")])
            .unwrap();
        assert!(
            journey.to_lowercase().contains("unknown"),
            "message {number} arrived {times} times and nothing says why: {journey}"
        );
        by_server += 1;
    }
    println!(
        "{kills} kills, {} setbacks at the source, {} messages arrived more than once: {by_source} were sent twice, {by_server} had an unknown outcome",
        sent.setbacks,
        repeated.len(),
    );
}
