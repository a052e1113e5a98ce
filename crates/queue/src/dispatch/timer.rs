//! Sleeps exactly until something becomes due or may expire.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// While the store does not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// When to look next.
#[derive(Default)]
pub(super) struct Timer {
    next: Mutex<Option<Instant>>,
    sooner: Notify,
}

impl Timer {
    fn next(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is to come after this time: do not sleep longer.
    pub(super) fn at_most(&self, wait: Duration) {
        let at = Instant::now() + wait;
        let mut next = self.next();
        if next.is_none_or(|next| at < next) {
            *next = Some(at);
            self.sooner.notify_one();
        }
    }
}

/// Runs until told to stop.
pub(super) async fn run(timer: Arc<Timer>, store: Arc<dyn Store>, stop: CancellationToken) {
    loop {
        // What is asked for while the store answers must not be lost.
        *timer.next() = None;
        match store.expire().await {
            Ok(Some(wait)) => timer.at_most(wait),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "leases and due times cannot be looked at");
                timer.at_most(AGAIN);
            }
        }
        loop {
            let next = *timer.next();
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => break,
                () = timer.sooner.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }
}
