//! The order to stop, and until when what is in hand may go on.

use std::sync::{Arc, OnceLock};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::crew::Crew;

/// Known to all conversations, so that none of them begins the drain's time anew.
pub(crate) struct Stop {
    order: CancellationToken,
    crew: Arc<Crew>,
    deadline: OnceLock<Instant>,
}

impl Stop {
    pub(crate) fn new(order: CancellationToken, crew: &Arc<Crew>) -> Self {
        Self {
            order,
            crew: crew.clone(),
            deadline: OnceLock::new(),
        }
    }

    pub(crate) fn is_ordered(&self) -> bool {
        self.order.is_cancelled()
    }

    /// Waits for the order. Gives the deadline.
    pub(crate) async fn ordered(&self) -> Instant {
        self.order.cancelled().await;
        self.deadline()
    }

    /// When the drain's time, as it is configured when the order is first heard, will be over.
    pub(crate) fn deadline(&self) -> Instant {
        *self.deadline.get_or_init(|| {
            let crew = &self.crew;
            tracing::info!(
                attempts = crew.tasks.len(),
                "stopping: finishing attempts in hand"
            );
            crew.tasks.close();
            Instant::now() + crew.live.load().config.drain.0
        })
    }

    /// Waits until the order has come and the drain's time is over.
    pub(crate) async fn over(&self) {
        let deadline = self.ordered().await;
        tokio::time::sleep_until(deadline).await;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_ordered() && Instant::now() >= self.deadline()
    }
}
