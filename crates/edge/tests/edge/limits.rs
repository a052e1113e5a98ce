//! Limits of sessions and messages.

use postrider_config::values::Size;
use postrider_edge::{EdgeConfig, Role};

use super::support::{World, config, trusting};

#[tokio::test]
async fn connections_of_one_client_are_bounded() {
    let mut config = config();
    config.limits.connections_per_client = 3;
    let world = World::with(config).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(world.greeted(Role::Mx).await);
    }
    for _ in 0..2 {
        let mut refused = world.connect(Role::Mx).await;
        refused.expect("421 4.7.0").await;
        refused.expect_clean_end().await;
    }
    let mut refused = world.connect(Role::Submissions).await;
    refused.expect_some_end().await;
    // A place that is left is free.
    let mut leaving = clients.pop().unwrap();
    leaving.say("QUIT", "221").await;
    leaving.expect_clean_end().await;
    drop(leaving);
    let mut tries = 0;
    loop {
        let mut client = world.connect(Role::Mx).await;
        if client.reply().await.starts_with("220") {
            break;
        }
        tries += 1;
        assert!(tries < 100, "the place stays taken");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn connections_in_all_are_bounded_even_for_trusted_clients() {
    let mut config = trusting();
    config.limits.connections_per_client = 1;
    config.limits.connections = 5;
    let world = World::with(config).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(world.greeted(Role::Mx).await);
    }
    let mut refused = world.connect(Role::Mx).await;
    refused.expect("421 4.3.2").await;
    refused.expect_clean_end().await;
}

#[tokio::test]
async fn size_is_offered_and_holds() {
    let mut config = config();
    config.limits.message_size = Size::kib(64);
    let world = World::with(config).await;
    let mut client = world.mx().await;
    let offer = client.say("EHLO client.example", "250").await;
    assert!(offer.contains("SIZE 65536"), "{offer}");
    client
        .say("MAIL FROM:<a@b.example> SIZE=65537", "552 5.3.4")
        .await;
    // Who does not announce it learns at the end.
    client.begin("a@b.example", "alice@here.test").await;
    client
        .send("x".repeat(70).as_str().to_owned() + "\r\n")
        .await;
    let line = "y".repeat(78) + "\r\n";
    client.send(line.repeat(1_000)).await;
    client.say(".", "552 5.3.4").await;
    client.begin("a@b.example", "alice@here.test").await;
    client.send(line.repeat(700)).await;
    client.say(".", "250").await;
    assert_eq!(world.queue.messages().len(), 1);
}

#[tokio::test]
async fn commands_without_mail_and_errors_are_bounded() {
    let mut config = config();
    config.limits.commands_without_mail = 10;
    config.limits.errors = 5;
    let world = World::with(config).await;

    let mut client = world.greeted(Role::Mx).await;
    let mut answered = 0;
    loop {
        client.send("NOOP\r\n").await;
        let reply = client.reply().await;
        if reply.starts_with("421 4.7.0") {
            break;
        }
        answered += 1;
        assert!(answered <= 11, "no end of NOOP");
    }
    client.expect_end().await;

    let mut client = world.mx().await;
    for _ in 0..5 {
        client.say("NONSENSE", "500").await;
    }
    client.expect("421 4.7.0").await;
    client.expect_end().await;

    // Mail that is accepted starts the count anew.
    let mut client = world.mx().await;
    for _ in 0..6 {
        client.say("NOOP", "250").await;
        client.say("NONSENSE", "500").await;
        client.say("NONSENSE", "500").await;
        client
            .send_message("alice@here.test", "Subject: x\r\n\r\n")
            .await;
    }
}

#[tokio::test]
async fn long_lines_pass_up_to_their_limit() {
    let mut config = config();
    config.limits.content_line = Size(2_000);
    let world = World::with(config).await;
    let mut client = world.mx().await;
    client.begin("a@b.example", "alice@here.test").await;
    client
        .say(
            &format!("Subject: x\r\n\r\n{}\r\n.", "z".repeat(2_000)),
            "250",
        )
        .await;
    client.begin("a@b.example", "alice@here.test").await;
    client
        .say(
            &format!("Subject: x\r\n\r\n{}\r\n.", "z".repeat(2_001)),
            "550",
        )
        .await;
}

#[tokio::test]
async fn a_config_that_makes_no_sense_is_not_served() {
    let data = tempfile::tempdir().unwrap();
    let server = postrider_config::ServerConfig::default();
    let certificate = postrider_tls::ServerCertificate::load(
        &postrider_tls::TlsConfig::default(),
        "mx.here.test",
        data.path(),
    )
    .unwrap();
    let config = EdgeConfig {
        policy: Vec::new(),
        ..config()
    };
    let queue = std::sync::Arc::new(super::support::FakeQueue::default());
    let directory = std::sync::Arc::new(super::support::FakeDirectory::default());
    let error = postrider_edge::Edge::bind(&server, config, certificate, queue, directory)
        .err()
        .unwrap();
    assert!(error.to_string().contains("open relay"), "{error}");
}
