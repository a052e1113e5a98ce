//! In which order deliveries leave, and what keeps them from it.

use std::time::Duration;

use postrider_protocol::queue_v1::delivery_status::State;
use postrider_protocol::queue_v1::leased_delivery::Disposition;
use postrider_protocol::queue_v1::{Filter, LeasedDelivery, NewMessage, OutcomeKind, Suspension};
use postrider_queue::policy::{DestinationPattern, Policy, Unknown};
use postrider_queue::store::embedded::EmbeddedStore;
use postrider_queue::store::{Act, By, Completed, Store};

use crate::kit::{
    Kit, LEASE, LIFETIME, accept, assert_adds_up, complete, id, lease, outcome, pull_all, simple,
};
use crate::support::act;

fn from(sender: &str, tenant: &str) -> NewMessage {
    let mut new = simple(b"x");
    new.envelope.as_mut().unwrap().reverse_path = sender.to_owned();
    tenant.clone_into(&mut new.tenant);
    new
}

async fn accept_all(store: &EmbeddedStore, messages: Vec<NewMessage>) {
    for chunk in messages.chunks(500) {
        let results = store.enqueue(chunk.to_vec()).await;
        assert!(results.iter().all(Result::is_ok));
    }
}

/// Leases smtp:a.test and pulls so many.
async fn pull(store: &EmbeddedStore, most: usize) -> Vec<LeasedDelivery> {
    let grants = lease(store, "w", 1).await;
    match grants.first() {
        Some(grant) => store.pull(grant.token, most).await.unwrap().unwrap(),
        None => Vec::new(),
    }
}

fn place(pulled: &[LeasedDelivery], of: &NewMessage) -> Option<usize> {
    pulled
        .iter()
        .position(|delivery| delivery.queue_id == of.queue_id)
}

fn suspension(id: &str, destination: &str, sender: &str, tenant: &str) -> Suspension {
    Suspension {
        id: id.to_owned(),
        destination: destination.to_owned(),
        sender: sender.to_owned(),
        tenant: tenant.to_owned(),
        ..Suspension::default()
    }
}

#[tokio::test]
async fn a_flood_delays_nobody_else() {
    let kit = Kit::new();
    let store = kit.open().await;
    accept_all(
        &store,
        (0..3000).map(|_| from("flood@big.test", "big")).collect(),
    )
    .await;
    let tenant = from("one@small.test", "small");
    let sender = from("calm@big.test", "big");
    let mut urgent = from("flood@big.test", "big");
    urgent.priority = 9;
    accept_all(&store, vec![tenant.clone(), sender.clone(), urgent.clone()]).await;
    let pulled = pull(&store, 3003).await;
    assert_eq!(pulled.len(), 3003);
    assert!(place(&pulled, &tenant).unwrap() <= 1);
    assert!(place(&pulled, &sender).unwrap() < 70);
    assert!(place(&pulled, &urgent).unwrap() < 3000 - 200);
    // The same after a restart, in which everything becomes due at once.
    drop(store);
    kit.clock.advance(Duration::from_secs(1));
    let store = kit.open().await;
    while store.expire().await.unwrap() == Some(Duration::ZERO) {}
    let pulled = pull(&store, 4000).await;
    assert_eq!(pulled.len(), 3003);
    assert!(place(&pulled, &tenant).unwrap() <= 1);
}

#[tokio::test]
async fn a_release_in_the_future_is_waited_for_and_the_lifetime_counts_from_it() {
    let kit = Kit::new();
    let store = kit.open().await;
    let mut wakes = store.watch();
    let mut later = simple(b"x");
    let now_us = 1_800_000_000_000_000;
    later.release_us = now_us + 3_600_000_000;
    accept(&store, &later).await;
    assert_eq!(
        wakes.recv().await.unwrap(),
        postrider_queue::store::Wake::Timer,
        "who sleeps must not sleep longer"
    );
    assert!(pull_all(&store, "w").await.is_empty());
    let hour = Duration::from_secs(3600);
    assert_eq!(store.expire().await.unwrap(), Some(hour));
    kit.clock.advance(hour);
    store.expire().await.unwrap();
    let pulled = pull_all(&store, "w").await;
    assert_eq!(pulled[0].due_us, later.release_us);
    let lifetime_us = LIFETIME.as_micros() as u64;
    assert_eq!(pulled[0].expires_us, later.release_us + lifetime_us);
    assert!(!pulled[0].delay_warning_due);
    complete(&store, outcome(&pulled[0], OutcomeKind::Deferred)).await;
    // The usual warning comes after four hours, counted from the release as well.
    kit.clock.advance(4 * hour);
    let pulled = pull_all(&store, "w").await;
    assert!(pulled[0].delay_warning_due);
    let mut warned = outcome(&pulled[0], OutcomeKind::Deferred);
    warned.delay_warned = true;
    complete(&store, warned).await;
    drop(store);
    let store = kit.open().await;
    kit.clock.advance(hour);
    assert!(!pull_all(&store, "w").await[0].delay_warning_due, "once");
}

