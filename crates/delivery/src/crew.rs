//! The tasks that make attempts: one a slot.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postrider_protocol::destination::{MAILBOX, SMTP};
use postrider_protocol::queue_v1::{Completion, LeasedDelivery, OutcomeKind};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::attempt::Attempts;
use crate::cutoff::Cutoff;
use crate::live::Live;
use crate::outbox::Outbox;
use crate::pool::{Lease, Phase, Seat};
use crate::transport::{Slot, Transport};

/// What the slots' tasks share.
pub(crate) struct Crew {
    pub(crate) attempts: Attempts,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) smtp: Box<dyn Transport>,
    pub(crate) mailbox: Box<dyn Transport>,
    pub(crate) live: Live,
    pub(crate) pulse: Pulse,
    pub(crate) tasks: TaskTracker,
    /// Ends tasks where they are, when the drain's time is over.
    pub(crate) abort: CancellationToken,
}

/// For attempts that are broken off to end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The same where their slots are another worker's in a moment.
const LAST_MOMENT: Duration = Duration::from_millis(20);

/// The transports that this worker carries.
pub(crate) const TRANSPORTS: [&str; 2] = [SMTP, MAILBOX];

impl Crew {
    /// Hands a delivery to a slot of its lease, which may be a new one.
    pub(crate) fn take(self: &Arc<Self>, lease: &Arc<Lease>, delivery: LeasedDelivery) {
        let Some((seat, first)) = lease.push(delivery) else {
            return;
        };
        let cutoff = Cutoff::default();
        let Some(slot) = self.slot(lease, &cutoff) else {
            tracing::error!(destination = %lease.destination, "a lease for a transport that this worker did not offer");
            lease.change(Phase::Leaving);
            return;
        };
        let crew = self.clone();
        let ended = lease.ended.clone();
        self.tasks.spawn(async move {
            let mut serve = pin!(crew.serve(seat, slot, first, &cutoff));
            let limit = tokio::select! {
                biased;
                () = crew.abort.cancelled() => LAST_WORDS,
                () = ended.cancelled() => LAST_MOMENT,
                () = serve.as_mut() => return,
            };
            // What is under way learns that its connection is lost, and says what that means.
            cutoff.set();
            let _ended = tokio::time::timeout(limit, serve).await;
        });
    }

    fn slot(&self, lease: &Lease, cutoff: &Cutoff) -> Option<Box<dyn Slot>> {
        let transport = match lease.destination.transport() {
            SMTP => &self.smtp,
            MAILBOX => &self.mailbox,
            _ => return None,
        };
        Some(transport.slot(&lease.destination, cutoff))
    }

    /// One attempt after another, as long as there is work or an open connection to keep.
    async fn serve(
        &self,
        mut seat: Seat,
        mut slot: Box<dyn Slot>,
        first: LeasedDelivery,
        cutoff: &Cutoff,
    ) {
        let mut delivery = first;
        loop {
            loop {
                if self.pulse.is_stale() {
                    // The process stood still for longer than its leases live. What it holds
                    // may be at another worker by now.
                    seat.lease().change(Phase::Leaving);
                    break;
                }
                let attempt = self.attempts.make(slot.as_mut(), delivery, cutoff);
                let mut completion = attempt.await;
                if cutoff.is_set() && !keep_what_happened(&mut completion) {
                    // Given back with the lease, it is due again at once.
                    break;
                }
                let idle = self.live.load().config.idle.0;
                let tell = || self.outbox.complete(completion);
                match seat.next(slot.as_mut(), idle, tell).await {
                    Some(next) => delivery = next,
                    None => break,
                }
            }
            slot.close().await;
            match seat.leave(self.live.load().config.idle.0) {
                Some(next) => delivery = next,
                None => return,
            }
        }
    }
}

/// Of an attempt that was broken off, leaves the outcomes that stand whatever was still to come: those
/// of other recipients are due again at once. False if there are none.
fn keep_what_happened(completion: &mut Completion) -> bool {
    completion.attempt.as_mut().is_some_and(|attempt| {
        attempt
            .outcomes
            .retain(|outcome| outcome.from_remote || outcome.kind() != OutcomeKind::Deferred);
        !attempt.outcomes.is_empty()
    })
}

/// When the worker last told the queue that it lives, and was heard. Leases end at the queue without a word
/// reaching a process that was stopped; so before each attempt the process asks itself.
pub(crate) struct Pulse {
    epoch: Instant,
    /// Milliseconds since `epoch`.
    last: AtomicU64,
    lease: AtomicU64,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            last: AtomicU64::new(0),
            lease: AtomicU64::new(u64::MAX),
        }
    }

    /// A heartbeat went out at that moment; leases live so long without one.
    pub(crate) fn beat(&self, at: Instant, lease: Duration) {
        let at = at.saturating_duration_since(self.epoch).as_millis();
        let at = u64::try_from(at).unwrap_or(u64::MAX);
        self.last.store(at, Ordering::Relaxed);
        let lease = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        self.lease.store(lease, Ordering::Relaxed);
    }

    /// Whether the leases must be thought lost.
    pub(crate) fn is_stale(&self) -> bool {
        let since = self.now().saturating_sub(self.last.load(Ordering::Relaxed));
        since > self.lease.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_goes_stale_after_the_lease_time() {
        let pulse = Pulse::new();
        assert!(!pulse.is_stale());
        pulse.beat(Instant::now(), Duration::from_millis(20));
        assert!(!pulse.is_stale());
        std::thread::sleep(Duration::from_millis(40));
        assert!(pulse.is_stale());
        pulse.beat(Instant::now(), Duration::from_millis(20));
        assert!(!pulse.is_stale());
    }
}
