//! A place where a queue is, and a queue with a bit of everything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use postrider_config::ServerConfig;
use postrider_protocol::api::Queue as _;
use postrider_protocol::queue_v1::{
    Attempt, Body, Envelope, ExportedMessage, JourneyEvent, LeasedDelivery, NewMessage, Notice,
    OutcomeKind, Recipient, RecipientOutcome, Suspension, body, journey_event,
};
use postrider_protocol::{DeliveryId, QueueId};
use postrider_queue::store::embedded::{EmbeddedSettings, EmbeddedStore};
use postrider_queue::store::redis::RedisStore;
use postrider_queue::store::{Act, By, Completion, LeaseRequest, Record, Store, StoreSettings};
use postrider_queue::transfer::{self, Exported, Imported};
use postrider_queue::{QueueConfig, QueueService, StoreKind};

use crate::support::redis_server::RedisServer;

/// A data folder with its settings.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    server: ServerConfig,
    pub(crate) config: QueueConfig,
}

/// All that a store says of its queue.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) messages: BTreeMap<String, ExportedMessage>,
    pub(crate) suspensions: Vec<Suspension>,
    pub(crate) records: Vec<(String, Bytes)>,
}

impl Snapshot {
    /// Compares message by message: a difference is easier to see.
    pub(crate) fn assert_same(&self, other: &Self) {
        for (id, message) in &self.messages {
            assert_eq!(Some(message), other.messages.get(id));
        }
        assert_eq!(self.messages.len(), other.messages.len());
        assert_eq!(self.suspensions, other.suspensions);
        assert_eq!(self.records, other.records);
    }
}

impl Place {
    pub(crate) fn embedded() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = QueueConfig::default();
        config.embedded.segment_size.0 = 1 << 20;
        config.embedded.reserve.0 = 0;
        Self {
            server: ServerConfig {
                data_dir: dir.path().to_owned(),
                ..ServerConfig::default()
            },
            dir,
            config,
        }
    }

    /// The same with its queue in a Redis.
    pub(crate) fn redis(redis: &RedisServer) -> Self {
        let mut place = Self::embedded();
        place.config.store = StoreKind::Redis;
        place.config.redis = redis.config();
        place
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    pub(crate) async fn export(&self, file: &Path) -> anyhow::Result<Exported> {
        transfer::export(&self.server, &self.config, file, false, |_| {}).await
    }

    pub(crate) async fn import(&self, file: &Path) -> anyhow::Result<Imported> {
        transfer::import(&self.server, &self.config, file, |_| {}).await
    }

    /// Kinds of what `store check` finds.
    pub(crate) async fn check(&self) -> Vec<&'static str> {
        let report = postrider_queue::check::check(&self.server, &self.config)
            .await
            .unwrap();
        let findings = report.store.findings.iter();
        findings.map(|finding| finding.kind.name()).collect()
    }

    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        let settings = StoreSettings {
            lease: Duration::from_secs(15),
            slots_per_destination: 20,
            policies: self.config.policies(),
            journey_retention: Duration::from_secs(24 * 3600),
            instance: "queue@test".to_owned(),
        };
        if self.config.store == StoreKind::Redis {
            return RedisStore::open(&self.config.redis, settings)
                .await
                .unwrap();
        }
        let embedded = EmbeddedSettings {
            segment_size: 1 << 20,
            reserve: 0,
            ..EmbeddedSettings::in_dir(&self.dir().join("queue"))
        };
        Arc::new(EmbeddedStore::open(embedded, settings).await.unwrap())
    }

    pub(crate) async fn snapshot(&self) -> Snapshot {
        let store = self.open().await;
        let mut messages = BTreeMap::new();
        let mut after = None;
        loop {
            let page = store.export(after, 3).await.unwrap();
            let Some(last) = page.last() else {
                break;
            };
            after = Some(last.message.as_ref().unwrap().queue_id.parse().unwrap());
            for message in page {
                let id = message.message.as_ref().unwrap().queue_id.clone();
                messages.insert(id, message);
            }
        }
        let records = store.records("act").await.unwrap();
        let snapshot = Snapshot {
            messages,
            suspensions: store.suspensions().await.unwrap(),
            records: records
                .into_iter()
                .map(|record| (record.key, record.value))
                .collect(),
        };
        store.close().await.unwrap();
        snapshot
    }

    /// Fills the queue: new, deferred, partly delivered, held, held for a time, bounced, with an
    /// unknown outcome, warned of, re-routed, with a release in the future, with a stored body.
    pub(crate) async fn fill(&self) {
        self.store_a_body().await;
        let store = self.open().await;
        let plain = ["new", "deferred", "unknown", "warned"];
        for name in plain {
            accept(&*store, message(name, &[name])).await;
        }
        accept(&*store, message("partly", &["partly", "deferred", "new"])).await;
        let failing = message("failing", &["failed", "deferred"]);
        accept(&*store, failing).await;
        let mut later = message("later", &["later"]);
        later.release_us = 4_000_000_000_000_000;
        later.priority = 5;
        later.tenant = "acme".to_owned();
        accept(&*store, later).await;
        attempt_all(&*store).await;
        for (act, name) in [
            (Act::Hold { until_us: None }, "held"),
            (
                Act::Hold {
                    until_us: Some(4_000_000_000_000_000),
                },
                "held-for-a-time",
            ),
            (Act::Bounce, "bounced"),
            (
                Act::Reroute {
                    to: "smtp:elsewhere.test".parse().unwrap(),
                },
                "rerouted",
            ),
        ] {
            let id = accept(&*store, message(name, &[name])).await;
            let on = [DeliveryId {
                queue_id: id,
                number: 0,
            }];
            let by = By {
                operator: "olga".to_owned(),
                reason: "because".to_owned(),
            };
            assert_eq!(store.act(&act, &on, &by).await.unwrap(), [true], "{name}");
        }
        let suspension = Suspension {
            id: QueueId::new().to_string(),
            destination: "smtp:stopped.test".to_owned(),
            operator: "olga".to_owned(),
            ..Suspension::default()
        };
        store.suspend(suspension).await.unwrap();
        let record = Record {
            kind: "act".to_owned(),
            key: "one".to_owned(),
            version: 1,
            value: Bytes::from_static(b"an act"),
        };
        assert!(store.put_record(record).await.unwrap());
        store.close().await.unwrap();
    }

    async fn store_a_body(&self) {
        let service = QueueService::open(&self.server, self.config.clone())
            .await
            .unwrap();
        let pieces = (0..30).map(|n| Ok(Bytes::from(vec![n; 100_000])));
        let stored = service
            .put_body(futures_util::stream::iter(pieces).boxed())
            .await
            .unwrap();
        let mut new = message("stored", &["stored"]);
        new.body = Some(Body {
            size: stored.size,
            content: Some(body::Content::Stored(stored.name)),
        });
        service.enqueue(vec![new]).await.unwrap();
        let stop = tokio_util::sync::CancellationToken::new();
        stop.cancel();
        service.run(stop).await.unwrap();
    }
}

