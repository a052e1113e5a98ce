//! Reuse, limits, idling, draining.

use std::time::{Duration, Instant};

use postrider_config::values::Period;
use postrider_nameserver::Zones;
use postrider_protocol::queue_v1::{LeaseList, OutcomeKind, queue_frame};

use crate::kit::queue::delivery;
use crate::kit::sink::USUAL;
use crate::kit::world::{host, until};
use crate::kit::{Say, Sink, World, sink};

const CONTENT: &str = "Subject: x\r\n\r\ntext\r\n";

fn zones() -> Zones {
    let mut zones = Zones::default();
    host(
        &mut zones,
        "there.test",
        10,
        "mx.there.test",
        [127, 0, 0, 1],
    );
    zones
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_carries_one_message_after_another() {
    let sink = Sink::willing("127.0.0.1").await;
    let world = World::with(&sink).await;
    world.queue.grant(1, "smtp:there.test", 4);
    for number in 0..20 {
        world
            .queue
            .deliver(vec![delivery(&["alice@there.test"], CONTENT)]);
        let attempt = world.queue.completion().await.attempt.unwrap();
        assert_eq!(attempt.outcomes[0].kind(), OutcomeKind::Delivered);
        assert_eq!(attempt.remote_host, "mx.there.test");
        assert_eq!(attempt.remote_address, "127.0.0.1");
        let said: Vec<_> = attempt
            .dialogue
            .iter()
            .map(|line| line.text.as_str())
            .collect();
        assert_eq!(said[0].starts_with("connected to"), number == 0, "{said:?}");
        assert_eq!(said[0].contains("reused"), number > 0, "{said:?}");
        assert!(said.contains(&"MAIL FROM:<bob@here.test>"), "{said:?}");
        assert!(
            !said.iter().any(|line| line.contains("text")),
            "no content: {said:?}"
        );
    }
    assert_eq!((sink.connections(), sink.taken().len()), (1, 20));
    assert!(!sink.commands().iter().any(|command| command == "RSET"));
    world.end().await;
    assert_eq!(sink.commands().last().unwrap(), "QUIT");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_messages_use_the_slots_granted_and_no_more() {
    let sink = Sink::willing("127.0.0.1").await;
    let world = World::start(zones(), sink.address.port(), |config| {
        config.messages_per_connection = 10;
    })
    .await;
    world.queue.grant(1, "smtp:there.test", 3);
    let many = (0..200)
        .map(|_| delivery(&["alice@there.test"], CONTENT))
        .collect();
    world.queue.deliver(many);
    world.queue.completions(200).await;
    assert_eq!(sink.taken().len(), 200);
    assert_eq!(sink.most_open(), 3);
    let mut carried = vec![0; sink.connections()];
    for taken in sink.taken() {
        carried[taken.connection] += 1;
    }
    assert!(
        carried.iter().all(|messages| *messages <= 10),
        "{carried:?}"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_connection_is_used_at_once() {
    let sink = Sink::willing("127.0.0.1").await;
    let world = World::with(&sink).await;
    world.queue.grant(1, "smtp:there.test", 1);
    world
        .queue
        .deliver(vec![delivery(&["alice@there.test"], CONTENT)]);
    world.queue.completion().await;
    let mut best = Duration::MAX;
    for _ in 0..50 {
        let begun = Instant::now();
        world
            .queue
            .deliver(vec![delivery(&["alice@there.test"], CONTENT)]);
        world.queue.completion().await;
        best = best.min(begun.elapsed());
    }
    // The whole transaction; the bound only catches timers and Nagle's algorithm on the way.
    assert!(best < Duration::from_millis(20), "{best:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_close_and_the_lease_goes_back() {
    let sink = Sink::willing("127.0.0.1").await;
    let world = World::start(zones(), sink.address.port(), |config| {
        config.idle = Period(Duration::from_millis(50));
    })
    .await;
    world.queue.grant(1, "smtp:there.test", 2);
    world
        .queue
        .deliver(vec![delivery(&["alice@there.test"], CONTENT)]);
    world.queue.completion().await;
    assert_eq!(world.queue.given_back().await, [1]);
    until("the connection is closed", || sink.open() == 0).await;
    assert_eq!(sink.commands().last().unwrap(), "QUIT");
    world.end().await;
}

/// More slots were granted, and deliveries sent, before the queue knew that the lease went back. What
/// was sent is due again, and the slots are free: they may be another worker's.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_crosses_with_its_lease_on_the_way_back_is_none() {
    let sink = Sink::willing("127.0.0.1").await;
    let world = World::start(zones(), sink.address.port(), |config| {
        config.idle = Period(Duration::from_millis(50));
    })
    .await;
    for (token, crosses) in [(1, true), (2, false)] {
        world.queue.grant(token, "smtp:there.test", 1);
        let mut first = delivery(&["alice@there.test"], CONTENT);
        first.token = token;
        world.queue.deliver(vec![first]);
        world.queue.completion().await;
        if crosses {
            assert_eq!(world.queue.given_back().await, [token]);
            world.queue.grant(token, "smtp:there.test", 2);
            let mut crossed = delivery(&["bob@there.test"], CONTENT);
            crossed.token = token;
            world.queue.deliver(vec![crossed]);
            // Or the queue's store did not take it back: then it would keep it for this worker.
            assert_eq!(world.queue.given_back().await, [token]);
        }
    }
    world.end().await;
    assert_eq!(sink.taken().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wanted_lease_goes_back_as_soon_as_it_is_idle() {
    let sink = Sink::willing("127.0.0.1").await;
    let world = World::start(zones(), sink.address.port(), |config| {
        config.idle = Period::seconds(600);
    })
    .await;
    world.queue.grant(1, "smtp:there.test", 2);
    world
        .queue
        .deliver(vec![delivery(&["alice@there.test"], CONTENT)]);
    world.queue.completion().await;
    let list = LeaseList { tokens: vec![1] };
    world.queue.send(queue_frame::Frame::WantedBack(list));
    assert_eq!(world.queue.given_back().await, [1]);
    until("the connection is closed", || sink.open() == 0).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_server_closed_meanwhile_is_replaced() {
    let sink = Sink::start("127.0.0.1", 0, sink::USUAL, |line| match line.text {
        // The first connection takes one message, then closes when it is to take another.
        "MAIL FROM:<bob@here.test>" if line.connection == 0 && line.message == 1 => Say::Close,
        _ => Say::Usual,
    })
    .await;
    let world = World::with(&sink).await;
    world.queue.grant(1, "smtp:there.test", 1);
    for _ in 0..2 {
        world
            .queue
            .deliver(vec![delivery(&["alice@there.test"], CONTENT)]);
        let attempt = world.queue.completion().await.attempt.unwrap();
        assert_eq!(attempt.outcomes[0].kind(), OutcomeKind::Delivered);
    }
    assert_eq!(sink.connections(), 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_transactions_end_and_gives_the_lease_back() {
    let sink = Sink::start("127.0.0.1", 0, sink::USUAL, |line| match line.text {
        "." => Say::Slowly(1000),
        _ => Say::Usual,
    })
    .await;
    let world = World::with(&sink).await;
    world.queue.grant(1, "smtp:there.test", 1);
    let waits = delivery(&["second@there.test"], CONTENT);
    let second = waits.delivery_id.clone();
    world
        .queue
        .deliver(vec![delivery(&["alice@there.test"], CONTENT), waits]);
    until("the first is under way", || {
        sink.commands().iter().any(|c| c == "DATA")
    })
    .await;
    world.stop.cancel();
    let mut drained = false;
    let (mut completed, mut returned) = (Vec::new(), Vec::new());
    loop {
        use postrider_protocol::queue_v1::worker_frame::Frame;
        match world.queue.told().await {
            Frame::Drain(_) => drained = true,
            Frame::PartialReturns(batch) => {
                assert!(completed.is_empty(), "at once");
                returned.extend(batch.returns);
            }
            Frame::Completions(batch) => completed.extend(batch.completions),
            Frame::GiveBack(list) => {
                assert_eq!(list.tokens, [1]);
                break;
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert!(drained);
    assert_eq!(completed.len(), 1, "what waited is not begun");
    assert_eq!(returned.len(), 1);
    assert_eq!(returned[0].delivery_ids, [second]);
    let attempt = completed[0].attempt.as_ref().unwrap();
    assert_eq!(attempt.outcomes[0].kind(), OutcomeKind::Delivered);
    world.end().await;
    assert_eq!(sink.taken().len(), 1);
    assert_eq!(sink.commands().last().unwrap(), "QUIT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_server_that_hangs() {
    let sink = Sink::start("127.0.0.1", 0, sink::USUAL, |line| match line.text {
        "DATA" => Say::Hang,
        _ => Say::Usual,
    })
    .await;
    let world = World::start(zones(), sink.address.port(), |config| {
        config.drain = Period(Duration::from_millis(200));
    })
    .await;
    world.queue.grant(1, "smtp:there.test", 1);
    world
        .queue
        .deliver(vec![delivery(&["alice@there.test"], CONTENT)]);
    until("it hangs", || sink.commands().iter().any(|c| c == "DATA")).await;
    let begun = Instant::now();
    world.end().await;
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stop_cuts_off_behind_the_dot_is_unknown() {
    let sink = Sink::start("127.0.0.1", 0, sink::USUAL, |line| match line.text {
        "." => Say::Hang,
        text if text.starts_with("RCPT TO:<no@") => Say::Reply("550 5.1.1 No such user"),
        _ => Say::Usual,
    })
    .await;
    let world = World::start(zones(), sink.address.port(), |config| {
        config.drain = Period(Duration::from_millis(200));
    })
    .await;
    world.queue.grant(1, "smtp:there.test", 1);
    let recipients = ["alice@there.test", "no@there.test", "bob@there.test"];
    world.queue.deliver(vec![delivery(&recipients, CONTENT)]);
    until("it hangs", || sink.commands().iter().any(|c| c == "DATA")).await;
    // The content follows at once.
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.stop.cancel();
    use postrider_protocol::queue_v1::worker_frame::Frame;
    let completion = loop {
        match world.queue.told().await {
            Frame::Completions(mut batch) => break batch.completions.remove(0),
            Frame::Drain(_) => {}
            other => panic!("the lease goes back after the completion: {other:?}"),
        }
    };
    let kinds: Vec<_> = completion.attempt.unwrap().outcomes;
    let kinds: Vec<_> = kinds.iter().map(|outcome| outcome.kind()).collect();
    assert_eq!(
        kinds,
        [
            OutcomeKind::Unknown,
            OutcomeKind::Failed,
            OutcomeKind::Unknown
        ]
    );
    assert_eq!(world.queue.given_back().await, [1]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stop_cuts_off_before_the_dot_is_due_again_at_once() {
    let sink = Sink::start("127.0.0.1", 0, sink::USUAL, |line| match line.text {
        "DATA" => Say::Hang,
        _ => Say::Usual,
    })
    .await;
    let world = World::start(zones(), sink.address.port(), |config| {
        config.drain = Period(Duration::from_millis(200));
    })
    .await;
    world.queue.grant(1, "smtp:there.test", 1);
    world
        .queue
        .deliver(vec![delivery(&["alice@there.test"], CONTENT)]);
    until("it hangs", || sink.commands().iter().any(|c| c == "DATA")).await;
    world.stop.cancel();
    // Without a completion: it is not counted as an attempt.
    assert_eq!(world.queue.given_back().await, [1]);
    world.end().await;
    assert_eq!(sink.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_comes_line_by_line_gains_no_time() {
    let sink = Sink::start("127.0.0.1", 0, USUAL, |line| {
        match line.text.starts_with("MAIL") {
            true => Say::Forever("250-and"),
            false => Say::Usual,
        }
    })
    .await;
    let time = Duration::from_millis(400);
    let world = World::changed(&sink, |config| config.timeouts.mail = Period(time)).await;
    let begun = Instant::now();
    world.queue.grant(1, "smtp:there.test", 1);
    world
        .queue
        .deliver(vec![delivery(&["alice@there.test"], CONTENT)]);
    let told = world.queue.completion().await;
    let outcome = &told.attempt.unwrap().outcomes[0];
    assert_eq!(outcome.kind(), OutcomeKind::Deferred);
    assert!(outcome.reply_text.contains("timed out"), "{outcome:?}");
    assert!(begun.elapsed() < time * 5, "{:?}", begun.elapsed());
    world.end().await;
}
