//! What the store keeps beside the mail, and finds again.

use std::time::Duration;

use bytes::Bytes;
use postrider_protocol::queue_v1::{NewMessage, OutcomeKind, Suspension};
use postrider_queue::store::embedded::EmbeddedStore;
use postrider_queue::store::{Find, Record, Store};

use crate::kit::{Kit, accept, complete, id, outcome, pull_all, simple};

fn record(key: &str, version: u64, value: &str) -> Record {
    Record {
        kind: "act".to_owned(),
        key: key.to_owned(),
        version,
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

#[tokio::test]
async fn records_change_one_version_at_a_time() {
    let kit = Kit::new();
    let store = kit.open().await;
    assert!(!store.put_record(record("b", 2, "x")).await.unwrap());
    assert!(store.put_record(record("b", 1, "one")).await.unwrap());
    assert!(!store.put_record(record("b", 1, "again")).await.unwrap());
    assert!(store.put_record(record("b", 2, "two")).await.unwrap());
    assert!(store.put_record(record("a", 1, "")).await.unwrap());
    assert!(store.put_record(record("c", 1, "")).await.unwrap());
    store.delete_record("act", "c").await.unwrap();
    for wrong in [
        Record {
            kind: "with space".to_owned(),
            ..record("a", 1, "")
        },
        record("two words", 1, ""),
        record(&"k".repeat(129), 1, ""),
        record("big", 1, &"x".repeat(65_537)),
    ] {
        assert!(store.put_record(wrong).await.is_err());
    }
    drop(store);
    let store = kit.open().await;
    let all = store.records("act").await.unwrap();
    assert_eq!(all, [record("a", 1, ""), record("b", 2, "two")]);
    assert!(store.records("other").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_outlives_the_segments_that_it_was_written_to() {
    let kit = Kit {
        segment_size: 1 << 20,
        ..Kit::new()
    };
    let store = kit.open().await;
    for n in 0..20 {
        let key = format!("k{n}");
        assert!(store.put_record(record(&key, 1, "v")).await.unwrap());
    }
    store.delete_record("act", "k7").await.unwrap();
    assert!(store.put_record(record("k8", 2, "w")).await.unwrap());
    let suspended = Suspension {
        id: "s".to_owned(),
        tenant: "t".to_owned(),
        ..Suspension::default()
    };
    store.suspend(suspended.clone()).await.unwrap();
    let mut held = simple(b"suspended");
    "t".clone_into(&mut held.tenant);
    held.priority = -3;
    accept(&store, &held).await;
    for _ in 0..300 {
        let batch: Vec<_> = (0..8).map(|_| simple(&[b'x'; 8000])).collect();
        assert!(store.enqueue(batch).await.iter().all(Result::is_ok));
        let pulled = pull_all(&store, "w").await;
        let done = pulled
            .iter()
            .map(|delivery| outcome(delivery, OutcomeKind::Delivered))
            .collect();
        assert!(store.complete(done).await.iter().all(Result::is_ok));
        let tokens = pulled.iter().map(|delivery| delivery.token).collect();
        store.give_back(tokens).await.unwrap();
    }
    store.close().await.unwrap();
    let first = kit.segments().remove(0);
    let number = first.file_stem().unwrap().to_str().unwrap().parse::<u32>();
    assert!(
        number.unwrap() > 5,
        "the first segments are gone: {first:?}"
    );
    drop(store);
    let store = kit.open().await;
    let all = store.records("act").await.unwrap();
    assert_eq!(all.len(), 19);
    assert!(all.contains(&record("k8", 2, "w")));
    assert_eq!(store.suspensions().await.unwrap(), [suspended]);
    let listed = store.list(&Default::default(), None, 9).await.unwrap();
    assert_eq!(listed[0].suspensions, ["s"]);
    assert_eq!((listed[0].tenant.as_str(), listed[0].priority), ("t", -3));
    assert!(store.resume("s").await.unwrap());
    assert_eq!(pull_all(&store, "w").await.len(), 1);
}

#[tokio::test]
async fn messages_are_found_by_who_wrote_and_who_gets_them() {
    let kit = Kit::new();
    let store = kit.open().await;
    let mut messages: Vec<NewMessage> = Vec::new();
    for n in 0..40 {
        let mut new = simple(b"x");
        let envelope = new.envelope.as_mut().unwrap();
        envelope.reverse_path = match n % 4 {
            0 => String::new(),
            _ => format!("Sender{}@B.test", n % 4),
        };
        let mut second = envelope.recipients[0].clone();
        second.address = format!("r{}@A.test", n % 5);
        envelope.recipients.push(second);
        accept(&store, &new).await;
        messages.push(new);
    }
    let expected = |fits: &dyn Fn(usize) -> bool| -> Vec<_> {
        let fitting = (0..40).rev().filter(|n| fits(*n));
        fitting.map(|n| id(&messages[n])).collect()
    };
    let check = async |store: &EmbeddedStore| {
        for (what, wanted) in [
            (
                Find::Sender("sender1@b.test".into()),
                expected(&|n| n % 4 == 1),
            ),
            (Find::Sender(String::new()), expected(&|n| n % 4 == 0)),
            (
                Find::Recipient("R3@a.TEST".into()),
                expected(&|n| n % 5 == 3),
            ),
            (Find::Recipient("alice@a.test".into()), expected(&|_| true)),
            (Find::Recipient("nobody@a.test".into()), Vec::new()),
            (
                Find::MessageId(messages[7].message_id.clone()),
                vec![id(&messages[7])],
            ),
        ] {
            assert_eq!(store.find(&what, 100).await.unwrap(), wanted, "{what:?}");
            let newest = &wanted[..wanted.len().min(2)];
            assert_eq!(store.find(&what, 2).await.unwrap(), newest, "{what:?}");
        }
    };
    check(&store).await;
    // Half of them ends; they are in the archive then.
    for (n, delivery) in pull_all(&store, "w").await.iter().enumerate() {
        if n % 2 == 0 {
            complete(&store, outcome(delivery, OutcomeKind::Delivered)).await;
        }
    }
    check(&store).await;
    store.close().await.unwrap();
    drop(store);
    let store = kit.open().await;
    check(&store).await;
    kit.clock.advance(Duration::from_secs(25 * 3600));
    let left = store
        .find(&Find::Recipient("alice@a.test".into()), 100)
        .await;
    assert_eq!(left.unwrap().len(), 20, "what ended is forgotten in time");
}
