//! How a stop reaches the sessions, in two steps: it begins, and some time later it must be done.

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Both signals. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    begun: CancellationToken,
    drained: CancellationToken,
}

impl Stop {
    /// Idle sessions end now; those in a transaction may finish it.
    pub(crate) fn begin(&self) {
        self.begun.cancel();
    }

    /// The time for that is over: whoever still waits for a client ends now.
    pub(crate) fn end_drain(&self) {
        self.drained.cancel();
    }

    /// Whether it has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Whether the drain has ended.
    pub(crate) fn has_drained(&self) -> bool {
        self.drained.is_cancelled()
    }

    /// Waits until it begins.
    pub(crate) fn begun(&self) -> WaitForCancellationFutureOwned {
        self.begun.clone().cancelled_owned()
    }

    /// Waits until the drain ends.
    pub(crate) fn drained(&self) -> WaitForCancellationFutureOwned {
        self.drained.clone().cancelled_owned()
    }
}
