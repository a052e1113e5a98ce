//! The content: what is added, and that nothing else changes, at any size.

use std::sync::atomic::Ordering;
use std::time::Duration;

use postrider_config::values::{Period, Size};
use postrider_edge::EdgeConfig;
use postrider_protocol::queue_v1::body::Content;

use super::support::{World, config};

/// The content without the Received line that was added in front of it.
fn without_trace_line(content: &[u8]) -> &[u8] {
    let text = String::from_utf8_lossy(content);
    assert!(text.starts_with("Received: from "), "{text:.200}");
    let mut end = 0;
    loop {
        end += content[end..]
            .windows(2)
            .position(|pair| pair == b"\r\n")
            .unwrap()
            + 2;
        if content[end..].first() != Some(&b'\t') {
            return &content[end..];
        }
    }
}

/// Text of so many octets, each line different, some beginning with dots.
fn text(octets: usize) -> Vec<u8> {
    let mut text = b"Subject: large\r\n\r\n".to_vec();
    let mut line = 0_u64;
    while text.len() < octets {
        let dots = ["", ".", "..", "...."][(line % 4) as usize];
        text.extend_from_slice(format!("{dots}line {line} of a large message\r\n").as_bytes());
        line += 1;
    }
    text
}

fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    postrider_smtp::data::DotStuffer::new().encode(content, &mut wire);
    wire
}

#[tokio::test]
async fn content_goes_through_octet_for_octet() {
    let world = World::new().await;
    let mut client = world.mx().await;
    let content = b"Subject: x\r\nX: \xff\xfe\r\n\r\n.\r\n..\r\n.leading dot\r\n\xc3\xa9\x00\x1b\r\n \r\n\r\n";
    client.begin("a@b.example", "alice@here.test").await;
    client.send(stuffed(content)).await;
    client.send(".\r\n").await;
    client.expect("250 2.0.0").await;
    let message = world.queue.message();
    let stored = world.queue.content(&message);
    assert_eq!(without_trace_line(&stored), content);
    assert_eq!(message.body.unwrap().size, stored.len() as u64);
}

#[tokio::test]
async fn the_trace_line_names_the_message() {
    let world = World::new().await;
    let mut client = world.mx().await;
    let id = client
        .send_message("alice@here.test", "Subject: x\r\n\r\n")
        .await;
    let stored = world.queue.content(&world.queue.message());
    let stored = String::from_utf8(stored).unwrap();
    let start = format!(
        "Received: from client.example ([127.0.0.1])\r\n\tby mx.here.test with ESMTP id {id}\r\n\
         \tfor <alice@here.test>;\r\n\t"
    );
    assert!(stored.starts_with(&start), "{stored}");
}

#[tokio::test]
async fn mx_mail_is_not_completed_and_submitted_mail_is() {
    let world = World::new().await;
    let mut client = world.mx().await;
    client
        .send_message("alice@here.test", "Subject: x\r\n\r\nbody\r\n")
        .await;
    let message = world.queue.messages().pop().unwrap();
    let stored = world.queue.content(&message);
    assert_eq!(without_trace_line(&stored), b"Subject: x\r\n\r\nbody\r\n");
    assert_eq!(message.message_id, "");

    let mut bob = world.bob().await;
    bob.send_message("alice@here.test", "Subject: x\r\n\r\nbody\r\n")
        .await;
    let message = world.queue.messages().pop().unwrap();
    let stored = String::from_utf8(world.queue.content(&message)).unwrap();
    let added = format!("\r\nMessage-ID: <{}@mx.here.test>\r\n", message.queue_id);
    assert!(
        stored.contains("\r\nDate: ") && stored.contains(&added),
        "{stored}"
    );
    assert!(
        stored.ends_with("\r\nSubject: x\r\n\r\nbody\r\n"),
        "{stored}"
    );
    assert_eq!(
        message.message_id,
        format!("{}@mx.here.test", message.queue_id)
    );
}

#[tokio::test]
async fn a_message_without_header_section_gets_the_empty_line_too() {
    let world = World::new().await;
    let mut client = world.mx().await;
    client
        .send_message("alice@here.test", "just text\r\n")
        .await;
    let stored = world.queue.content(&world.queue.message());
    assert_eq!(without_trace_line(&stored), b"\r\njust text\r\n");
}

