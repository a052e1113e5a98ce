//! Postrider beside Postfix: the same numbered load through each, in turn, in one run.
//!
//! A source (20 connections, 4 KiB messages) sends to the system under test, which relays
//! everything to one sink. Counted: messages a second, CPU time of all of the system's processes
//! (Redis included) per 1,000 messages, latency from a message's 250 to its arrival, losses,
//! duplicates. Nothing is asserted; the figures are for the reader.
//!
//! `cargo xtask bench -- [--messages N] [--only NAME]`

use std::any::Any;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use postrider_tests::cpu;
use postrider_tests::postfix::{Postfix, Settings};
use postrider_tests::redis::Redis;
use postrider_tests::server::{self, Mode, Server, Store};
use postrider_tests::sink::Sink;
use postrider_tests::source::{self, Load};

/// What is measured of one system.
#[derive(Debug, Default, Clone)]
struct Figures {
    name: &'static str,
    sent: u64,
    lost: usize,
    duplicates: usize,
    damaged: u64,
    accepted_rate: f64,
    relayed_rate: f64,
    cpu_per_thousand: f64,
    loaded: Percentiles,
    idle: Percentiles,
    connections: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Percentiles {
    p50: Duration,
    p99: Duration,
}

/// A system under test; dropping it stops it.
struct System {
    /// Where it takes mail.
    address: SocketAddr,
    /// What its CPU time is counted of.
    processes: Vec<u32>,
    _running: Box<dyn Any>,
}

const NAMES: [&str; 6] = [
    "no server",
    "postfix",
    "one process, embedded",
    "one process, redis",
    "split, embedded",
    "split, redis",
];

impl System {
    fn start(name: &str, sink: SocketAddr) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let local = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match name {
            // The sink itself: what the load costs without a server between.
            "no server" => Ok(Self {
                address: sink,
                processes: vec![std::process::id()],
                _running: Box::new(()),
            }),
            "postfix" => {
                let settings = Settings {
                    hostname: "postfix.test".to_owned(),
                    relayhost: Some(format!("[{}]:{}", sink.ip(), sink.port())),
                    ..Settings::default()
                };
                let postfix = Postfix::start(dir.path(), &settings)?;
                Ok(Self {
                    address: local(postfix.port),
                    processes: vec![postfix.id()],
                    _running: Box::new((postfix, dir)),
                })
            }
            _ => {
                let redis = name
                    .ends_with("redis")
                    .then(|| Redis::start(&dir.path().join("redis")))
                    .transpose()?;
                let settings = server::Settings {
                    mode: if name.starts_with("split") {
                        Mode::Split
                    } else {
                        Mode::OneProcess
                    },
                    store: redis
                        .as_ref()
                        .map_or(Store::Embedded, |redis| Store::Redis(redis.url())),
                    relay_to: Some(sink),
                    ..server::Settings::default()
                };
                let server = Server::start(&dir.path().join("postrider"), &settings)?;
                let redis_process = redis.as_ref().and_then(Redis::id);
                Ok(Self {
                    address: local(server.ports.mx),
                    processes: server
                        .processes()
                        .into_iter()
                        .chain(redis_process)
                        .collect(),
                    _running: Box::new((server, redis, dir)),
                })
            }
        }
    }
}

async fn measure(name: &'static str, messages: u64) -> anyhow::Result<Figures> {
    let sink = Sink::start().await?;
    let system = System::start(name, sink.address)?;
    let System {
        address,
        ref processes,
        ..
    } = system;
    // Warm: connections, caches, the first files of the queue.
    let warm = Load {
        messages: 200,
        ..Load::default()
    };
    source::send(address, &warm).await.context("warming")?;
    sink.wait_for(200, Duration::from_secs(30)).await;

    let before = cpu::used(processes);
    let load = Load {
        first: 1_000,
        messages,
        ..Load::default()
    };
    let begun = Instant::now();
    let sent = source::send(address, &load).await?;
    sink.wait_for(200 + usize::try_from(messages)?, Duration::from_secs(20))
        .await;
    // What is put off until after the last message belongs to the messages as well.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let used = cpu::used(processes) - before;
    let last = sink.counts.last_arrival().context("nothing arrived")?;
    let loaded = latency(&sink, &sent.accepted)?;
    let lost = sent
        .accepted
        .iter()
        .filter(|(number, _)| sink.counts.arrival(*number).is_none())
        .count();

    let idle = Load {
        first: 10_000_000,
        messages: 200,
        connections: 1,
        pause: Duration::from_millis(10),
        ..Load::default()
    };
    let one_by_one = source::send(address, &idle).await?;
    sink.wait_for(400 + usize::try_from(messages)?, Duration::from_secs(10))
        .await;
    Ok(Figures {
        name,
        sent: messages,
        lost,
        duplicates: sink.counts.repeated().len(),
        damaged: sink.counts.damaged(),
        accepted_rate: messages as f64 / sent.elapsed.as_secs_f64(),
        relayed_rate: messages as f64 / (last - begun).as_secs_f64(),
        cpu_per_thousand: used.as_secs_f64() * 1_000.0 / messages as f64,
        loaded,
        idle: latency(&sink, &one_by_one.accepted)?,
        connections: sink.counts.connections(),
    })
}

