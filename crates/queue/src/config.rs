//! The `[queue]` section.

mod policies;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postrider_config::values::{Period, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::policies::{
    DelayWarning, PolicyConfig, PolicyRetryConfig, TenantConfig, UnknownConfig,
};
use crate::bodies::config::BodiesConfig;
use crate::policy::Policies;
use crate::retry::RetrySchedule;
use crate::store::redis::RedisConfig;

/// Where accepted mail is kept, how it is retried, and how much of it may be on its way at once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// Which store keeps the queue: "embedded" (a log on the local disk, one queue process) or
    /// "redis" (any number of queue processes).
    pub store: StoreKind,
    /// Settings of the embedded store.
    pub embedded: EmbeddedConfig,
    /// Settings of the Redis store.
    pub redis: RedisConfig,
    /// When a deferred delivery is tried again.
    pub retry: RetryConfig,
    /// Stored bodies of larger messages.
    pub bodies: BodiesConfig,
    /// How long a message is tried, counted from its acceptance; what is left of it then ends as
    /// failed, with a DSN. RFC 5321 section 4.5.4.1 asks for four to five days at least.
    pub lifetime: Period,
    /// After how long the sender of a message that is still tried is told so once, by a DSN
    /// "delayed" (RFC 3461 section 6.2); "never" if not at all. Counted like the lifetime.
    pub delay_warning: DelayWarning,
    /// What becomes of a delivery whose last attempt may or may not have succeeded.
    pub unknown: UnknownConfig,
    /// What differs for some destinations: `[[queue.policy]]`, the first that matches counts.
    pub policy: Vec<PolicyConfig>,
    /// Tenants that get a larger share of a destination than others: `[queue.tenants.NAME]`.
    pub tenants: BTreeMap<String, TenantConfig>,
    /// Connections that all delivery workers together may hold open to one destination.
    pub slots_per_destination: u32,
    /// How long a worker's lease lasts without a sign of life from it. A dead worker's
    /// deliveries are elsewhere after this time. From "2s" to "10m".
    pub lease: Period,
    /// Deliveries that a worker is handed ahead for each connection, so that a connection never
    /// waits for the queue.
    pub prefetch_per_slot: u32,
    /// How long workers may finish what they have when the queue stops. What takes longer is broken off
    /// before its lease ends, and its outcome may be unknown then. A lone queue is away for its
    /// neighbours meanwhile, if it takes so long; with several, longer costs nothing. At most "10m".
    pub drain: Period,
    /// What is remembered of messages that have ended.
    pub journeys: JourneysConfig,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            store: StoreKind::Embedded,
            embedded: EmbeddedConfig::default(),
            redis: RedisConfig::default(),
            retry: RetryConfig::default(),
            bodies: BodiesConfig::default(),
            lifetime: Period::seconds(5 * 24 * 3600),
            delay_warning: DelayWarning(Some(Duration::from_secs(4 * 3600))),
            unknown: UnknownConfig::Retry,
            policy: Vec::new(),
            tenants: BTreeMap::new(),
            slots_per_destination: 20,
            lease: Period::seconds(15),
            prefetch_per_slot: 4,
            drain: Period::seconds(10),
            journeys: JourneysConfig::default(),
        }
    }
}

/// Which store keeps the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StoreKind {
    /// A log on the local disk.
    Embedded,
    /// Redis or Valkey.
    Redis,
}

/// The log on the local disk.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EmbeddedConfig {
    /// The folder of the log and the journeys. Empty stands for "queue" in the data folder.
    pub dir: PathBuf,
    /// Size of a segment of the log. Space is given back to the disk a segment at a time.
    /// From "1MiB" to "2GiB".
    pub segment_size: Size,
    /// Free space that is left on the disk: with less, new mail is refused with a reply that
    /// makes the sender try again, while what is queued still goes out.
    pub reserve: Size,
    /// Memory for messages that were just accepted, so that they need not be read back from
    /// disk when they are delivered at once.
    pub cache: Size,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::new(),
            segment_size: Size::mib(128),
            reserve: Size::mib(256),
            cache: Size::mib(32),
        }
    }
}

