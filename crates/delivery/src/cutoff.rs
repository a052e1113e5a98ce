//! The end of the drain's time, as those see it who are in the middle of an attempt.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

/// Set when attempts are to be broken off. Whoever waits for another server then takes the connection
/// for lost, so that what was sent by then still has its true outcome: one whose final dot may have
/// left is unknown, and not merely tried again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cutoff(Arc<AtomicBool>);

impl Cutoff {
    /// From now on waits are broken off, each when its task is polled next: who calls this polls it.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for something; `None` if it is broken off.
    pub(crate) async fn or<T>(&self, what: impl Future<Output = T>) -> Option<T> {
        let mut what = pin!(what);
        std::future::poll_fn(|context| {
            if self.is_set() {
                return Poll::Ready(None);
            }
            what.as_mut().poll(context).map(Some)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_wait_ends_when_it_is_broken_off() {
        let cutoff = Cutoff::default();
        assert_eq!(cutoff.or(std::future::ready(1)).await, Some(1));
        let other = cutoff.clone();
        let mut wait = pin!(cutoff.or(std::future::pending::<()>()));
        let short = Duration::from_millis(1);
        assert!(tokio::time::timeout(short, wait.as_mut()).await.is_err());
        other.set();
        assert_eq!(wait.await, None);
        assert_eq!(cutoff.or(std::future::ready(1)).await, None);
    }
}