/// From the source's 250 to the sink's receipt; a message that was there first counts as zero.
fn latency(sink: &Sink, accepted: &[(u64, Instant)]) -> anyhow::Result<Percentiles> {
    let mut histogram = hdrhistogram::Histogram::<u64>::new(3)?;
    for (number, at) in accepted {
        if let Some(arrival) = sink.counts.arrival(*number) {
            histogram.record(u64::try_from(
                arrival.saturating_duration_since(*at).as_micros(),
            )?)?;
        }
    }
    let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
    Ok(Percentiles {
        p50: at(0.5),
        p99: at(0.99),
    })
}

fn report(all: &[Figures]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(
        text,
        "{:<22} {:>9} {:>9} {:>11} {:>17} {:>17} {:>5} {:>5} {:>5} {:>6}",
        "",
        "accept/s",
        "relay/s",
        "CPU-s/1000",
        "loaded p50/p99",
        "idle p50/p99",
        "lost",
        "dup",
        "bad",
        "conns"
    )?;
    for one in all {
        let pair = |p: Percentiles| {
            format!(
                "{:.1}/{:.1} ms",
                p.p50.as_secs_f64() * 1e3,
                p.p99.as_secs_f64() * 1e3
            )
        };
        writeln!(
            text,
            "{:<22} {:>9.0} {:>9.0} {:>11.3} {:>17} {:>17} {:>5} {:>5} {:>5} {:>6}",
            one.name,
            one.accepted_rate,
            one.relayed_rate,
            one.cpu_per_thousand,
            pair(one.loaded),
            pair(one.idle),
            one.lost,
            one.duplicates,
            one.damaged,
            one.connections,
        )?;
    }
    if let Some(postfix) = all.iter().find(|one| one.name == "postfix") {
        writeln!(text, "\nbeside Postfix, in this run:")?;
        for one in all.iter().filter(|one| one.name.contains(',')) {
            writeln!(
                text,
                "{:<22} {:>6.1} times its relay rate, CPU per message 1/{:.1} of its",
                one.name,
                one.relayed_rate / postfix.relayed_rate,
                postfix.cpu_per_thousand / one.cpu_per_thousand,
            )?;
        }
    }
    Ok(text)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let mut messages = 20_000;
    let mut only: Option<String> = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--messages" => messages = arguments.next().context("--messages N")?.parse()?,
            "--only" => only = arguments.next(),
            // What `cargo bench` itself passes.
            "--bench" => {}
            other => anyhow::bail!("unknown argument {other}; known: --messages N, --only NAME"),
        }
    }
    println!(
        "relay: {messages} messages of 4 KiB, 20 connections in, durable; {}",
        cpu::machine()
    );
    let mut all = Vec::new();
    for name in NAMES.into_iter().filter(|name| {
        only.as_ref()
            .is_none_or(|only| name.contains(only.as_str()))
    }) {
        // Postfix is slow enough that a quarter of the load says the same.
        let share = if name == "postfix" {
            (messages / 4).max(1_000)
        } else {
            messages
        };
        eprintln!("… {name}");
        let figures = measure(name, share)
            .await
            .with_context(|| name.to_owned())?;
        all.push(figures);
    }
    println!("{}", report(&all)?);
    for one in all {
        if one.lost > 0 || one.damaged > 0 {
            println!(
                "{}: {} of {} lost, {} damaged",
                one.name, one.lost, one.sent, one.damaged
            );
        }
    }
    Ok(())
}
