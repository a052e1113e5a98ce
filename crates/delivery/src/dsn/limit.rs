//! How many DSNs an address may get, so that a storm of bounces does not bury whoever was forged as
//! its sender.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Addresses that are counted at the same time. Each takes about 50 bytes. Those beyond are not
/// limited: that many addresses with one DSN each are no storm against any of them.
const MOST: usize = 65_536;

/// Counts DSNs of this process by address, over a window that slides.
pub(crate) struct Limiter {
    began: Instant,
    hasher: RandomState,
    /// By the address' hash: two that collide share their limit, which chance and a secret key rule
    /// out in practice.
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    by_address: HashMap<u64, Count>,
    /// The window in which the old ones were dropped last. Until the next one no others grow old.
    swept: Option<u64>,
}

/// DSNs in a window of time that has a number, and in the one before.
#[derive(Clone, Copy, Default)]
struct Count {
    window: u64,
    now: u32,
    before: u32,
}

impl Limiter {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            began: now,
            hasher: RandomState::new(),
            counts: Mutex::default(),
        }
    }

    /// Whether the address may get one more, and if so, counts it. At most `limit` within `period`; 0
    /// is no limit. The window slides: DSNs of the period before the present one count
    /// in so far as it still reaches into it, as if they had been spread evenly.
    pub(crate) fn allows(&self, address: &str, limit: u32, period: Duration, now: Instant) -> bool {
        if limit == 0 || period.is_zero() {
            return true;
        }
        let elapsed = now.saturating_duration_since(self.began).as_nanos();
        let window = u64::try_from(elapsed / period.as_nanos()).unwrap_or(u64::MAX);
        let into = (elapsed % period.as_nanos()) as f64 / period.as_nanos() as f64;
        // Local parts have a case of their own by the letter only; the same mailbox is meant.
        let key = self.hasher.hash_one(address.to_lowercase());
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if !counts.has_room_for(key, window) {
            return true;
        }
        let count = counts.by_address.entry(key).or_default();
        count.slide_to(window);
        let recent = f64::from(count.before) * (1.0 - into) + f64::from(count.now);
        if recent + 1.0 > f64::from(limit) {
            return false;
        }
        count.now = count.now.saturating_add(1);
        true
    }
}

impl Counts {
    fn has_room_for(&mut self, key: u64, window: u64) -> bool {
        if self.by_address.len() < MOST || self.by_address.contains_key(&key) {
            return true;
        }
        if self.swept != Some(window) {
            self.swept = Some(window);
            // A window of a number beyond this one was counted before the period was set anew.
            let recent = |count: &Count| count.window.abs_diff(window) <= 1;
            self.by_address.retain(|_, count| recent(count));
        }
        self.by_address.len() < MOST
    }
}

impl Count {
    fn slide_to(&mut self, window: u64) {
        if self.window == window {
            return;
        }
        self.before = if self.window.saturating_add(1) == window {
            self.now
        } else {
            0
        };
        self.now = 0;
        self.window = window;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn an_address_gets_so_many_and_no_more() {
        let began = Instant::now();
        let limiter = Limiter::new(began);
        let allowed = |address: &str, minutes: u64| {
            let now = began + Duration::from_secs(minutes * 60);
            limiter.allows(address, 10, HOUR, now)
        };
        let got = (0..50).filter(|_| allowed("a@x.test", 0)).count();
        assert_eq!(got, 10);
        assert!(!allowed("A@X.test", 59), "the same mailbox");
        assert!(allowed("b@x.test", 0), "another one");
        // Half of the window before still counts.
        let got = (0..50).filter(|_| allowed("a@x.test", 90)).count();
        assert_eq!(got, 5);
        // Nothing of it does two windows later.
        let got = (0..50).filter(|_| allowed("a@x.test", 300)).count();
        assert_eq!(got, 10);
    }

    #[test]
    fn a_storm_gets_through_at_the_limit() {
        let began = Instant::now();
        let limiter = Limiter::new(began);
        let mut sent = Vec::new();
        for second in 0..20_000u64 {
            let now = began + Duration::from_secs(second);
            if limiter.allows("a@x.test", 20, HOUR, now) {
                sent.push(second);
            }
        }
        // 111 at an even pace.
        assert!((100..=120).contains(&sent.len()), "{}", sent.len());
        for from in &sent {
            let within = sent.iter().filter(|at| (*from..*from + 3600).contains(at));
            // The first all came at once, and count as if they had not.
            let most = if *from == 0 { 20 } else { 30 };
            assert!(within.count() <= most, "from {from}");
        }
    }

    #[test]
    fn no_limit_counts_nobody() {
        let now = Instant::now();
        let limiter = Limiter::new(now);
        assert!((0..1000).all(|_| limiter.allows("a@x.test", 0, HOUR, now)));
        assert!(limiter.counts.lock().unwrap().by_address.is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let began = Instant::now();
        let limiter = Limiter::new(began);
        for number in 0..MOST + 100 {
            assert!(limiter.allows(&format!("{number}@x.test"), 1, HOUR, began));
        }
        assert_eq!(limiter.counts.lock().unwrap().by_address.len(), MOST);
        assert!(!limiter.allows("0@x.test", 1, HOUR, began), "still known");
        let later = began + 2 * HOUR;
        assert!(limiter.allows("new@x.test", 1, HOUR, later));
        let counts = limiter.counts.lock().unwrap();
        assert_eq!(counts.by_address.len(), 1, "the old are gone");
    }

    #[test]
    fn who_was_counted_in_windows_of_another_length_is_dropped_when_there_is_no_room() {
        let began = Instant::now();
        let limiter = Limiter::new(began);
        let now = began + HOUR;
        for number in 0..MOST {
            let address = format!("{number}@x.test");
            assert!(limiter.allows(&address, 1, Duration::from_secs(1), now));
        }
        assert!(limiter.allows("new@x.test", 1, HOUR, now));
        let counts = limiter.counts.lock().unwrap();
        assert_eq!(counts.by_address.len(), 1);
    }

    #[test]
    fn a_crowd_is_looked_through_once_in_a_window() {
        let mut counts = Counts::default();
        for key in 0..MOST as u64 {
            assert!(counts.has_room_for(key, 5));
            counts.by_address.entry(key).or_default().window = 5;
        }
        assert!(!counts.has_room_for(u64::MAX, 5));
        // One that would be dropped if they were looked through again.
        counts.by_address.entry(0).or_default().window = 1;
        assert!(!counts.has_room_for(u64::MAX, 5));
        assert!(counts.has_room_for(u64::MAX, 6));
        assert_eq!(counts.by_address.len(), MOST - 1);
    }
}
