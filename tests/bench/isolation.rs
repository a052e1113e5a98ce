//! What stalled destinations cost the others: the rate to one destination alone, beside one whose
//! server answers after 30 s, and beside ten of those, each with 200 messages waiting. Nothing is
//! asserted; the figures are for the reader.
//!
//! `cargo xtask bench isolation [-- --messages N]`

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use postrider_tests::cpu;
use postrider_tests::redis::Redis;
use postrider_tests::server::{Mode, Server, Settings, Store};
use postrider_tests::sink::Sink;
use postrider_tests::source::{self, Load};

/// How many destinations are stalled, in turn. The first and last show how much the machine varies.
const STALLED: [usize; 4] = [0, 1, 10, 0];
/// Messages for each stalled one.
const WAITING: u64 = 200;
/// Until a stalled server answers.
const STALL: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let messages = arguments
        .iter()
        .position(|argument| argument == "--messages")
        .and_then(|at| arguments.get(at + 1)?.parse().ok())
        .unwrap_or(10_000);
    println!(
        "isolation: {messages} messages of 4 KiB to one destination, beside stalled ones with {WAITING} each; {}",
        cpu::machine()
    );
    for (name, mode, on_redis) in [
        ("one process, embedded", Mode::OneProcess, false),
        ("split, embedded", Mode::Split, false),
        ("split, redis", Mode::Split, true),
    ] {
        println!("{name}:");
        let mut alone = None;
        for stalled in STALLED {
            let rate = measure(mode, on_redis, stalled, messages).await?;
            println!(
                "{stalled:>3} stalled: {rate:>6.0} messages/s, {:>5.1} %",
                100.0 * rate / *alone.get_or_insert(rate)
            );
        }
    }
    Ok(())
}

async fn measure(mode: Mode, on_redis: bool, stalled: usize, messages: u64) -> anyhow::Result<f64> {
    let fast = Sink::start().await?;
    let slow = Sink::start_slow(STALL).await?;
    let dir = tempfile::tempdir()?;
    let redis = on_redis
        .then(|| Redis::start(&dir.path().join("redis")))
        .transpose()?;
    let settings = Settings {
        mode,
        store: redis
            .as_ref()
            .map_or(Store::Embedded, |redis| Store::Redis(redis.url())),
        routes: vec![("fast.test".to_owned(), fast.address)],
        relay_to: Some(slow.address),
        ..Settings::default()
    };
    let server = Server::start(&dir.path().join("postrider"), &settings)?;
    let address: SocketAddr = ([127, 0, 0, 1], server.ports.mx).into();
    let to_fast = Load {
        messages: 200,
        recipient: "sink@fast.test".to_owned(),
        ..Load::default()
    };
    source::send(address, &to_fast).await.context("warming")?;
    fast.wait_for(200, Duration::from_secs(30)).await;
    for number in 0..stalled {
        let waiting = Load {
            first: 1_000_000 * (number as u64 + 1),
            messages: WAITING,
            recipient: format!("sink@stalled{number}.test"),
            ..Load::default()
        };
        source::send(address, &waiting).await?;
    }
    let begun = Instant::now();
    let load = Load {
        first: 1_000,
        messages,
        ..to_fast
    };
    source::send(address, &load).await?;
    let all = 200 + usize::try_from(messages)?;
    fast.wait_for(all, Duration::from_secs(20)).await;
    let last = fast.counts.last_arrival().context("nothing arrived")?;
    anyhow::ensure!(
        fast.counts.different() == all,
        "{} of {all} arrived",
        fast.counts.different()
    );
    Ok(messages as f64 / (last - begun).as_secs_f64())
}
