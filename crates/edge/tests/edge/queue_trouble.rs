//! The queue fails, in every way: 250 only for what is stored, and never two for one.

use std::sync::atomic::Ordering;
use std::time::Duration;

use postrider_config::values::Period;
use postrider_protocol::Status;
use postrider_protocol::queue_v1::enqueue_result;

use super::support::{Client, Trouble, World, config};

async fn try_message(client: &mut Client, reply: &str) {
    client.begin("a@b.example", "alice@here.test").await;
    client.say("Subject: x\r\n\r\n.", reply).await;
}

#[tokio::test]
async fn what_the_queue_cannot_store_is_not_accepted() {
    let world = World::new().await;
    let mut client = world.mx().await;
    world
        .queue
        .will(Trouble::Says(enqueue_result::Status::Unavailable));
    try_message(&mut client, "451 4.3.0").await;
    world
        .queue
        .will(Trouble::Says(enqueue_result::Status::Unspecified));
    try_message(&mut client, "451 4.3.0").await;
    world
        .queue
        .will(Trouble::Says(enqueue_result::Status::Invalid));
    try_message(&mut client, "554 5.6.0").await;
    world
        .queue
        .will(Trouble::Fails(Status::resource_exhausted("full")));
    try_message(&mut client, "451 4.3.0").await;
    world
        .queue
        .will(Trouble::Fails(Status::permission_denied("no")));
    try_message(&mut client, "451 4.3.0").await;
    assert!(world.queue.messages().is_empty());
    // None of these was worth another try, and the session is as good as before.
    assert_eq!(world.queue.calls.load(Ordering::SeqCst), 5);
    world
        .queue
        .will(Trouble::Says(enqueue_result::Status::AlreadyAccepted));
    try_message(&mut client, "250 2.0.0").await;
    try_message(&mut client, "250 2.0.0").await;
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_under_the_same_id() {
    let world = World::new().await;
    let mut client = world.mx().await;
    world.queue.will(Trouble::StoredButLost(Status::unavailable(
        "connection lost",
    )));
    world
        .queue
        .will(Trouble::Fails(Status::deadline_exceeded("slow")));
    try_message(&mut client, "250 2.0.0").await;
    assert_eq!(world.queue.calls.load(Ordering::SeqCst), 3);
    assert_eq!(world.queue.messages().len(), 1);
}

#[tokio::test]
async fn what_may_be_stored_is_asked_for_again_under_the_same_id() {
    let world = World::new().await;
    let mut client = world.mx().await;
    world.queue.will(Trouble::StoredUnconfirmed);
    // What another try is refused says nothing of the first.
    world
        .queue
        .will(Trouble::Says(enqueue_result::Status::Unavailable));
    try_message(&mut client, "250 2.0.0").await;
    assert_eq!(world.queue.calls.load(Ordering::SeqCst), 3);
    assert_eq!(world.queue.messages().len(), 1);
    for _ in 0..3 {
        world.queue.will(Trouble::StoredUnconfirmed);
    }
    try_message(&mut client, "451 4.3.0").await;
    assert_eq!(world.queue.calls.load(Ordering::SeqCst), 6);
    try_message(&mut client, "250 2.0.0").await;
}

#[tokio::test]
async fn a_queue_that_stays_away_is_not_asked_for_ever() {
    let world = World::new().await;
    let mut client = world.mx().await;
    for _ in 0..3 {
        world
            .queue
            .will(Trouble::Fails(Status::unavailable("away")));
    }
    try_message(&mut client, "451 4.3.0").await;
    assert_eq!(world.queue.calls.load(Ordering::SeqCst), 3);
    try_message(&mut client, "250 2.0.0").await;
}

#[tokio::test]
async fn a_queue_that_hangs_costs_the_client_a_451() {
    let mut config = config();
    config.timeouts.enqueue = Period(Duration::from_millis(300));
    let world = World::with(config).await;
    let mut client = world.mx().await;
    for _ in 0..3 {
        world.queue.will(Trouble::Hangs);
    }
    try_message(&mut client, "451 4.3.0").await;
    try_message(&mut client, "250 2.0.0").await;
}

#[tokio::test]
async fn a_client_that_leaves_while_its_message_is_stored_changes_nothing() {
    let world = World::new().await;
    let mut client = world.mx().await;
    world.queue.will(Trouble::Late(Duration::from_millis(300)));
    client.begin("a@b.example", "alice@here.test").await;
    client.send("Subject: x\r\n\r\n.\r\n").await;
    while world.queue.calls.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(client);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(world.queue.messages().len(), 1);
}

#[tokio::test]
async fn a_body_store_that_hangs_costs_the_client_a_451() {
    let mut config = config();
    config.timeouts.enqueue = Period(Duration::from_millis(300));
    let world = World::with(config).await;
    let gate = world.queue.close_gate();
    let mut client = world.mx().await;
    let large = "a line of a large message\r\n".repeat(50_000);
    client.begin("a@b.example", "alice@here.test").await;
    client.send(&large).await;
    client.say(".", "451 4.3.0").await;
    assert!(world.queue.messages().is_empty());
    gate.add_permits(1_000_000);
    client.begin("a@b.example", "alice@here.test").await;
    client.send(&large).await;
    client.say(".", "250 2.0.0").await;
    assert_eq!(world.queue.messages().len(), 1);
}
