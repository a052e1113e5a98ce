//! What an accepted, leased and completed message costs on the embedded store: rate, CPU time and
//! memory, with few and with very many deliveries waiting. It states what it measured and asserts
//! nothing.
//!
//! `cargo bench -p postrider-queue --bench store -- [messages] [waiting] [destinations]`
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::{
    Attempt, Body, DialogueLine, Envelope, JourneyEvent, NewMessage, OutcomeKind, Received,
    Recipient, RecipientOutcome, body, journey_event,
};
use postrider_queue::store::embedded::{EmbeddedSettings, EmbeddedStore};
use postrider_queue::store::{Completion, LeaseRequest, Store, StoreSettings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONTENT: usize = 4096;
const CLIENTS: usize = 20;

#[tokio::main]
async fn main() {
    let numbers: Vec<usize> = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let messages = numbers.first().copied().unwrap_or(20_000);
    let waiting = numbers.get(1).copied().unwrap_or(1_000);
    let destinations = numbers.get(2).copied().unwrap_or(1_000);
    let dir = match std::env::var_os("POSTRIDER_BENCH_DIR") {
        Some(parent) => tempfile::tempdir_in(parent).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let store = Arc::new(open(&dir).await);

    let before = resident();
    let started = Instant::now();
    fill(&store, waiting, destinations).await;
    if waiting > 0 {
        println!(
            "fill: {waiting} waiting at {destinations} destinations in {:.1} s, {} bytes of memory each",
            started.elapsed().as_secs_f64(),
            resident().saturating_sub(before) / waiting as u64
        );
    }
    measure("enqueue, commit", messages, enqueue_all(&store, messages)).await;
    measure(
        "lease, pull, complete, commit",
        messages,
        deliver_all(&store, messages),
    )
    .await;
    measure("all of it, together", messages, async {
        tokio::join!(enqueue_all(&store, messages), deliver_all(&store, messages));
    })
    .await;
    store.close().await.unwrap();
    drop(store);
    let started = Instant::now();
    let before = resident();
    let store = open(&dir).await;
    let stats = store.stats().await.unwrap();
    println!(
        "start: {} messages in {:.2} s; resident {} MiB more",
        stats.messages,
        started.elapsed().as_secs_f64(),
        resident().saturating_sub(before) >> 20
    );
}

async fn open(dir: &tempfile::TempDir) -> EmbeddedStore {
    let settings = StoreSettings {
        lease: Duration::from_secs(60),
        slots_per_destination: 20,
        lifetime: Duration::from_secs(432_000),
        journey_retention: Duration::from_secs(86_400),
        instance: "queue@bench".to_owned(),
    };
    let mut embedded = EmbeddedSettings::in_dir(dir.path());
    embedded.reserve = 0;
    EmbeddedStore::open(embedded, settings).await.unwrap()
}

async fn measure(what: &str, messages: usize, work: impl Future<Output = ()>) {
    let (started, cpu) = (Instant::now(), cpu());
    work.await;
    let (wall, cpu) = (started.elapsed(), self::cpu() - cpu);
    println!(
        "{what}: {:.0} messages/s, {:.1} us CPU a message",
        messages as f64 / wall.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / messages as f64
    );
}

/// Messages that wait under a transport that nobody asks for.
async fn fill(store: &Arc<EmbeddedStore>, waiting: usize, destinations: usize) {
    let mut at = 0;
    while at < waiting {
        let batch: Vec<_> = (at..waiting.min(at + 1000))
            .map(|n| message(&format!("mailbox:d{}.test", n % destinations)))
            .collect();
        at += batch.len();
        assert!(store.enqueue(batch).await.iter().all(Result::is_ok));
    }
}

async fn enqueue_all(store: &Arc<EmbeddedStore>, messages: usize) {
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..messages / CLIENTS {
                    let new = message(&format!("smtp:d{}.test", (n + client) % 50));
                    assert!(store.enqueue(vec![new]).await[0].is_ok());
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}

async fn deliver_all(store: &Arc<EmbeddedStore>, messages: usize) {
    let mut wakes = store.watch();
    let mut tokens = Vec::new();
    let mut done = 0;
    let messages = messages / CLIENTS * CLIENTS;
    let mut under_way = tokio::task::JoinSet::new();
    while done < messages {
        let request = LeaseRequest {
            worker: "w".to_owned(),
            transports: vec!["smtp".to_owned()],
            slots: 1000,
        };
        for grant in store.lease(request, 100).await.unwrap() {
            if !tokens.contains(&grant.token) {
                tokens.push(grant.token);
            }
        }
        let mut any = false;
        for token in &tokens {
            let pulled = store.pull(*token, 8).await.unwrap().unwrap();
            any |= !pulled.is_empty();
            done += pulled.len();
            for delivery in pulled {
                let store = store.clone();
                under_way.spawn(async move {
                    let completion = completion(&delivery);
                    assert!(store.complete(vec![completion]).await[0].is_ok());
                });
            }
        }
        while under_way.len() > 200 {
            under_way.join_next().await;
        }
        if !any && done < messages {
            wakes.recv().await.ok();
        }
    }
    while under_way.join_next().await.is_some() {}
    store.give_back(tokens).await.unwrap();
}

fn message(destination: &str) -> NewMessage {
    let id = QueueId::new();
    NewMessage {
        queue_id: id.to_string(),
        message_id: format!("{id}@bench.test"),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        envelope: Some(Envelope {
            reverse_path: "bob@sender.test".to_owned(),
            recipients: vec![Recipient {
                address: "alice@recipient.test".to_owned(),
                destination: destination.to_owned(),
                ..Recipient::default()
            }],
            ..Envelope::default()
        }),
        body: Some(Body {
            size: CONTENT as u64,
            content: Some(body::Content::Inline(Bytes::from(vec![b'x'; CONTENT]))),
        }),
        events: vec![JourneyEvent {
            what: Some(journey_event::What::Received(Received {
                dialogue: dialogue(),
                ..Received::default()
            })),
            ..JourneyEvent::default()
        }],
        ..NewMessage::default()
    }
}

fn dialogue() -> Vec<DialogueLine> {
    let line = DialogueLine {
        from: 1,
        text: "MAIL FROM:<bob@sender.test> SIZE=4096".to_owned(),
        at_us: 1234,
    };
    vec![line; 12]
}

fn completion(delivery: &postrider_protocol::queue_v1::LeasedDelivery) -> Completion {
    Completion {
        delivery: delivery.delivery_id.parse().unwrap(),
        token: delivery.token,
        attempt: Attempt {
            destination: delivery.destination.clone(),
            number: delivery.attempt,
            outcomes: vec![RecipientOutcome {
                address: "alice@recipient.test".to_owned(),
                kind: OutcomeKind::Delivered as i32,
                reply_code: 250,
                reply_text: "2.0.0 Ok: queued".to_owned(),
                ..RecipientOutcome::default()
            }],
            dialogue: dialogue(),
            ..Attempt::default()
        },
        retry_after: Duration::from_secs(300),
        dsn: Vec::new(),
    }
}

/// CPU time of this process, user and system.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Bytes of memory that are resident and the process' own.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0);
    kib << 10
}
