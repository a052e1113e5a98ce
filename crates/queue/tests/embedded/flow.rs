//! Messages go in, deliveries come out, outcomes end them.

use std::time::Duration;

use crate::support::act;
use postrider_protocol::queue_v1::leased_delivery::Disposition;
use postrider_protocol::queue_v1::{Filter, OutcomeKind, journey_event};
use postrider_queue::store::embedded::EmbeddedStore;
use postrider_queue::store::{Act, By, Completed, Enqueued, Find, Store, Wake};

use crate::kit::{
    Kit, LEASE, LIFETIME, accept, assert_adds_up, complete, id, inline, lease, message, outcome,
    pull_all, simple,
};

#[tokio::test]
async fn a_message_goes_through() {
    let kit = Kit::new();
    let store = kit.open().await;
    let mut wakes = store.watch();
    let new = simple(b"Subject: hello\r\n\r\nhello\r\n");
    accept(&store, &new).await;
    assert_eq!(
        wakes.recv().await.unwrap(),
        Wake::Destination("smtp:a.test".parse().unwrap())
    );
    let pulled = pull_all(&store, "w").await;
    assert_eq!(pulled.len(), 1);
    assert_eq!(inline(&pulled[0]), b"Subject: hello\r\n\r\nhello\r\n");
    assert_eq!(pulled[0].attempt, 1);
    assert_eq!(pulled[0].disposition(), Disposition::Attempt);
    let done = complete(&store, outcome(&pulled[0], OutcomeKind::Delivered)).await;
    assert_eq!(done, Completed::Done);
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.accepted, stats.delivered, stats.open), (1, 1, 0));
    let journey = store.journey(id(&new)).await.unwrap().unwrap();
    assert!(journey.ended);
    assert!(matches!(
        journey.events[0].what,
        Some(journey_event::What::Queued(_))
    ));
    assert!(matches!(
        journey.events[1].what,
        Some(journey_event::What::Attempt(_))
    ));
    let found = store
        .find(&Find::MessageId(new.message_id.clone()), 5)
        .await
        .unwrap();
    assert_eq!(found, [id(&new)]);
}

#[tokio::test]
async fn accepting_is_idempotent_for_as_long_as_the_journey_is_kept() {
    let kit = Kit::new();
    let store = kit.open().await;
    let new = simple(b"x");
    accept(&store, &new).await;
    let again =
        async |store: &EmbeddedStore| store.enqueue(vec![new.clone()]).await.remove(0).unwrap();
    assert_eq!(again(&store).await, Enqueued::AlreadyAccepted);
    let pulled = pull_all(&store, "w").await;
    complete(&store, outcome(&pulled[0], OutcomeKind::Delivered)).await;
    assert_eq!(again(&store).await, Enqueued::AlreadyAccepted);
    store.close().await.unwrap();
    drop(store);
    let store = kit.open().await;
    assert_eq!(again(&store).await, Enqueued::AlreadyAccepted);
    kit.clock.advance(Duration::from_secs(25 * 3600));
    assert_eq!(again(&store).await, Enqueued::Accepted);
}

