//! What the mailbox service measures.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use postrider_telemetry::metric::{Kind, MetricInfo};

const DELIVERIES: &str = "postrider.mailbox.deliveries";
const DELIVERY_DURATION: &str = "postrider.mailbox.delivery.duration";
const SYNCS: &str = "postrider.mailbox.syncs";
const AUTHENTICATIONS: &str = "postrider.mailbox.authentications";
const SESSIONS: &str = "postrider.pop3.sessions";
const CONNECTIONS: &str = "postrider.pop3.connections";
const COMMANDS: &str = "postrider.pop3.commands";
const MESSAGES: &str = "postrider.pop3.messages";

/// Every metric of this crate.
pub const METRICS: &[MetricInfo] = &[
    MetricInfo {
        name: DELIVERIES,
        kind: Kind::Counter,
        unit: "{recipient}",
        help: "Recipients of final deliveries. outcome: delivered; repeated (the copy was there already, nothing was added); deferred; failed.",
        labels: &["outcome"],
    },
    MetricInfo {
        name: DELIVERY_DURATION,
        kind: Kind::Histogram,
        unit: "s",
        help: "From the call to the copies being on disk, for all recipients of a delivery.",
        labels: &[],
    },
    MetricInfo {
        name: SYNCS,
        kind: Kind::Counter,
        unit: "{sync}",
        help: "Syncs to disk. kind: file, directory. Deliveries that are under way together share directory syncs.",
        labels: &["kind"],
    },
    MetricInfo {
        name: AUTHENTICATIONS,
        kind: Kind::Counter,
        unit: "{attempt}",
        help: "Password checks, of the edge and of POP3. outcome: granted; denied; busy (too many at once).",
        labels: &["outcome"],
    },
    MetricInfo {
        name: SESSIONS,
        kind: Kind::Counter,
        unit: "{session}",
        help: "POP3 connections that ended. outcome: quit; lost; timed-out; refused (limit reached); errors (too many bad commands or passwords); tls-failed; stopped.",
        labels: &["outcome"],
    },
    MetricInfo {
        name: CONNECTIONS,
        kind: Kind::Gauge,
        unit: "{connection}",
        help: "POP3 connections that are open.",
        labels: &[],
    },
    MetricInfo {
        name: COMMANDS,
        kind: Kind::Counter,
        unit: "{command}",
        help: "POP3 commands that were answered. outcome: ok; error.",
        labels: &["outcome"],
    },
    MetricInfo {
        name: MESSAGES,
        kind: Kind::Counter,
        unit: "{message}",
        help: "Messages over POP3. action: retrieved; deleted.",
        labels: &["action"],
    },
];

/// How a recipient's final delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    Repeated,
    Deferred,
    Failed,
}

/// How a password check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Authentication {
    Granted,
    Denied,
    Busy,
}

/// Handles to the metrics: each event costs one atomic.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Handles>);

struct Handles {
    deliveries: [Counter; 4],
    delivery_duration: Histogram,
    file_syncs: Counter,
    directory_syncs: Counter,
    authentications: [Counter; 3],
    connections: Gauge,
    commands: [Counter; 2],
    retrieved: Counter,
    deleted: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        postrider_telemetry::metric::describe(METRICS);
        let delivery = |outcome: &'static str| counter!(DELIVERIES, "outcome" => outcome);
        let authentication =
            |outcome: &'static str| counter!(AUTHENTICATIONS, "outcome" => outcome);
        Self(Arc::new(Handles {
            deliveries: ["delivered", "repeated", "deferred", "failed"].map(delivery),
            delivery_duration: histogram!(DELIVERY_DURATION),
            file_syncs: counter!(SYNCS, "kind" => "file"),
            directory_syncs: counter!(SYNCS, "kind" => "directory"),
            authentications: ["granted", "denied", "busy"].map(authentication),
            connections: gauge!(CONNECTIONS),
            commands: ["error", "ok"].map(|outcome| counter!(COMMANDS, "outcome" => outcome)),
            retrieved: counter!(MESSAGES, "action" => "retrieved"),
            deleted: counter!(MESSAGES, "action" => "deleted"),
        }))
    }

    pub(crate) fn recipient(&self, outcome: Outcome) {
        self.0.deliveries[outcome as usize].increment(1);
    }

    pub(crate) fn delivery_took(&self, time: Duration) {
        self.0.delivery_duration.record(time);
    }

    pub(crate) fn file_synced(&self) {
        self.0.file_syncs.increment(1);
    }

    pub(crate) fn directory_synced(&self) {
        self.0.directory_syncs.increment(1);
    }

    pub(crate) fn authentication(&self, outcome: Authentication) {
        self.0.authentications[outcome as usize].increment(1);
    }

    pub(crate) fn session_began(&self) {
        self.0.connections.increment(1);
    }

    pub(crate) fn session_ended(&self, outcome: &'static str) {
        self.0.connections.decrement(1);
        counter!(SESSIONS, "outcome" => outcome).increment(1);
    }

    pub(crate) fn command(&self, ok: bool) {
        self.0.commands[usize::from(ok)].increment(1);
    }

    pub(crate) fn retrieved(&self) {
        self.0.retrieved.increment(1);
    }

    pub(crate) fn deleted(&self, messages: usize) {
        self.0.deleted.increment(messages as u64);
    }
}
