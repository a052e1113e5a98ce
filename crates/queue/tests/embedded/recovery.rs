//! What is there after a crash, a cut, a flipped bit.

use std::sync::Arc;
use std::time::Duration;

use crate::support::act;
use postrider_protocol::queue_v1::delivery_status::State;
use postrider_protocol::queue_v1::{Filter, OutcomeKind};
use postrider_queue::store::embedded::NoFaults;
use postrider_queue::store::{Act, By, Find, PartialReturn, Store};

use crate::kit::{
    Kit, accept, assert_adds_up, complete, id, inline, message, outcome, pull_all, simple,
};

#[tokio::test]
async fn everything_is_there_after_a_crash() {
    let kit = Kit::new();
    let store = kit.open().await;
    let two = message(
        &[("a@a.test", "smtp:a.test"), ("b@b.test", "smtp:b.test")],
        b"two",
    );
    let held = simple(b"held");
    let done = simple(b"done");
    for new in [&two, &held, &done] {
        accept(&store, new).await;
    }
    let hold = Filter {
        queue_ids: vec![held.queue_id.clone()],
        ..Filter::default()
    };
    act(
        &store,
        Act::Hold { until_us: None },
        &hold,
        &By::default(),
        false,
    )
    .await;
    let pulled = pull_all(&store, "w").await;
    for delivery in &pulled {
        if delivery.queue_id == done.queue_id {
            complete(&store, outcome(delivery, OutcomeKind::Delivered)).await;
        } else if delivery.destination == "smtp:a.test" {
            complete(&store, outcome(delivery, OutcomeKind::Deferred)).await;
        }
    }
    let before = store.stats().await.unwrap();
    drop(store);

    let store = kit.open().await;
    assert_adds_up(&store).await;
    let after = store.stats().await.unwrap();
    assert_eq!(after.accepted, before.accepted);
    assert_eq!(after.delivered, before.delivered);
    assert_eq!(after.open, before.open);
    assert_eq!(after.held, 1);
    assert_eq!(after.unknown_outcomes, 1, "b.test was on its way");
    let again = pull_all(&store, "w").await;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].destination, "smtp:b.test");
    assert_eq!(again[0].attempt, 2);
    assert_eq!(inline(&again[0]), b"two");
    assert!(
        again[0].token > pulled[0].token,
        "tokens grow across restarts"
    );
    kit.clock.advance(Duration::from_secs(300));
    assert_eq!(pull_all(&store, "w").await[0].destination, "smtp:a.test");
    assert!(store.journey(id(&done)).await.unwrap().unwrap().ended);
    assert_eq!(
        store
            .find(&Find::MessageId(two.message_id.clone()), 3)
            .await
            .unwrap(),
        [id(&two)]
    );
}

#[tokio::test]
async fn a_closed_store_opens_as_it_was() {
    let kit = Kit::new();
    let store = kit.open().await;
    accept(&store, &simple(b"x")).await;
    store.close().await.unwrap();
    assert!(store.enqueue(vec![simple(b"y")]).await[0].is_err());
    drop(store);
    let store = kit.open().await;
    assert_eq!(pull_all(&store, "w").await.len(), 1);
}

#[tokio::test]
async fn a_folder_has_one_user() {
    let kit = Kit::new();
    let store = kit.open().await;
    let second = kit.try_open(Arc::new(NoFaults)).await;
    assert!(
        second
            .err()
            .unwrap()
            .to_string()
            .contains("another process")
    );
    drop(store);
    kit.open().await;
}

#[tokio::test]
async fn a_torn_end_loses_only_what_was_torn() {
    let kit = Kit::new();
    let store = kit.open().await;
    let first = simple(b"first");
    accept(&store, &first).await;
    let whole = written_length(&kit);
    accept(&store, &simple(b"second, which will be torn")).await;
    let end = written_length(&kit);
    drop(store);
    let segment = last_with_records(&kit);
    let bytes = std::fs::read(&segment).unwrap();
    let others = kit.segments().into_iter().filter(|path| *path != segment);
    others.for_each(|path| std::fs::remove_file(path).unwrap());
    for cut in whole..end {
        let copy = Kit {
            clock: kit.clock.clone(),
            ..Kit::new()
        };
        let log = copy.dir().join("log");
        std::fs::create_dir_all(&log).unwrap();
        std::fs::write(log.join(segment.file_name().unwrap()), &bytes[..cut]).unwrap();
        let store = copy.open().await;
        let pulled = pull_all(&store, "w").await;
        assert_eq!(pulled.len(), 1, "cut at {cut}");
        assert_eq!(inline(&pulled[0]), b"first");
        assert_adds_up(&store).await;
    }
}

