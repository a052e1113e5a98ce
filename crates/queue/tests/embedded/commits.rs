//! Group commit, counted and not timed.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use postrider_queue::store::Store;
use postrider_queue::store::embedded::{EmbeddedStore, Faults};

use crate::kit::{Kit, Synced, accept, simple, until};

/// Counts what really reaches the disk, and can hold it up.
#[derive(Default)]
struct Gate {
    syncs: AtomicUsize,
    synced: Synced,
    writes: AtomicUsize,
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn close(&self) {
        *self.closed.lock().unwrap() = true;
    }

    fn open(&self) {
        *self.closed.lock().unwrap() = false;
        self.opened.notify_all();
    }

    fn syncs(&self) -> usize {
        self.syncs.load(Ordering::SeqCst)
    }
}

impl Faults for Gate {
    fn before_write(&self, _len: usize) -> io::Result<Option<usize>> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        Ok(None)
    }

    fn before_sync(&self, file: &Path) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        self.synced.note(file);
        let closed = self.closed.lock().unwrap();
        drop(self.opened.wait_while(closed, |closed| *closed).unwrap());
        Ok(())
    }
}

/// A store whose next segment is made already, so that every sync from now on is a commit's.
async fn quiet(kit: &Kit, gate: &Arc<Gate>) -> EmbeddedStore {
    let store = kit.open_with(gate.clone()).await;
    gate.synced.the_next_segment(kit).await;
    store
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_client_gets_exactly_one_sync_and_one_write_a_message() {
    let kit = Kit::new();
    let gate = Arc::new(Gate::default());
    // The store's clock stands still: nothing that waits for a time would ever happen.
    let store = quiet(&kit, &gate).await;
    let (syncs, writes) = (gate.syncs(), gate.writes.load(Ordering::SeqCst));
    for done in 1..=20 {
        accept(&store, &simple(b"x")).await;
        assert_eq!(gate.syncs() - syncs, done);
        assert_eq!(gate.writes.load(Ordering::SeqCst) - writes, done);
    }
    let stats = store.stats().await.unwrap();
    assert_eq!(stats.messages, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_who_come_while_a_sync_is_under_way_share_the_next() {
    let kit = Kit::new();
    let gate = Arc::new(Gate::default());
    let store = Arc::new(quiet(&kit, &gate).await);
    let (syncs, commits) = (gate.syncs(), store.stats().await.unwrap().commits);
    let enqueue = |store: &Arc<EmbeddedStore>| {
        let store = store.clone();
        tokio::spawn(async move { accept(&store, &simple(&[b'x'; 4096])).await })
    };
    gate.close();
    let mut clients = vec![enqueue(&store)];
    until("the first is not synced at once", async || {
        gate.syncs() - syncs == 1
    })
    .await;
    clients.extend((1..64).map(|_| enqueue(&store)));
    until("the others do not come in", async || {
        store.stats().await.unwrap().commits - commits == 64
    })
    .await;
    assert!(clients.iter().all(|client| !client.is_finished()));
    gate.open();
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(gate.syncs() - syncs, 2, "one for the first, one for 63");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_clients_need_at_most_one_sync_for_eight_messages() {
    let kit = Kit::new();
    let gate = Arc::new(Gate::default());
    let store = Arc::new(quiet(&kit, &gate).await);
    let before = store.stats().await.unwrap();
    for round in 1..=10 {
        // A sync takes until all have come, as on a disk that is slower than they are.
        gate.close();
        let clients: Vec<_> = (0..64)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { accept(&store, &simple(&[b'x'; 4096])).await })
            })
            .collect();
        until("not all come in", async || {
            store.stats().await.unwrap().commits - before.commits == 64 * round
        })
        .await;
        gate.open();
        for client in clients {
            client.await.unwrap();
        }
    }
    let syncs = store.stats().await.unwrap().syncs - before.syncs;
    assert!(syncs <= 640 / 8, "{syncs} syncs for 640 messages");
}