#[tokio::test]
async fn an_empty_message_is_a_message() {
    let world = World::new().await;
    let mut client = world.mx().await;
    client.send_message("alice@here.test", "").await;
    let stored = world.queue.content(&world.queue.message());
    assert_eq!(without_trace_line(&stored), b"");
}

#[tokio::test]
async fn small_goes_inline_and_large_is_streamed() {
    let world = World::with(EdgeConfig {
        inline_body: Size::kib(16),
        ..config()
    })
    .await;
    let mut client = world.mx().await;
    for octets in [100, 16_000, 16_384, 17_000, 40_000, 3_000_000] {
        let content = text(octets);
        client.begin("a@b.example", "alice@here.test").await;
        client.send(stuffed(&content)).await;
        client.send(".\r\n").await;
        client.expect("250 2.0.0").await;
        let message = world.queue.messages().pop().unwrap();
        let stored = world.queue.content(&message);
        assert!(without_trace_line(&stored) == content, "{octets} octets");
        let body = message.body.unwrap();
        assert_eq!(body.size, stored.len() as u64);
        let is_inline = matches!(body.content, Some(Content::Inline(_)));
        assert_eq!(is_inline, content.len() <= 16_384, "{octets} octets");
    }
}

#[tokio::test]
async fn chunks_of_bdat_are_one_message() {
    let world = World::with(EdgeConfig {
        inline_body: Size::kib(16),
        ..config()
    })
    .await;
    let mut client = world.mx().await;
    let content = text(100_000);
    client.say("MAIL FROM:<a@b.example>", "250").await;
    client.say("RCPT TO:<alice@here.test>", "250").await;
    for chunk in content.chunks(7_777) {
        client.send(format!("BDAT {}\r\n", chunk.len())).await;
        client.send(chunk).await;
        client.expect("250").await;
    }
    client.say("BDAT 0 LAST", "250 2.0.0").await;
    let stored = world.queue.content(&world.queue.message());
    assert!(without_trace_line(&stored) == content);
}

#[tokio::test]
async fn a_slow_store_slows_the_client_down() {
    let world = World::with(EdgeConfig {
        inline_body: Size::kib(64),
        ..config()
    })
    .await;
    let gate = world.queue.close_gate();
    let mut client = world.mx().await;
    let content = text(40_000_000);
    client.begin("a@b.example", "alice@here.test").await;
    let wire = stuffed(&content);
    let sending = tokio::spawn(async move {
        client.send(wire).await;
        client.send(".\r\n").await;
        client
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    // The store has taken nothing, so the client is stuck after what the sockets' buffers hold.
    assert_eq!(world.queue.streamed.load(Ordering::SeqCst), 0);
    assert!(!sending.is_finished());
    gate.add_permits(1_000_000);
    let mut client = sending.await.unwrap();
    client.expect("250 2.0.0").await;
    let stored = world.queue.content(&world.queue.message());
    assert!(without_trace_line(&stored) == content);
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_leaves_nothing() {
    let world = World::new().await;
    let mut client = world.mx().await;
    client.begin("a@b.example", "alice@here.test").await;
    client.send(text(1_000_000)).await;
    drop(client);
    for _ in 0..200 {
        if world.queue.broken_bodies.load(Ordering::SeqCst) == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.queue.broken_bodies.load(Ordering::SeqCst), 1);
    assert!(world.queue.messages().is_empty());
    world.assert_serves().await;
}

#[tokio::test]
async fn a_chunk_may_take_longer_than_a_command() {
    let mut config = config();
    config.timeouts.command = Period(Duration::from_millis(500));
    let world = World::with(config).await;
    let mut client = world.mx().await;
    client.say("MAIL FROM:<a@b.example>", "250").await;
    client.say("RCPT TO:<alice@here.test>", "250").await;
    client.send("BDAT 30\r\n").await;
    for _ in 0..10 {
        client.send("x\r\n").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    client.expect("250").await;
    client.say("BDAT 0 LAST", "250 2.0.0").await;
}
