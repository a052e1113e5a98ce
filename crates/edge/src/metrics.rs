//! What the edge counts. The tables are the reference; handles are held, so that counting on the
//! hot path is one atomic addition.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use postrider_telemetry::metric::{Kind, MetricInfo};

use crate::config::Role;

const CONNECTIONS: &str = "postrider.smtp.server.connections";
const OPEN: &str = "postrider.smtp.server.connections.open";
const TRANSACTIONS: &str = "postrider.smtp.server.transactions";
const DURATION: &str = "postrider.smtp.server.transaction.duration";
const SIZE: &str = "postrider.smtp.server.message.size";
const RECIPIENTS: &str = "postrider.smtp.server.recipients";
const REFUSALS: &str = "postrider.smtp.server.refusals";
const AUTHENTICATIONS: &str = "postrider.smtp.server.authentications";
const HANDSHAKES: &str = "postrider.smtp.server.tls.handshakes";
const ENQUEUE: &str = "postrider.smtp.server.enqueue.duration";

/// Every metric of this crate.
pub const METRICS: &[MetricInfo] = &[
    MetricInfo {
        name: CONNECTIONS,
        kind: Kind::Counter,
        unit: "{connection}",
        help: "Connections that clients opened.",
        labels: &["role"],
    },
    MetricInfo {
        name: OPEN,
        kind: Kind::Gauge,
        unit: "{connection}",
        help: "Connections that are open now.",
        labels: &["role"],
    },
    MetricInfo {
        name: TRANSACTIONS,
        kind: Kind::Counter,
        unit: "{transaction}",
        help: "Mail transactions that ended: accepted, rejected (5yz), deferred (4yz), or aborted by \
               RSET or a lost connection. Recipients that were refused are counted as refusals.",
        labels: &["role", "outcome"],
    },
    MetricInfo {
        name: DURATION,
        kind: Kind::Histogram,
        unit: "s",
        help: "From MAIL to the reply to the end of the content.",
        labels: &["role"],
    },
    MetricInfo {
        name: SIZE,
        kind: Kind::Histogram,
        unit: "By",
        help: "Content of accepted messages as it arrived.",
        labels: &["role"],
    },
    MetricInfo {
        name: RECIPIENTS,
        kind: Kind::Counter,
        unit: "{recipient}",
        help: "Recipients of accepted messages.",
        labels: &["role"],
    },
    MetricInfo {
        name: REFUSALS,
        kind: Kind::Counter,
        unit: "{refusal}",
        help: "What policy refused, by its stage and reason.",
        labels: &["stage", "reason"],
    },
    MetricInfo {
        name: AUTHENTICATIONS,
        kind: Kind::Counter,
        unit: "{attempt}",
        help: "Tries to authenticate: granted, denied, or unavailable.",
        labels: &["outcome"],
    },
    MetricInfo {
        name: HANDSHAKES,
        kind: Kind::Counter,
        unit: "{handshake}",
        help: "TLS handshakes: established, failed, or timeout.",
        labels: &["role", "outcome"],
    },
    MetricInfo {
        name: ENQUEUE,
        kind: Kind::Histogram,
        unit: "s",
        help: "How long the queue took to make a message durable, repetitions included.",
        labels: &["role"],
    },
];

/// Counts what a stage of the policy refused.
pub(crate) fn refused(stage: &'static str, reason: &'static str) {
    counter!(REFUSALS, "stage" => stage, "reason" => reason).increment(1);
}

/// Counts a try to authenticate.
pub(crate) fn authenticated(outcome: &'static str) {
    counter!(AUTHENTICATIONS, "outcome" => outcome).increment(1);
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    Rejected,
    Deferred,
    Aborted,
}

/// Handles of the metrics of one listener's role.
pub(crate) struct RoleMetrics {
    role: Role,
    connections: Counter,
    open: Gauge,
    accepted: Counter,
    rejected: Counter,
    deferred: Counter,
    aborted: Counter,
    duration: Histogram,
    size: Histogram,
    recipients: Counter,
    enqueue: Histogram,
}

impl RoleMetrics {
    pub(crate) fn new(role: Role) -> Self {
        let name = role.as_str();
        let transactions =
            |outcome: &'static str| counter!(TRANSACTIONS, "role" => name, "outcome" => outcome);
        Self {
            role,
            connections: counter!(CONNECTIONS, "role" => name),
            open: gauge!(OPEN, "role" => name),
            accepted: transactions("accepted"),
            rejected: transactions("rejected"),
            deferred: transactions("deferred"),
            aborted: transactions("aborted"),
            duration: histogram!(DURATION, "role" => name),
            size: histogram!(SIZE, "role" => name),
            recipients: counter!(RECIPIENTS, "role" => name),
            enqueue: histogram!(ENQUEUE, "role" => name),
        }
    }

    pub(crate) fn opened(&self) {
        self.connections.increment(1);
        self.open.increment(1.0);
    }

    pub(crate) fn closed(&self) {
        self.open.decrement(1.0);
    }

    pub(crate) fn handshake(&self, outcome: &'static str) {
        counter!(HANDSHAKES, "role" => self.role.as_str(), "outcome" => outcome).increment(1);
    }

    pub(crate) fn transaction(&self, outcome: Outcome, duration: Duration) {
        match outcome {
            Outcome::Accepted => self.accepted.increment(1),
            Outcome::Rejected => self.rejected.increment(1),
            Outcome::Deferred => self.deferred.increment(1),
            Outcome::Aborted => self.aborted.increment(1),
        }
        self.duration.record(duration.as_secs_f64());
    }

    // Counts of octets and recipients lie far below 2^52, where f64 is exact.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn accepted(&self, size: u64, recipients: usize) {
        self.size.record(size as f64);
        self.recipients.increment(recipients as u64);
    }

    pub(crate) fn enqueued(&self, duration: Duration) {
        self.enqueue.record(duration.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_stand_under_one_root() {
        let mut seen = HashSet::new();
        for metric in METRICS {
            assert!(
                metric.name.starts_with("postrider.smtp.server."),
                "{metric:?}"
            );
            assert!(seen.insert(metric.name), "{} is named twice", metric.name);
            assert!(!metric.help.is_empty(), "{}", metric.name);
        }
    }
}
