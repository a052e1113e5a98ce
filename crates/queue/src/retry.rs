//! When a deferred delivery is tried again.

use std::time::Duration;

/// A wait that grows from attempt to attempt up to a limit, each a little different.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetrySchedule {
    /// The wait after the first attempt.
    pub first: Duration,
    /// By how much the wait grows from attempt to attempt.
    pub factor: f64,
    /// The longest wait, before jitter.
    pub most: Duration,
    /// How much a wait varies either way, as a share of it.
    pub jitter: f64,
}

impl RetrySchedule {
    /// The wait after the given attempt (from 1). `chance` from 0 to 1 chooses within the jitter.
    #[must_use]
    pub fn wait(&self, attempt: u32, chance: f64) -> Duration {
        let exponent = f64::from(attempt.saturating_sub(1));
        let grown = self.first.as_secs_f64() * self.factor.max(1.0).powf(exponent);
        // `min` also catches the infinity that a large exponent gives.
        let wait = grown.min(self.most.as_secs_f64());
        let varied = wait * (1.0 + self.jitter * (2.0 * chance.clamp(0.0, 1.0) - 1.0));
        Duration::try_from_secs_f64(varied).unwrap_or(self.most)
    }

    /// The wait after the given attempt, with jitter by chance.
    #[must_use]
    pub fn random_wait(&self, attempt: u32) -> Duration {
        self.wait(attempt, rand::random())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCHEDULE: RetrySchedule = RetrySchedule {
        first: Duration::from_secs(300),
        factor: 2.0,
        most: Duration::from_secs(4000),
        jitter: 0.1,
    };

    #[test]
    fn waits_grow_to_the_limit() {
        let waits: Vec<u64> = (1..=6).map(|n| SCHEDULE.wait(n, 0.5).as_secs()).collect();
        assert_eq!(waits, [300, 600, 1200, 2400, 4000, 4000]);
        assert_eq!(SCHEDULE.wait(1, 0.0).as_secs(), 270);
        assert_eq!(SCHEDULE.wait(1, 1.0).as_secs(), 330);
    }

    proptest! {
        #[test]
        fn waits_stay_within_bounds(attempt: u32, chance in 0.0..=1.0) {
            let wait = SCHEDULE.wait(attempt, chance);
            prop_assert!(wait >= Duration::from_secs(270));
            prop_assert!(wait <= Duration::from_secs(4400));
        }
    }
}
