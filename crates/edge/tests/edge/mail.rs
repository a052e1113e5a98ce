//! Mail comes in: what is accepted, what is refused, what the queue is handed.

use std::sync::atomic::Ordering;

use postrider_edge::Role;
use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::journey_event::What;
use postrider_protocol::queue_v1::{DsnReturn, dialogue_line};

use super::support::{World, trusting};

#[tokio::test]
async fn the_queue_is_handed_what_the_client_said() {
    let world = World::with(trusting()).await;
    let mut client = world.mx().await;
    client
        .say(
            "MAIL FROM:<Bob@Elsewhere.example> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=e+2Bid",
            "250 2.1.0",
        )
        .await;
    client
        .say(
            "RCPT TO:<alice@HERE.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;alice@here.test",
            "250 2.1.5",
        )
        .await;
    client.say("RCPT TO:<carol@Example.ORG>", "250 2.1.5").await;
    client.say("DATA", "354").await;
    client
        .send("Message-ID: <m1@elsewhere.example>\r\nSubject: x\r\n\r\n..dot\r\n.\r\n")
        .await;
    let reply = client.expect("250 2.0.0").await;
    client.say("QUIT", "221").await;
    client.expect_clean_end().await;

    let message = world.queue.message();
    assert!(message.queue_id.parse::<QueueId>().is_ok());
    assert!(reply.contains(&message.queue_id), "{reply}");
    assert_eq!(message.message_id, "m1@elsewhere.example");
    let envelope = message.envelope.as_ref().unwrap();
    assert_eq!(envelope.reverse_path, "Bob@Elsewhere.example");
    assert!(envelope.eight_bit_mime && !envelope.smtputf8);
    assert_eq!(envelope.dsn_envid, "e+2Bid");
    assert_eq!(envelope.dsn_return(), DsnReturn::Headers);
    let [alice, carol] = envelope.recipients.as_slice() else {
        panic!("{envelope:?}");
    };
    assert_eq!(alice.address, "alice@HERE.test");
    assert_eq!(alice.destination, "mailbox:here.test");
    assert_eq!(alice.dsn_orcpt, "rfc822;alice@here.test");
    assert_eq!(alice.dsn_notify, 2 | 8);
    assert_eq!(carol.destination, "smtp:example.org");
    assert_eq!(carol.dsn_notify, 0);
    let origin = message.origin.as_ref().unwrap();
    assert_eq!(origin.role, "mx");
    assert_eq!(origin.client_address, "127.0.0.1");
    assert_eq!(origin.client_name, "client.example");
    assert_eq!((origin.account.as_str(), origin.tls.as_str()), ("", ""));
    assert!(
        message.traceparent.starts_with("00-"),
        "{}",
        message.traceparent
    );
}

#[tokio::test]
async fn the_journey_begins_with_the_dialogue() {
    let world = World::new().await;
    let mut client = world.mx().await;
    for _ in 0..2 {
        client
            .send_message("alice@here.test", "Subject: x\r\n\r\nhidden words\r\n")
            .await;
    }
    let message = world.queue.messages().pop().unwrap();
    let event = message.events.first().unwrap();
    assert_eq!(event.instance, "edge@mx.here.test");
    assert!(event.time_us > 1_700_000_000_000_000);
    let Some(What::Received(received)) = &event.what else {
        panic!("{event:?}");
    };
    assert_eq!(received.origin, message.origin);
    let lines = received
        .dialogue
        .iter()
        .map(|line| (line.from(), line.text.as_str()))
        .collect::<Vec<_>>();
    let says = |who, start: &str| {
        lines
            .iter()
            .filter(|(from, text)| *from == who && text.starts_with(start))
            .count()
    };
    use dialogue_line::From::{Client, Server};
    // The session's opening, and this transaction only.
    assert_eq!(says(Server, "220 mx.here.test"), 1);
    assert_eq!(says(Client, "EHLO client.example"), 1);
    assert_eq!(says(Client, "MAIL FROM:<sender@elsewhere.example>"), 1);
    assert_eq!(says(Client, "DATA"), 1);
    assert_eq!(says(Server, "354"), 1);
    assert!(!lines.iter().any(|(_, text)| text.contains("hidden words")));
    let times = received.dialogue.iter().map(|line| line.at_us);
    assert!(times.is_sorted());
}

