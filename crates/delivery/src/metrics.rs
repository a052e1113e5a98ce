//! What delivery measures.

use std::sync::LazyLock;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use postrider_protocol::queue_v1::OutcomeKind;
use postrider_telemetry::metric::{Kind, MetricInfo};

use crate::outcome;

/// The metrics of this crate.
pub const METRICS: &[MetricInfo] = &[
    MetricInfo {
        name: "postrider.delivery.recipients",
        kind: Kind::Counter,
        unit: "{recipient}",
        help: "Recipients attempted, by what became of them: delivered, deferred, failed, unknown.",
        labels: &["transport", "outcome"],
    },
    MetricInfo {
        name: "postrider.delivery.attempt.duration",
        kind: Kind::Histogram,
        unit: "s",
        help: "Time of one attempt at a delivery, DNS, connecting and TLS included.",
        labels: &["transport"],
    },
    MetricInfo {
        name: "postrider.delivery.connections",
        kind: Kind::Counter,
        unit: "{connection}",
        help: "SMTP connections that were opened and greeted, by protocol of TLS (\"none\": plain).",
        labels: &["tls"],
    },
    MetricInfo {
        name: "postrider.delivery.connections.open",
        kind: Kind::Gauge,
        unit: "{connection}",
        help: "SMTP connections that are open.",
        labels: &[],
    },
    MetricInfo {
        name: "postrider.delivery.connection.failures",
        kind: Kind::Counter,
        unit: "{connection}",
        help: "SMTP connections that never became usable, by where it ended: connect, tls, hello.",
        labels: &["error.type"],
    },
    MetricInfo {
        name: "postrider.delivery.connections.reused",
        kind: Kind::Counter,
        unit: "{transaction}",
        help: "SMTP transactions that found a connection open.",
        labels: &[],
    },
    MetricInfo {
        name: "postrider.delivery.tls.fallbacks",
        kind: Kind::Counter,
        unit: "{connection}",
        help: "Connections made once more without TLS, because an opportunistic handshake failed.",
        labels: &[],
    },
    MetricInfo {
        name: "postrider.delivery.dns.duration",
        kind: Kind::Histogram,
        unit: "s",
        help: "Time until DNS, or its cache, had named the servers of a domain.",
        labels: &[],
    },
    MetricInfo {
        name: "postrider.delivery.dsns",
        kind: Kind::Counter,
        unit: "{message}",
        help: "Delivery status notifications made.",
        labels: &[],
    },
    MetricInfo {
        name: "postrider.delivery.dsns.withheld",
        kind: Kind::Counter,
        unit: "{message}",
        help: "Delivery status notifications not made, because their reader had got as many as delivery.dsn.limit allows.",
        labels: &[],
    },
    MetricInfo {
        name: "postrider.delivery.bodies.missing",
        kind: Kind::Counter,
        unit: "{attempt}",
        help: "Attempts deferred because the queue could not give the message's content. More than none is an alarm.",
        labels: &[],
    },
    MetricInfo {
        name: "postrider.delivery.leases",
        kind: Kind::Gauge,
        unit: "{lease}",
        help: "Destination leases held.",
        labels: &[],
    },
    MetricInfo {
        name: "postrider.delivery.queue.connected",
        kind: Kind::Gauge,
        unit: "{conversation}",
        help: "1 while the worker is in conversation with the queue.",
        labels: &[],
    },
    MetricInfo {
        name: "postrider.delivery.queue.conversations",
        kind: Kind::Counter,
        unit: "{conversation}",
        help: "Conversations begun with the queue; each after the first follows a loss.",
        labels: &[],
    },
    MetricInfo {
        name: "postrider.delivery.completions.stale",
        kind: Kind::Counter,
        unit: "{completion}",
        help: "Completions that came too late: the lease had ended, and the delivery is attempted again.",
        labels: &[],
    },
    MetricInfo {
        name: "postrider.delivery.completions.repeated",
        kind: Kind::Counter,
        unit: "{completion}",
        help: "Completions told again, because the queue's store could not take them.",
        labels: &[],
    },
];

/// Handles, made once.
pub(crate) struct Metrics {
    pub(crate) smtp: PerTransport,
    pub(crate) mailbox: PerTransport,
    pub(crate) open: Gauge,
    pub(crate) reused: Counter,
    pub(crate) fallbacks: Counter,
    pub(crate) dns: Histogram,
    pub(crate) dsns: Counter,
    pub(crate) dsns_withheld: Counter,
    pub(crate) bodies_missing: Counter,
    pub(crate) leases: Gauge,
    pub(crate) connected: Gauge,
    pub(crate) conversations: Counter,
    pub(crate) stale: Counter,
    pub(crate) repeated: Counter,
}

/// Handles that differ by transport.
pub(crate) struct PerTransport {
    outcomes: [(OutcomeKind, Counter); 4],
    pub(crate) duration: Histogram,
}

impl PerTransport {
    fn new(transport: &'static str) -> Self {
        let kinds = [
            OutcomeKind::Delivered,
            OutcomeKind::Deferred,
            OutcomeKind::Failed,
            OutcomeKind::Unknown,
        ];
        Self {
            outcomes: kinds.map(|kind| {
                let word = outcome::word(kind);
                let counter = counter!(
                    "postrider.delivery.recipients",
                    "transport" => transport, "outcome" => word
                );
                (kind, counter)
            }),
            duration: histogram!("postrider.delivery.attempt.duration", "transport" => transport),
        }
    }

    pub(crate) fn count(&self, kind: OutcomeKind) {
        if let Some((_, counter)) = self.outcomes.iter().find(|(known, _)| *known == kind) {
            counter.increment(1);
        }
    }
}

impl Metrics {
    pub(crate) fn of(&self, transport: &str) -> &PerTransport {
        match transport {
            postrider_protocol::destination::MAILBOX => &self.mailbox,
            _ => &self.smtp,
        }
    }
}

/// The handles. Made at first use, which is after the exporter was installed.
pub(crate) fn handles() -> &'static Metrics {
    static METRICS_MADE: LazyLock<Metrics> = LazyLock::new(|| Metrics {
        smtp: PerTransport::new(postrider_protocol::destination::SMTP),
        mailbox: PerTransport::new(postrider_protocol::destination::MAILBOX),
        open: gauge!("postrider.delivery.connections.open"),
        reused: counter!("postrider.delivery.connections.reused"),
        fallbacks: counter!("postrider.delivery.tls.fallbacks"),
        dns: histogram!("postrider.delivery.dns.duration"),
        dsns: counter!("postrider.delivery.dsns"),
        dsns_withheld: counter!("postrider.delivery.dsns.withheld"),
        bodies_missing: counter!("postrider.delivery.bodies.missing"),
        leases: gauge!("postrider.delivery.leases"),
        connected: gauge!("postrider.delivery.queue.connected"),
        conversations: counter!("postrider.delivery.queue.conversations"),
        stale: counter!("postrider.delivery.completions.stale"),
        repeated: counter!("postrider.delivery.completions.repeated"),
    });
    &METRICS_MADE
}

/// Counts a connection that was greeted.
pub(crate) fn connection_opened(tls: &str) {
    let tls = match tls {
        "TLSv1.3" => "TLSv1.3",
        "TLSv1.2" => "TLSv1.2",
        _ => "none",
    };
    counter!("postrider.delivery.connections", "tls" => tls).increment(1);
}

/// Counts a connection that never became usable.
pub(crate) fn connection_failed(stage: &'static str) {
    counter!("postrider.delivery.connection.failures", "error.type" => stage).increment(1);
}
