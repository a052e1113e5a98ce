//! Acts on many deliveries: they go on by themselves, survive those who began them, and can be
//! taken back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postrider_protocol::Code;
use postrider_protocol::api::{Queue, QueueAdmin};
use postrider_protocol::queue_v1::act_record::State;
use postrider_protocol::queue_v1::act_request::Act;
use postrider_protocol::queue_v1::delivery_status::State as Delivery;
use postrider_protocol::queue_v1::queue_frame::Frame;
use postrider_protocol::queue_v1::{
    ActRecord, ActRequest, ActsRequest, Filter, ListRequest, OutcomeKind, UndoRequest,
};
use postrider_queue::{QueueConfig, QueueService};
use tokio_util::sync::CancellationToken;

use crate::kit::{Worker, config, message};
use crate::slow::SlowStore;

/// More than two pages of an act.
const MANY: usize = 2500;

struct World {
    dir: tempfile::TempDir,
    config: QueueConfig,
    store: Arc<SlowStore>,
    service: Arc<QueueService>,
}

impl World {
    async fn with(messages: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config();
        let store = SlowStore::open(dir.path(), &config).await;
        let service = store.service(dir.path(), &config, "one");
        let world = Self {
            dir,
            config,
            store,
            service,
        };
        world.accept(messages).await;
        world
    }

    async fn accept(&self, messages: usize) {
        let batch = (0..messages)
            .map(|_| message("smtp:a.test", b"x"))
            .collect();
        self.service.enqueue(batch).await.unwrap();
    }

    fn another(&self, host: &str) -> Arc<QueueService> {
        self.store.service(self.dir.path(), &self.config, host)
    }

    async fn held(&self) -> u64 {
        self.service.stats().await.unwrap().held
    }

    async fn undo(&self, act_id: &str) -> Result<ActRecord, postrider_protocol::Status> {
        let request = UndoRequest {
            act_id: act_id.to_owned(),
            operator: "eve".to_owned(),
            reason: "a mistake".to_owned(),
        };
        self.service.undo(request).await
    }
}

fn all(act: Act) -> ActRequest {
    ActRequest {
        act: act as i32,
        operator: "ann".to_owned(),
        reason: "spring cleaning".to_owned(),
        ..ActRequest::default()
    }
}

fn of(act: Act, ids: &[String]) -> ActRequest {
    ActRequest {
        filter: Some(Filter {
            queue_ids: ids.to_vec(),
            ..Filter::default()
        }),
        ..all(act)
    }
}

async fn newest(service: &QueueService) -> ActRecord {
    let acts = service.acts(ActsRequest::default()).await.unwrap().acts;
    acts.into_iter().next().unwrap()
}

