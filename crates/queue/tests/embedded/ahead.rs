//! The segment that is made ahead, needed while it is made.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use postrider_protocol::queue_v1::NewMessage;
use postrider_queue::store::Store as _;
use postrider_queue::store::embedded::Faults;

use crate::kit::{Kit, message, pull_all};

/// Bytes with which every segment begins.
const PREFACE: usize = 32;

/// Holds housekeeping up where it begins to make a segment.
#[derive(Default)]
struct Hold {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    held: bool,
    let_go: bool,
    /// Another thread makes a segment at the same time.
    together: bool,
}

impl Faults for Hold {
    fn before_write(&self, len: usize) -> io::Result<Option<usize>> {
        if len == PREFACE {
            let mut state = self.state.lock().unwrap();
            if std::thread::current().name() == Some("queue-housekeep") {
                state.held = true;
                self.changed.notify_all();
                drop(self.changed.wait_while(state, |it| !it.let_go).unwrap());
            } else {
                state.together = state.held && !state.let_go;
                self.changed.notify_all();
            }
        }
        Ok(None)
    }
}

impl Hold {
    fn wait_until_held(&self) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |it| !it.held).unwrap());
    }

    /// Lets go, after it left another thread the time to make the same segment. Whether one did.
    fn let_go(&self) -> bool {
        let state = self.state.lock().unwrap();
        let time = Duration::from_millis(300);
        let waited = self
            .changed
            .wait_timeout_while(state, time, |it| !it.together);
        let (mut state, _) = waited.unwrap();
        state.let_go = true;
        self.changed.notify_all();
        state.together
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_is_made_ahead_is_made_once() {
    let kit = Kit {
        segment_size: 12 << 10,
        ..Kit::new()
    };
    let hold = Arc::new(Hold::default());
    let store = Arc::new(kit.open_with(hold.clone()).await);
    hold.wait_until_held();
    let large = |n: u8| message(&[("x@a.test", "smtp:a.test")], &[n; 3000]);
    let messages: Vec<NewMessage> = (0..6).map(large).collect();
    let accepted = messages.iter().map(|new| {
        let (store, new) = (store.clone(), new.clone());
        tokio::spawn(async move { store.enqueue(vec![new]).await.remove(0).unwrap() })
    });
    let accepted: Vec<_> = accepted.collect();
    assert!(!hold.let_go(), "two threads make the same file");
    for accepted in accepted {
        accepted.await.unwrap();
    }
    drop(store);
    let pulled = pull_all(&kit.open().await, "w").await;
    assert_eq!(pulled.len(), messages.len());
}
