//! Names of keys. What they hold is described in `docs/redis.md`.

/// The number of partitions of the queue in this Redis. In a cluster there are copies of the first,
/// in slots far from each other, so that a dead node keeps nobody from reading it.
pub(super) const LAYOUT: [&str; 3] = ["pr1:{layout}", "pr1:{layout.3}", "pr1:{layout.4}"];

/// The names of one partition: all begin with the version of the layout and the partition's hash
/// tag.
///
/// The scripts build all other names from it, and all keys that one script touches carry the same
/// tag, so that a Redis Cluster keeps them together. Scripts are called with the prefix as their only
/// key, which is never written: so a node from which the slot is just being moved refuses them
/// (ASK), and none ever runs where half of the keys are gone.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) prefix: String,
}

impl Names {
    pub(super) fn new(prefix: String) -> Self {
        Self { prefix }
    }

    /// The key of a name under the prefix.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The channel of destinations that have something for a waiting worker; an empty message says
    /// that a time has come nearer.
    pub(super) fn wake_channel(&self) -> String {
        self.key("wake")
    }

    /// The channel of queue ids, run together, that got journey events.
    pub(super) fn journeys_channel(&self) -> String {
        self.key("journeys")
    }
}