/// Waits until the newest act is as it should be.
async fn until(service: &QueueService, what: impl Fn(&ActRecord) -> bool) -> ActRecord {
    let began = Instant::now();
    loop {
        let acts = service.acts(ActsRequest::default()).await.unwrap().acts;
        let act = acts.into_iter().next().unwrap_or_default();
        if what(&act) {
            return act;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{act:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_act_is_done_when_the_call_returns() {
    let world = World::with(3).await;
    let done = world.service.act(all(Act::Hold)).await.unwrap();
    assert!(done.done);
    assert_eq!((done.matched, done.changed), (3, 3));
    assert_eq!(done.sample.len(), 3);
    let act = newest(&world.service).await;
    assert_eq!(act.act_id, done.act_id);
    assert_eq!(act.state(), State::Done);
    let request = act.request.unwrap();
    assert_eq!(
        (request.operator, request.reason),
        ("ann".into(), "spring cleaning".into())
    );
    assert!(act.ended_us >= act.created_us && act.created_us > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_changes_nothing_and_is_not_remembered() {
    let world = World::with(MANY).await;
    let request = ActRequest {
        preview: true,
        ..all(Act::Remove)
    };
    let preview = world.service.act(request).await.unwrap();
    assert_eq!(preview.matched, MANY as u64);
    assert_eq!(preview.changed, 0);
    assert_eq!(preview.sample.len(), 100);
    assert!(preview.done && preview.act_id.is_empty());
    assert_eq!(world.service.stats().await.unwrap().open, MANY as u64);
    let acts = world.service.acts(ActsRequest::default()).await.unwrap();
    assert!(acts.acts.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_act_goes_on_after_the_call_and_mail_flows_meanwhile() {
    let world = World::with(MANY).await;
    world.store.acts_take(Duration::from_millis(1500));
    let begun = Instant::now();
    let response = world.service.act(all(Act::Hold)).await.unwrap();
    assert!(!response.done && response.changed < MANY as u64);
    assert!(begun.elapsed() < Duration::from_secs(4));
    let mut worker = Worker::hello(&world.service, "w", 100).await;
    // What comes after its beginning is not its business.
    let late = message("smtp:late.test", b"x");
    world.service.enqueue(vec![late.clone()]).await.unwrap();
    let accepted = Instant::now();
    while worker.deliveries().await[0].queue_id != late.queue_id {}
    // Less than a page takes.
    assert!(accepted.elapsed() < Duration::from_millis(1400));
    let act = until(&world.service, |act| act.state() == State::Done).await;
    assert_eq!(act.matched, MANY as u64);
    assert_eq!(act.changed, MANY as u64);
    assert_eq!(act.sample.len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_act_survives_the_death_of_its_instance() {
    let world = World::with(MANY).await;
    let other = world.another("two");
    world.store.acts_take(Duration::from_millis(400));
    let dying = world.another("dying");
    let call = tokio::spawn(async move { dying.act(all(Act::Hold)).await });
    until(&other, |act| act.changed > 0).await;
    // Dropped, not stopped: its tasks end without a word.
    call.abort();
    let died = Instant::now();
    let act = until(&other, |act| act.state() == State::Done).await;
    assert_eq!(act.matched, MANY as u64);
    assert_eq!(world.held().await, MANY as u64);
    assert!(
        died.elapsed() < Duration::from_secs(12),
        "{:?}",
        died.elapsed()
    );
    assert!(!act.instance.starts_with("queue@dying"), "{}", act.instance);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_instance_leaves_its_act_to_the_next_at_once() {
    let world = World::with(MANY).await;
    world.store.acts_take(Duration::from_millis(1200));
    let first = world.service.act(all(Act::Remove)).await.unwrap();
    assert!(!first.done);
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let stopping = world.service.clone();
    stopping.run(shutdown).await.unwrap();
    let left = newest(&world.service).await;
    assert_eq!((left.state(), left.instance.as_str()), (State::Running, ""));
    assert!(left.changed > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_waited_for() {
    let world = World::with(5).await;
    world.store.acts_fail(true);
    let response = world.service.act(all(Act::Hold)).await.unwrap();
    assert!(!response.done);
    world.store.acts_fail(false);
    let act = until(&world.service, |act| act.state() == State::Done).await;
    assert_eq!((act.matched, act.changed), (5, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undoing_a_hold_releases_what_it_held_and_nothing_else() {
    let world = World::with(10).await;
    let listed = world.service.list(ListRequest::default()).await.unwrap();
    let ids: Vec<String> = listed.deliveries.into_iter().map(|d| d.queue_id).collect();
    // Three were held before, for another reason; one is released by hand afterwards.
    world.service.act(of(Act::Hold, &ids[..3])).await.unwrap();
    let hold = world.service.act(all(Act::Hold)).await.unwrap();
    assert_eq!((hold.matched, hold.changed), (10, 7));
    world
        .service
        .act(of(Act::Release, &ids[9..]))
        .await
        .unwrap();
    world.accept(1).await;
    let undone = world.undo(&hold.act_id).await.unwrap();
    assert_eq!(undone.state(), State::Undone);
    assert_eq!(undone.undone, 6);
    assert_eq!(
        (undone.undone_by.as_str(), undone.undone_reason.as_str()),
        ("eve", "a mistake")
    );
    assert_eq!(world.held().await, 3);
    // Once more is no harm.
    assert_eq!(world.undo(&hold.act_id).await.unwrap().undone, 6);
    assert_eq!(world.held().await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undoing_a_running_hold_stops_it_and_releases_what_it_held() {
    let world = World::with(MANY).await;
    world.store.acts_take(Duration::from_millis(700));
    let hold = tokio::spawn({
        let service = world.service.clone();
        async move { service.act(all(Act::Hold)).await }
    });
    let running = until(&world.service, |act| act.changed > 0).await;
    let undone = world.undo(&running.act_id).await.unwrap();
    assert_eq!(undone.undone_by, "eve");
    let act = until(&world.service, |act| act.state() == State::Undone).await;
    assert!(act.matched < MANY as u64, "{act:?}");
    assert_eq!(act.undone, act.changed);
    assert_eq!(world.held().await, 0);
    hold.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_act_of_another_instance_can_be_stopped() {
    let world = World::with(MANY).await;
    let other = world.another("two");
    world.store.acts_take(Duration::from_millis(700));
    let call = tokio::spawn(async move { other.act(all(Act::Remove)).await });
    let running = until(&world.service, |act| act.changed > 0).await;
    world.undo(&running.act_id).await.unwrap();
    let response = call.await.unwrap().unwrap();
    let act = until(&world.service, |act| act.state() == State::Undone).await;
    assert!(act.changed < MANY as u64, "{act:?}");
    assert_eq!(act.act_id, response.act_id);
    let open = world.service.stats().await.unwrap().open;
    assert_eq!(open, MANY as u64 - act.changed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_of_what_is_leased_is_undone_too() {
    let world = World::with(1).await;
    let mut worker = Worker::hello(&world.service, "w", 1).await;
    let delivery = worker.deliveries().await.remove(0);
    let hold = world.service.act(all(Act::Hold)).await.unwrap();
    assert_eq!(hold.changed, 1);
    world.undo(&hold.act_id).await.unwrap();
    worker.complete(&delivery, OutcomeKind::Deferred);
    while !matches!(worker.next().await, Some(Frame::Acks(_))) {}
    let listed = world.service.list(ListRequest::default()).await.unwrap();
    assert_eq!(listed.deliveries[0].state(), Delivery::Waiting);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_can_be_undone_is() {
    let world = World::with(1).await;
    let act = world.service.act(all(Act::Retry)).await.unwrap();
    let refused = world.undo(&act.act_id).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let unknown = world.undo("nothing").await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused_and_not_remembered() {
    let world = World::with(1).await;
    let to = |destination: &str| ActRequest {
        destination: destination.to_owned(),
        ..all(Act::Reroute)
    };
    let long = "x".repeat(2000);
    let filtered = |filter: Filter| ActRequest {
        filter: Some(filter),
        ..all(Act::Retry)
    };
    for bad in [
        ActRequest::default(),
        all(Act::Suspend),
        to(""),
        to("nowhere"),
        to("smtp:*"),
        to("fax:a.test"),
        ActRequest {
            until_us: 1,
            ..all(Act::Retry)
        },
        ActRequest {
            operator: long.clone(),
            ..all(Act::Retry)
        },
        filtered(Filter {
            sender: long,
            ..Filter::default()
        }),
        filtered(Filter {
            destination: "smtp:*a*".to_owned(),
            ..Filter::default()
        }),
        filtered(Filter {
            queue_ids: vec!["x".to_owned()],
            ..Filter::default()
        }),
        of(
            Act::Retry,
            &vec![postrider_protocol::QueueId::new().to_string(); 501],
        ),
    ] {
        let refused = world.service.act(bad.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad:?}");
    }
    let acts = world.service.acts(ActsRequest::default()).await.unwrap();
    assert!(acts.acts.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_over_many_held_ones_says_that_it_cannot_be_undone() {
    let world = World::with(1000).await;
    world.service.act(all(Act::Hold)).await.unwrap();
    let again = world.service.act(all(Act::Hold)).await.unwrap();
    assert_eq!((again.matched, again.changed), (1000, 0));
    let refused = world.undo(&again.act_id).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(world.held().await, 1000);
}
