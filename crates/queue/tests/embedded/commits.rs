//! Group commit, counted and not timed.

use std::sync::Arc;

use postrider_queue::store::Store;

use crate::kit::{Kit, accept, simple};

#[tokio::test]
async fn a_lone_client_gets_one_sync_a_message() {
    let kit = Kit::new();
    let store = kit.open().await;
    let before = store.stats().await.unwrap().syncs;
    for _ in 0..20 {
        accept(&store, &simple(b"x")).await;
    }
    assert_eq!(store.stats().await.unwrap().syncs - before, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_clients_share_syncs() {
    let kit = Kit::new();
    let store = Arc::new(kit.open_with(Arc::new(SlowDisk)).await);
    let before = store.stats().await.unwrap().syncs;
    let clients: Vec<_> = (0..64)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    accept(&store, &simple(&[b'x'; 4096])).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let syncs = store.stats().await.unwrap().syncs - before;
    assert!(syncs <= 640 / 8, "{syncs} syncs for 640 messages");
}

/// A sync takes as long as on an ordinary disk.
struct SlowDisk;

impl postrider_queue::store::embedded::Faults for SlowDisk {
    fn before_sync(&self) -> std::io::Result<()> {
        std::thread::sleep(std::time::Duration::from_millis(2));
        Ok(())
    }
}