#[tokio::test]
async fn recipients_end_one_by_one() {
    let kit = Kit::new();
    let store = kit.open().await;
    let new = message(
        &[
            ("a@a.test", "smtp:a.test"),
            ("b@a.test", "smtp:a.test"),
            ("c@a.test", "smtp:a.test"),
            ("d@b.test", "smtp:b.test"),
        ],
        b"x",
    );
    accept(&store, &new).await;
    let pulled = pull_all(&store, "w").await;
    assert_eq!(pulled.len(), 2);
    let mut completion = outcome(&pulled[0], OutcomeKind::Delivered);
    completion.attempt.outcomes[1].kind = OutcomeKind::Deferred as i32;
    completion.attempt.outcomes[1].reply_text = "later".to_owned();
    completion.attempt.outcomes[2].kind = OutcomeKind::Failed as i32;
    complete(&store, completion).await;
    complete(&store, outcome(&pulled[1], OutcomeKind::Delivered)).await;
    assert_adds_up(&store).await;
    assert!(pull_all(&store, "w").await.is_empty());
    assert_eq!(
        store.expire().await.unwrap(),
        Some(LEASE),
        "the idle leases end first"
    );
    kit.clock.advance(Duration::from_secs(300));
    let again = pull_all(&store, "w").await;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].attempt, 2);
    let recipients = &again[0].envelope.as_ref().unwrap().recipients;
    assert_eq!(recipients.len(), 1);
    assert_eq!(recipients[0].address, "b@a.test");
    assert_eq!(again[0].last_outcomes[0].reply_text, "later");
    // Nothing said about an open recipient: due again at once.
    let mut silent = outcome(&again[0], OutcomeKind::Delivered);
    silent.attempt.outcomes.clear();
    complete(&store, silent).await;
    let token = again[0].token;
    let third = store.pull(token, 9).await.unwrap().unwrap();
    assert_eq!(third[0].attempt, 3);
    assert_eq!(third[0].last_outcomes[0].reply_text, "later");
    kit.clock.advance(Duration::from_secs(1));
    complete(&store, outcome(&third[0], OutcomeKind::Delivered)).await;
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.delivered, stats.failed, stats.messages), (3, 1, 0));
}

#[tokio::test]
async fn a_stale_lease_changes_nothing() {
    let kit = Kit::new();
    let store = kit.open().await;
    accept(&store, &simple(b"x")).await;
    let first = pull_all(&store, "slow").await;
    kit.clock.advance(LEASE);
    assert_eq!(
        store.renew(vec![first[0].token]).await.unwrap().stale,
        [first[0].token]
    );
    assert!(store.pull(first[0].token, 1).await.unwrap().is_none());
    store.expire().await.unwrap();
    let second = pull_all(&store, "other").await;
    assert_eq!(
        second[0].attempt, 2,
        "an unknown outcome counts as an attempt"
    );
    assert!(second[0].token > first[0].token);
    let stale = complete(&store, outcome(&first[0], OutcomeKind::Failed)).await;
    assert_eq!(stale, Completed::Stale);
    let mut forged = outcome(&first[0], OutcomeKind::Failed);
    forged.token = second[0].token;
    assert_eq!(
        complete(&store, forged).await,
        Completed::Stale,
        "another attempt's number"
    );
    let delivered = outcome(&second[0], OutcomeKind::Delivered);
    assert_eq!(complete(&store, delivered.clone()).await, Completed::Done);
    assert_eq!(
        complete(&store, delivered).await,
        Completed::Done,
        "repeated"
    );
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.delivered, stats.failed), (1, 0));
    assert_eq!((stats.stale_completions, stats.unknown_outcomes), (2, 1));
}

#[tokio::test]
async fn slots_are_the_destinations() {
    let kit = Kit::new();
    let store = kit.open().await;
    for _ in 0..10 {
        accept(&store, &simple(b"x")).await;
    }
    let a = lease(&store, "a", 3).await;
    assert_eq!((a.len(), a[0].slots), (1, 3));
    let b = lease(&store, "b", 10).await;
    assert_eq!(b[0].slots, 1, "four in all");
    assert!(lease(&store, "c", 10).await.is_empty());
    store.give_back(vec![b[0].token]).await.unwrap();
    let grown = lease(&store, "a", 10).await;
    assert_eq!((grown[0].token, grown[0].slots), (a[0].token, 4));
}

#[tokio::test]
async fn a_lease_grows_with_what_is_due() {
    let kit = Kit::new();
    let store = kit.open().await;
    accept(&store, &simple(b"x")).await;
    let one = lease(&store, "w", 100).await;
    assert_eq!(one[0].slots, 1);
    assert!(lease(&store, "w", 100).await.is_empty(), "its slot is idle");
    assert_eq!(store.pull(one[0].token, 5).await.unwrap().unwrap().len(), 1);
    for _ in 0..2 {
        accept(&store, &simple(b"x")).await;
    }
    let grown = lease(&store, "w", 100).await;
    assert_eq!((grown[0].token, grown[0].slots), (one[0].token, 3));
}