#[tokio::test]
async fn a_pipelined_group_is_answered_in_order() {
    let world = World::new().await;
    let mut client = world.mx().await;
    client
        .send(
            "MAIL FROM:<a@b.example>\r\nRCPT TO:<nobody@here.test>\r\n\
             RCPT TO:<alice@here.test>\r\nDATA\r\n",
        )
        .await;
    client.expect("250 2.1.0").await;
    client.expect("550 5.1.1").await;
    client.expect("250 2.1.5").await;
    client.expect("354").await;
    // The next transaction is pipelined behind the end of this one's content.
    client
        .send(
            "Subject: 1\r\n\r\n.\r\nMAIL FROM:<c@d.example>\r\nRCPT TO:<bob@here.test>\r\nDATA\r\n",
        )
        .await;
    client.expect("250 2.0.0").await;
    client.expect("250 2.1.0").await;
    client.expect("250 2.1.5").await;
    client.expect("354").await;
    client.send("Subject: 2\r\n\r\n.\r\nQUIT\r\n").await;
    client.expect("250 2.0.0").await;
    client.expect("221").await;
    client.expect_clean_end().await;
    assert_eq!(world.queue.messages().len(), 2);
}

#[tokio::test]
async fn commands_arrive_octet_by_octet() {
    let world = World::new().await;
    let mut client = world.mx().await;
    for octet in b"MAIL FROM:<a@b.example>\r\nRCPT TO:<alice@here.test>\r\nDATA\r\n" {
        client.send([*octet]).await;
    }
    client.expect("250").await;
    client.expect("250").await;
    client.expect("354").await;
    for octet in b"Subject: x\r\n\r\n..\r\n.\r\n" {
        client.send([*octet]).await;
    }
    client.expect("250 2.0.0").await;
    let content = world.queue.content(&world.queue.message());
    assert!(content.ends_with(b"\r\nSubject: x\r\n\r\n.\r\n"));
}

#[tokio::test]
async fn strangers_cannot_relay_and_unknown_recipients_are_refused_at_once() {
    let world = World::new().await;
    let mut client = world.mx().await;
    client.say("MAIL FROM:<a@b.example>", "250").await;
    client.say("RCPT TO:<carol@example.org>", "550 5.7.1").await;
    // Relaying in disguise.
    client
        .say("RCPT TO:<carol%example.org@here.test>", "550 5.1.1")
        .await;
    client
        .say("RCPT TO:<@here.test:carol@example.org>", "550 5.7.1")
        .await;
    client
        .say("RCPT TO:<\"carol@example.org\"@here.test>", "550 5.1.1")
        .await;
    assert_eq!(world.directory.lookups.load(Ordering::SeqCst), 2);
    client.say("RCPT TO:<nobody@here.test>", "550 5.1.1").await;
    client.say("RCPT TO:<full@here.test>", "452 4.2.2").await;
    client.say("DATA", "554").await;
    client.say("RCPT TO:<Postmaster>", "250").await;
    client.say("DATA", "354").await;
    client.say("Subject: x\r\n\r\n.", "250").await;
    let message = world.queue.message();
    let recipients = &message.envelope.as_ref().unwrap().recipients;
    assert_eq!(recipients.len(), 1);
    assert_eq!(recipients[0].address, "postmaster@here.test");
}

#[tokio::test]
async fn a_directory_that_is_away_refuses_nobody_for_good() {
    let world = World::new().await;
    world.directory.away.store(true, Ordering::SeqCst);
    let mut client = world.mx().await;
    client.say("MAIL FROM:<a@b.example>", "250").await;
    client.say("RCPT TO:<alice@here.test>", "451 4.3.0").await;
    world.directory.away.store(false, Ordering::SeqCst);
    client.say("RCPT TO:<alice@here.test>", "250").await;
}