#[tokio::test]
async fn a_flipped_bit_is_found_wherever_it_is() {
    let kit = Kit::new();
    let store = kit.open().await;
    accept(&store, &simple(b"first")).await;
    let from = written_length(&kit);
    let hurt = simple(b"the second one, in which a bit will flip");
    accept(&store, &hurt).await;
    let to = written_length(&kit);
    accept(&store, &simple(b"third")).await;
    drop(store);
    let segment = last_with_records(&kit);
    let bytes = std::fs::read(&segment).unwrap();
    for at in (from..to).step_by(7) {
        let copy = Kit {
            clock: kit.clock.clone(),
            ..Kit::new()
        };
        let log = copy.dir().join("log");
        std::fs::create_dir_all(&log).unwrap();
        let mut hurt_bytes = bytes.clone();
        hurt_bytes[at] ^= 0x10;
        std::fs::write(log.join(segment.file_name().unwrap()), hurt_bytes).unwrap();
        let store = copy.open().await;
        let pulled = pull_all(&store, "w").await;
        let contents: Vec<&[u8]> = pulled.iter().map(inline).collect();
        assert_eq!(contents, [&b"first"[..], b"third"], "flipped at {at}");
        // Where only the content is hurt, the message is kept for an operator to look at.
        let shown = store
            .list(
                &Filter {
                    held: true,
                    ..Filter::default()
                },
                None,
                9,
            )
            .await
            .unwrap();
        if let Some(shown) = shown.first() {
            assert_eq!(shown.queue_id, hurt.queue_id);
            assert_eq!(shown.state(), State::Held);
        }
        if at >= to - 30 {
            assert_eq!(shown.len(), 1, "flipped at {at}, in the content");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_back_of_a_lease_was_not_attempted() {
    let kit = Kit::new();
    let store = kit.open().await;
    let (begun, waits) = (simple(b"begun"), simple(b"waits"));
    accept(&store, &begun).await;
    accept(&store, &waits).await;
    // As the dispatcher names those who hold leases.
    let pulled = pull_all(&store, "w#0123456789abcdef").await;
    let of = |message| {
        let all = pulled.iter();
        let mut its = all.filter(|delivery| delivery.queue_id == id(message).to_string());
        its.next().unwrap()
    };
    let part = PartialReturn {
        token: pulled[0].token,
        deliveries: vec![of(&waits).delivery_id.parse().unwrap()],
        slots: 1,
    };
    store.give_back_part(vec![part]).await.unwrap();
    // What was written before is durable with this.
    accept(&store, &simple(b"later")).await;
    drop(store);
    let store = kit.open().await;
    assert_adds_up(&store).await;
    assert_eq!(store.stats().await.unwrap().unknown_outcomes, 1);
    let again = pull_all(&store, "v").await;
    let attempt = |message| {
        let all = again.iter();
        let mut its = all.filter(|delivery| delivery.queue_id == id(message).to_string());
        its.next().unwrap().attempt
    };
    assert_eq!((attempt(&begun), attempt(&waits)), (2, 1));
    let journey = store.journey(id(&begun)).await.unwrap();
    let told = format!("{journey:?}");
    let text = "\"outcome unknown after a crash; w had it\"";
    assert!(told.contains(text), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_go_and_stragglers_move() {
    let kit = Kit {
        segment_size: 1 << 20,
        ..Kit::new()
    };
    let store = kit.open().await;
    let old = message(
        &[("old@old.test", "smtp:old.test")],
        b"an old one that waits",
    );
    accept(&store, &old).await;
    let waiting = pull_all(&store, "w").await;
    complete(&store, outcome(&waiting[0], OutcomeKind::Deferred)).await;
    let mut last = None;
    for _ in 0..600 {
        let batch: Vec<_> = (0..4).map(|_| simple(&[b'x'; 8000])).collect();
        last = Some(id(&batch[0]));
        assert!(store.enqueue(batch).await.iter().all(Result::is_ok));
        let pulled = pull_all(&store, "w").await;
        let done = pulled
            .iter()
            .map(|delivery| outcome(delivery, OutcomeKind::Delivered))
            .collect();
        assert!(store.complete(done).await.iter().all(Result::is_ok));
        kit.clock.advance(Duration::from_millis(10));
        let tokens = pulled.iter().map(|delivery| delivery.token).collect();
        store.give_back(tokens).await.unwrap();
    }
    // The housekeeper works beside; it is done when the store is closed.
    store.close().await.unwrap();
    assert!(
        kit.segments().len() <= 8,
        "19 MiB went through: {:?}",
        kit.segments()
    );
    drop(store);
    let store = kit.open().await;
    assert_adds_up(&store).await;
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.delivered, stats.open), (2400, 1));
    let journey = store.journey(id(&old)).await.unwrap().unwrap();
    assert_eq!(journey.events.len(), 2, "{journey:?}");
    assert!(store.journey(last.unwrap()).await.unwrap().unwrap().ended);
    kit.clock.advance(Duration::from_secs(300));
    let again = pull_all(&store, "w").await;
    assert_eq!(inline(&again[0]), b"an old one that waits");
    assert_eq!(again[0].attempt, 2);
}

/// Bytes of the newest segment up to its last record.
fn written_length(kit: &Kit) -> usize {
    let bytes = std::fs::read(last_with_records(kit)).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1
}

fn last_with_records(kit: &Kit) -> std::path::PathBuf {
    kit.segments()
        .into_iter()
        .rev()
        .find(|path| {
            let bytes = std::fs::read(path).unwrap();
            bytes.get(32..36).is_some_and(|magic| magic != [0; 4])
        })
        .unwrap()
}
