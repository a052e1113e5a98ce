//! What a worker knows of its leases' ends.
//!
//! A lease lives in the store, on the store's clock, and ends there if nothing is heard of the
//! worker. The worker hears of that only where words pass. So each heartbeat has a number, and the
//! queue answers it once the leases are renewed: they then last at least a lease time from when it was
//! sent, on any clock. Where no answer comes, the worker closes its connections before that time is
//! over, and the slots of a destination are kept even while the network is cut.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Heartbeats that wait for an answer. More are sent only while nothing passes at all.
const MOST: usize = 64;

/// The heartbeats of one conversation.
#[derive(Debug)]
pub(crate) struct Heartbeats {
    sent: VecDeque<(u64, Instant)>,
    next: u64,
    /// When the latest one that was answered was sent.
    good: Instant,
    lease: Duration,
    answered: bool,
}

impl Heartbeats {
    /// Of a conversation that began at that moment: leases are only granted after it. A queue of an
    /// earlier release does not answer.
    pub(crate) fn new(begun: Instant, lease: Duration, answered: bool) -> Self {
        Self {
            sent: VecDeque::new(),
            next: 1,
            good: begun,
            lease,
            answered,
        }
    }

    /// Whether the queue answers.
    pub(crate) fn are_answered(&self) -> bool {
        self.answered
    }

    /// The number of a heartbeat that is sent now.
    pub(crate) fn next(&mut self, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        if self.sent.len() < MOST {
            self.sent.push_back((number, now));
        }
        number
    }

    /// The queue has answered one. Gives when it was sent, if that is news.
    pub(crate) fn answered(&mut self, number: u64) -> Option<Instant> {
        let mut news = None;
        while let Some((_, at)) = self.sent.pop_front_if(|(sent, _)| *sent <= number) {
            self.good = self.good.max(at);
            news = Some(at);
        }
        news
    }

    /// When the leases may have ended, less what it takes to close connections. `None` if the queue
    /// does not answer heartbeats.
    pub(crate) fn leases_end(&self) -> Option<Instant> {
        self.answered.then(|| self.good + self.lease * 9 / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_last_from_the_latest_heartbeat_that_was_answered() {
        let begun = Instant::now();
        let second = Duration::from_secs(1);
        let mut heartbeats = Heartbeats::new(begun, second * 10, true);
        assert_eq!(heartbeats.leases_end(), Some(begun + second * 9));
        assert_eq!(heartbeats.next(begun + second), 1);
        assert_eq!(heartbeats.next(begun + second * 2), 2);
        assert_eq!(heartbeats.next(begun + second * 3), 3);
        assert_eq!(heartbeats.leases_end(), Some(begun + second * 9));
        assert_eq!(heartbeats.answered(2), Some(begun + second * 2));
        assert_eq!(heartbeats.leases_end(), Some(begun + second * 11));
        // Told again, or never sent: no news.
        assert_eq!(heartbeats.answered(1), None);
        assert_eq!(heartbeats.answered(2), None);
        assert_eq!(heartbeats.leases_end(), Some(begun + second * 11));
        assert_eq!(heartbeats.answered(u64::MAX), Some(begun + second * 3));
        assert_eq!(heartbeats.leases_end(), Some(begun + second * 12));
    }

    #[test]
    fn unanswered_heartbeats_are_few_and_an_old_queue_is_not_waited_for() {
        let now = Instant::now();
        let mut heartbeats = Heartbeats::new(now, Duration::from_secs(1), false);
        for _ in 0..1_000 {
            heartbeats.next(now);
        }
        assert_eq!(heartbeats.sent.len(), MOST);
        assert_eq!(heartbeats.leases_end(), None);
    }
}
