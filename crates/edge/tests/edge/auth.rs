//! AUTH: who may submit.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use postrider_config::values::Period;
use postrider_edge::Role;
use postrider_edge::config::ForeignSender;
use postrider_protocol::queue_v1::dialogue_line::From;
use postrider_protocol::queue_v1::journey_event::What;

use super::support::{Client, World, base64, config, plain_auth};

async fn laptop(world: &World) -> Client {
    let client = world.connect(Role::Submissions).await;
    let mut client = client.tls().await;
    client.expect("220").await;
    let offer = client.say("EHLO laptop", "250").await;
    assert!(offer.contains("AUTH PLAIN LOGIN"), "{offer}");
    client
}

#[tokio::test]
async fn plain_and_login_in_all_their_forms() {
    let world = World::new().await;
    let user = base64("bob@here.test");
    let password = base64("secret-of-bob");

    let mut client = laptop(&world).await;
    client.say("AUTH PLAIN", "334").await;
    client
        .say(&base64("\0bob@here.test\0secret-of-bob"), "235")
        .await;
    client
        .send_message("carol@example.org", "Subject: x\r\n\r\n")
        .await;

    let mut client = laptop(&world).await;
    client.say("AUTH LOGIN", "334").await;
    client.say(&user, "334").await;
    client.say(&password, "235").await;

    let mut client = laptop(&world).await;
    client.say(&format!("AUTH LOGIN {user}"), "334").await;
    client.say(&password, "235").await;

    let mut client = laptop(&world).await;
    client.say("AUTH PLAIN", "334").await;
    client.say("*", "501").await;
    client
        .say(&plain_auth("bob@here.test", "secret-of-bob"), "235")
        .await;
    client
        .say(&plain_auth("bob@here.test", "secret-of-bob"), "503")
        .await;
}

#[tokio::test]
async fn guessing_is_slow_and_short() {
    let world = World::new().await;
    let mut client = laptop(&world).await;
    let began = Instant::now();
    client
        .say(&plain_auth("bob@here.test", "wrong"), "535 5.7.8")
        .await;
    assert!(began.elapsed() > Duration::from_millis(400));
    client
        .say(&plain_auth("nobody@here.test", "wrong"), "535 5.7.8")
        .await;
    client.say("MAIL FROM:<bob@here.test>", "530").await;
    client
        .say(&plain_auth("bob@here.test", "wronger"), "535 5.7.8")
        .await;
    client.expect("421 4.7.0").await;
    client.expect_end().await;
}

#[tokio::test]
async fn nobody_acts_as_somebody_else() {
    let world = World::new().await;
    let mut client = laptop(&world).await;
    let as_alice = base64("alice@here.test\0bob@here.test\0secret-of-bob");
    client.say(&format!("AUTH PLAIN {as_alice}"), "535").await;
    let as_bob = base64("bob@here.test\0bob@here.test\0secret-of-bob");
    client.say(&format!("AUTH PLAIN {as_bob}"), "235").await;
}

#[tokio::test]
async fn a_directory_that_is_away_is_no_wrong_password() {
    let mut config = config();
    config.timeouts.lookup = Period(Duration::from_millis(300));
    let world = World::with(config).await;
    let mut client = laptop(&world).await;
    world.directory.away.store(true, Ordering::SeqCst);
    client
        .say(&plain_auth("bob@here.test", "secret-of-bob"), "454 4.7.0")
        .await;
    world.directory.away.store(false, Ordering::SeqCst);
    world.directory.hangs.store(true, Ordering::SeqCst);
    client
        .say(&plain_auth("bob@here.test", "secret-of-bob"), "454 4.7.0")
        .await;
    world.directory.hangs.store(false, Ordering::SeqCst);
    client
        .say(&plain_auth("bob@here.test", "secret-of-bob"), "235")
        .await;
}

#[tokio::test]
async fn the_journey_holds_no_secret() {
    let world = World::new().await;
    let mut client = laptop(&world).await;
    client.say("AUTH LOGIN", "334").await;
    client.say(&base64("bob@here.test"), "334").await;
    client.say(&base64("secret-of-bob"), "235").await;
    client
        .send_message("carol@example.org", "Subject: x\r\n\r\n")
        .await;
    let message = world.queue.message();
    let Some(What::Received(received)) = &message.events[0].what else {
        panic!("{message:?}");
    };
    let shown = format!("{message:?}");
    for secret in ["secret-of-bob", &base64("secret-of-bob")] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    let notes = received
        .dialogue
        .iter()
        .filter(|line| line.from() == From::Note)
        .map(|line| line.text.as_str())
        .collect::<Vec<_>>();
    // The sender of `send_message` is not bob's own address.
    assert_eq!(
        notes
            .iter()
            .filter(|note| note.contains("TLSv1.3 established"))
            .count(),
        1,
        "{notes:?}"
    );
    assert!(
        notes
            .iter()
            .any(|note| note.contains("in the name of another address")),
        "{notes:?}"
    );
}

#[tokio::test]
async fn accounts_can_be_held_to_their_own_name() {
    let mut config = config();
    config.foreign_sender = ForeignSender::Reject;
    let world = World::with(config).await;
    let mut client = world.bob().await;
    client.say("MAIL FROM:<alice@here.test>", "550 5.7.1").await;
    client.say("MAIL FROM:<bob@here.test>", "250").await;
    // Unknown recipients of our own domains are refused to our own users as well.
    client.say("RCPT TO:<nobody@here.test>", "550 5.1.1").await;
    client.say("RCPT TO:<carol@example.org>", "250").await;
}