#[tokio::test]
async fn a_message_that_runs_in_a_circle_is_stopped() {
    let world = World::new().await;
    let mut client = world.mx().await;
    let hop = "Received: from a by b; Thu, 1 Jan 1970 00:00:00 +0000\r\n";
    for (hops, reply) in [(100, "250 2.0.0"), (101, "554 5.4.6")] {
        client.begin("a@b.example", "alice@here.test").await;
        client.send(hop.repeat(hops)).await;
        client.say("Subject: x\r\n\r\nbody\r\n.", reply).await;
    }
    // The session goes on.
    client
        .send_message("alice@here.test", "Subject: y\r\n\r\n")
        .await;
    assert_eq!(world.queue.messages().len(), 2);
}

#[tokio::test]
async fn a_session_may_carry_many_messages_and_rset_forgets() {
    let world = World::new().await;
    let mut client = world.mx().await;
    for _ in 0..150 {
        client
            .send_message("alice@here.test", "Subject: x\r\n\r\n")
            .await;
    }
    client.say("MAIL FROM:<a@b.example>", "250").await;
    client.say("RCPT TO:<alice@here.test>", "250").await;
    client.say("RSET", "250").await;
    client.say("DATA", "503").await;
    client.say("RCPT TO:<alice@here.test>", "503").await;
    assert_eq!(world.queue.messages().len(), 150);
    let ids = world
        .queue
        .messages()
        .into_iter()
        .map(|message| message.queue_id)
        .collect::<std::collections::HashSet<_>>();
    assert_eq!(ids.len(), 150);
}

#[tokio::test]
async fn helo_is_enough() {
    let world = World::new().await;
    let mut client = world.greeted(Role::Mx).await;
    client.say("HELO old.example", "250").await;
    client
        .send_message("alice@here.test", "Subject: x\r\n\r\n")
        .await;
    let content = world.queue.content(&world.queue.message());
    let content = String::from_utf8(content).unwrap();
    assert!(
        content.starts_with(
            "Received: from old.example ([127.0.0.1])\r\n\tby mx.here.test with SMTP id "
        ),
        "{content}"
    );
}

#[tokio::test]
async fn recipients_of_a_pipelined_group_are_looked_up_together() {
    let world = World::new().await;
    let mut client = world.mx().await;
    client
        .send(
            "MAIL FROM:<a@b.example>\r\nRCPT TO:<alice@here.test>\r\nRCPT TO:<bob@here.test>\r\n\
             RCPT TO:<nobody@here.test>\r\nRCPT TO:<a@elsewhere.example>\r\nRCPT TO:<alice@here.test>\r\n\
             RCPT TO:<postmaster@here.test>\r\nDATA\r\n",
        )
        .await;
    client.expect("250 2.1.0").await;
    client.expect("250 2.1.5").await;
    client.expect("250 2.1.5").await;
    client.expect("550 5.1.1").await;
    client.expect("550 5.7.1").await;
    client.expect("250 2.1.5").await;
    client.expect("250 2.1.5").await;
    client.expect("354").await;
    client.send("Subject: x\r\n\r\n").await;
    client.say(".", "250 2.0.0").await;
    assert_eq!(world.directory.lookups.load(Ordering::SeqCst), 1);
    let envelope = world.queue.message().envelope.unwrap();
    let recipients: Vec<_> = envelope
        .recipients
        .iter()
        .map(|recipient| (recipient.address.as_str(), recipient.destination.as_str()))
        .collect();
    assert_eq!(
        recipients,
        [
            ("alice@here.test", "mailbox:here.test"),
            ("bob@here.test", "mailbox:here.test"),
            ("alice@here.test", "mailbox:here.test"),
            ("postmaster@here.test", "mailbox:here.test"),
        ]
    );

    // One by one, each in its own call.
    client.begin("a@b.example", "alice@here.test").await;
    client.send("Subject: x\r\n\r\n").await;
    client.say(".", "250 2.0.0").await;
    assert_eq!(world.directory.lookups.load(Ordering::SeqCst), 2);
}
