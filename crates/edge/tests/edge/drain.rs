//! Stopping: gentle, and in time.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use postrider_config::values::Period;
use postrider_edge::Role;

use super::support::{Trouble, World, config};

#[tokio::test]
async fn idle_sessions_are_told_and_new_ones_not_taken() {
    let world = World::new().await;
    let mut greeted = world.greeted(Role::Mx).await;
    let mut idle = world.mx().await;
    let mut submitting = world.bob().await;
    let address = world.address(Role::Mx);
    world.stop();
    for client in [&mut greeted, &mut idle, &mut submitting] {
        client.expect("421 4.3.2").await;
        client.expect_end().await;
    }
    drop((greeted, idle, submitting));
    world.stopped().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

/// One thread: what waits at the listeners when the stop comes was not accepted before.
#[tokio::test]
async fn connections_that_wait_to_be_accepted_are_told() {
    let world = World::new().await;
    let mut waiting: Vec<_> = (0..20).map(|_| world.connect_unnoticed(Role::Mx)).collect();
    world.stop();
    for client in &mut waiting {
        client.expect("220").await;
        client.expect("421 4.3.2").await;
        client.expect_clean_end().await;
    }
    drop(waiting);
    world.stopped().await;
}

#[tokio::test]
async fn a_transaction_is_finished_first() {
    let world = World::new().await;
    let mut client = world.mx().await;
    client.say("MAIL FROM:<a@b.example>", "250").await;
    let mut in_content = world.mx().await;
    in_content.begin("c@d.example", "alice@here.test").await;
    in_content.send("Subject: half").await;
    world.stop();
    tokio::time::sleep(Duration::from_millis(200)).await;
    in_content.say(" and half\r\n\r\n.", "250 2.0.0").await;
    in_content.expect("421 4.3.2").await;
    in_content.expect_clean_end().await;
    client.say("RCPT TO:<alice@here.test>", "250").await;
    client.say("DATA", "354").await;
    client.say("Subject: x\r\n\r\n.", "250 2.0.0").await;
    client.expect("421 4.3.2").await;
    client.expect_clean_end().await;
    drop((client, in_content));
    let queue = world.queue.clone();
    world.stopped().await;
    assert_eq!(queue.messages().len(), 2);
}

#[tokio::test]
async fn who_pipelines_without_end_is_told_after_a_message() {
    const GROUP: &str = "MAIL FROM:<a@b.example>\r\nRCPT TO:<alice@here.test>\r\nDATA\r\n";
    let world = World::new().await;
    let mut client = world.mx().await;
    client.send(GROUP).await;
    for reply in ["250", "250", "354"] {
        client.expect(reply).await;
    }
    // Every write ends a message and begins the next.
    let next = format!("Subject: x\r\n\r\n.\r\n{GROUP}");
    client.send(&next).await;
    for reply in ["250 2.0.0", "250", "250", "354"] {
        client.expect(reply).await;
    }
    world.stop();
    client.send(&next).await;
    client.expect("250 2.0.0").await;
    client.expect("421 4.3.2").await;
    client.expect_clean_end().await;
    drop(client);
    let queue = world.queue.clone();
    world.stopped().await;
    assert_eq!(queue.messages().len(), 2);
}

#[tokio::test]
async fn who_takes_too_long_is_told_when_the_drain_ends() {
    let mut config = config();
    config.drain_timeout = Period(Duration::from_millis(400));
    let world = World::with(config).await;
    let mut in_content = world.mx().await;
    in_content.begin("c@d.example", "alice@here.test").await;
    in_content.send("Subject: half").await;
    let mut in_transaction = world.mx().await;
    in_transaction.say("MAIL FROM:<a@b.example>", "250").await;
    let began = Instant::now();
    world.stop();
    for client in [&mut in_content, &mut in_transaction] {
        client.expect("421 4.3.2").await;
        client.expect_clean_end().await;
    }
    assert!(began.elapsed() >= Duration::from_millis(350));
    drop((in_content, in_transaction));
    let queue = world.queue.clone();
    world.stopped().await;
    assert!(queue.messages().is_empty());
}

#[tokio::test]
async fn content_that_has_arrived_always_gets_its_reply() {
    let mut config = config();
    config.drain_timeout = Period(Duration::from_millis(100));
    let world = World::with(config).await;
    world.queue.will(Trouble::Late(Duration::from_millis(800)));
    let mut client = world.mx().await;
    client.begin("c@d.example", "alice@here.test").await;
    client.send("Subject: x\r\n\r\n.\r\n").await;
    while world.queue.calls.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.stop();
    client.expect("250 2.0.0").await;
    client.expect("421 4.3.2").await;
    client.expect_clean_end().await;
    drop(client);
    let queue = world.queue.clone();
    world.stopped().await;
    assert_eq!(queue.messages().len(), 1);
}

#[tokio::test]
async fn a_steady_stream_does_not_outlast_the_drain() {
    let mut config = config();
    config.drain_timeout = Period(Duration::from_millis(300));
    let world = World::with(config).await;
    let mut client = world.mx().await;
    client.begin("c@d.example", "alice@here.test").await;
    let block = "a line that is followed by another\r\n".repeat(100);
    let began = Instant::now();
    let stream = tokio::spawn(async move {
        while client.try_send(&block).await.is_ok() {
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "still listened to"
            );
            tokio::task::yield_now().await;
        }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.stop();
    let queue = world.queue.clone();
    world.stopped().await;
    stream.await.unwrap();
    assert!(queue.messages().is_empty());
}

#[tokio::test]
async fn a_handshake_does_not_outlast_the_drain() {
    let mut config = config();
    config.drain_timeout = Period(Duration::from_millis(200));
    let world = World::with(config).await;
    let mut implicit = world.connect(Role::Submissions).await;
    let mut starting = world.mx().await;
    starting.say("STARTTLS", "220").await;
    world.stop();
    implicit.expect_some_end().await;
    starting.expect_some_end().await;
    world.stopped().await;
}
