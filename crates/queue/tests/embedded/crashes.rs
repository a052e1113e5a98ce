//! A scripted history, cut off or hurt at every single write and sync of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use postrider_protocol::queue_v1::{Filter, NewMessage, OutcomeKind};
use postrider_protocol::{DeliveryId, QueueId};
use postrider_queue::store::embedded::{EmbeddedStore, Faults};
use postrider_queue::store::{Act, By, Completed, LeaseRequest, Store};

use crate::kit::{Kit, assert_adds_up, id, inline, message, outcome};

/// What happens at the chosen write or sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    /// The process dies: nothing more reaches the disk.
    Death,
    /// It dies in the middle of the write.
    TornDeath,
    /// It dies after the write reached the disk, and before anybody heard so.
    LateDeath,
    /// Only this one fails, as on a bad sector.
    Failure,
    /// This and the next two fail, as on a disk that is full until somebody makes room.
    Shortage,
}

struct Fate {
    blow: Blow,
    at: usize,
    asked: AtomicUsize,
}

impl Fate {
    fn new(blow: Blow, at: usize) -> Arc<Self> {
        Arc::new(Self {
            blow,
            at,
            asked: AtomicUsize::new(0),
        })
    }

    /// How many turns ago it struck.
    fn since(&self) -> Option<usize> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst);
        turn.checked_sub(self.at)
    }

    fn is_hit(&self, since: usize) -> bool {
        match self.blow {
            Blow::Death | Blow::TornDeath | Blow::LateDeath => true,
            Blow::Failure => since == 0,
            Blow::Shortage => since < 3,
        }
    }
}

impl Faults for Fate {
    fn before_write(&self, len: usize) -> io::Result<Option<usize>> {
        match (self.since(), self.blow) {
            (Some(0), Blow::TornDeath) => Ok(Some(len / 2)),
            (Some(0), Blow::LateDeath) => Ok(Some(len)),
            (Some(since), _) if self.is_hit(since) => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(None),
        }
    }

    fn before_sync(&self, _file: &Path) -> io::Result<()> {
        match self.since() {
            Some(since) if self.is_hit(since) => Err(io::Error::other("bad sector")),
            _ => Ok(()),
        }
    }
}

/// What somebody was told.
#[derive(Default)]
struct Told {
    accepted: BTreeMap<QueueId, Vec<u8>>,
    ended: BTreeSet<DeliveryId>,
    /// Asked to end, and nobody heard whether it did.
    maybe_ended: BTreeSet<DeliveryId>,
    held: BTreeSet<QueueId>,
    maybe_held: BTreeSet<QueueId>,
}

async fn enqueue(store: &EmbeddedStore, told: &mut Told, batch: Vec<(NewMessage, Vec<u8>)>) {
    let messages = batch.iter().map(|(new, _)| new.clone()).collect();
    for (result, (new, content)) in store.enqueue(messages).await.into_iter().zip(batch) {
        if result.is_ok() {
            told.accepted.insert(id(&new), content);
        }
    }
}

fn one(destination: &str, len: usize) -> (NewMessage, Vec<u8>) {
    let content: Vec<u8> = (0..len).map(|at| b'a' + (at % 23) as u8).collect();
    let address = format!("x@{destination}");
    let new = message(&[(&address, &format!("smtp:{destination}"))], &content);
    (new, content)
}

/// Attempts what is due, with outcomes in turn. Errors of the store are the worker's daily bread.
async fn work(store: &EmbeddedStore, told: &mut Told, kinds: &[OutcomeKind]) {
    let request = LeaseRequest {
        worker: "w".to_owned(),
        transports: vec!["smtp".to_owned()],
        slots: 100,
    };
    let mut kinds = kinds.iter().cycle();
    for grant in store.lease(request, 100).await.unwrap_or_default() {
        let Ok(Some(pulled)) = store.pull(grant.token, 5).await else {
            continue;
        };
        for delivery in pulled {
            let kind = *kinds.next().unwrap();
            let mut completion = outcome(&delivery, kind);
            let ends = matches!(kind, OutcomeKind::Delivered | OutcomeKind::Failed);
            let mut brought = None;
            if kind == OutcomeKind::Failed {
                let (mut dsn, content) = one("sender.test", 300);
                dsn.envelope.as_mut().unwrap().reverse_path.clear();
                brought = Some((id(&dsn), content));
                completion.dsn.push(dsn);
            }
            let done = store.complete(vec![completion.clone()]).await.remove(0);
            match done {
                Ok(Completed::Done) => {
                    if ends {
                        told.ended.insert(completion.delivery);
                    }
                    told.accepted.extend(brought);
                }
                Ok(Completed::Stale) => panic!("nobody else works here"),
                Err(_) if ends => {
                    told.maybe_ended.insert(completion.delivery);
                }
                Err(_) => {}
            }
        }
        store.give_back(vec![grant.token]).await.ok();
    }
}

