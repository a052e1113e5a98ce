//! A disk that fails.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use postrider_protocol::queue_v1::OutcomeKind;
use postrider_queue::store::embedded::Faults;
use postrider_queue::store::{Completed, Store, StoreError};

use crate::kit::{Kit, Synced, accept, assert_adds_up, outcome, pull_all, simple, until};

/// Fails on demand.
#[derive(Default)]
struct Switch {
    full: AtomicBool,
    /// So many writes are cut in the middle.
    cut: AtomicUsize,
    /// So many syncs fail.
    syncs: AtomicUsize,
    synced: Synced,
}

fn spend(count: &AtomicUsize) -> bool {
    count
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        })
        .is_ok()
}

impl Faults for Switch {
    fn before_write(&self, len: usize) -> io::Result<Option<usize>> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(spend(&self.cut).then_some(len / 2))
    }

    fn before_sync(&self, file: &Path) -> io::Result<()> {
        if spend(&self.syncs) {
            return Err(io::Error::other("bad sector"));
        }
        self.synced.note(file);
        Ok(())
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let kit = Kit::new();
    let faults = Arc::new(Switch::default());
    let store = kit.open_with(faults.clone()).await;
    accept(&store, &simple(b"before")).await;
    faults.full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let refused = store
            .enqueue(vec![simple(&[b'x'; 100_000])])
            .await
            .remove(0);
        assert!(
            matches!(refused, Err(StoreError::Unavailable(_))),
            "{refused:?}"
        );
    }
    faults.full.store(false, Ordering::SeqCst);
    accept(&store, &simple(b"after")).await;
    assert_eq!(pull_all(&store, "w").await.len(), 2);
    assert_eq!(store.stats().await.unwrap().accepted, 2);
    assert_adds_up(&store).await;
    drop(store);
    let store = kit.open().await;
    assert_eq!(store.stats().await.unwrap().accepted, 2);
    assert_eq!(pull_all(&store, "w").await.len(), 2);
}

#[tokio::test]
async fn memory_stays_bounded_while_the_disk_is_full() {
    let kit = Kit {
        segment_size: 64 << 20,
        ..Kit::new()
    };
    let faults = Arc::new(Switch::default());
    let store = kit.open_with(faults.clone()).await;
    faults.full.store(true, Ordering::SeqCst);
    let mut refused_at_once = 0;
    for _ in 0..100 {
        let error = store
            .enqueue(vec![simple(&[b'x'; 100_000])])
            .await
            .remove(0)
            .unwrap_err();
        refused_at_once += usize::from(error.to_string().contains("keep up"));
    }
    assert!(refused_at_once > 40, "{refused_at_once}");
    faults.full.store(false, Ordering::SeqCst);
    // The first asks after it may still meet what is left of the old trouble.
    let mut tries = 0;
    while let Err(error) = store.enqueue(vec![simple(b"after")]).await.remove(0) {
        tries += 1;
        assert!(tries < 1000, "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_cut_write_leaves_nothing_behind() {
    let kit = Kit::new();
    let faults = Arc::new(Switch::default());
    let store = kit.open_with(faults.clone()).await;
    faults.cut.store(1, Ordering::SeqCst);
    let refused = store
        .enqueue(vec![simple(b"cut"), simple(b"cut too")])
        .await;
    assert!(refused.iter().all(Result::is_err), "{refused:?}");
    accept(&store, &simple(b"whole")).await;
    assert_eq!(pull_all(&store, "w").await.len(), 1);
    drop(store);
    assert_eq!(pull_all(&kit.open().await, "w").await.len(), 1);
}

#[tokio::test]
async fn a_failed_sync_is_made_good_elsewhere() {
    let kit = Kit::new();
    let faults = Arc::new(Switch::default());
    let store = kit.open_with(faults.clone()).await;
    accept(&store, &simple(b"before")).await;
    faults.synced.the_next_segment(&kit).await;
    let newest = || kit.without_key().pop();
    let ahead = newest();
    faults.syncs.store(1, Ordering::SeqCst);
    accept(&store, &simple(b"written twice")).await;
    // The next segment took it, so that another one is made ahead.
    until("no new segment took it", async || newest() > ahead).await;
    let pulled = pull_all(&store, "w").await;
    assert_eq!(pulled.len(), 2);
    for delivery in &pulled {
        let done = store
            .complete(vec![outcome(delivery, OutcomeKind::Delivered)])
            .await;
        assert_eq!(done[0].clone().unwrap(), Completed::Done);
    }
    drop(store);
    let store = kit.open().await;
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.accepted, stats.delivered, stats.open), (2, 2, 0));
    assert_adds_up(&store).await;
}

#[tokio::test]
async fn a_disk_that_cannot_sync_loses_no_outcome() {
    let kit = Kit::new();
    let faults = Arc::new(Switch::default());
    let store = kit.open_with(faults.clone()).await;
    accept(&store, &simple(b"x")).await;
    let pulled = pull_all(&store, "w").await;
    faults.syncs.store(3, Ordering::SeqCst);
    let completion = outcome(&pulled[0], OutcomeKind::Delivered);
    let failed = store.complete(vec![completion.clone()]).await.remove(0);
    assert!(
        matches!(failed, Err(StoreError::Unavailable(_))),
        "{failed:?}"
    );
    // The worker asks again, as it does after STATUS_RETRY.
    let mut done = store.complete(vec![completion.clone()]).await.remove(0);
    if done.is_err() {
        done = store.complete(vec![completion]).await.remove(0);
    }
    assert_eq!(done.unwrap(), Completed::Done);
    drop(store);
    let stats = kit.open().await.stats().await.unwrap();
    assert_eq!(
        (stats.delivered, stats.open, stats.unknown_outcomes),
        (1, 0, 0)
    );
}
