//! What a run has recorded, from outside and from the queue itself. Times count from the start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Everything that the checker looks at.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// How long leases lasted.
    pub lease: Duration,
    /// Connections that a destination may have.
    pub slots: usize,
    /// What the sources were told is safe.
    pub accepted: Vec<Accepted>,
    /// Numbers that a source has sent to the final dot at least once without hearing an answer.
    pub unanswered: BTreeSet<u64>,
    /// 5yz replies to a source: nothing that was done to the system is a reason for one.
    pub refused: Vec<String>,
    /// What a source could not hand over although everything was well again.
    pub given_up: Vec<String>,
    /// What reached the sinks.
    pub arrivals: Vec<Arrival>,
    /// Moments at which a destination had more connections than it may have.
    pub crowds: Vec<Crowd>,
    /// When a worker could not know that its leases had ended.
    pub deaf: Vec<Deaf>,
    /// What the queue tells of each message, by queue id.
    pub journeys: BTreeMap<String, Vec<Event>>,
    /// The queue's counts at the end.
    pub counts: Counts,
}

/// A message that a source got its 250 for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The source's number of it.
    pub number: u64,
    /// The id in the 250.
    pub queue_id: String,
    /// To whom.
    pub recipients: Vec<String>,
}

/// A content that a sink has taken, up to its final dot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arrival {
    /// When.
    pub at: Duration,
    /// Which destination's sink it is.
    pub destination: String,
    /// Who brought it, by EHLO.
    pub worker: String,
    /// The id in the topmost Received field, or a DSN's in its Message-ID.
    pub queue_id: String,
    /// Those whose RCPT was taken.
    pub recipients: Vec<String>,
    /// Whether the content is what the source sent.
    pub whole: bool,
    /// The sink cut the connection where the answer was due.
    pub unanswered: bool,
    /// What it reports, if it is a DSN.
    pub report: Option<Report>,
}

/// What a DSN says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The queue id of the message that it is about.
    pub about: String,
    /// Recipients that are reported as failed.
    pub failed: Vec<String>,
}

/// A destination with more connections than it may have, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crowd {
    /// When.
    pub at: Duration,
    /// Where.
    pub destination: String,
    /// Whose connections they were, by EHLO; empty if one never said it.
    pub workers: Vec<String>,
}

/// A worker stood still, or its words did not pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deaf {
    /// By EHLO.
    pub worker: String,
    /// From here.
    pub from: Duration,
    /// To here.
    pub to: Duration,
}

/// What happened to a message, in the journey's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is durable.
    Queued,
    /// An attempt was completed.
    Attempt(Attempt),
    /// A lease ended without a word of its worker. `destination` where the journey names it.
    Lapsed {
        /// Of the delivery.
        destination: Option<String>,
    },
    /// A DSN became due.
    Dsn(String),
    /// Anything else.
    Other(String),
}

/// One completed attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempt {
    /// Of which delivery.
    pub destination: String,
    /// Which attempt at it.
    pub number: u32,
    /// Unix time in microseconds.
    pub started_us: u64,
    /// Unix time in microseconds.
    pub ended_us: u64,
    /// What became of whom.
    pub outcomes: Vec<(String, Outcome)>,
}

/// What became of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has the message.
    Delivered,
    /// Later.
    Deferred,
    /// Never.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// The queue's own counts, in recipients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// In all.
    pub accepted: u64,
    /// Ended well.
    pub delivered: u64,
    /// Ended with a DSN.
    pub failed: u64,
    /// Ended by an operator.
    pub removed: u64,
    /// Not ended.
    pub open: u64,
    /// Reports under leases that had ended.
    pub stale: u64,
    /// Attempts with an unknown outcome.
    pub unknown: u64,
}
