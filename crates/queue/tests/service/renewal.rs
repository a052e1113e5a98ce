//! A worker's clock runs for all of its leases: what could not be renewed must not be believed to be.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use postrider_config::values::Period;
use postrider_protocol::queue_v1::queue_frame::Frame;
use postrider_protocol::queue_v1::{Heartbeat, worker_frame};
use postrider_queue::QueueConfig;

use crate::kit::{Worker, World, config};
use crate::slow::SlowStore;

/// Long enough that nothing that is looked at within a part of it could come at its end.
const LEASE: Period = Period::seconds(10);

/// How long what should come at once may take.
const SOON: Duration = Duration::from_secs(5);

/// What the queue said while heartbeats were sent.
#[derive(Default)]
struct Heard {
    /// Each lease that was called back, and when.
    revoked: HashMap<u64, Instant>,
    /// The latest heartbeat that was answered, and every answer.
    answered: u64,
    answers: Vec<u64>,
}

struct Beats {
    next: u64,
    sent: Vec<Instant>,
}

impl Beats {
    /// Numbered heartbeats until this was heard, which must be in that time.
    async fn beat(
        &mut self,
        worker: &mut Worker,
        time: Duration,
        until: impl Fn(&Heard) -> bool,
    ) -> Heard {
        let mut heard = Heard::default();
        let end = Instant::now() + time;
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        while !until(&heard) {
            assert!(Instant::now() < end, "it was not heard");
            tokio::select! {
                _ = tick.tick() => {
                    worker.say(worker_frame::Frame::Heartbeat(Heartbeat { number: self.next }));
                    self.next += 1;
                    self.sent.push(Instant::now());
                }
                frame = worker.from_queue.next() => match frame.unwrap().unwrap().frame {
                    Some(Frame::Heartbeat(beat)) => {
                        heard.answered = heard.answered.max(beat.number);
                        heard.answers.push(beat.number);
                    }
                    Some(Frame::Revoked(list)) => {
                        heard.revoked.extend(list.tokens.iter().map(|it| (*it, Instant::now())));
                    }
                    _ => {}
                }
            }
        }
        heard
    }

    /// When a heartbeat was sent.
    fn sent(&self, number: u64) -> Instant {
        self.sent[usize::try_from(number).unwrap() - 1]
    }
}

/// A worker with a lease of each of two destinations; the store is slow on demand.
async fn two_leases() -> (World, std::sync::Arc<SlowStore>, Worker, [u64; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let lease = LEASE;
    let config = QueueConfig { lease, ..config() };
    let store = SlowStore::open(dir.path(), &config).await;
    let service = store.service(dir.path(), &config, "q");
    let world = World { dir, service };
    let mut worker = world.worker("w", 10).await;
    worker.stop_heart();
    let mut tokens = [0; 2];
    for (token, to) in tokens.iter_mut().zip(["smtp:a.test", "smtp:b.test"]) {
        world.accept(to).await;
        *token = worker.deliveries().await[0].token;
    }
    (world, store, worker, tokens)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_not_renewed_is_over_before_the_worker_believes_in_it() {
    let lease = LEASE.0;
    let (_world, store, mut worker, [away, there]) = two_leases().await;
    let (next, sent) = (1, Vec::new());
    let mut beats = Beats { next, sent };
    let answered = |heard: &Heard| heard.answered > 0;
    let before = beats.beat(&mut worker, SOON, answered).await;
    assert!(before.revoked.is_empty());

    store.does_not_reach(vec![away]);
    let last = beats.next - 1;
    let over = |heard: &Heard| heard.revoked.contains_key(&away);
    let heard = beats.beat(&mut worker, lease, over).await;
    let revoked = heard.revoked[&away];
    let good = beats.sent(before.answered);
    assert!(revoked - good < lease * 9 / 10, "{:?}", revoked - good);
    let early: Vec<u64> = heard.answers;
    assert!(
        early.iter().all(|number| *number <= last),
        "{early:?}, though only those up to {last} are good for all leases"
    );
    assert!(!heard.revoked.contains_key(&there));
    // From then on the clock runs for the other one again.
    let goes_on = |heard: &Heard| heard.answered > last + 1;
    let heard = beats.beat(&mut worker, SOON, goes_on).await;
    assert!(heard.revoked.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_reached_again_soon_is_kept() {
    let (_world, store, mut worker, [away, _]) = two_leases().await;
    let (next, sent) = (1, Vec::new());
    let mut beats = Beats { next, sent };
    beats.beat(&mut worker, SOON, |it| it.answered > 0).await;
    store.does_not_reach(vec![away]);
    let last = beats.next - 1;
    // Three are sent, of which none is answered as if all were well.
    let three = Instant::now() + Duration::from_millis(500);
    let heard = beats.beat(&mut worker, SOON, |_| Instant::now() > three);
    let heard = heard.await;
    assert!(heard.answered <= last && heard.revoked.is_empty());
    store.does_not_reach(Vec::new());
    let heard = beats.beat(&mut worker, SOON, |it| it.answered > last).await;
    assert!(heard.revoked.is_empty());
}

/// Mail for a destination whose lease was called back: the store adds slots to that lease, and it ends
/// nevertheless.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_was_called_back_does_not_come_again() {
    let lease = LEASE.0;
    let (world, store, mut worker, [away, _]) = two_leases().await;
    let (next, sent) = (1, Vec::new());
    let mut beats = Beats { next, sent };
    beats.beat(&mut worker, SOON, |it| it.answered > 0).await;
    store.does_not_reach(vec![away]);
    let over = |heard: &Heard| heard.revoked.contains_key(&away);
    beats.beat(&mut worker, lease, over).await;
    store.does_not_reach(Vec::new());
    world.accept("smtp:a.test").await;
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < lease * 2, "nothing came");
        worker.say(worker_frame::Frame::Heartbeat(Heartbeat::default()));
        let next = tokio::time::timeout(Duration::from_millis(200), worker.from_queue.next());
        let Ok(Some(frame)) = next.await else {
            continue;
        };
        match frame.unwrap().frame {
            Some(Frame::Grant(grant)) => {
                assert_ne!(grant.token, away);
                if grant.destination == "smtp:a.test" {
                    break;
                }
            }
            Some(Frame::Deliveries(batch)) => {
                assert!(batch.deliveries.iter().all(|it| it.token != away));
            }
            _ => {}
        }
    }
}