#[tokio::test]
async fn policies_go_by_destination() {
    let mut kit = Kit::new();
    kit.policies.by_destination.push((
        "smtp:a.test".parse::<DestinationPattern>().unwrap(),
        Policy {
            lifetime: Duration::from_secs(60),
            unknown: Unknown::Hold,
            ..Policy::default()
        },
    ));
    let store = kit.open().await;
    let (lost, unknown) = (simple(b"lost"), simple(b"unknown"));
    accept_all(&store, vec![lost.clone(), unknown.clone()]).await;
    let pulled = pull(&store, 2).await;
    complete(&store, outcome(&pulled[1], OutcomeKind::Unknown)).await;
    kit.clock.advance(LEASE);
    store.expire().await.unwrap();
    let check = async |store: &EmbeddedStore| {
        let filter = Filter {
            held: true,
            unknown: true,
            ..Filter::default()
        };
        let held = store.list(&filter, None, 9).await.unwrap();
        assert_eq!(held.len(), 2);
        assert!(held.iter().all(|status| status.unknown_attempts == 1));
        let stats = store.stats().await.unwrap();
        assert_eq!((stats.held, stats.unknown_deliveries), (2, 2));
        assert!(pull_all(store, "w").await.is_empty());
    };
    check(&store).await;
    drop(store);
    let store = kit.open().await;
    check(&store).await;
    for message in [&lost, &unknown] {
        let journey = store.journey(id(message)).await.unwrap().unwrap();
        assert!(format!("{journey:?}").contains("held, because the outcome is unknown"));
    }
    let acted = act(
        &store,
        Act::Release,
        &Filter::default(),
        &By::default(),
        false,
    )
    .await;
    assert_eq!(acted.changed, 2);
    kit.clock.advance(Duration::from_secs(60));
    let expired = pull_all(&store, "w").await;
    assert_eq!(expired.len(), 2);
    for delivery in expired {
        assert_eq!(delivery.disposition(), Disposition::Expired);
        complete(&store, outcome(&delivery, OutcomeKind::Failed)).await;
    }
    assert_eq!(store.stats().await.unwrap().unknown_deliveries, 0);
    assert_adds_up(&store).await;
}

#[tokio::test]
async fn suspensions_stop_what_they_name_and_nothing_else() {
    let kit = Kit::new();
    let store = kit.open().await;
    let wanted = from("good@b.test", "");
    let mut stopped: Vec<NewMessage> = (0..600).map(|_| from("Bad@evil.test", "")).collect();
    stopped.extend((0..600).map(|_| from("good@b.test", "t")));
    accept_all(&store, stopped).await;
    accept(&store, &wanted).await;
    store
        .suspend(suspension("1", "", "@evil.test", ""))
        .await
        .unwrap();
    store
        .suspend(suspension("2", "smtp:a.test", "", "t"))
        .await
        .unwrap();
    let check = async |store: &EmbeddedStore| {
        let mut pulled = Vec::new();
        // What is stopped is put aside bit by bit; whoever listens is told to ask again.
        for _ in 0..20 {
            pulled.extend(pull(store, 10).await);
        }
        assert_eq!(pulled.len(), 1);
        assert_eq!(pulled[0].queue_id, wanted.queue_id);
        let filter = Filter {
            suspended: true,
            tenant: "t".to_owned(),
            ..Filter::default()
        };
        let listed = store.list(&filter, None, 10_000).await.unwrap();
        assert_eq!(listed.len(), 600);
        assert_eq!(listed[0].state(), State::Suspended);
        assert_eq!(listed[0].suspensions, ["2"]);
        assert_eq!(store.suspensions().await.unwrap().len(), 2);
        pulled
    };
    let pulled = check(&store).await;
    store.give_back(vec![pulled[0].token]).await.unwrap();
    drop(store);
    let store = kit.open().await;
    while store.expire().await.unwrap() == Some(Duration::ZERO) {}
    let pulled = check(&store).await;
    let done = complete(&store, outcome(&pulled[0], OutcomeKind::Delivered)).await;
    assert_eq!(done, Completed::Done);
    // Both are let go, one after the other; new mail of theirs does not come before the old.
    for (suspension, count) in [("1", 600), ("2", 600)] {
        assert!(store.resume(suspension).await.unwrap());
        assert!(!store.resume(suspension).await.unwrap());
        while store.expire().await.unwrap() == Some(Duration::ZERO) {}
        let (mut all, mut last) = (Vec::new(), String::new());
        loop {
            let pulled = pull(&store, 500).await;
            if pulled.is_empty() {
                break;
            }
            for delivery in &pulled {
                assert!(delivery.queue_id > last, "in their order");
                last.clone_from(&delivery.queue_id);
            }
            let delivered = pulled
                .iter()
                .map(|delivery| outcome(delivery, OutcomeKind::Delivered));
            store.complete(delivered.collect()).await;
            store.give_back(vec![pulled[0].token]).await.unwrap();
            all.extend(pulled);
        }
        assert_eq!(all.len(), count);
    }
    assert_eq!(store.stats().await.unwrap().waiting, 0);
    assert_adds_up(&store).await;
}