async fn accept(store: &dyn Store, message: NewMessage) -> QueueId {
    let id = message.queue_id.parse().unwrap();
    store.enqueue(vec![message]).await.remove(0).unwrap();
    id
}

/// A message to recipients `name@name.test`.
fn message(name: &str, recipients: &[&str]) -> NewMessage {
    let id = QueueId::new();
    NewMessage {
        queue_id: id.to_string(),
        message_id: format!("{name}@sender.test"),
        envelope: Some(Envelope {
            reverse_path: format!("{name}@sender.test"),
            recipients: recipients
                .iter()
                .map(|to| Recipient {
                    address: format!("{to}@{to}.test"),
                    destination: format!("smtp:{to}.test"),
                    dsn_notify: 4,
                    ..Recipient::default()
                })
                .collect(),
            smtputf8: true,
            ..Envelope::default()
        }),
        body: Some(Body {
            size: name.len() as u64,
            content: Some(body::Content::Inline(Bytes::copy_from_slice(
                name.as_bytes(),
            ))),
        }),
        events: vec![JourneyEvent {
            time_us: 1_700_000_000_000_000,
            instance: "edge@test".to_owned(),
            what: Some(journey_event::What::Notice(Notice {
                text: "came in".to_owned(),
                ..Notice::default()
            })),
        }],
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        ..NewMessage::default()
    }
}

/// Attempts what is due; the address says what comes of it.
async fn attempt_all(store: &dyn Store) {
    let request = LeaseRequest {
        worker: "w".to_owned(),
        transports: vec!["smtp".to_owned()],
        slots: 100,
    };
    let grants = store.lease(request, 100).await.unwrap();
    for grant in &grants {
        for delivery in store.pull(grant.token, 100).await.unwrap().unwrap() {
            let completion = outcome(&delivery);
            store.complete(vec![completion]).await.remove(0).unwrap();
        }
    }
    let tokens = grants.into_iter().map(|grant| grant.token).collect();
    store.give_back(tokens).await.unwrap();
}

/// Leases something, and keeps it.
pub(crate) async fn take_something(store: &dyn Store) {
    let request = LeaseRequest {
        worker: "slow".to_owned(),
        transports: vec!["smtp".to_owned()],
        slots: 100,
    };
    let grants = store.lease(request, 100).await.unwrap();
    let pulled = store.pull(grants[0].token, 1).await.unwrap().unwrap();
    assert_eq!(pulled.len(), 1);
}

fn outcome(delivery: &LeasedDelivery) -> Completion {
    let recipients = &delivery.envelope.as_ref().unwrap().recipients;
    let kind = |address: &str| match address.split('@').next().unwrap() {
        "partly" => OutcomeKind::Delivered,
        "failed" => OutcomeKind::Failed,
        "unknown" => OutcomeKind::Unknown,
        _ => OutcomeKind::Deferred,
    };
    Completion {
        delivery: delivery.delivery_id.parse().unwrap(),
        token: delivery.token,
        attempt: Attempt {
            destination: delivery.destination.clone(),
            number: delivery.attempt,
            remote_host: "mx.test".to_owned(),
            outcomes: recipients
                .iter()
                .map(|to| RecipientOutcome {
                    address: to.address.clone(),
                    kind: kind(&to.address) as i32,
                    reply_code: 451,
                    reply_text: "as the test says".to_owned(),
                    ..RecipientOutcome::default()
                })
                .collect(),
            ..Attempt::default()
        },
        retry_after: Duration::from_secs(3600),
        dsn: Vec::new(),
        delay_warned: delivery.destination == "smtp:warned.test",
        worker: "delivery@test".to_owned(),
    }
}
