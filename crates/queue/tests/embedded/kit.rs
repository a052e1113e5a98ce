//! A store in a folder that is opened, dropped and opened again.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::{
    Attempt, Body, Envelope, LeasedDelivery, NewMessage, OutcomeKind, Recipient, RecipientOutcome,
    body,
};
use postrider_queue::policy::{Policies, Policy};
use postrider_queue::store::clock::ManualClock;
use postrider_queue::store::embedded::{EmbeddedSettings, EmbeddedStore, Faults, NoFaults};
use postrider_queue::store::{
    Completed, Completion, Enqueued, Grant, LeaseRequest, Store, StoreSettings,
};

pub(crate) const LEASE: Duration = Duration::from_secs(15);
pub(crate) const LIFETIME: Duration = Duration::from_secs(5 * 24 * 3600);

pub(crate) struct Kit {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) segment_size: u64,
    pub(crate) slots: u32,
    pub(crate) policies: Policies,
}

impl Kit {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::at(1_800_000_000_000_000)),
            segment_size: 4 << 20,
            slots: 4,
            policies: Policies {
                default: Policy {
                    lifetime: LIFETIME,
                    ..Policy::default()
                },
                ..Policies::default()
            },
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn open(&self) -> EmbeddedStore {
        self.open_with(Arc::new(NoFaults)).await
    }

    pub(crate) async fn open_with(&self, faults: Arc<dyn Faults>) -> EmbeddedStore {
        self.try_open(faults).await.unwrap()
    }

    pub(crate) async fn try_open(
        &self,
        faults: Arc<dyn Faults>,
    ) -> Result<EmbeddedStore, postrider_queue::store::StoreError> {
        let settings = EmbeddedSettings {
            segment_size: self.segment_size,
            reserve: 0,
            clock: self.clock.clone(),
            faults,
            ..EmbeddedSettings::in_dir(self.dir())
        };
        EmbeddedStore::open(
            settings,
            StoreSettings {
                lease: LEASE,
                slots_per_destination: self.slots,
                policies: Arc::new(self.policies.clone()),
                journey_retention: Duration::from_secs(24 * 3600),
                instance: "queue@test".to_owned(),
            },
        )
        .await
    }

    /// The files of the log: its segments, the oldest first and the one made ahead last, and the key's.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let mut paths: Vec<_> = std::fs::read_dir(self.dir().join("log"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths
    }

    /// The segments alone: all but the file of the key.
    pub(crate) fn without_key(&self) -> Vec<PathBuf> {
        let mut paths = self.segments();
        paths.retain(|path| path.extension().is_some_and(|it| it == "log"));
        paths
    }
}

/// Which files were synced, for faults to note.
#[derive(Default)]
pub(crate) struct Synced(Mutex<HashSet<PathBuf>>);

impl Synced {
    pub(crate) fn note(&self, file: &Path) {
        self.0.lock().unwrap().insert(file.to_owned());
    }

    /// Waits until the next segment is made ahead, so that every sync from now on is a commit's.
    pub(crate) async fn the_next_segment(&self, kit: &Kit) {
        until("no segment is made ahead", async || {
            let segments = kit.without_key();
            let synced = self.0.lock().unwrap();
            segments.len() == 2 && segments.iter().all(|path| synced.contains(path))
        })
        .await;
    }
}

pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..2000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what}");
}

/// A message to these recipients ("address destination").
pub(crate) fn message(recipients: &[(&str, &str)], content: &[u8]) -> NewMessage {
    let id = QueueId::new();
    NewMessage {
        queue_id: id.to_string(),
        message_id: format!("{id}@test"),
        envelope: Some(Envelope {
            reverse_path: "bob@sender.test".to_owned(),
            recipients: recipients
                .iter()
                .map(|(address, destination)| Recipient {
                    address: (*address).to_owned(),
                    destination: (*destination).to_owned(),
                    ..Recipient::default()
                })
                .collect(),
            ..Envelope::default()
        }),
        body: Some(Body {
            size: content.len() as u64,
            content: Some(body::Content::Inline(Bytes::copy_from_slice(content))),
        }),
        ..NewMessage::default()
    }
}

pub(crate) fn simple(content: &[u8]) -> NewMessage {
    message(&[("alice@a.test", "smtp:a.test")], content)
}

pub(crate) fn id(message: &NewMessage) -> QueueId {
    message.queue_id.parse().unwrap()
}

pub(crate) async fn accept(store: &EmbeddedStore, message: &NewMessage) {
    let results = store.enqueue(vec![message.clone()]).await;
    assert_eq!(results[0].as_ref().unwrap(), &Enqueued::Accepted);
}

pub(crate) async fn lease(store: &EmbeddedStore, worker: &str, slots: u32) -> Vec<Grant> {
    let request = LeaseRequest {
        worker: worker.to_owned(),
        transports: vec!["smtp".to_owned(), "mailbox".to_owned()],
        slots,
    };
    store.lease(request, 100).await.unwrap()
}

/// Leases and pulls everything that is due.
pub(crate) async fn pull_all(store: &EmbeddedStore, worker: &str) -> Vec<LeasedDelivery> {
    let mut pulled = Vec::new();
    for grant in lease(store, worker, 1000).await {
        pulled.extend(store.pull(grant.token, 1000).await.unwrap().unwrap());
    }
    pulled
}

pub(crate) fn inline(delivery: &LeasedDelivery) -> &[u8] {
    match delivery.body.as_ref().unwrap().content.as_ref().unwrap() {
        body::Content::Inline(content) => content,
        body::Content::Stored(name) => panic!("stored as {name}"),
    }
}

/// A completion that gives every recipient this outcome.
pub(crate) fn outcome(delivery: &LeasedDelivery, kind: OutcomeKind) -> Completion {
    let envelope = delivery.envelope.as_ref().unwrap();
    Completion {
        delivery: delivery.delivery_id.parse().unwrap(),
        token: delivery.token,
        attempt: Attempt {
            destination: delivery.destination.clone(),
            number: delivery.attempt,
            outcomes: envelope
                .recipients
                .iter()
                .map(|recipient| RecipientOutcome {
                    address: recipient.address.clone(),
                    kind: kind as i32,
                    reply_code: 250,
                    ..RecipientOutcome::default()
                })
                .collect(),
            ..Attempt::default()
        },
        retry_after: Duration::from_secs(300),
        dsn: Vec::new(),
        delay_warned: false,
        worker: "delivery@test".to_owned(),
    }
}

pub(crate) async fn complete(store: &EmbeddedStore, completion: Completion) -> Completed {
    store.complete(vec![completion]).await.remove(0).unwrap()
}

/// Invariant 2: nobody vanishes.
pub(crate) async fn assert_adds_up(store: &EmbeddedStore) {
    let stats = store.stats().await.unwrap();
    assert_eq!(
        stats.accepted,
        stats.open + stats.delivered + stats.failed + stats.removed,
        "{stats:?}"
    );
}
