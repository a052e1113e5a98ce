//! STARTTLS: opportunistic, required, broken.

use std::io::Write as _;

use postrider_delivery::{RouteConfig, TlsPolicy};
use postrider_nameserver::Zones;
use postrider_protocol::queue_v1::{Attempt, OutcomeKind};

use crate::kit::queue::delivery;
use crate::kit::world::host;
use crate::kit::{Say, Sink, World};

const TLS: &[&str] = &["PIPELINING", "STARTTLS"];
const CONTENT: &str = "Subject: x\r\n\r\ntext\r\n";

async fn attempt(sink: &Sink, policy: TlsPolicy, trusted: bool) -> Attempt {
    let mut zones = Zones::default();
    host(
        &mut zones,
        "there.test",
        10,
        "mx.there.test",
        [127, 0, 0, 1],
    );
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(sink.certificate.as_bytes()).unwrap();
    let world = World::start(zones, sink.address.port(), |config| {
        config.tls = policy;
        config.tls_ca_file = trusted.then(|| file.path().to_owned());
    })
    .await;
    world.queue.grant(1, "smtp:there.test", 1);
    world
        .queue
        .deliver(vec![delivery(&["alice@there.test"], CONTENT)]);
    let attempt = world.queue.completion().await.attempt.unwrap();
    world.end().await;
    attempt
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_used_where_it_is_offered_whatever_the_certificate() {
    let sink = Sink::start("127.0.0.1", 0, TLS, |_| Say::Usual).await;
    let attempt = attempt(&sink, TlsPolicy::Opportunistic, false).await;
    assert_eq!(attempt.outcomes[0].kind(), OutcomeKind::Delivered);
    assert_eq!(attempt.tls, "TLSv1.3");
    assert!(sink.taken()[0].tls);
    let notes: Vec<_> = attempt
        .dialogue
        .iter()
        .map(|line| line.text.as_str())
        .collect();
    assert!(notes.contains(&"TLSv1.3 established"), "{notes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_handshake_is_followed_by_a_plain_connection() {
    let sink = Sink::start("127.0.0.1", 0, TLS, |line| match line.text {
        "STARTTLS" => Say::BreakTls,
        _ => Say::Usual,
    })
    .await;
    let attempt = attempt(&sink, TlsPolicy::Opportunistic, false).await;
    assert_eq!(attempt.outcomes[0].kind(), OutcomeKind::Delivered);
    assert_eq!(attempt.tls, "");
    assert!(!sink.taken()[0].tls);
    assert_eq!(sink.connections(), 2);
    let notes: Vec<_> = attempt
        .dialogue
        .iter()
        .map(|line| line.text.as_str())
        .collect();
    assert!(
        notes
            .iter()
            .any(|note| note.starts_with("TLS handshake failed")),
        "{notes:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_starttls_goes_on_in_plain_text() {
    let sink = Sink::start("127.0.0.1", 0, TLS, |line| match line.text {
        "STARTTLS" => Say::Reply("454 4.7.0 Not available"),
        _ => Say::Usual,
    })
    .await;
    let attempt = attempt(&sink, TlsPolicy::Opportunistic, false).await;
    assert_eq!(attempt.outcomes[0].kind(), OutcomeKind::Delivered);
    assert_eq!(sink.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn required_tls_needs_a_certificate_that_is_trusted() {
    let sink = Sink::start("127.0.0.1", 0, TLS, |_| Say::Usual).await;
    let refused = attempt(&sink, TlsPolicy::Required, false).await;
    assert_eq!(refused.outcomes[0].kind(), OutcomeKind::Deferred);
    assert_eq!(refused.outcomes[0].enhanced_status, "4.7.5");
    assert!(sink.taken().is_empty());
    assert!(
        !sink
            .commands()
            .iter()
            .any(|command| command.starts_with("MAIL"))
    );

    let attempt = attempt(&sink, TlsPolicy::Required, true).await;
    assert_eq!(
        attempt.outcomes[0].kind(),
        OutcomeKind::Delivered,
        "{:?}",
        attempt.outcomes
    );
    assert!(sink.taken()[0].tls);
}

#[tokio::test(flavor = "multi_thread")]
async fn required_tls_never_falls_back() {
    let plain = Sink::willing("127.0.0.1").await;
    let refused = attempt(&plain, TlsPolicy::Required, true).await;
    assert_eq!(refused.outcomes[0].kind(), OutcomeKind::Deferred);
    assert_eq!(refused.outcomes[0].enhanced_status, "4.7.4");
    assert!(plain.taken().is_empty());

    let broken = Sink::start("127.0.0.1", 0, TLS, |line| match line.text {
        "STARTTLS" => Say::BreakTls,
        _ => Say::Usual,
    })
    .await;
    let refused = attempt(&broken, TlsPolicy::Required, true).await;
    assert_eq!(refused.outcomes[0].kind(), OutcomeKind::Deferred);
    assert_eq!(broken.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_not_used_where_a_route_says_so() {
    let sink = Sink::start("127.0.0.1", 0, TLS, |_| Say::Usual).await;
    let attempt = attempt(&sink, TlsPolicy::None, false).await;
    assert_eq!(attempt.outcomes[0].kind(), OutcomeKind::Delivered);
    assert!(!sink.taken()[0].tls);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smarthost_gets_the_password_only_under_tls_and_nobody_else_sees_it() {
    const OFFERS: &[&str] = &["PIPELINING", "STARTTLS", "AUTH PLAIN"];
    const CLEAR: &[&str] = &["PIPELINING", "AUTH PLAIN"];
    for (offers, refuse, delivered) in [
        (OFFERS, false, true),
        (OFFERS, true, false),
        (CLEAR, false, false),
    ] {
        let sink = Sink::start("127.0.0.1", 0, offers, move |line| {
            match line.text.split(' ').next() {
                Some("AUTH") if refuse => Say::Reply("535 5.7.8 Wrong password"),
                Some("AUTH") => Say::Reply("235 2.7.0 Welcome"),
                _ => Say::Usual,
            }
        })
        .await;
        let mut secret = tempfile::NamedTempFile::new().unwrap();
        secret.write_all(b"geheim\n").unwrap();
        let world = World::start(Zones::default(), 9, |config| {
            config.routes = vec![RouteConfig {
                via: format!("127.0.0.1:{}", sink.address.port())
                    .parse()
                    .unwrap(),
                tls: Some(TlsPolicy::Opportunistic),
                username: "me".to_owned(),
                password_file: Some(secret.path().to_owned()),
                ..RouteConfig::default()
            }];
        })
        .await;
        world.queue.grant(1, "smtp:there.test", 1);
        world
            .queue
            .deliver(vec![delivery(&["alice@there.test"], CONTENT)]);
        let completion = world.queue.completion().await;
        let attempt = completion.attempt.as_ref().unwrap();
        let kind = attempt.outcomes[0].kind();
        let expected = if delivered {
            OutcomeKind::Delivered
        } else {
            // A password that is wrong here is no reason to return mail.
            OutcomeKind::Deferred
        };
        assert_eq!(kind, expected, "{:?}", attempt.outcomes);
        let sent = sink
            .commands()
            .iter()
            .any(|command| command.starts_with("AUTH"));
        assert_eq!(sent, offers.len() == 3);
        let told = format!("{completion:?}");
        assert!(
            !told.contains("AG1lAGdlaGVpbQ") && !told.contains("geheim"),
            "{told}"
        );
        world.end().await;
    }
}
