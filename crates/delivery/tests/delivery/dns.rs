//! Which servers are tried, and what becomes of mail if there is none.

use std::net::Ipv4Addr;
use std::time::Instant;

use postrider_delivery::RouteConfig;
use postrider_nameserver::Zones;
use postrider_protocol::queue_v1::{Attempt, OutcomeKind};

use crate::kit::queue::{FakeQueue, delivery};
use crate::kit::sink::USUAL;
use crate::kit::world::host;
use crate::kit::{Say, Sink, World};

const CONTENT: &str = "Subject: x\r\n\r\ntext\r\n";

async fn send(queue: &FakeQueue, token: u64, domain: &str) -> Attempt {
    let destination = format!("smtp:{domain}");
    queue.grant(token, &destination, 1);
    let mut message = delivery(&[&format!("alice@{domain}")], CONTENT);
    message.token = token;
    message.destination = destination;
    queue.deliver(vec![message]);
    queue.completion().await.attempt.unwrap()
}

async fn verdict(zones: Zones, domain: &str) -> (OutcomeKind, u32, String) {
    let world = World::start(zones, 9, |_| {}).await;
    let attempt = send(&world.queue, 1, domain).await;
    world.end().await;
    let outcome = &attempt.outcomes[0];
    assert!(!outcome.from_remote);
    (
        outcome.kind(),
        outcome.reply_code,
        outcome.enhanced_status.clone(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn exchangers_are_tried_by_preference() {
    let good = Sink::willing("127.0.0.2").await;
    let port = good.address.port();
    // A better one that does not greet well, and one at which nobody listens.
    let bad = Sink::start("127.0.0.1", port, USUAL, |_| {
        Say::ReplyAndClose("554 No service")
    })
    .await;
    let mut zones = Zones::default();
    host(
        &mut zones,
        "there.test",
        5,
        "nobody.there.test",
        [127, 0, 0, 9],
    );
    host(
        &mut zones,
        "there.test",
        10,
        "bad.there.test",
        [127, 0, 0, 1],
    );
    host(
        &mut zones,
        "there.test",
        20,
        "good.there.test",
        [127, 0, 0, 2],
    );
    let world = World::start(zones, port, |_| {}).await;
    let attempt = send(&world.queue, 1, "there.test").await;
    assert_eq!(attempt.outcomes[0].kind(), OutcomeKind::Delivered);
    assert_eq!(attempt.remote_host, "good.there.test");
    assert_eq!((bad.connections(), good.taken().len()), (1, 1));
    let told: Vec<_> = attempt
        .dialogue
        .iter()
        .map(|line| line.text.as_str())
        .collect();
    assert!(
        told.iter().any(|line| line.contains("nobody.there.test")),
        "{told:?}"
    );
    assert!(
        told.iter().any(|line| line.contains("554 No service")),
        "{told:?}"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_reason_that_may_pass_is_enough_to_try_again() {
    let bad = Sink::start("127.0.0.1", 0, USUAL, |_| {
        Say::ReplyAndClose("554 No service")
    })
    .await;
    let mut zones = Zones::default();
    host(
        &mut zones,
        "there.test",
        5,
        "nobody.there.test",
        [127, 0, 0, 9],
    );
    host(
        &mut zones,
        "there.test",
        10,
        "bad.there.test",
        [127, 0, 0, 1],
    );
    host(&mut zones, "only.test", 10, "mx.only.test", [127, 0, 0, 1]);
    let world = World::start(zones, bad.address.port(), |_| {}).await;
    let attempt = send(&world.queue, 1, "there.test").await;
    assert_eq!(attempt.outcomes[0].kind(), OutcomeKind::Deferred);
    let attempt = send(&world.queue, 2, "only.test").await;
    assert_eq!(attempt.outcomes[0].kind(), OutcomeKind::Failed);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_mx_the_domains_own_address_counts_also_behind_an_alias() {
    let sink = Sink::willing("127.0.0.1").await;
    let mut zones = Zones::default();
    let here = Ipv4Addr::LOCALHOST.into();
    zones
        .zone("bare.test")
        .unwrap()
        .address("bare.test", here)
        .unwrap();
    zones
        .zone("alias.test")
        .unwrap()
        .alias("alias.test", "bare.test")
        .unwrap();
    zones
        .zone("mxalias.test")
        .unwrap()
        .mx("mxalias.test", 1, "a.mxalias.test")
        .unwrap();
    zones.alias("a.mxalias.test", "bare.test").unwrap();
    let world = World::start(zones, sink.address.port(), |_| {}).await;
    for (token, domain) in (1..).zip(["bare.test", "alias.test", "mxalias.test", "[127.0.0.1]"]) {
        let attempt = send(&world.queue, token, domain).await;
        assert_eq!(
            attempt.outcomes[0].kind(),
            OutcomeKind::Delivered,
            "{domain}: {attempt:?}"
        );
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dns_denies_for_good_fails() {
    let mut zones = Zones::default();
    zones
        .zone("null.test")
        .unwrap()
        .mx("null.test", 0, "")
        .unwrap();
    let found = verdict(zones, "null.test").await;
    assert_eq!(found, (OutcomeKind::Failed, 556, "5.1.10".into()));

    let mut zones = Zones::default();
    zones.zone("gone.test").unwrap();
    let found = verdict(zones, "gone.test").await;
    assert_eq!(found, (OutcomeKind::Failed, 550, "5.1.2".into()));

    let mut zones = Zones::default();
    host(&mut zones, "loop.test", 10, "mx.here.test", [127, 0, 0, 1]);
    host(
        &mut zones,
        "loop.test",
        20,
        "worse.loop.test",
        [127, 0, 0, 1],
    );
    let found = verdict(zones, "loop.test").await;
    assert_eq!(found, (OutcomeKind::Failed, 554, "5.4.6".into()));

    let found = verdict(Zones::default(), "[x-tag:1]").await;
    assert_eq!(found, (OutcomeKind::Failed, 550, "5.1.2".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dns_cannot_say_is_deferred() {
    let mut zones = Zones::default();
    zones
        .zone("broken.test")
        .unwrap()
        .fail("broken.test")
        .unwrap();
    let found = verdict(zones, "broken.test").await;
    assert_eq!(found, (OutcomeKind::Deferred, 451, "4.4.3".into()));

    let mut zones = Zones::default();
    zones
        .zone("half.test")
        .unwrap()
        .mx("half.test", 1, "mx.half.test")
        .unwrap();
    zones.fail("mx.half.test").unwrap();
    let found = verdict(zones, "half.test").await;
    assert_eq!(found, (OutcomeKind::Deferred, 451, "4.4.3".into()));

    let mut zones = Zones::default();
    zones
        .zone("typo.test")
        .unwrap()
        .mx("typo.test", 1, "mx.typo.test")
        .unwrap();
    let found = verdict(zones, "typo.test").await;
    assert_eq!(found, (OutcomeKind::Deferred, 451, "4.4.4".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_could_not_be_reached_is_passed_over() {
    let mut zones = Zones::default();
    host(&mut zones, "dead.test", 5, "mx.dead.test", [127, 0, 0, 1]);
    let world = World::start(zones, 9, |_| {}).await;
    world.queue.grant(1, "smtp:dead.test", 2);
    let many = (0..100).map(|_| {
        let mut message = delivery(&["alice@dead.test"], CONTENT);
        message.destination = "smtp:dead.test".to_owned();
        message
    });
    world.queue.deliver(many.collect());
    let begun = Instant::now();
    for completion in world.queue.completions(100).await {
        let outcome = &completion.attempt.unwrap().outcomes[0];
        assert_eq!(outcome.kind(), OutcomeKind::Deferred);
        assert_eq!(outcome.enhanced_status, "4.4.1");
    }
    assert!(begun.elapsed().as_secs() < 10);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_cannot_send_us_to_ourselves() {
    let mut zones = Zones::default();
    host(&mut zones, "evil.test", 5, "mx.evil.test", [127, 0, 0, 1]);
    let world = World::start(zones, 25, |_| {}).await;
    let attempt = send(&world.queue, 1, "evil.test").await;
    let outcome = &attempt.outcomes[0];
    assert_eq!(outcome.kind(), OutcomeKind::Failed);
    assert_eq!(outcome.enhanced_status, "5.4.4");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_lead_elsewhere() {
    let sink = Sink::willing("127.0.0.1").await;
    let route = |recipient: &str, via: String| RouteConfig {
        recipient: recipient.parse().unwrap(),
        via: via.parse().unwrap(),
        ..RouteConfig::default()
    };
    let world = World::start(Zones::default(), 9, |config| {
        config.routes = vec![
            route("void.test", "discard".to_owned()),
            route("*", format!("127.0.0.1:{}", sink.address.port())),
        ];
    })
    .await;
    let attempt = send(&world.queue, 1, "anywhere.test").await;
    assert_eq!(attempt.outcomes[0].kind(), OutcomeKind::Delivered);
    let attempt = send(&world.queue, 2, "void.test").await;
    assert_eq!(attempt.outcomes[0].kind(), OutcomeKind::Delivered);
    assert_eq!(sink.taken().len(), 1);
    world.end().await;
}
