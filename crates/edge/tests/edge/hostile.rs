//! Clients that mean harm, or know no better: a proper reply or a clean end, bounded memory, and
//! the next client is served.

use std::time::Duration;

use postrider_config::values::{Period, Size};
use postrider_edge::Role;

use super::support::{Client, World, config};

/// Memory of this process now, in octets.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Octets that look random and are the same each time.
struct Noise(u32);

impl Noise {
    fn octet(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 24) as u8
    }
}

/// Sends blocks until enough are sent or the server has had enough; gives the last reply.
async fn pour(client: &mut Client, blocks: impl Iterator<Item = Vec<u8>>) -> String {
    for block in blocks {
        if client.try_send(block).await.is_err() {
            break;
        }
    }
    let mut last = String::new();
    while let Some(reply) = client.try_reply().await {
        assert!(reply.starts_with(['4', '5']), "{reply}");
        last = reply;
    }
    last
}

#[tokio::test]
async fn garbage_in_lines_is_answered_and_then_shown_out() {
    let world = World::new().await;
    let mut client = world.mx().await;
    let mut noise = Noise(1);
    let lines = (0..2_000).map(|length| {
        let mut line = vec![b'?'];
        line.extend(
            (0..length % 200)
                .map(|_| noise.octet())
                .filter(|octet| *octet != b'\n'),
        );
        line.extend_from_slice(b"\r\n");
        line
    });
    let last = pour(&mut client, lines).await;
    assert!(last.starts_with("421 4.7.0"), "{last}");
    world.assert_serves().await;
}

#[tokio::test]
async fn garbage_without_lines_is_shown_out() {
    let world = World::new().await;
    for seed in 0..20 {
        let mut client = world.mx().await;
        let mut noise = Noise(seed);
        let blocks = (0..200).map(|_| (0..10_000).map(|_| noise.octet()).collect());
        let last = pour(&mut client, blocks).await;
        assert!(last.starts_with("554") || last.starts_with("421"), "{last}");
    }
    world.assert_serves().await;
}

#[tokio::test]
async fn a_line_of_a_hundred_megabytes_is_refused_and_not_kept() {
    let world = World::new().await;
    let mut client = world.mx().await;
    let before = memory();
    let block = vec![b'a'; 1 << 20];
    let last = pour(&mut client, (0..100).map(|_| block.clone())).await;
    assert!(memory() < before + (32 << 20), "kept {}", memory() - before);
    assert!(last.starts_with("554 5.5.2"), "{last}");
    world.assert_serves().await;
}

#[tokio::test]
async fn a_line_that_is_too_long_costs_only_itself() {
    let world = World::new().await;
    let mut client = world.mx().await;
    client.send(vec![b'a'; 500_000]).await;
    client.send("\r\nNOOP\r\n").await;
    client.expect("500 5.5.2").await;
    client.expect("250").await;
    client
        .send_message("alice@here.test", "Subject: x\r\n\r\n")
        .await;
}

#[tokio::test]
async fn a_content_line_of_a_hundred_megabytes_is_refused_and_not_kept() {
    let world = World::new().await;
    let mut client = world.mx().await;
    client.begin("a@b.example", "alice@here.test").await;
    let before = memory();
    let block = vec![b'a'; 1 << 20];
    for _ in 0..100 {
        client.send(&block).await;
    }
    assert!(memory() < before + (32 << 20), "kept {}", memory() - before);
    client.say("\r\n.", "55").await;
    client
        .send_message("alice@here.test", "Subject: x\r\n\r\n")
        .await;
    assert_eq!(world.queue.messages().len(), 1);
}

#[tokio::test]
async fn endless_headers_are_refused_and_not_kept() {
    let mut config = config();
    config.limits.header_size = Size::kib(64);
    let world = World::with(config).await;
    let mut client = world.mx().await;
    let before = memory();
    for header in ["X-Endless: yes\r\n", "X-Folded:\r\n\tand\r\n\ton\r\n"] {
        client.begin("a@b.example", "alice@here.test").await;
        let block = header.repeat((1 << 20) / header.len());
        for _ in 0..30 {
            client.send(&block).await;
        }
        client.say("\r\nbody\r\n.", "552 5.3.4").await;
    }
    assert!(memory() < before + (32 << 20), "kept {}", memory() - before);
    assert!(world.queue.messages().is_empty());
    world.assert_serves().await;
}

#[tokio::test]
async fn endless_recipients_are_bounded() {
    let mut config = config();
    config.limits.recipients = 100;
    let world = World::with(config).await;
    let mut client = world.mx().await;
    client.say("MAIL FROM:<a@b.example>", "250").await;
    for number in 0..150 {
        let reply = if number < 100 {
            "250 2.1.5"
        } else {
            "452 4.5.3"
        };
        client.say("RCPT TO:<alice@here.test>", reply).await;
    }
    client.say("DATA", "354").await;
    client.say("Subject: x\r\n\r\n.", "250").await;
    let message = world.queue.message();
    assert_eq!(message.envelope.unwrap().recipients.len(), 100);

    // And who never stops is stopped.
    client.say("MAIL FROM:<a@b.example>", "250").await;
    let endless = "RCPT TO:<alice@here.test>\r\n".repeat(1_000);
    let mut last = String::new();
    if client.try_send(endless).await.is_ok() {
        while let Some(reply) = client.try_reply().await {
            last = reply;
        }
        assert!(last.starts_with("421 4.7.0"), "{last}");
    }
    world.assert_serves().await;
}