#[tokio::test]
async fn the_end_of_the_lifetime_is_leased_once_more() {
    let kit = Kit::new();
    let store = kit.open().await;
    accept(&store, &simple(b"x")).await;
    let pulled = pull_all(&store, "w").await;
    kit.clock.advance(Duration::from_secs(1));
    let mut deferred = outcome(&pulled[0], OutcomeKind::Deferred);
    deferred.retry_after = LIFETIME * 2;
    complete(&store, deferred).await;
    kit.clock.advance(LIFETIME);
    let expired = pull_all(&store, "w").await;
    assert_eq!(expired[0].disposition(), Disposition::Expired);
    let mut failed = outcome(&expired[0], OutcomeKind::Failed);
    let dsn = message(&[("bob@sender.test", "smtp:sender.test")], b"sorry");
    failed.dsn.push(dsn.clone());
    complete(&store, failed).await;
    let bounce = pull_all(&store, "w").await;
    assert_eq!(inline(&bounce[0]), b"sorry");
    assert_eq!(bounce[0].queue_id, dsn.queue_id);
    assert_adds_up(&store).await;
}

#[tokio::test]
async fn operators_act() {
    let kit = Kit::new();
    let store = kit.open().await;
    let held = simple(b"held");
    let gone = simple(b"gone");
    accept(&store, &held).await;
    accept(&store, &gone).await;
    let by = By {
        operator: "ann".to_owned(),
        reason: "looks odd".to_owned(),
    };
    let only = |message: &postrider_protocol::queue_v1::NewMessage| Filter {
        queue_ids: vec![message.queue_id.clone()],
        ..Filter::default()
    };
    let acted = act(
        &store,
        Act::Hold { until_us: None },
        &only(&held),
        &by,
        true,
    )
    .await;
    assert_eq!((acted.matched, acted.changed), (1, 0), "only a preview");
    let acted = act(
        &store,
        Act::Hold { until_us: None },
        &only(&held),
        &by,
        false,
    )
    .await;
    assert_eq!((acted.changed, acted.sample), (1, vec![id(&held)]));
    let acted = act(&store, Act::Remove, &only(&gone), &by, false).await;
    assert_eq!(acted.changed, 1);
    assert!(pull_all(&store, "w").await.is_empty());
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.held, stats.removed, stats.open), (1, 1, 1));
    let shown = store
        .list(
            &Filter {
                held: true,
                ..Filter::default()
            },
            None,
            10,
        )
        .await
        .unwrap();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].recipients, ["alice@a.test"]);
    act(&store, Act::Bounce, &Filter::default(), &by, false).await;
    let bounced = pull_all(&store, "w").await;
    assert_eq!(bounced[0].disposition(), Disposition::Bounce);
    let journey = store.journey(id(&held)).await.unwrap().unwrap();
    let notices: Vec<_> = journey
        .events
        .iter()
        .filter_map(|event| match &event.what {
            Some(journey_event::What::Notice(notice)) => {
                Some((notice.operator.as_str(), notice.text.as_str()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        notices,
        [
            ("ann", "delivery to smtp:a.test held: looks odd"),
            ("ann", "delivery to smtp:a.test bounced: looks odd"),
        ]
    );
    assert_adds_up(&store).await;
}

#[tokio::test]
async fn pages_follow_one_another() {
    let kit = Kit::new();
    let store = kit.open().await;
    let mut ids = Vec::new();
    for n in 0..25 {
        let mut new = message(
            &[("x@a.test", "smtp:a.test"), ("y@b.test", "smtp:b.test")],
            b"x",
        );
        if n % 2 == 0 {
            new.envelope.as_mut().unwrap().reverse_path = "Carol@Sender.test".to_owned();
        }
        accept(&store, &new).await;
        ids.push(id(&new));
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = store.list(&Filter::default(), after, 7).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.delivery_id.parse().unwrap());
        seen.extend(page.into_iter().map(|status| status.delivery_id));
    }
    let expected: Vec<String> = ids
        .iter()
        .flat_map(|id| [format!("{id}.0"), format!("{id}.1")])
        .collect();
    assert_eq!(seen, expected);
    let filter = Filter {
        sender: "carol@sender.test".to_owned(),
        recipient: "Y@b.test".to_owned(),
        ..Filter::default()
    };
    assert_eq!(store.list(&filter, None, 100).await.unwrap().len(), 13);
}
