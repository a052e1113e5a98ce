//! What the queue costs: enqueue, and lease, pull and complete, on both stores, beside few and very
//! many waiting deliveries at few and very many destinations. Shows CPU time and rate of each
//! operation, memory of each waiting delivery, the time to start again, and how many messages
//! share a commit. It states what it measured and asserts nothing.
//!
//! `cargo xtask bench queue [-- --only embedded --depths 1000,1000000 --spreads 1,1000]`
//!
//! - [`subject`] opens the store under test, [`load`] makes messages and works them off,
//!   [`meter`] reads CPU time and memory, [`report`] prints.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../tests/support/redis_server.rs"]
#[allow(dead_code, missing_docs, unreachable_pub)]
mod redis_server;

mod load;
mod meter;
mod report;
mod subject;

use std::time::Instant;

use self::meter::Meter;
use self::report::{Commits, Row};
use self::subject::{Kind, Subject};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Clients at one time, where many share commits.
const CLIENTS: usize = 64;

struct Options {
    kinds: Vec<Kind>,
    depths: Vec<usize>,
    spreads: Vec<usize>,
    messages: usize,
}

impl Options {
    fn from_arguments() -> Self {
        let mut options = Self {
            kinds: vec![Kind::Embedded, Kind::Redis],
            depths: vec![1_000, 100_000, 1_000_000],
            spreads: vec![1, 1_000, 100_000],
            messages: 20_000,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_default();
            let numbers = |text: String| text.split(',').filter_map(|n| n.parse().ok()).collect();
            match argument.as_str() {
                "--only" => {
                    let wanted = value();
                    options.kinds.retain(|kind| kind.name() == wanted);
                }
                "--depths" => options.depths = numbers(value()),
                "--spreads" => options.spreads = numbers(value()),
                "--messages" => options.messages = value().parse().unwrap(),
                // What cargo itself passes.
                "--bench" => {}
                other => panic!(
                    "{other}? known: --only embedded|redis, --depths N,N, --spreads N,N, --messages N"
                ),
            }
        }
        options
    }
}

#[tokio::main]
async fn main() {
    let options = Options::from_arguments();
    for kind in &options.kinds {
        println!("{}:", kind.name());
        report::head();
        let mut rows = Vec::new();
        for &spread in &options.spreads {
            for &depth in options.depths.iter().filter(|depth| **depth >= spread) {
                let row = measure(*kind, depth, spread, options.messages).await;
                println!("{row}");
                rows.push(row);
            }
        }
        report::flatness(&rows);
        report::commits(&share_commits(*kind, options.messages).await);
        println!();
    }
}

/// Both operations beside so many waiting deliveries.
async fn measure(kind: Kind, depth: usize, spread: usize, messages: usize) -> Row {
    let mut subject = Subject::open(kind).await;
    // Connections, scripts, first segments: not what a waiting delivery costs.
    load::enqueue(&subject, 1, 100, 1).await;
    load::work_off(&subject, 100).await;
    let before = subject.memory();
    load::fill(&subject, depth, spread).await;
    let memory = subject.memory().saturating_sub(before) as f64 / depth as f64;

    let meter = Meter::start(&subject);
    load::enqueue(&subject, CLIENTS, messages, spread).await;
    let enqueue = meter.stop(&subject, messages);
    let meter = Meter::start(&subject);
    load::work_off(&subject, messages).await;
    let deliver = meter.stop(&subject, messages);

    let started = Instant::now();
    let queued = subject.reopen().await;
    assert_eq!(queued, depth as u64, "what waits must be there again");
    Row {
        depth,
        spread,
        enqueue,
        deliver,
        memory,
        start: started.elapsed(),
    }
}

/// How many messages share a commit: of one client, and of many.
async fn share_commits(kind: Kind, messages: usize) -> Vec<Commits> {
    let subject = Subject::open(kind).await;
    let mut all = Vec::new();
    for clients in [1, CLIENTS] {
        let messages = if clients == 1 { 500 } else { messages };
        let before = subject.store().stats().await.unwrap();
        load::enqueue(&subject, clients, messages, 50).await;
        let after = subject.store().stats().await.unwrap();
        all.push(Commits {
            clients,
            messages,
            syncs: after.syncs - before.syncs,
        });
    }
    all
}
