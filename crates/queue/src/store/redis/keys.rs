//! Names of keys. What they hold is described in `docs/redis.md`.

/// What every key begins with: the version of the layout, and the hash tag of the partition.
///
/// The scripts build all other names from it, and all keys that one script touches carry the
/// same tag, so that a Redis Cluster keeps them together. There is one partition so far.
pub(super) const PREFIX: &str = "pr1:{0}:";

/// The channel of destinations that have something for a waiting worker; an empty message says
/// that a time has come nearer.
pub(super) const WAKE_CHANNEL: &str = "pr1:{0}:wake";

/// The channel of queue ids, run together, that got journey events.
pub(super) const JOURNEYS_CHANNEL: &str = "pr1:{0}:journeys";

/// The key of a name under the prefix.
pub(super) fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}
