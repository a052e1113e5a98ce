//! Outbound delivery: takes due deliveries from the queue, hands them over, reports.
//!
//! What lives here: the worker's side of the conversation with the queue (`worker`, `outbox`),
//! the slots of destination leases (`pool`, `crew`), the routing table (`route`), DNS
//! (`resolve`, `targets`), the transports (`transport`: `smtp` over `connection`s, and
//! `mailbox`), what an attempt comes to (`attempt`, `outcome`), and delivery status
//! notifications (`dsn`).
//!
//! What must not live here: the schedule of retries and all other state that matters. A worker
//! keeps nothing on disk; whatever it holds, it holds under a lease, and if it dies, another
//! worker goes on. The SMTP dialogue itself is in `postrider-smtp`, mailboxes are behind
//! [`postrider_protocol::api::Mailbox`].
//!
//! Where to start reading: `worker` for where work comes from, then `crew`, `attempt` and
//! `smtp` for one delivery's way out.
//!
//! Decisions that operators may ask about:
//! - A server that greets with 5yz or 4yz is passed over for the next one. Only if every server
//!   refused for good is the mail returned; one reason that may pass is enough to try again.
//! - A failed TLS handshake on an opportunistic route is followed by one plain connection.
//! - A password that a smarthost refuses defers mail; it never returns it.
//! - Mail whose best exchanger is this server, but whose domain is not, is returned (5.4.6).

mod attempt;
mod config;
mod connection;
mod crew;
mod cutoff;
mod dsn;
mod heartbeat;
mod live;
mod mailbox;
mod metrics;
mod outbox;
mod outcome;
mod pool;
mod resolve;
mod route;
mod smtp;
mod stop;
mod targets;
mod transport;
mod unreachable;
mod verdict;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use postrider_config::ServerConfig;
use postrider_protocol::api::{Mailbox, Queue};
use postrider_protocol::net::AnyDialer;
use postrider_telemetry::health;
use postrider_tls::client::TlsClient;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use attempt::Attempts;
use crew::{Crew, Pulse};
use live::Active;
use mailbox::MailboxTransport;
use outbox::Outbox;
use smtp::{Shared, SmtpTransport};
use unreachable::Unreachable;
use worker::Worker;

pub use config::{
    AddressFamily, DeliveryConfig, DsnConfig, Pattern, RouteConfig, Timeouts, TlsPolicy, Via,
};
pub use live::Reloader;
pub use metrics::METRICS;

/// A delivery worker.
pub struct Delivery {
    worker: Worker,
    reloader: Reloader,
}

impl Delivery {
    /// A worker for a queue. Nothing is contacted yet.
    ///
    /// # Errors
    /// The configuration is wrong, a password cannot be read, the system's DNS servers or trust
    /// anchors cannot be read.
    pub fn new(
        server: &ServerConfig,
        config: DeliveryConfig,
        queue: Arc<dyn Queue>,
        mailbox: Arc<dyn Mailbox>,
    ) -> anyhow::Result<Self> {
        Self::over(server, config, queue, mailbox, None, instance())
    }

    /// A worker that makes connections by `dialer`, if there is one, and is called `instance` (unique
    /// among live workers).
    ///
    /// # Errors
    /// As [`Delivery::new`].
    pub fn over(
        server: &ServerConfig,
        config: DeliveryConfig,
        queue: Arc<dyn Queue>,
        mailbox: Arc<dyn Mailbox>,
        dialer: Option<AnyDialer>,
        instance: String,
    ) -> anyhow::Result<Self> {
        let slots = config.connections;
        let tls = TlsClient::new(config.tls_ca_file.as_deref()).context("delivery.tls_ca_file")?;
        let active = Active::new(server, config, &instance)?;
        let live = Arc::new(ArcSwap::from_pointee(active));
        let outbox = Arc::new(Outbox::default());
        let smtp = SmtpTransport {
            shared: Arc::new(Shared {
                live: live.clone(),
                queue: queue.clone(),
                tls,
                dialer,
                unreachable: Unreachable::default(),
            }),
        };
        let mailbox = MailboxTransport {
            mailbox,
            queue: queue.clone(),
            live: live.clone(),
        };
        let crew = Arc::new(Crew {
            attempts: Attempts {
                queue: queue.clone(),
                live: live.clone(),
                metrics: metrics::handles(),
                limiter: dsn::Limiter::new(Instant::now()),
            },
            outbox,
            smtp: Box::new(smtp),
            mailbox: Box::new(mailbox),
            live: live.clone(),
            pulse: Pulse::new(),
            tasks: TaskTracker::new(),
            abort: CancellationToken::new(),
        });
        Ok(Self {
            worker: Worker {
                queue,
                crew,
                instance: instance.clone(),
                slots,
                health: health::global().component("delivery"),
            },
            reloader: Reloader {
                live,
                server: server.clone(),
                instance,
            },
        })
    }

    /// A handle that takes over a changed configuration.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Works until `shutdown`; then finishes the transactions in hand, closes its connections
    /// and gives its leases back, within the configured drain time.
    pub async fn run(self, shutdown: CancellationToken) {
        self.worker.run(shutdown).await;
    }
}

/// "delivery@<host>-<process>": the queue must be able to tell live workers apart, and hosts in
/// containers may share a configured name.
fn instance() -> String {
    static WORKERS: AtomicU32 = AtomicU32::new(1);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let process = std::process::id();
    match WORKERS.fetch_add(1, Ordering::Relaxed) {
        1 => format!("delivery@{host}-{process}"),
        number => format!("delivery@{host}-{process}-{number}"),
    }
}
