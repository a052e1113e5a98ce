//! The conversation with the queue: what breaks, and what is told again.

use std::time::{Duration, Instant};

use postrider_protocol::queue_v1::completion_ack::Status as Ack;
use postrider_protocol::queue_v1::{Completion, LeaseList, OutcomeKind, queue_frame, worker_frame};

use crate::kit::queue::delivery;
use crate::kit::sink::USUAL;
use crate::kit::world::until;
use crate::kit::{Say, Sink, World};

const CONTENT: &str = "Subject: x\r\n\r\ntext\r\n";

async fn slow_sink() -> Sink {
    Sink::start("127.0.0.1", 0, USUAL, |line| match line.text {
        "." => Say::Slowly(1000),
        _ => Say::Usual,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_says_who_it_is_and_that_it_lives() {
    let sink = Sink::willing("127.0.0.1").await;
    let world = World::with(&sink).await;
    world.queue.cut();
    match world.queue.told().await {
        worker_frame::Frame::Hello(hello) => {
            assert!(hello.instance.starts_with("delivery@"));
            assert_eq!(hello.transports, ["smtp", "mailbox"]);
            assert_eq!(hello.slots, 500);
        }
        other => panic!("hello comes first: {other:?}"),
    }
    assert_eq!(world.queue.conversations(), 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_ends_after_the_conversation_is_told_in_the_next() {
    let sink = slow_sink().await;
    let world = World::with(&sink).await;
    world.queue.grant(1, "smtp:there.test", 1);
    let first = delivery(&["alice@there.test"], CONTENT);
    let id = first.delivery_id.clone();
    world
        .queue
        .deliver(vec![first, delivery(&["second@there.test"], CONTENT)]);
    until("it is under way", || {
        sink.commands().iter().any(|c| c == "DATA")
    })
    .await;
    world.queue.cut();
    let completion = world.queue.completion().await;
    assert_eq!(completion.delivery_id, id);
    assert_eq!(completion.token, 1);
    until("the connection is closed", || sink.open() == 0).await;
    assert_eq!(
        sink.taken().len(),
        1,
        "what waited was dropped: its lease lapses"
    );
    // It is not given back: the queue would not take it back in another conversation.
    world.stop.cancel();
    leaves_with_nothing_but(&world, &completion).await;
    world.end().await;
}

/// Until the worker says that it stops, it tells this at most, once more.
async fn leaves_with_nothing_but(world: &World, completion: &Completion) {
    loop {
        match world.queue.told().await {
            worker_frame::Frame::Drain(_) => return,
            worker_frame::Frame::Hello(_) => {}
            worker_frame::Frame::Completions(batch)
                if batch.completions == [completion.clone()] => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_and_loses_the_queue_tells_its_outcomes_in_another_conversation() {
    let sink = slow_sink().await;
    let world = World::with(&sink).await;
    world.queue.grant(1, "smtp:there.test", 1);
    world
        .queue
        .deliver(vec![delivery(&["alice@there.test"], CONTENT)]);
    until("it is under way", || {
        sink.commands().iter().any(|c| c == "DATA")
    })
    .await;
    world.stop.cancel();
    let worker_frame::Frame::Drain(_) = world.queue.told().await else {
        panic!("it says that it stops");
    };
    world.queue.cut();
    let worker_frame::Frame::Hello(_) = world.queue.told().await else {
        panic!("it comes back");
    };
    let worker_frame::Frame::Drain(_) = world.queue.told().await else {
        panic!("it says at once that it stops");
    };
    // Nothing new begins.
    let mut late = delivery(&["late@there.test"], CONTENT);
    late.token = 2;
    world.queue.grant(2, "smtp:there.test", 1);
    world.queue.deliver(vec![late.clone()]);
    assert_eq!(world.queue.given_back().await, [2]);
    assert_eq!(
        world.queue.returned().await.delivery_ids,
        [late.delivery_id]
    );
    let completion = world.queue.completion().await;
    let outcomes = completion.attempt.unwrap().outcomes;
    assert_eq!(outcomes[0].kind(), OutcomeKind::Delivered);
    world.end().await;
    assert_eq!(sink.taken().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_conversation_does_not_prolong_the_time_to_stop() {
    let sink = Sink::start("127.0.0.1", 0, USUAL, |line| match line.text {
        "." => Say::Slowly(60_000),
        _ => Say::Usual,
    })
    .await;
    let drain = Duration::from_secs(1);
    let world = World::stopping_within(&sink, drain).await;
    world.queue.grant(1, "smtp:there.test", 1);
    world
        .queue
        .deliver(vec![delivery(&["alice@there.test"], CONTENT)]);
    until("it is under way", || {
        sink.commands().iter().any(|c| c == "DATA")
    })
    .await;
    let stopped = Instant::now();
    world.stop.cancel();
    tokio::time::sleep(drain * 7 / 10).await;
    world.queue.cut();
    let completion = loop {
        match world.queue.told().await {
            worker_frame::Frame::Completions(mut batch) => break batch.completions.remove(0),
            worker_frame::Frame::Drain(_) | worker_frame::Frame::Hello(_) => {}
            other => panic!("{other:?}"),
        }
    };
    let outcomes = completion.attempt.unwrap().outcomes;
    assert_eq!(outcomes[0].kind(), OutcomeKind::Unknown);
    world.end().await;
    assert!(stopped.elapsed() < drain * 3 / 2, "{:?}", stopped.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_that_could_not_be_stored_is_told_again() {
    let sink = Sink::willing("127.0.0.1").await;
    let world = World::with(&sink).await;
    world
        .queue
        .answer_next(&[Ack::Retry, Ack::Retry, Ack::Done]);
    world.queue.grant(1, "smtp:there.test", 1);
    world
        .queue
        .deliver(vec![delivery(&["alice@there.test"], CONTENT)]);
    let first = world.queue.completion().await;
    assert_eq!(world.queue.completion().await, first);
    assert_eq!(world.queue.completion().await, first);
    assert_eq!(sink.taken().len(), 1, "told again, not sent again");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_completion_is_let_go() {
    let sink = Sink::willing("127.0.0.1").await;
    let world = World::with(&sink).await;
    world.queue.answer_next(&[Ack::Stale]);
    world.queue.grant(1, "smtp:there.test", 1);
    world
        .queue
        .deliver(vec![delivery(&["alice@there.test"], CONTENT)]);
    world.queue.completion().await;
    // Nothing is left to confirm, so the stop is not held up.
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_lease_begins_nothing_more() {
    let sink = slow_sink().await;
    let world = World::with(&sink).await;
    world.queue.grant(1, "smtp:there.test", 1);
    world.queue.deliver(vec![
        delivery(&["alice@there.test"], CONTENT),
        delivery(&["second@there.test"], CONTENT),
    ]);
    until("it is under way", || {
        sink.commands().iter().any(|c| c == "DATA")
    })
    .await;
    let list = LeaseList { tokens: vec![1] };
    world.queue.send(queue_frame::Frame::Revoked(list));
    world.queue.completion().await;
    until("the connection is closed", || sink.open() == 0).await;
    // Deliveries under it that were still on their way are left alone too.
    world
        .queue
        .deliver(vec![delivery(&["third@there.test"], CONTENT)]);
    world.queue.grant(2, "smtp:there.test", 1);
    let mut next = delivery(&["fourth@there.test"], CONTENT);
    next.token = 2;
    world.queue.deliver(vec![next]);
    assert_eq!(world.queue.completion().await.token, 2);
    let taken = sink.taken();
    assert_eq!(taken.len(), 2);
    assert!(taken[1].recipients[0].contains("fourth@"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_gives_back_at_once_what_it_has_not_begun() {
    let sink = slow_sink().await;
    let world = World::with(&sink).await;
    world.queue.grant(1, "smtp:there.test", 3);
    let many: Vec<_> = (0..5)
        .map(|_| delivery(&["alice@there.test"], CONTENT))
        .collect();
    let (begun, waiting) = (many[..3].to_vec(), &many[3..]);
    world.queue.deliver(many.clone());
    until("three are under way", || {
        sink.commands().iter().filter(|c| *c == "DATA").count() == 3
    })
    .await;
    world.stop.cancel();
    let worker_frame::Frame::Drain(_) = world.queue.told().await else {
        panic!("it says that it stops");
    };
    let part = world.queue.returned().await;
    let ids = waiting.iter().map(|delivery| delivery.delivery_id.clone());
    assert_eq!(part.delivery_ids, ids.collect::<Vec<_>>());
    // What is on its way to it comes back too; and what a lease grew by does not end the lease.
    let late = delivery(&["late@there.test"], CONTENT);
    world.queue.grant(1, "smtp:there.test", 9);
    world.queue.deliver(vec![late.clone()]);
    let mut returned = Vec::new();
    while returned.is_empty() {
        let part = world.queue.returned().await;
        assert!(part.slots == 3 || part.slots == 0, "{part:?}");
        returned = part.delivery_ids;
    }
    assert_eq!(returned, [late.delivery_id]);
    let mut ended = Vec::new();
    let mut slots = 3;
    while ended.len() < 3 || slots > 0 {
        match world.queue.told().await {
            worker_frame::Frame::Completions(batch) => ended.extend(batch.completions),
            worker_frame::Frame::PartialReturns(batch) => {
                for part in batch.returns {
                    assert!(part.slots < slots, "{part:?}");
                    slots = part.slots;
                }
            }
            worker_frame::Frame::GiveBack(list) => {
                assert_eq!(list.tokens, [1]);
                slots = 0;
            }
            other => panic!("{other:?}"),
        }
    }
    let mut ended: Vec<_> = ended.into_iter().map(|one| one.delivery_id).collect();
    let mut begun: Vec<_> = begun.into_iter().map(|one| one.delivery_id).collect();
    ended.sort();
    begun.sort();
    assert_eq!(ended, begun);
    assert_eq!(sink.taken().len(), 3);
    world.end().await;
}
