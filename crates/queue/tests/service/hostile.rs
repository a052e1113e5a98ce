//! Workers that misbehave harm only themselves.

use std::time::Duration;

use futures_util::StreamExt as _;
use postrider_protocol::api::QueueAdmin;
use postrider_protocol::queue_v1::queue_frame::Frame;
use postrider_protocol::queue_v1::{
    CompletionBatch, Heartbeat, Hello, LeaseList, LeasedDelivery, OutcomeKind, completion_ack,
    worker_frame,
};
use postrider_protocol::{Code, QueueId};

use crate::kit::{Worker, World, completion, config};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_never_leased_cannot_be_completed() {
    let world = World::new(config()).await;
    let mut honest = world.worker("honest", 10).await;
    world.accept("smtp:a.test").await;
    let delivery = honest.deliveries().await.remove(0);
    let mut thief = world.worker("thief", 10).await;
    let forged = |delivery_id: String, token| LeasedDelivery {
        delivery_id,
        token,
        attempt: 1,
        ..LeasedDelivery::default()
    };
    for bad in [
        forged(delivery.delivery_id.clone(), delivery.token + 1),
        forged(delivery.delivery_id.clone(), 0),
        forged(format!("{}.0", QueueId::new()), delivery.token),
        forged(format!("{}.7", delivery.queue_id), delivery.token),
        forged("garbage".to_owned(), u64::MAX),
    ] {
        thief.complete(&bad, OutcomeKind::Failed);
        let Some(Frame::Acks(acks)) = thief.next().await else {
            panic!("no ack");
        };
        assert_eq!(acks.acks[0].status(), completion_ack::Status::Stale);
    }
    honest.complete(&delivery, OutcomeKind::Delivered);
    assert!(matches!(honest.next().await, Some(Frame::Acks(_))));
    let stats = world.service.stats().await.unwrap();
    assert_eq!((stats.delivered, stats.failed), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_never_reads_is_left_behind() {
    let world = World::new(config()).await;
    let mut deaf = world.worker("deaf", 1000).await;
    let flood = CompletionBatch {
        completions: vec![
            completion(
                &LeasedDelivery {
                    delivery_id: format!("{}.0", QueueId::new()),
                    ..LeasedDelivery::default()
                },
                OutcomeKind::Delivered,
            );
            10
        ],
    };
    for _ in 0..5000 {
        deaf.say(worker_frame::Frame::Completions(flood.clone()));
    }
    // Others are served meanwhile.
    let mut good = world.worker("good", 2000).await;
    for n in 0..20 {
        world.accept(&format!("smtp:d{n}.test")).await;
        let delivery = good.deliveries().await.remove(0);
        good.complete(&delivery, OutcomeKind::Delivered);
    }
    // It is not read to the end of its flood, and dropped once its time is over.
    deaf.is_left().await;
    let stats = world.service.stats().await.unwrap();
    assert!(
        stats.stale_completions < 20_000,
        "{}",
        stats.stale_completions
    );
    let ended = tokio::time::timeout(Duration::from_secs(5), async {
        while deaf.from_queue.next().await.is_some() {}
    });
    assert!(ended.await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_begins_with_a_proper_hello() {
    let world = World::new(config()).await;
    for bad in [
        worker_frame::Frame::Drain(postrider_protocol::queue_v1::Drain {}),
        worker_frame::Frame::Hello(Hello::default()),
        worker_frame::Frame::Hello(Hello {
            instance: "w".to_owned(),
            slots: u32::MAX,
            ..Hello::default()
        }),
    ] {
        let mut worker = Worker::silent(&world.service).await;
        worker.say(bad);
        let error = worker.from_queue.next().await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(worker.from_queue.next().await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_with_one_name_the_newer_stays() {
    let world = World::new(config()).await;
    let mut first = world.worker("w", 10).await;
    let mut second = world.worker("w", 10).await;
    assert!(first.next().await.is_none());
    world.accept("smtp:a.test").await;
    assert_eq!(second.deliveries().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_beats_but_never_reads_is_dropped() {
    let world = World::new(config()).await;
    let mut deaf = world.worker("deaf", 1000).await;
    // More than may wait for it.
    for n in 0..150 {
        world.accept(&format!("smtp:d{n}.test")).await;
    }
    deaf.is_left().await;
    let mut good = world.worker("good", 1000).await;
    let mut seen = 0;
    while seen < 150 {
        seen += good.deliveries().await.len();
    }
    let ended = tokio::time::timeout(Duration::from_secs(5), async {
        while deaf.from_queue.next().await.is_some() {}
    });
    assert!(ended.await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_beyond_all_measure_end_the_conversation() {
    let world = World::new(config()).await;
    let completions = vec![completion(&LeasedDelivery::default(), OutcomeKind::Failed); 20_000];
    let tokens = (0..200_000).collect();
    for huge in [
        worker_frame::Frame::Completions(CompletionBatch { completions }),
        worker_frame::Frame::GiveBack(LeaseList { tokens }),
    ] {
        let mut worker = world.worker("huge", 10).await;
        worker.say(huge);
        // Its first heartbeat may be answered before.
        let error = loop {
            if let Err(error) = worker.from_queue.next().await.unwrap() {
                break error;
            }
        };
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(worker.from_queue.next().await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_small_frames_hold_up_nobody() {
    let world = World::new(config()).await;
    let flooder = world.worker("flooder", 1000).await;
    let mut good = world.worker("good", 2000).await;
    for n in 0..200_000_u64 {
        flooder.say(match n % 3 {
            0 => worker_frame::Frame::Heartbeat(Heartbeat::default()),
            1 => worker_frame::Frame::GiveBack(LeaseList { tokens: vec![n] }),
            _ => worker_frame::Frame::Drain(postrider_protocol::queue_v1::Drain {}),
        });
    }
    for n in 0..20 {
        world.accept(&format!("smtp:d{n}.test")).await;
        let delivery = good.deliveries().await.remove(0);
        good.complete(&delivery, OutcomeKind::Delivered);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_for_somebody_elses_recipient_changes_nothing() {
    let world = World::new(config()).await;
    let mut worker = world.worker("w", 10).await;
    world.accept("smtp:a.test").await;
    let delivery = worker.deliveries().await.remove(0);
    let mut forged = completion(&delivery, OutcomeKind::Failed);
    if let Some(attempt) = &mut forged.attempt {
        attempt.outcomes[0].address = "carol@elsewhere.test".to_owned();
    }
    worker.say(worker_frame::Frame::Completions(CompletionBatch {
        completions: vec![forged],
    }));
    // Alice is not among the outcomes: she is due again at once.
    let again = worker.deliveries().await.remove(0);
    assert_eq!(again.delivery_id, delivery.delivery_id);
    let stats = world.service.stats().await.unwrap();
    assert_eq!((stats.failed, stats.delivered, stats.open), (0, 0, 1));
}
