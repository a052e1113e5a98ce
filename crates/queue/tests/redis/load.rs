//! Mail that comes in and goes out while something happens to Redis, and what must hold of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use postrider_protocol::queue_v1::{Filter, NewMessage, OutcomeKind};
use postrider_protocol::{Destination, QueueId};
use postrider_queue::store::redis::RedisStore;
use postrider_queue::store::{Completed, Enqueued, Store as _};
use tokio::task::{JoinHandle, JoinSet};

use crate::support::{completion, message, outcome, worker};

/// Deliveries after which a worker gives its lease back and asks for another.
const TURN: usize = 40;

/// Senders and a worker that are at it.
pub(crate) struct Load {
    store: Arc<RedisStore>,
    stop: Arc<AtomicBool>,
    progress: Arc<Progress>,
    senders: Vec<JoinHandle<Vec<(QueueId, String)>>>,
    worker: JoinHandle<Done>,
}

/// How far it has come.
#[derive(Default)]
struct Progress {
    acknowledged: AtomicUsize,
    delivered: AtomicUsize,
}

impl Progress {
    fn read(&self) -> (usize, usize) {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        (read(&self.acknowledged), read(&self.delivered))
    }
}

/// What a worker was told to be done.
#[derive(Default)]
struct Done {
    messages: Vec<QueueId>,
    leases: usize,
    stale: usize,
}

/// What a load came to.
pub(crate) struct Outcome {
    /// Leases that were granted.
    pub(crate) leases: usize,
    /// Reports that came too late.
    pub(crate) stale: usize,
}

fn new_message(id: QueueId, destination: &str) -> NewMessage {
    message(id, 500, &[("a@x.test", destination)])
}

impl Done {
    fn add(&mut self, other: Self) {
        self.messages.extend(other.messages);
        self.leases += other.leases;
        self.stale += other.stale;
    }
}

impl Load {
    /// Starts so many senders, each to all of the destinations in turn, and one worker.
    pub(crate) fn start(store: &Arc<RedisStore>, senders: usize, destinations: &[String]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let progress = Arc::new(Progress::default());
        let senders = (0..senders).map(|_| {
            let (store, stop, progress) = (store.clone(), stop.clone(), progress.clone());
            tokio::spawn(send(store, stop, progress, destinations.to_vec()))
        });
        Self {
            senders: senders.collect(),
            worker: tokio::spawn(work(store.clone(), stop.clone(), progress.clone())),
            progress,
            store: store.clone(),
            stop,
        }
    }

