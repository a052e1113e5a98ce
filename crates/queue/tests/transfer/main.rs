//! A queue that moves from store to store by a file takes everything along.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod world;

use postrider_queue::store::Find;
use postrider_queue::transfer;

use support::redis_server::RedisServer;
use world::Place;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_moves_from_disk_to_disk() {
    let from = Place::embedded();
    from.fill().await;
    let before = from.snapshot().await;
    assert!(before.messages.len() >= 8, "{}", before.messages.len());
    let file = from.file("queue.export");
    let exported = from.export(&file).await.unwrap();
    assert_eq!(exported.totals.messages, before.messages.len() as u64);
    assert_eq!(exported.totals.bodies, 1);
    assert_eq!(exported.totals.suspensions, 1);
    assert_eq!((exported.left_out, exported.without_body.len()), (0, 0));

    let to = Place::embedded();
    let imported = to.import(&file).await.unwrap();
    assert_eq!(imported.taken, exported.totals.messages);
    assert_eq!(to.snapshot().await, before);
    // Once more: nothing changes.
    let again = to.import(&file).await.unwrap();
    assert_eq!((again.taken, again.known), (0, exported.totals.messages));
    assert_eq!(to.snapshot().await, before);
    // And a second journey, from where it came to.
    let file = to.file("again.export");
    to.export(&file).await.unwrap();
    let third = Place::embedded();
    third.import(&file).await.unwrap();
    assert_eq!(third.snapshot().await, before);
    assert_eq!(to.check().await, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_moves_from_disk_to_redis_and_back() {
    let from = Place::embedded();
    from.fill().await;
    let before = from.snapshot().await;
    let file = from.file("queue.export");
    from.export(&file).await.unwrap();

    let server = RedisServer::start();
    let redis = Place::redis(&server);
    let taken = redis.import(&file).await.unwrap();
    assert_eq!(taken.taken, before.messages.len() as u64);
    before.assert_same(&redis.snapshot().await);
    let again = redis.import(&file).await.unwrap();
    assert_eq!((again.taken, again.known), (0, taken.taken));
    before.assert_same(&redis.snapshot().await);
    let store = redis.open().await;
    let stats = store.stats().await.unwrap();
    assert_eq!(
        stats.accepted,
        stats.open + stats.delivered + stats.failed + stats.removed
    );
    assert_eq!((stats.held, stats.delivered, stats.failed), (2, 1, 1));
    // What is due can be attempted there, and what was found before is found.
    let found = store
        .find(&Find::Sender("deferred@sender.test".to_owned()), 9)
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    store.close().await.unwrap();

    let file = redis.file("back.export");
    let exported = redis.export(&file).await.unwrap();
    assert_eq!((exported.left_out, exported.totals.bodies), (0, 1));
    let back = Place::embedded();
    back.import(&file).await.unwrap();
    before.assert_same(&back.snapshot().await);
    assert_eq!(back.check().await, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_filled_in_redis_moves_to_disk() {
    let server = RedisServer::start();
    let redis = Place::redis(&server);
    redis.fill().await;
    let before = redis.snapshot().await;
    let file = redis.file("queue.export");
    redis.export(&file).await.unwrap();
    let to = Place::embedded();
    to.import(&file).await.unwrap();
    before.assert_same(&to.snapshot().await);
}

/// A message with recipients in several partitions is one in the file, and nothing passes for left out
/// but what cannot be read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_several_partitions_is_exported_whole() {
    let server = RedisServer::start();
    let mut redis = Place::redis(&server);
    redis.config.redis.partitions = 8;
    redis.fill().await;
    let before = redis.snapshot().await;
    let store = redis.open().await;
    let messages = store.stats().await.unwrap().messages;
    assert!(messages > before.messages.len() as u64, "{messages}");
    store.close().await.unwrap();
    let file = redis.file("queue.export");
    let exported = redis.export(&file).await.unwrap();
    assert_eq!(exported.totals.messages, before.messages.len() as u64);
    assert_eq!(exported.left_out, 0);
    let to = Place::embedded();
    to.import(&file).await.unwrap();
    before.assert_same(&to.snapshot().await);

    let contents = server.command(&["KEYS", "pr1:*:b:*"]).unwrap();
    let contents: Vec<String> = redis::from_redis_value(contents).unwrap();
    server.command(&["DEL", &contents[0]]).unwrap();
    let exported = redis.export(&redis.file("less.export")).await.unwrap();
    assert_eq!(exported.left_out, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_on_its_way_is_not_exported_unasked() {
    let server = RedisServer::start();
    let redis = Place::redis(&server);
    redis.fill().await;
    let store = redis.open().await;
    world::take_something(&*store).await;
    let file = redis.file("queue.export");
    let error = redis.export(&file).await.unwrap_err().to_string();
    assert!(error.contains("being attempted"), "{error}");
    assert!(!file.exists());
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_not_whole_changes_nothing() {
    let from = Place::embedded();
    from.fill().await;
    let file = from.file("queue.export");
    from.export(&file).await.unwrap();
    let whole = std::fs::read(&file).unwrap();
    let to = Place::embedded();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let cut = &whole[..whole.len() - 1];
    for (bytes, what) in [
        (&flipped[..], "damaged"),
        (cut, "ends at byte"),
        (b"something else", "not a file"),
    ] {
        let bad = to.file("bad.export");
        std::fs::write(&bad, bytes).unwrap();
        let error = format!("{:#}", to.import(&bad).await.unwrap_err());
        assert!(error.contains(what), "{error}");
    }
    assert_eq!(to.snapshot().await.messages.len(), 0);
    // A file that is there is not written over.
    assert!(from.export(&file).await.is_err());
    assert_eq!(std::fs::read(&file).unwrap(), whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_body_is_told() {
    let from = Place::embedded();
    from.fill().await;
    std::fs::remove_dir_all(from.dir().join("bodies")).unwrap();
    let names = from.check().await;
    assert_eq!(names, ["missing-body"]);
    let exported = from.export(&from.file("queue.export")).await.unwrap();
    assert_eq!(exported.without_body.len(), 1);
    assert_eq!(exported.totals.bodies, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_in_survives_a_crash_and_counts() {
    let from = Place::embedded();
    from.fill().await;
    let file = from.file("queue.export");
    from.export(&file).await.unwrap();
    let before = from.snapshot().await;
    let to = Place::embedded();
    to.import(&file).await.unwrap();
    let store = to.open().await;
    drop(store);
    assert_eq!(to.snapshot().await, before);
    let store = to.open().await;
    let stats = store.stats().await.unwrap();
    let sum = |count: fn(&postrider_protocol::queue_v1::ExportedMessage) -> u64| {
        before.messages.values().map(count).sum::<u64>()
    };
    assert_eq!(stats.delivered, sum(|message| message.delivered));
    assert_eq!(stats.failed, sum(|message| message.failed));
    assert_eq!(
        stats.accepted,
        stats.open + stats.delivered + stats.failed + stats.removed
    );
    let totals: transfer::Totals = to
        .import(&file)
        .await
        .map(|done| done.totals)
        .unwrap_or_default();
    // The store is open here: an import finds it in use, and says so.
    assert_eq!(totals, transfer::Totals::default());
}
