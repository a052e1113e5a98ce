//! What an authenticated client may ask for at MAIL besides delivery, and whose mail it is.

use std::time::{SystemTime, UNIX_EPOCH};

use postrider_config::values::Period;
use postrider_edge::config::TenantName;
use postrider_edge::{EdgeConfig, Role};
use postrider_protocol::queue_v1::NewMessage;
use postrider_protocol::queue_v1::journey_event::What;

use super::support::{Client, World, config, trusting};

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

/// Sends a message with these parameters of MAIL; gives what the queue was handed.
async fn send(world: &World, client: &mut Client, parameters: &str) -> NewMessage {
    let mail = format!("MAIL FROM:<bob@here.test>{parameters}");
    client.say(&mail, "250").await;
    client.say("RCPT TO:<carol@example.org>", "250").await;
    client.say("DATA", "354").await;
    client.send("Subject: x\r\n\r\nx\r\n").await;
    client.say(".", "250 2.0.0").await;
    world.queue.messages().pop().unwrap()
}

fn notices(message: &NewMessage) -> Vec<&str> {
    let events = message.events.iter();
    events
        .filter_map(|event| match &event.what {
            Some(What::Notice(notice)) => Some(notice.text.as_str()),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_message_is_released_when_its_sender_wishes() {
    let world = World::new().await;
    let mut client = world.bob().await;
    let before = now_us();
    let message = send(&world, &mut client, " HOLDFOR=3600").await;
    let held = message.release_us - 3_600_000_000;
    assert!(
        (before..=now_us()).contains(&held),
        "{}",
        message.release_us
    );
    let [notice] = notices(&message)[..] else {
        panic!("{:?}", message.events);
    };
    assert!(notice.starts_with("to be sent at 2"), "{notice}");
    let received = message.events.iter().find_map(|event| match &event.what {
        Some(What::Received(received)) => Some(received),
        _ => None,
    });
    let asked = |line: &postrider_protocol::queue_v1::DialogueLine| {
        line.text == "MAIL FROM:<bob@here.test> HOLDFOR=3600"
    };
    assert!(received.unwrap().dialogue.iter().any(asked));

    let past = send(&world, &mut client, " HOLDUNTIL=2001-01-01T00:00:00Z").await;
    assert_eq!(past.release_us, 0, "it goes at once");
    assert!(notices(&past).is_empty());
    let usual = send(&world, &mut client, "").await;
    assert_eq!(usual.release_us, 0);

    let year = "MAIL FROM:<bob@here.test> HOLDFOR=31536000";
    client.say(year, "501 5.5.4").await;
    let year = "MAIL FROM:<bob@here.test> HOLDUNTIL=2999-01-01T00:00:00Z";
    client.say(year, "501 5.5.4").await;
}

#[tokio::test]
async fn what_is_offered_is_configured() {
    let client_of = async |config: EdgeConfig| {
        let world = World::with(config).await;
        let mut client = world.connect(Role::Submissions).await.tls().await;
        client.expect("220").await;
        let offer = client.say("EHLO laptop", "250").await;
        (world, client, offer)
    };
    let (_world, _client, offer) = client_of(config()).await;
    assert!(offer.contains("FUTURERELEASE 2592000 20"), "{offer}");
    assert!(offer.contains("250 MT-PRIORITY"), "{offer}");

    let mut none = config();
    none.submission.max_hold = Period::seconds(0);
    none.submission.priority = false;
    let (_world, mut client, offer) = client_of(none).await;
    assert!(!offer.contains("FUTURERELEASE") && !offer.contains("MT-PRIORITY"));
    for parameter in ["HOLDFOR=60", "MT-PRIORITY=1"] {
        let mail = format!("MAIL FROM:<bob@here.test> {parameter}");
        client.say(&mail, "555 5.5.4").await;
    }
}

#[tokio::test]
async fn other_servers_ask_for_nothing() {
    let world = World::with(trusting()).await;
    let mut client = world.greeted(Role::Mx).await;
    let offer = client.say("EHLO client.example", "250").await;
    assert!(!offer.contains("FUTURERELEASE") && !offer.contains("MT-PRIORITY"));
    for parameter in ["HOLDFOR=60", "MT-PRIORITY=1"] {
        let mail = format!("MAIL FROM:<bob@here.test> {parameter}");
        client.say(&mail, "555 5.5.4").await;
    }
    let message = send(&world, &mut client, "").await;
    assert_eq!((message.tenant.as_str(), message.priority), ("", 0));
}

#[tokio::test]
async fn the_priority_goes_along_and_into_the_trace_line() {
    let world = World::new().await;
    let mut client = world.bob().await;
    for (parameter, priority) in [(" MT-PRIORITY=9", 9), (" MT-PRIORITY=-9", -9), ("", 0)] {
        let message = send(&world, &mut client, parameter).await;
        assert_eq!(message.priority, priority);
        let content = String::from_utf8(world.queue.content(&message)).unwrap();
        let told = content.contains(&format!("\r\n\tpriority {priority};\r\n"));
        assert_eq!(told, priority != 0, "{content}");
    }
}

#[tokio::test]
async fn tenants_are_named_as_configured() {
    for (tenant, name) in [
        (TenantName::Domain, "here.test"),
        (TenantName::Account, "bob@here.test"),
        (TenantName::None, ""),
    ] {
        let world = World::with(EdgeConfig { tenant, ..config() }).await;
        let mut client = world.bob().await;
        let message = send(&world, &mut client, "").await;
        assert_eq!(message.tenant, name);
    }
}