    /// Waits until so many more messages came in and went out.
    pub(crate) fn flows(&self, messages: usize) {
        let (started, before) = (Instant::now(), self.progress.read());
        loop {
            let now = self.progress.read();
            if now.0 >= before.0 + messages && now.1 >= before.1 + messages {
                return;
            }
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "it does not flow: from {before:?} to {now:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it, and checks that every acknowledged message is there or was delivered, exactly once,
    /// and that the counts add up.
    pub(crate) async fn finish(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let mut sent = Vec::new();
        for sender in self.senders {
            sent.extend(sender.await.unwrap());
        }
        let (acknowledged, to): (Vec<QueueId>, Vec<String>) = sent.into_iter().unzip();
        let done = self.worker.await.unwrap();
        let delivered: HashSet<_> = done.messages.iter().collect();
        assert_eq!(delivered.len(), done.messages.len(), "delivered twice");
        let queued = queued(&self.store).await;
        for id in &acknowledged {
            assert_ne!(
                queued.contains(id),
                delivered.contains(id),
                "{id} was lost or is still there"
            );
        }
        let stats = self.store.stats().await.unwrap();
        assert_eq!(stats.accepted, stats.open + stats.delivered);
        assert_eq!(stats.delivered as usize, delivered.len());
        assert_eq!(stats.open as usize, queued.len());
        // A repeated enqueue adds nothing, whether or not the message has ended.
        let again = acknowledged.iter().zip(to).take(100);
        let again = again.map(|(id, destination)| new_message(*id, &destination));
        let again: Vec<_> = again.collect();
        let started = Instant::now();
        let mut results = self.store.enqueue(again.clone()).await;
        while results.iter().any(Result::is_err) {
            assert!(started.elapsed().as_secs() < 30, "{:?}", results.first());
            results = self.store.enqueue(again.clone()).await;
        }
        assert!(
            results
                .iter()
                .all(|result| matches!(result, Ok(Enqueued::AlreadyAccepted)))
        );
        Outcome {
            leases: done.leases,
            stale: done.stale,
        }
    }
}

async fn send(
    store: Arc<RedisStore>,
    stop: Arc<AtomicBool>,
    progress: Arc<Progress>,
    destinations: Vec<String>,
) -> Vec<(QueueId, String)> {
    let mut acknowledged = Vec::new();
    for destination in destinations.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = QueueId::new();
        if store.enqueue(vec![new_message(id, destination)]).await[0].is_ok() {
            progress.acknowledged.fetch_add(1, Ordering::Relaxed);
            acknowledged.push((id, destination.clone()));
        }
    }
    acknowledged
}

/// Leases, pulls and completes as a worker does: each lease by itself, so that one that gets no answer
/// holds up none of the others.
async fn work(store: Arc<RedisStore>, stop: Arc<AtomicBool>, progress: Arc<Progress>) -> Done {
    let mut last: HashMap<Destination, u64> = HashMap::new();
    let mut all = Done::default();
    let mut turns = JoinSet::new();
    let mut at_it: HashSet<u64> = HashSet::new();
    while !stop.load(Ordering::Relaxed) {
        while let Some(ended) = turns.try_join_next() {
            let (token, done): (u64, Done) = ended.unwrap();
            at_it.remove(&token);
            all.add(done);
        }
        let grants = store.lease(worker("w", 4), 4).await.unwrap_or_default();
        tokio::time::sleep(Duration::from_millis(1)).await;
        for grant in grants {
            let before = last.insert(grant.destination.clone(), grant.token);
            assert!(
                before.is_none_or(|before| before <= grant.token),
                "a token became smaller: {before:?}, then {}",
                grant.token
            );
            if at_it.insert(grant.token) {
                all.leases += 1;
                let (store, stop, progress) = (store.clone(), stop.clone(), progress.clone());
                turns.spawn(async move {
                    let going = || !stop.load(Ordering::Relaxed);
                    let done = turn(&store, grant.token, &going, &progress).await;
                    while going() && store.give_back(vec![grant.token]).await.is_err() {}
                    (grant.token, done)
                });
            }
        }
    }
    while let Some(ended) = turns.join_next().await {
        all.add(ended.unwrap().1);
    }
    all
}

/// Delivers under a lease. A report is repeated until it is known to be done.
async fn turn(
    store: &RedisStore,
    token: u64,
    going: &impl Fn() -> bool,
    progress: &Progress,
) -> Done {
    let mut done = Done::default();
    let mut taken = 0;
    while going() && taken < TURN {
        let pulled = match store.pull(token, 10).await {
            Ok(Some(pulled)) if !pulled.is_empty() => pulled,
            Ok(_) => return done,
            Err(_) => continue,
        };
        for delivery in pulled {
            taken += 1;
            let id: postrider_protocol::DeliveryId = delivery.delivery_id.parse().unwrap();
            let outcomes = vec![outcome("a@x.test", OutcomeKind::Delivered)];
            let report = completion(id, token, delivery.attempt, outcomes);
            // Also when it is time to stop: what is not known to be done would be missing below.
            let started = Instant::now();
            loop {
                match store.complete(vec![report.clone()]).await.remove(0) {
                    Ok(Completed::Done) => {
                        done.messages.push(id.queue_id);
                        progress.delivered.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    // The lease is over, and the delivery somebody else's.
                    Ok(Completed::Stale) => {
                        done.stale += 1;
                        return done;
                    }
                    Err(error) => assert!(started.elapsed().as_secs() < 60, "{error}"),
                }
            }
        }
    }
    done
}

async fn queued(store: &RedisStore) -> HashSet<QueueId> {
    let mut queued = HashSet::new();
    let mut after = None;
    loop {
        let page = store.list(&Filter::default(), after, 1000).await.unwrap();
        let Some(last) = page.last() else {
            return queued;
        };
        after = Some(last.delivery_id.parse().unwrap());
        for status in page {
            assert!(queued.insert(status.queue_id.parse().unwrap()));
        }
    }
}
