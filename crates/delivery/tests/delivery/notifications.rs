//! When a DSN is made, and when none is.

use std::time::Duration;

use postrider_nameserver::Zones;
use postrider_protocol::queue_v1::dialogue_line::From;
use postrider_protocol::queue_v1::{Completion, LeasedDelivery, OutcomeKind, body, worker_frame};

use crate::kit::queue::{FakeQueue, delivery};
use crate::kit::sink::USUAL;
use crate::kit::world::{host, until};
use crate::kit::{Say, Sink, World};

const CONTENT: &str = "Subject: x\r\n\r\ntext\r\n";

/// Takes everybody but `later@` and `no@`.
async fn sink() -> Sink {
    Sink::start("127.0.0.1", 0, USUAL, |line| match line.text {
        text if text.starts_with("RCPT TO:<later@") => Say::Reply("450 4.2.0 Greylisted"),
        text if text.starts_with("RCPT TO:<no@") => Say::Reply("550 5.1.1 No such user"),
        _ => Say::Usual,
    })
    .await
}

fn late(recipients: &[&str]) -> LeasedDelivery {
    LeasedDelivery {
        delay_warning_due: true,
        expires_us: 1_795_600_800_000_000,
        ..delivery(recipients, CONTENT)
    }
}

async fn attempt(world: &World, delivery: LeasedDelivery) -> Completion {
    world.queue.deliver(vec![delivery]);
    world.queue.completion().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_is_told_once_and_only_if_there_is_one() {
    let sink = sink().await;
    let world = World::with(&sink).await;
    world.queue.grant(1, "smtp:there.test", 1);

    let told = attempt(&world, late(&["later@there.test", "a@there.test"])).await;
    assert!(told.delay_warned);
    let [dsn] = told.dsn.as_slice() else {
        panic!("{told:?}");
    };
    let body = dsn.body.as_ref().unwrap().content.clone().unwrap();
    let text = format!("{body:?}");
    assert!(text.contains("Action: delayed") && text.contains("Will-Retry-Until:"));

    let taken = attempt(&world, late(&["a@there.test"])).await;
    assert!(!taken.delay_warned && taken.dsn.is_empty());

    let early = attempt(&world, delivery(&["later@there.test"], CONTENT)).await;
    assert!(!early.delay_warned && early.dsn.is_empty());

    // Nobody wants to know: nobody is asked again.
    let mut silent = late(&["later@there.test"]);
    silent.envelope.as_mut().unwrap().recipients[0].dsn_notify = 4;
    let silent = attempt(&world, silent).await;
    assert!(silent.delay_warned && silent.dsn.is_empty());

    let mut bounce = late(&["later@there.test"]);
    bounce.envelope.as_mut().unwrap().reverse_path = String::new();
    let bounce = attempt(&world, bounce).await;
    assert!(bounce.delay_warned && bounce.dsn.is_empty());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_bounces_to_one_address_is_cut() {
    let sink = sink().await;
    let mut zones = Zones::default();
    host(
        &mut zones,
        "there.test",
        10,
        "mx.there.test",
        [127, 0, 0, 1],
    );
    let world = World::start(zones, sink.address.port(), |config| config.dsn.limit = 2).await;
    world.queue.grant(1, "smtp:there.test", 1);
    for number in 0..4 {
        let completion = attempt(&world, delivery(&["no@there.test"], CONTENT)).await;
        let told = completion.attempt.unwrap();
        assert_eq!(told.outcomes[0].kind(), OutcomeKind::Failed, "either way");
        assert_eq!(completion.dsn.len(), usize::from(number < 2));
        let last = told.dialogue.last().unwrap();
        let withheld = last.from() == From::Note && last.text.contains("no notification is sent");
        assert_eq!(withheld, number >= 2, "{last:?}");
    }
    // Another sender hears of it.
    let mut other = delivery(&["no@there.test"], CONTENT);
    other.envelope.as_mut().unwrap().reverse_path = "carol@here.test".to_owned();
    assert_eq!(attempt(&world, other).await.dsn.len(), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_does_not_wait_for_the_original() {
    let sink = sink().await;
    let world = World::stopping_within(&sink, Duration::from_millis(300)).await;
    world.queue.grant(1, "smtp:there.test", 1);
    let mut refused = delivery(&["no@there.test"], CONTENT);
    refused.body.as_mut().unwrap().content = Some(body::Content::Stored(FakeQueue::STUCK.into()));
    world.queue.deliver(vec![refused]);
    until("it is refused", || {
        sink.commands().iter().any(|c| c.starts_with("RCPT"))
    })
    .await;
    world.stop.cancel();
    let told = loop {
        match world.queue.told().await {
            worker_frame::Frame::Completions(mut batch) => break batch.completions.remove(0),
            worker_frame::Frame::Drain(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        told.attempt.unwrap().outcomes[0].kind(),
        OutcomeKind::Failed
    );
    assert_eq!(told.dsn.len(), 1);
    world.end().await;
}
