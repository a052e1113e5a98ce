//! TLS: STARTTLS and implicit, and those who get it wrong.

use std::time::Duration;

use postrider_config::values::Period;
use postrider_edge::Role;

use super::support::{World, config, plain_auth};

#[tokio::test]
async fn starttls_is_offered_and_changes_the_trace_line() {
    let world = World::new().await;
    let mut client = world.mx().await;
    let offer = client.say("EHLO client.example", "250").await;
    assert!(
        offer.contains("250-STARTTLS") || offer.contains("250 STARTTLS"),
        "{offer}"
    );
    assert!(!offer.contains("AUTH"), "{offer}");
    client.say("STARTTLS", "220").await;
    let mut client = client.tls().await;
    // The client begins anew (RFC 3207 section 4.2).
    client.say("MAIL FROM:<a@b.example>", "503").await;
    let offer = client.say("EHLO client.example", "250").await;
    assert!(!offer.contains("STARTTLS"), "{offer}");
    client
        .send_message("alice@here.test", "Subject: x\r\n\r\n")
        .await;
    let message = world.queue.message();
    assert_eq!(message.origin.as_ref().unwrap().tls, "TLSv1.3");
    let content = String::from_utf8(world.queue.content(&message)).unwrap();
    assert!(content.contains(" with ESMTPS id "), "{content}");
}

#[tokio::test]
async fn what_was_injected_before_the_handshake_is_dropped() {
    let world = World::new().await;
    let mut client = world.mx().await;
    client
        .send("STARTTLS\r\nEHLO injected.example\r\nMAIL FROM:<evil@b.example>\r\n")
        .await;
    client.expect("220").await;
    let mut client = client.tls().await;
    // No reply to what was injected waits here.
    client.say("NOOP", "250").await;
    client.say("RCPT TO:<alice@here.test>", "503").await;
    client.say("EHLO client.example", "250").await;
    client
        .send_message("alice@here.test", "Subject: x\r\n\r\n")
        .await;
    let message = world.queue.message();
    assert_eq!(message.origin.unwrap().client_name, "client.example");
}

#[tokio::test]
async fn submissions_begins_with_tls() {
    let world = World::new().await;
    let mut bob = world.bob().await;
    bob.send_message("carol@example.org", "Subject: x\r\n\r\n")
        .await;
    let message = world.queue.message();
    let origin = message.origin.clone().unwrap();
    assert_eq!(origin.role, "submissions");
    assert_eq!(origin.account, "bob@here.test");
    let content = String::from_utf8(world.queue.content(&message)).unwrap();
    assert!(content.contains(" with ESMTPSA id "), "{content}");
}

#[tokio::test]
async fn a_plain_client_on_the_tls_port_gets_a_clean_end() {
    let world = World::new().await;
    let mut client = world.connect(Role::Submissions).await;
    client
        .send("EHLO client.example\r\nMAIL FROM:<a@b.example>\r\n")
        .await;
    // What comes, if anything, is a TLS alert.
    client.expect_some_end().await;
    world.assert_serves().await;
}

#[tokio::test]
async fn a_silent_client_on_the_tls_port_is_not_waited_for() {
    let mut config = config();
    config.timeouts.tls_handshake = Period(Duration::from_millis(300));
    let world = World::with(config).await;
    let mut client = world.connect(Role::Submissions).await;
    client.expect_some_end().await;
}

#[tokio::test]
async fn a_tls_client_on_the_plain_port_is_told() {
    let world = World::new().await;
    for role in [Role::Mx, Role::Submission] {
        let mut client = world.greeted(role).await;
        let hello = [&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &[0xa5; 506]].concat();
        client.send(hello).await;
        client.expect("554 5.5.1").await;
        client.expect_clean_end().await;
    }
    let real = world.connect(Role::Mx).await.try_tls().await;
    assert!(real.is_err());
    world.assert_serves().await;
}

#[tokio::test]
async fn a_broken_handshake_after_starttls_ends_the_session() {
    let world = World::new().await;
    let mut client = world.mx().await;
    client.say("STARTTLS", "220").await;
    client.send("MAIL FROM:<a@b.example>\r\n").await;
    client.expect_some_end().await;
    world.assert_serves().await;
}

#[tokio::test]
async fn submission_wants_tls_before_anything_that_matters() {
    let world = World::new().await;
    let mut client = world.greeted(Role::Submission).await;
    let offer = client.say("EHLO laptop", "250").await;
    assert!(!offer.contains("AUTH"), "{offer}");
    client.say("MAIL FROM:<bob@here.test>", "530 5.7.0").await;
    // A client that sends its password in clear is not told whether it is right.
    let reply = client
        .say(&plain_auth("bob@here.test", "secret-of-bob"), "5")
        .await;
    assert!(!reply.starts_with("535"), "{reply}");
    client.say("STARTTLS", "220").await;
    let mut client = client.tls().await;
    client.say("EHLO laptop", "250").await;
    client.say("MAIL FROM:<bob@here.test>", "530 5.7.0").await;
    client
        .say(&plain_auth("bob@here.test", "secret-of-bob"), "235")
        .await;
    client
        .send_message("carol@example.org", "Subject: x\r\n\r\n")
        .await;
}
