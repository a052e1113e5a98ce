//! Several services over one Redis: what one is told, all obey.

use std::time::{Duration, Instant};

use postrider_protocol::api::{Queue, QueueAdmin};
use postrider_protocol::queue_v1::act_record::State;
use postrider_protocol::queue_v1::act_request::Act;
use postrider_protocol::queue_v1::{
    ActRequest, ActsRequest, OutcomeKind, ResumeRequest, SuspendRequest, Suspension, UndoRequest,
};
use postrider_queue::{QueueConfig, StoreKind};

use crate::kit::{World, config, message};
use crate::support::redis_server::RedisServer;

fn on(server: &RedisServer) -> QueueConfig {
    QueueConfig {
        store: StoreKind::Redis,
        redis: server.config(),
        ..config()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_system_pushes_at_once_on_redis_too() {
    let server = RedisServer::start();
    let world = World::new(on(&server)).await;
    // Accepted by one process, worked on by another.
    let other = World::new(on(&server)).await;
    let mut worker = other.worker("w", 10).await;
    let mut waits = Vec::new();
    for _ in 0..40 {
        world.accept("smtp:a.test").await;
        let accepted = Instant::now();
        let deliveries = worker.deliveries().await;
        waits.push(accepted.elapsed());
        worker.complete(&deliveries[0], OutcomeKind::Delivered);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    waits.sort();
    // Far below what any polling would take. The best quarter: other tests are no idle system.
    assert!(waits[10] < Duration::from_millis(10), "{waits:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_made_at_one_holds_at_the_other() {
    let server = RedisServer::start();
    let one = World::new(on(&server)).await;
    let other = World::new(on(&server)).await;
    let mut worker = other.worker("w", 10).await;
    let request = SuspendRequest {
        suspension: Some(Suspension {
            destination: "smtp:a.test".to_owned(),
            ..Suspension::default()
        }),
        preview: false,
    };
    let suspended = one.service.suspend(request).await.unwrap();
    one.accept("smtp:a.test").await;
    assert!(worker.hears_nothing(&one.service).await);
    let there = other.service.suspensions().await.unwrap().suspensions;
    assert_eq!(there.len(), 1);
    assert_eq!(other.service.stats().await.unwrap().suspensions, 1);
    let request = ResumeRequest {
        id: suspended.suspension.unwrap().id,
        ..ResumeRequest::default()
    };
    assert!(one.service.resume(request).await.unwrap().resumed);
    let resumed = Instant::now();
    worker.deliveries().await;
    assert!(resumed.elapsed() < Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_act_of_one_is_known_to_the_other_and_undone_there() {
    let server = RedisServer::start();
    let one = World::new(on(&server)).await;
    let other = World::new(on(&server)).await;
    let batch = (0..2500).map(|_| message("smtp:a.test", b"x")).collect();
    one.service.enqueue(batch).await.unwrap();
    let request = ActRequest {
        act: Act::Hold as i32,
        operator: "ann".to_owned(),
        ..ActRequest::default()
    };
    let acted = one.service.act(request).await.unwrap();
    let ended = async |state: State| {
        let began = Instant::now();
        loop {
            let acts = other.service.acts(ActsRequest::default()).await.unwrap();
            let act = acts.acts.into_iter().next().unwrap();
            if act.state() == state {
                return act;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{act:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let act = ended(State::Done).await;
    assert_eq!(
        (act.act_id.as_str(), act.changed),
        (acted.act_id.as_str(), 2500)
    );
    let request = UndoRequest {
        act_id: acted.act_id,
        operator: "eve".to_owned(),
        reason: String::new(),
    };
    other.service.undo(request).await.unwrap();
    let undone = ended(State::Undone).await;
    assert_eq!(undone.undone, 2500);
    assert_eq!(one.service.stats().await.unwrap().held, 0);
}