#[tokio::test]
async fn a_suspended_destination_is_not_granted_until_the_suspension_ends() {
    let kit = Kit::new();
    let store = kit.open().await;
    let mut until = suspension("1", "smtp:a.test", "", "");
    until.until_us = 1_800_000_060_000_000;
    store.suspend(until).await.unwrap();
    accept(&store, &simple(b"x")).await;
    assert!(pull_all(&store, "w").await.is_empty());
    let minute = Duration::from_secs(60);
    assert_eq!(store.expire().await.unwrap(), Some(minute));
    drop(store);
    let store = kit.open().await;
    assert!(pull_all(&store, "w").await.is_empty());
    kit.clock.advance(minute);
    assert!(store.suspensions().await.unwrap().is_empty());
    let mut wakes = store.watch();
    store.expire().await.unwrap();
    assert_eq!(
        wakes.recv().await.unwrap(),
        postrider_queue::store::Wake::Destination("smtp:a.test".parse().unwrap())
    );
    assert_eq!(pull_all(&store, "w").await.len(), 1);
}

#[tokio::test]
async fn a_hold_ends_by_itself_and_mail_goes_elsewhere() {
    let kit = Kit::new();
    let store = kit.open().await;
    let new = simple(b"x");
    accept(&store, &new).await;
    let by = By {
        operator: "ann".to_owned(),
        reason: String::new(),
    };
    let hold = Act::Hold {
        until_us: Some(1_800_000_060_000_000),
    };
    let all = Filter::default();
    assert_eq!(act(&store, hold.clone(), &all, &by, false).await.changed, 1);
    assert_eq!(act(&store, hold, &all, &by, false).await.changed, 0);
    let to = Act::Reroute {
        to: "smtp:relay.test".parse().unwrap(),
    };
    assert_eq!(act(&store, to.clone(), &all, &by, false).await.changed, 1);
    assert_eq!(act(&store, to, &all, &by, false).await.changed, 0);
    drop(store);
    let store = kit.open().await;
    let listed = store.list(&all, None, 9).await.unwrap();
    assert_eq!(listed[0].held_until_us, 1_800_000_060_000_000);
    assert_eq!(listed[0].destination, "smtp:relay.test");
    kit.clock.advance(Duration::from_secs(60));
    let pulled = pull_all(&store, "w").await;
    assert_eq!(pulled[0].destination, "smtp:relay.test");
    // While it is leased, the wish is remembered.
    let back = Act::Reroute {
        to: "smtp:a.test".parse().unwrap(),
    };
    assert_eq!(act(&store, back, &all, &by, false).await.changed, 1);
    complete(&store, outcome(&pulled[0], OutcomeKind::Deferred)).await;
    kit.clock.advance(Duration::from_secs(300));
    let pulled = pull_all(&store, "w").await;
    assert_eq!(pulled[0].destination, "smtp:a.test");
    complete(&store, outcome(&pulled[0], OutcomeKind::Delivered)).await;
    let journey = store.journey(id(&new)).await.unwrap().unwrap();
    let told = format!("{journey:?}");
    assert!(told.contains("held until 2027-01-15T08:01:00Z"), "{told}");
    assert!(
        told.contains("goes to smtp:relay.test from now on"),
        "{told}"
    );
    let attempt = journey.events.iter().find(|event| {
        use postrider_protocol::queue_v1::journey_event::What;
        matches!(event.what, Some(What::Attempt(_)))
    });
    assert_eq!(attempt.unwrap().instance, "delivery@test");
}
