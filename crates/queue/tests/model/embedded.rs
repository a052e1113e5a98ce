//! The embedded store as subject: a folder, a clock that is set by hand, a disk that fails when it is
//! told to.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use postrider_queue::store::clock::ManualClock;
use postrider_queue::store::embedded::{EmbeddedSettings, EmbeddedStore, Faults};
use postrider_queue::store::{Store, StoreError, StoreSettings};
use tempfile::TempDir;

use crate::history::{Plan, Stage, play_all};
use crate::kind::LOCAL;
use crate::subject::{BEGIN_US, Crash, Subject, settings};

#[test]
fn embedded_does_what_the_model_does() {
    let plan = Plan {
        histories: 1000,
        steps: 60,
        crashes: 20,
        server_crashes: 0,
        faults: 15,
        abandons: 10,
        kind: LOCAL,
    };
    play_all(plan, || EmbeddedStage);
}

struct EmbeddedStage;

impl Stage for EmbeddedStage {
    type Subject = EmbeddedSubject;

    async fn fresh(&mut self) -> EmbeddedSubject {
        let mut subject = EmbeddedSubject {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::at(BEGIN_US)),
            disk: Arc::new(Disk(AtomicU64::new(u64::MAX))),
            store: None,
        };
        subject.open().await;
        subject
    }
}

/// How many more writes succeed.
struct Disk(AtomicU64);

impl Disk {
    fn spend(&self) -> io::Result<()> {
        let spend = |left: u64| match left {
            u64::MAX => Some(u64::MAX),
            left => left.checked_sub(1),
        };
        match self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend)
        {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other("the disk fails, as it was told to")),
        }
    }
}

impl Faults for Disk {
    fn before_write(&self, len: usize) -> io::Result<Option<usize>> {
        // Half of what is refused reaches the disk.
        Ok(self.spend().err().map(|_| len / 2))
    }

    fn before_sync(&self, _file: &Path) -> io::Result<()> {
        self.spend()
    }
}

struct EmbeddedSubject {
    dir: TempDir,
    clock: Arc<ManualClock>,
    disk: Arc<Disk>,
    store: Option<Arc<EmbeddedStore>>,
}

impl EmbeddedSubject {
    async fn open(&mut self) {
        // A crash: the store is dropped without a word before its folder is opened again.
        self.store = None;
        let embedded = EmbeddedSettings {
            segment_size: 1 << 20,
            reserve: 0,
            cache: 4096,
            clock: self.clock.clone(),
            faults: self.disk.clone(),
            ..EmbeddedSettings::in_dir(self.dir.path())
        };
        // A server that another thread starts at this moment holds a copy of the folder's lock until it
        // becomes another program.
        let mut opened = EmbeddedStore::open(embedded.clone(), self.settings()).await;
        for _ in 0..100 {
            match &opened {
                Err(StoreError::Unavailable(text)) if text.contains("another process") => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    opened = EmbeddedStore::open(embedded.clone(), self.settings()).await;
                }
                _ => break,
            }
        }
        self.store = Some(Arc::new(opened.unwrap()));
    }
}

#[async_trait]
impl Subject for EmbeddedSubject {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone().unwrap()
    }

    async fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
    }

    async fn crash(&mut self, _how: Crash) {
        self.open().await;
    }

    async fn break_down(&mut self, writes: u64) {
        self.disk.0.store(writes, Ordering::SeqCst);
    }

    async fn mend(&mut self) {
        self.store = None;
        self.disk.0.store(u64::MAX, Ordering::SeqCst);
        self.open().await;
    }

    async fn replace(&mut self) {
        self.store = None;
        self.dir = tempfile::tempdir().unwrap();
        self.open().await;
    }

    fn leases_survive(&self) -> bool {
        false
    }

    fn forgets(&self) -> bool {
        true
    }

    fn settings(&self) -> StoreSettings {
        settings()
    }
}