/// When a deferred delivery is tried again: after `first`, then each time after `factor` times
/// the wait before, up to `most`; every wait varies by `jitter`, so that what was deferred
/// together does not come back together.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// The wait after the first attempt. Five minutes are short enough for greylisting.
    pub first: Period,
    /// By how much the wait grows from attempt to attempt. At least 1.
    pub factor: f64,
    /// The longest wait.
    pub most: Period,
    /// How much a wait varies either way, as a share of it: 0.1 is ten per cent. From 0 to 0.5.
    pub jitter: f64,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            first: Period::seconds(300),
            factor: 2.0,
            most: Period::seconds(4000),
            jitter: 0.1,
        }
    }
}

impl RetryConfig {
    /// The schedule that these settings describe.
    #[must_use]
    pub fn schedule(&self) -> RetrySchedule {
        RetrySchedule {
            first: self.first.0,
            factor: self.factor,
            most: self.most.0,
            jitter: self.jitter,
        }
    }
}

/// How long and how much is remembered of messages that have ended.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JourneysConfig {
    /// How long a journey is kept after its message has ended. At least "1h": by it a message is
    /// known that is offered again, because the answer was lost.
    pub keep: Period,
    /// The space that journeys of ended messages may take on disk; the oldest go first. On Redis
    /// only `keep` bounds them.
    pub space: Size,
}

impl Default for JourneysConfig {
    fn default() -> Self {
        Self {
            keep: Period::seconds(7 * 24 * 3600),
            space: Size::mib(2048),
        }
    }
}

impl QueueConfig {
    /// What holds for which destination.
    #[must_use]
    pub fn policies(&self) -> Arc<Policies> {
        Arc::new(policies::policies(self))
    }

    /// Problems that types cannot express, each with its key.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, problem: &str| {
            if !holds {
                problems.push(problem.to_owned());
            }
        };
        require(
            (1 << 20..=1 << 31).contains(&self.embedded.segment_size.0),
            "queue.embedded.segment_size must be from 1MiB to 2GiB",
        );
        require(
            (Duration::from_secs(2)..=Duration::from_secs(600)).contains(&self.lease.0),
            "queue.lease must be from 2s to 10m",
        );
        require(
            (1..=100_000).contains(&self.slots_per_destination),
            "queue.slots_per_destination must be from 1 to 100000",
        );
        require(
            (1..=1000).contains(&self.prefetch_per_slot),
            "queue.prefetch_per_slot must be from 1 to 1000",
        );
        require(
            self.drain.0 <= Duration::from_secs(600),
            "queue.drain must be at most 10m",
        );
        require(
            self.lifetime.0 >= Duration::from_secs(1),
            "queue.lifetime must be at least 1s",
        );
        require(
            self.journeys.keep.0 >= Duration::from_secs(3600),
            "queue.journeys.keep must be at least 1h",
        );
        problems.extend(policies::retry_problems(&self.retry, "queue.retry"));
        problems.extend(policies::problems(self));
        problems.extend(self.bodies.validate());
        problems.extend(self.redis.validate());
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(QueueConfig::default().validate(), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_named() {
        let mut config = QueueConfig::default();
        config.embedded.segment_size = Size(1);
        config.lease = Period::seconds(1);
        config.retry.factor = f64::NAN;
        config.redis.username = "someone".to_owned();
        config.journeys.keep = Period::seconds(3599);
        config.drain = Period::seconds(601);
        let problems = config.validate();
        assert_eq!(problems.len(), 6, "{problems:?}");
        assert!(problems.iter().all(|problem| problem.starts_with("queue.")));
        assert!(
            !problems
                .iter()
                .any(|problem| problem.contains("queue.redis.queue."))
        );
    }
}
