//! Delivery into mailboxes of this system.

use bytes::Bytes;
use postrider_protocol::queue_v1::{Body, LeasedDelivery, OutcomeKind, body};

use crate::kit::queue::delivery;
use crate::kit::{Sink, World};

fn local(recipients: &[&str]) -> LeasedDelivery {
    let mut delivery = delivery(recipients, "Subject: x\r\n\r\ntext\r\n");
    delivery.destination = "mailbox:here.test".to_owned();
    delivery.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
    delivery
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mailbox_has_its_outcome() {
    let sink = Sink::willing("127.0.0.1").await;
    let world = World::with(&sink).await;
    world.queue.grant(1, "mailbox:here.test", 2);
    let message = local(&["alice@here.test", "full@here.test", "nobody@here.test"]);
    let delivery_id = message.delivery_id.clone();
    world.queue.deliver(vec![message]);
    let completion = world.queue.completion().await;
    let attempt = completion.attempt.unwrap();
    let found: Vec<_> = attempt
        .outcomes
        .iter()
        .map(|outcome| (outcome.kind(), outcome.enhanced_status.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (OutcomeKind::Delivered, "2.1.5"),
            (OutcomeKind::Deferred, "4.2.2"),
            (OutcomeKind::Failed, "5.1.1"),
        ]
    );
    assert_eq!(completion.dsn.len(), 1);
    let delivered = world.mailboxes.delivered.lock().await;
    let (header, content) = &delivered[0];
    assert_eq!(header.delivery_id, delivery_id);
    assert_eq!(content, b"Subject: x\r\n\r\ntext\r\n");
    // The same trace, another span.
    assert!(
        header
            .traceparent
            .contains("0af7651916cd43dd8448eb211c80319c")
    );
    drop(delivered);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_come_from_the_queue() {
    let sink = Sink::willing("127.0.0.1").await;
    let world = World::with(&sink).await;
    world.queue.grant(1, "mailbox:here.test", 1);
    let pieces = vec![
        Ok(Bytes::from_static(b"one")),
        Ok(Bytes::from_static(b"two")),
    ];
    world.queue.store("large", pieces);
    // However the break is called: it is no fault of the message.
    let broken = Err(postrider_protocol::Status::invalid_argument(
        "no such thing",
    ));
    let half = Ok(Bytes::from_static(b"half"));
    world.queue.store("broken", vec![half, broken]);
    for (name, kind) in [
        ("large", OutcomeKind::Delivered),
        ("lost", OutcomeKind::Deferred),
        ("broken", OutcomeKind::Deferred),
    ] {
        let mut message = local(&["alice@here.test"]);
        message.body = Some(Body {
            size: 6,
            content: Some(body::Content::Stored(name.to_owned())),
        });
        world.queue.deliver(vec![message]);
        let attempt = world.queue.completion().await.attempt.unwrap();
        assert_eq!(attempt.outcomes[0].kind(), kind, "{name}");
    }
    assert_eq!(world.mailboxes.delivered.lock().await[0].1, b"onetwo");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_costs_one_attempt_whose_outcome_is_unknown() {
    let sink = Sink::willing("127.0.0.1").await;
    let world = World::with(&sink).await;
    world.queue.grant(1, "mailbox:here.test", 1);
    for (recipient, kind) in [
        ("panic@here.test", OutcomeKind::Unknown),
        ("alice@here.test", OutcomeKind::Delivered),
    ] {
        world.queue.deliver(vec![local(&[recipient])]);
        let attempt = world.queue.completion().await.attempt.unwrap();
        assert_eq!(attempt.outcomes[0].kind(), kind);
    }
    world.end().await;
}
