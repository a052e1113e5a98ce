//! Content reaches the other side as it was.

use bytes::Bytes;
use postrider_protocol::Status;
use postrider_protocol::queue_v1::{Body, OutcomeKind, body};

use crate::kit::queue::delivery;
use crate::kit::sink::USUAL;
use crate::kit::{Say, Sink, World};

#[tokio::test(flavor = "multi_thread")]
async fn dots_and_eight_bits_arrive_unchanged() {
    let sink = Sink::willing("127.0.0.1").await;
    let world = World::with(&sink).await;
    world.queue.grant(1, "smtp:there.test", 1);
    let content = "Subject: dots\r\n\r\n.\r\n..\r\n.x\r\nx.\r\n\r\nG\u{fc}te\r\n.\r\n";
    world
        .queue
        .deliver(vec![delivery(&["alice@there.test"], content)]);
    let attempt = world.queue.completion().await.attempt.unwrap();
    assert_eq!(attempt.outcomes[0].kind(), OutcomeKind::Delivered);
    let taken = sink.taken().remove(0);
    assert_eq!(taken.content(), content.as_bytes());
    assert!(
        taken
            .wire
            .starts_with(b"Subject: dots\r\n\r\n..\r\n...\r\n..x\r\n")
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_bodies_are_streamed() {
    let sink = Sink::willing("127.0.0.1").await;
    let world = World::with(&sink).await;
    world.queue.grant(1, "smtp:there.test", 1);
    let line = format!("{}\r\n", ".".repeat(70));
    let content = line.repeat(60_000);
    let pieces = content
        .as_bytes()
        .chunks(100_001)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    world.queue.store("large", pieces);
    let mut large = delivery(&["alice@there.test"], "");
    large.body = Some(Body {
        size: content.len() as u64,
        content: Some(body::Content::Stored("large".to_owned())),
    });
    world.queue.deliver(vec![large]);
    let attempt = world.queue.completion().await.attempt.unwrap();
    assert_eq!(attempt.outcomes[0].kind(), OutcomeKind::Delivered);
    assert!(sink.taken().remove(0).content() == content.as_bytes());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_broken_body_is_deferred_and_never_delivered_in_part() {
    let sink = Sink::willing("127.0.0.1").await;
    let world = World::with(&sink).await;
    world.queue.grant(1, "smtp:there.test", 1);
    let half = || Ok(Bytes::from_static(b"Subject: half\r\n\r\nhalf"));
    // Far more than is held back, so that the server has some of it already.
    let much = || Ok(Bytes::from(vec![b'x'; 300_000]));
    let broken = || Err(Status::data_loss("disk"));
    for (name, pieces, begun) in [
        ("missing", None, false),
        ("broken", Some(vec![half(), broken()]), true),
        ("broken late", Some(vec![half(), much(), broken()]), true),
        ("short", Some(vec![half()]), true),
        ("long", Some(vec![half(), much(), much()]), true),
        ("empty", Some(vec![]), true),
    ] {
        if let Some(pieces) = pieces {
            world.queue.store(name, pieces);
        }
        let before = sink.commands().len();
        let mut bad = delivery(&["alice@there.test"], "");
        bad.body = Some(Body {
            size: 400_000,
            content: Some(body::Content::Stored(name.to_owned())),
        });
        world.queue.deliver(vec![bad]);
        let completion = world.queue.completion().await;
        let outcome = &completion.attempt.as_ref().unwrap().outcomes[0];
        assert_eq!(outcome.kind(), OutcomeKind::Deferred, "{name}: {outcome:?}");
        assert_eq!(outcome.enhanced_status, "4.3.0", "{name}");
        assert!(!outcome.from_remote && outcome.reply_text.contains("cannot be read"));
        assert!(completion.dsn.is_empty());
        let said = &sink.commands()[before..];
        assert_eq!(said.contains(&"DATA".to_owned()), begun, "{name}: {said:?}");
    }
    assert!(sink.taken().is_empty());
    // The slot is good for the next message.
    world
        .queue
        .deliver(vec![delivery(&["alice@there.test"], "x\r\n")]);
    let attempt = world.queue.completion().await.attempt.unwrap();
    assert_eq!(attempt.outcomes[0].kind(), OutcomeKind::Delivered);
    assert_eq!(sink.taken().len(), 1);
    world.end().await;
    let quits = sink.commands().iter().filter(|c| *c == "QUIT").count();
    assert_eq!(quits, 1, "only the last is left in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_refused_is_told_although_the_body_is_missing() {
    let sink = Sink::start("127.0.0.1", 0, USUAL, |line| match line.text {
        text if text.starts_with("RCPT TO:<no@") => Say::Reply("550 5.1.1 No such user"),
        _ => Say::Usual,
    })
    .await;
    let world = World::with(&sink).await;
    world.queue.grant(1, "smtp:there.test", 1);
    world
        .queue
        .store("broken", vec![Err(Status::data_loss("disk"))]);
    let mut bad = delivery(&["no@there.test", "alice@there.test"], "");
    bad.body = Some(Body {
        size: 10,
        content: Some(body::Content::Stored("broken".to_owned())),
    });
    world.queue.deliver(vec![bad]);
    let attempt = world.queue.completion().await.attempt.unwrap();
    let kinds: Vec<_> = attempt.outcomes.iter().map(|one| one.kind()).collect();
    assert_eq!(kinds, [OutcomeKind::Failed, OutcomeKind::Deferred]);
    world.end().await;
}