/// Everything that a queue goes through, over several segments.
async fn history(kit: &Kit, store: &EmbeddedStore, told: &mut Told) {
    use OutcomeKind::{Deferred, Delivered, Failed, Unknown};
    enqueue(store, told, vec![one("a.test", 100)]).await;
    enqueue(store, told, vec![one("b.test", 3000), one("c.test", 900)]).await;
    work(store, told, &[Delivered, Deferred]).await;
    let to_hold = one("d.test", 50);
    let held = id(&to_hold.0);
    enqueue(store, told, vec![to_hold]).await;
    let on = [DeliveryId {
        queue_id: held,
        number: 0,
    }];
    let by = By::default();
    match store.act(&Act::Hold { until_us: None }, &on, &by).await {
        Ok(changed) if changed == [true] => drop(told.held.insert(held)),
        _ => drop(told.maybe_held.insert(held)),
    }
    for round in 0..3 {
        let batch = (0..3).map(|n| one("e.test", 1500 + 500 * n)).collect();
        enqueue(store, told, batch).await;
        work(store, told, &[Delivered, Failed, Unknown]).await;
        kit.clock.advance(Duration::from_secs(100 * (round + 1)));
    }
    kit.clock.advance(Duration::from_secs(300));
    store.expire().await.ok();
    work(store, told, &[Delivered, Deferred]).await;
    store.close().await.ok();
}

/// What must hold whatever happened.
async fn check(kit: &Kit, told: &Told, name: &str) {
    let store = kit.open().await;
    assert_adds_up(&store).await;
    let listed = store.list(&Filter::default(), None, 1000).await.unwrap();
    let queued: BTreeSet<DeliveryId> = listed
        .iter()
        .map(|status| status.delivery_id.parse().unwrap())
        .collect();
    for id in told.accepted.keys() {
        let delivery = DeliveryId {
            queue_id: *id,
            number: 0,
        };
        let may_be_gone = told.ended.contains(&delivery) || told.maybe_ended.contains(&delivery);
        assert!(
            queued.contains(&delivery) || may_be_gone,
            "{name}: {id} was accepted and is lost"
        );
        assert!(
            !(queued.contains(&delivery) && told.ended.contains(&delivery)),
            "{name}: {id} was reported as ended and is queued again"
        );
    }
    for id in &told.held {
        let status = listed.iter().find(|s| s.queue_id == id.to_string());
        assert_eq!(
            status.map(|status| status.state()),
            Some(postrider_protocol::queue_v1::delivery_status::State::Held),
            "{name}"
        );
    }
    // Everything can still be delivered, with its own content, and then the queue is empty.
    let held: Vec<DeliveryId> = queued
        .iter()
        .filter(|delivery| {
            told.held.contains(&delivery.queue_id) || told.maybe_held.contains(&delivery.queue_id)
        })
        .copied()
        .collect();
    store
        .act(&Act::Release, &held, &By::default())
        .await
        .unwrap();
    kit.clock.advance(Duration::from_secs(5000));
    store.expire().await.unwrap();
    for _ in 0..20 {
        let request = LeaseRequest {
            worker: "last".to_owned(),
            transports: vec!["smtp".to_owned()],
            slots: 100,
        };
        for grant in store.lease(request, 100).await.unwrap() {
            for delivery in store.pull(grant.token, 100).await.unwrap().unwrap() {
                if let Some(content) = told.accepted.get(&delivery.queue_id.parse().unwrap()) {
                    assert_eq!(inline(&delivery), content, "{name}");
                }
                let done = outcome(&delivery, OutcomeKind::Delivered);
                let done = store.complete(vec![done]).await.remove(0);
                assert_eq!(done.unwrap(), Completed::Done, "{name}");
            }
            store.give_back(vec![grant.token]).await.unwrap();
        }
    }
    let stats = store.stats().await.unwrap();
    assert_eq!(stats.open, 0, "{name}: {stats:?}");
    assert_adds_up(&store).await;
    store.close().await.unwrap();
    drop(store);
    let checked = postrider_queue::store::embedded::check(kit.dir()).unwrap();
    assert!(
        checked
            .findings
            .iter()
            .all(|finding| finding.kind.is_harmless()),
        "{name}: {:?}",
        checked.findings
    );
}

fn small() -> Kit {
    Kit {
        segment_size: 12 << 10,
        ..Kit::new()
    }
}

/// One blow at every write and sync in turn.
async fn strike_everywhere(blow: Blow) {
    for at in 0.. {
        let name = format!("{blow:?} at {at}");
        let kit = small();
        let fate = Fate::new(blow, at);
        let mut told = Told::default();
        // Opening writes too, and may be the victim.
        if let Ok(store) = kit.try_open(fate.clone()).await {
            history(&kit, &store, &mut told).await;
        }
        let asked = fate.asked.load(Ordering::SeqCst);
        check(&kit, &told, &name).await;
        if asked <= at {
            assert!(at > 30, "the history has {at} writes and syncs");
            assert!(told.accepted.len() >= 14, "{}", told.accepted.len());
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_every_write_and_sync() {
    strike_everywhere(Blow::Death).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_in_the_middle_of_every_write() {
    strike_everywhere(Blow::TornDeath).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_right_after_every_write() {
    strike_everywhere(Blow::LateDeath).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_of_every_write_and_sync() {
    strike_everywhere(Blow::Failure).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_at_every_write_and_sync() {
    strike_everywhere(Blow::Shortage).await;
}
