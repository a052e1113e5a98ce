//! What is done to a system, and when: all of it follows from a seed. What it hits does not.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::sinks::{MOODS, Mood};

/// What there is to be hurt.
#[derive(Debug, Clone)]
pub struct Targets {
    /// Processes of ours.
    pub nodes: usize,
    /// Proxies.
    pub links: usize,
    /// Destinations.
    pub sinks: usize,
    /// For how many milliseconds the database's server may be away, if there is one: where another one
    /// can take over, long enough that it does.
    pub database: Option<Range<u64>>,
    /// How long leases last: pauses are shorter and longer than that.
    pub lease: Duration,
}

/// One thing that is wrong, from `at` on for `lasts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// When it begins.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// What it is.
    pub what: What,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// `kill -9`, and started again at the end.
    Kill(usize),
    /// SIGTERM, and started again at the end, stopped or not.
    Stop(usize),
    /// SIGSTOP, and SIGCONT at the end.
    Pause(usize),
    /// The database: `kill -9` of it, or of its master.
    Database,
    /// SIGSTOP of it, and SIGCONT at the end: if another one has taken over, it does not know.
    PauseDatabase,
    /// All connections of a link are cut.
    Cut(usize),
    /// They are cut after so many bytes of answers.
    CutAfter(usize, u32),
    /// A link is slow.
    Delay(usize, Duration),
    /// Nothing passes.
    Stall(usize),
    /// A destination behaves badly.
    Mood(usize, Mood),
}

impl What {
    /// Two troubles with the same target do not overlap.
    fn target(self) -> (u8, usize) {
        match self {
            Self::Kill(node) | Self::Stop(node) | Self::Pause(node) => (0, node),
            Self::Database | Self::PauseDatabase => (1, 0),
            Self::Cut(link)
            | Self::CutAfter(link, _)
            | Self::Delay(link, _)
            | Self::Stall(link) => (2, link),
            Self::Mood(sink, _) => (3, sink),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(_) => f.write_str("kill -9"),
            Self::Stop(_) => f.write_str("SIGTERM"),
            Self::Pause(_) => f.write_str("SIGSTOP"),
            Self::Database => f.write_str("database kill -9"),
            Self::PauseDatabase => f.write_str("database SIGSTOP"),
            Self::Cut(_) => f.write_str("cut"),
            Self::CutAfter(_, bytes) => write!(f, "cut after {bytes} more bytes"),
            Self::Delay(_, delay) => write!(f, "delay of {} ms", delay.as_millis()),
            Self::Stall(_) => f.write_str("stall"),
            Self::Mood(_, mood) => write!(f, "mood {mood:?}"),
        }
    }
}

/// Troubles for so long, in the order of their beginnings; each ends in that time.
#[must_use]
pub fn plan(seed: u64, length: Duration, targets: &Targets) -> Vec<Trouble> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut busy: HashMap<(u8, usize), Duration> = HashMap::new();
    let mut troubles = Vec::new();
    // The load gets going first.
    let mut at = Duration::from_millis(500);
    while at < length {
        let (what, lasts) = choose(&mut random, targets);
        let free = busy.get(&what.target()).copied().unwrap_or_default();
        // A moment between two at the same target, in which it may come to itself.
        if free <= at && at + lasts < length {
            busy.insert(what.target(), at + lasts + Duration::from_millis(300));
            troubles.push(Trouble { at, lasts, what });
        }
        at += Duration::from_millis(random.random_range(50..700));
    }
    troubles
}

fn choose(random: &mut SmallRng, targets: &Targets) -> (What, Duration) {
    let ms = |random: &mut SmallRng, range: std::ops::Range<u64>| {
        Duration::from_millis(random.random_range(range))
    };
    let lease = u64::try_from(targets.lease.as_millis()).unwrap_or(u64::MAX);
    let node = random.random_range(0..targets.nodes);
    let link = random.random_range(0..targets.links);
    let sink = random.random_range(0..targets.sinks);
    match random.random_range(0..100) {
        0..13 => (What::Kill(node), ms(random, 1..1_200)),
        13..20 => (What::Stop(node), ms(random, 100..3_000)),
        20..40 => (What::Pause(node), ms(random, lease / 10..lease * 9 / 4)),
        what @ 40..48 if let Some(away) = &targets.database => {
            let what = match what {
                40..45 => What::Database,
                _ => What::PauseDatabase,
            };
            (what, ms(random, away.clone()))
        }
        40..56 => (What::Cut(link), Duration::ZERO),
        56..66 => {
            let bytes = random.random_range(1..2_000);
            (What::CutAfter(link, bytes), ms(random, 500..1_500))
        }
        66..74 => {
            let delay = ms(random, 2..80);
            (What::Delay(link, delay), ms(random, 300..2_000))
        }
        74..84 => (What::Stall(link), ms(random, lease / 10..lease * 7 / 4)),
        _ => {
            let mood = MOODS.choose(random).copied().unwrap_or(Mood::Busy);
            (What::Mood(sink, mood), ms(random, 200..2_500))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: Targets = Targets {
        nodes: 7,
        links: 7,
        sinks: 6,
        database: Some(10..1_500),
        lease: Duration::from_secs(3),
    };

    #[test]
    fn a_seed_gives_the_same_plan_and_another_one_another() {
        let length = Duration::from_secs(60);
        let first = plan(7, length, &TARGETS);
        assert_eq!(first, plan(7, length, &TARGETS));
        assert_ne!(first, plan(8, length, &TARGETS));
    }

    #[test]
    fn troubles_of_one_target_do_not_overlap_and_end_in_time() {
        let length = Duration::from_secs(600);
        let troubles = plan(1, length, &TARGETS);
        for (n, trouble) in troubles.iter().enumerate() {
            assert!(trouble.at + trouble.lasts <= length);
            for other in &troubles[n + 1..] {
                assert!(
                    trouble.what.target() != other.what.target()
                        || trouble.at + trouble.lasts < other.at,
                    "{trouble:?} {other:?}"
                );
            }
        }
    }

    #[test]
    fn everything_happens_to_everybody() {
        let troubles = plan(2, Duration::from_secs(3_000), &TARGETS);
        let happens = |wanted: &dyn Fn(&Trouble) -> bool| troubles.iter().any(wanted);
        for n in 0..TARGETS.nodes {
            assert!(happens(&|one| one.what == What::Kill(n)));
            assert!(happens(&|one| one.what == What::Stop(n)));
            assert!(happens(
                &|one| one.what == What::Pause(n) && one.lasts > TARGETS.lease
            ));
            assert!(happens(&|one| one.what == What::Cut(n)));
            assert!(happens(
                &|one| one.what == What::Stall(n) && one.lasts > TARGETS.lease
            ));
            assert!(happens(
                &|one| matches!(one.what, What::CutAfter(link, _) if link == n)
            ));
            assert!(happens(
                &|one| matches!(one.what, What::Delay(link, _) if link == n)
            ));
        }
        for what in [What::Database, What::PauseDatabase] {
            assert!(happens(&|one| one.what == what));
        }
        for mood in MOODS {
            assert!(happens(
                &|one| matches!(one.what, What::Mood(_, it) if it == mood)
            ));
        }
    }
}
