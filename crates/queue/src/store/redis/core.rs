//! What all calls share.

use redis::Cmd;

use super::keys::PREFIX;
use super::link::Link;
use super::script::{Script, Scripts};
use crate::store::StoreSettings;

/// Bytes of one batch: enough to share a round trip among many, little enough that a script does
/// not hold up the server.
pub(super) const BATCH_BYTES: usize = 2 << 20;

pub(super) struct Core {
    /// For what need not be durable when it is answered.
    pub(super) link: Link,
    /// For what must. The same link as the other, unless replicas are waited for: the wait holds
    /// up all that is sent on its connection after it.
    pub(super) safe: Link,
    pub(super) scripts: Scripts,
    pub(super) settings: StoreSettings,
}

impl Core {
    /// A call of a script, to be completed with its arguments.
    pub(super) fn call(&self, script: &Script) -> Cmd {
        script.call(PREFIX, self.settings.slots_per_destination)
    }

    pub(super) fn lifetime_us(&self) -> u64 {
        micros(self.settings.lifetime)
    }

    /// Milliseconds; at least one, since Redis deletes at once what is to live for none.
    pub(super) fn retention_ms(&self) -> u64 {
        u64::try_from(self.settings.journey_retention.as_millis())
            .unwrap_or(u64::MAX)
            // A hundred years: beyond it, Redis' own arithmetic overflows.
            .clamp(1, 100 * 366 * 24 * 3600 * 1000)
    }
}

/// Whole microseconds, within what Lua's numbers hold exactly.
pub(super) fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros())
        .unwrap_or(u64::MAX)
        .min(1 << 51)
}
