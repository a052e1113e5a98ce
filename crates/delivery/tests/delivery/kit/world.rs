//! A worker with its queue, its DNS and its mailboxes.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use postrider_config::ServerConfig;
use postrider_config::values::Period;
use postrider_delivery::{Delivery, DeliveryConfig};
use postrider_nameserver::{NameServer, Zones};
use postrider_protocol::api::{self, BodyStream, Mailbox};
use postrider_protocol::mailbox_v1::{DeliverHeader, DeliverResult};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::queue::{PATIENCE, Shared};
use super::{FakeQueue, Sink};

pub(crate) struct World {
    pub(crate) queue: Arc<FakeQueue>,
    pub(crate) mailboxes: Arc<Mailboxes>,
    pub(crate) stop: CancellationToken,
    pub(crate) worker: JoinHandle<()>,
    _dns: NameServer,
}

impl World {
    /// A worker that connects to the sink's port; `there.test` has one MX at 127.0.0.1.
    pub(crate) async fn with(sink: &Sink) -> Self {
        Self::changed(sink, |_| {}).await
    }

    /// The same, with so long to stop.
    pub(crate) async fn stopping_within(sink: &Sink, drain: Duration) -> Self {
        Self::changed(sink, |config| config.drain = Period(drain)).await
    }

    /// The same, with other settings.
    pub(crate) async fn changed(sink: &Sink, change: impl FnOnce(&mut DeliveryConfig)) -> Self {
        let mut zones = Zones::default();
        host(
            &mut zones,
            "there.test",
            10,
            "mx.there.test",
            [127, 0, 0, 1],
        );
        Self::start(zones, sink.address.port(), change).await
    }

    pub(crate) async fn start(
        zones: Zones,
        port: u16,
        change: impl FnOnce(&mut DeliveryConfig),
    ) -> Self {
        let dns = NameServer::start_quiet(zones).await.unwrap();
        let server = ServerConfig {
            hostname: "mx.here.test".to_owned(),
            domains: vec!["here.test".to_owned()],
            ..ServerConfig::default()
        };
        let mut config = DeliveryConfig {
            port,
            resolvers: vec![dns.address()],
            resolver_timeout: Period(Duration::from_millis(300)),
            ..DeliveryConfig::default()
        };
        change(&mut config);
        let queue = FakeQueue::new();
        let mailboxes = Arc::new(Mailboxes::default());
        let delivery = Delivery::new(
            &server,
            config,
            Arc::new(Shared(queue.clone())),
            Arc::new(SharedMailboxes(mailboxes.clone())),
        )
        .unwrap();
        let stop = CancellationToken::new();
        let worker = tokio::spawn(delivery.run(stop.clone()));
        queue.told().await;
        Self {
            queue,
            mailboxes,
            stop,
            worker,
            _dns: dns,
        }
    }

    /// Stops the worker and waits for its end.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.worker)
            .await
            .expect("it stops in time")
            .unwrap();
    }
}

/// Adds an MX with its address.
pub(crate) fn host(zones: &mut Zones, domain: &str, preference: u16, host: &str, ip: [u8; 4]) {
    zones.zone(domain).unwrap();
    zones.mx(domain, preference, host).unwrap();
    zones.address(host, Ipv4Addr::from(ip).into()).unwrap();
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + PATIENCE;
    while !so() {
        assert!(std::time::Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Mailboxes in memory. "full@…" is full, "nobody@…" does not exist, "panic@…" meets a mistake.
#[derive(Default)]
pub(crate) struct Mailboxes {
    pub(crate) delivered: Mutex<Vec<(DeliverHeader, Vec<u8>)>>,
}

struct SharedMailboxes(Arc<Mailboxes>);

#[async_trait]
impl Mailbox for SharedMailboxes {
    async fn deliver(
        &self,
        header: DeliverHeader,
        mut body: BodyStream,
    ) -> api::Result<Vec<DeliverResult>> {
        let mut content = Vec::new();
        while let Some(piece) = body.next().await {
            content.extend_from_slice(&piece?);
        }
        let result = |address: &String| {
            let (reply_code, enhanced_status, text) = match address.split('@').next() {
                Some("full") => (452, "4.2.2", "Mailbox full"),
                Some("panic") => panic!("a mistake, as this test wants it"),
                Some("nobody") => (550, "5.1.1", "No such user"),
                _ => (250, "2.1.5", "Delivered"),
            };
            DeliverResult {
                address: address.clone(),
                reply_code,
                enhanced_status: enhanced_status.to_owned(),
                text: text.to_owned(),
            }
        };
        let results = header.recipients.iter().map(result).collect();
        self.0.delivered.lock().await.push((header, content));
        Ok(results)
    }
}