#[tokio::test]
async fn nobody_smuggles_a_second_message() {
    let world = World::new().await;
    let smuggled = "MAIL FROM:<evil@b.example>\r\nRCPT TO:<alice@here.test>\r\nDATA\r\n\
                    Subject: smuggled\r\n\r\n";
    for end in [
        "\n.\n",
        "\n.\r\n",
        "\r\n.\n",
        "\r.\r",
        "\r\n.\r",
        "\r.\r\n",
        "\n\n.\r\n",
        "\r\n\0.\r\n",
    ] {
        let mut client = world.mx().await;
        client.begin("a@b.example", "alice@here.test").await;
        client
            .send(format!(
                "Subject: x\r\n\r\nfirst{end}{smuggled}second\r\n.\r\n"
            ))
            .await;
        // One reply for all of it, and then nothing until the next command.
        let reply = client.reply().await;
        client.say("NOOP", "250").await;
        for message in world.queue.messages() {
            let content = world.queue.content(&message);
            assert!(reply.starts_with("250"), "{end:?}: {reply}");
            // If such content is taken at all, it is one message, with a line end nobody misreads.
            let text = String::from_utf8(content).unwrap();
            assert!(text.contains("second"), "{end:?}: {text}");
            assert!(!has_bare_line_end(&text), "{end:?}: {text:?}");
        }
        for message in world.queue.messages() {
            assert_ne!(message.envelope.unwrap().reverse_path, "evil@b.example");
        }
    }
}

fn has_bare_line_end(text: &str) -> bool {
    let rest = text.replace("\r\n", "");
    rest.contains(['\r', '\n'])
}

#[tokio::test]
async fn bare_line_ends_do_not_end_commands() {
    let world = World::new().await;
    let mut client = world.mx().await;
    client.send("NOOP\nMAIL FROM:<a@b.example>\nNOOP\r\n").await;
    client.expect("554 5.5.2").await;
    client.expect_clean_end().await;
    let mut client = world.mx().await;
    client.send("NOOP\rMAIL FROM:<a@b.example>\r\n").await;
    client.expect("5").await;
    client.say("RCPT TO:<alice@here.test>", "503").await;
}

#[tokio::test]
async fn disconnects_at_every_state_harm_nobody() {
    let world = World::new().await;
    let dialogue = [
        "EHLO client.example\r\n",
        "MAIL FROM:<a@b.example>\r\n",
        "RCPT TO:<alice@here.test>\r\n",
        "DATA\r\n",
        "Subject: x\r\n\r\nbody\r\n",
    ];
    let all = dialogue.concat();
    for cut in 0..=all.len() {
        let mut client = world.connect(Role::Mx).await;
        // It may be gone before it was greeted.
        if cut % 2 == 0 {
            client.expect("220").await;
        }
        client.send(&all[..cut]).await;
        if cut % 3 == 0 && cut > dialogue[0].len() {
            client.reply().await;
        }
        drop(client);
    }
    let mut client = world.mx().await;
    client.say("STARTTLS", "220").await;
    drop(client);
    drop(world.bob().await);
    world.assert_serves().await;
    // Only the one that was sent to its end.
    assert_eq!(world.queue.messages().len(), 1);
}

#[tokio::test]
async fn a_client_that_never_reads_is_let_go() {
    let mut config = config();
    config.limits.commands_without_mail = u32::MAX;
    config.timeouts.reply = Period(Duration::from_millis(500));
    let world = World::with(config).await;
    let mut client = world.mx().await;
    let before = memory();
    // Each of these is answered, and nobody reads the answers.
    let block = "EHLO client.example\r\n".repeat(4_000);
    let mut sent = 0;
    while sent < 2_000 && client.try_send(&block).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 2_000, "it was let go on");
    assert!(memory() < before + (64 << 20), "kept {}", memory() - before);
    world.assert_serves().await;
}

#[tokio::test]
async fn who_dawdles_is_let_go() {
    let mut config = config();
    config.timeouts.command = Period(Duration::from_millis(600));
    config.timeouts.content = Period(Duration::from_millis(600));
    config.timeouts.message = Period(Duration::from_millis(1_500));
    let world = World::with(config).await;

    let mut silent = world.mx().await;
    silent.expect("421 4.4.2").await;
    silent.expect_clean_end().await;

    // A command that trickles in does not win time.
    let mut trickling = world.mx().await;
    let mut told = None;
    for _ in 0..20 {
        if trickling.try_send("N").await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    if let Some(reply) = trickling.try_reply().await {
        told = Some(reply);
    }
    assert!(told.is_none_or(|reply| reply.starts_with("421 4.4.2")));

    let mut stuck = world.mx().await;
    stuck.begin("a@b.example", "alice@here.test").await;
    stuck.send("Subject: x\r\n").await;
    stuck.expect("421 4.4.2").await;
    stuck.expect_clean_end().await;

    // Nor does content that trickles in for longer than a message may take.
    let mut slow = world.mx().await;
    slow.begin("a@b.example", "alice@here.test").await;
    let began = std::time::Instant::now();
    while slow.try_send("x\r\n").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "still listened to"
        );
        if began.elapsed() > Duration::from_millis(2_500) {
            break;
        }
    }
    if let Some(reply) = slow.try_reply().await {
        assert!(reply.starts_with("421 4.4.2"), "{reply}");
    }
    assert!(world.queue.messages().is_empty());
}
