//! What is carried on that others have left on its way to other partitions: round by round, a bounded
//! number each, and past what goes where nothing can go now.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::Cmd;

use super::part::Part;

/// Pages of a round; what is left then comes in the next.
const PAGES: usize = 32;

/// Where in a partition's order the next round begins, as the number of those that are left out.
#[derive(Debug, Default)]
pub(super) struct Place(AtomicU64);

/// A round through what lies in a partition.
pub(super) struct Round<'a> {
    place: &'a Place,
    at: u64,
    pages: usize,
    carried: u64,
    /// Partitions to which nothing can go now.
    pub(super) away: BTreeSet<usize>,
}

/// What a page said beside what lies there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    /// How long until there may be something to do again, if anything lies there.
    pub(super) next: Option<Duration>,
    /// How many to leave out for what follows; at the end nothing.
    pub(super) go_on: Option<u64>,
}

impl<'a> Round<'a> {
    pub(super) fn new(parts: &[Part], place: &'a Place) -> Self {
        let is_away = |(_, part): &(usize, &Part)| !part.core.safe.is_up();
        let away = parts.iter().enumerate().filter(is_away);
        Self::past(place, away.map(|(partition, _)| partition).collect())
    }

    /// One of a caller's own, which leaves nothing out.
    pub(super) fn whole(place: &'a Place) -> Self {
        Self::past(place, BTreeSet::new())
    }

    fn past(place: &'a Place, away: BTreeSet<usize>) -> Self {
        let at = place.0.load(Ordering::Relaxed);
        Self {
            place,
            at,
            pages: 0,
            carried: 0,
            away,
        }
    }

    /// Adds where to read on to a script's call.
    pub(super) fn add_to(&self, cmd: &mut Cmd) {
        cmd.arg(self.at);
        for partition in &self.away {
            cmd.arg(*partition);
        }
    }

    /// So many of a page have been carried, and are no more where they were. If the round is over, says how long
    /// until there may be something to do again.
    pub(super) fn over(&mut self, page: Page, carried: usize) -> Option<Option<Duration>> {
        let carried = carried as u64;
        self.carried += carried;
        self.pages += 1;
        let at_end = page.go_on.is_none();
        self.at = page.go_on.map_or(0, |go_on| go_on.saturating_sub(carried));
        if !at_end && self.pages < PAGES {
            return None;
        }
        self.place.0.store(self.at, Ordering::Relaxed);
        // What the page says was so before anything was carried.
        Some(match self.carried {
            0 => page.next,
            _ => Some(Duration::ZERO),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXT: Option<Duration> = Some(Duration::from_secs(1));

    fn page(go_on: Option<u64>) -> Page {
        Page { next: NEXT, go_on }
    }

    #[test]
    fn a_round_goes_past_what_stays_and_ends() {
        let place = Place::default();
        let mut round = Round::past(&place, BTreeSet::new());
        assert_eq!(round.over(page(Some(32)), 20), None);
        assert_eq!(round.at, 12);
        assert_eq!(round.over(page(None), 5), Some(Some(Duration::ZERO)));
        let mut round = Round::past(&place, BTreeSet::new());
        assert_eq!(round.over(page(None), 0), Some(NEXT));
        assert_eq!(Round::past(&place, BTreeSet::new()).at, 0);
    }

    #[test]
    fn the_next_round_begins_where_this_one_had_enough() {
        let place = Place::default();
        let mut round = Round::past(&place, BTreeSet::new());
        for n in 1..PAGES as u64 {
            assert_eq!(round.over(page(Some(1000 * n)), 0), None);
        }
        assert_eq!(round.over(page(Some(32_000)), 0), Some(NEXT));
        // What it has left out comes once it is at the end.
        let mut round = Round::past(&place, BTreeSet::new());
        assert_eq!(round.at, 32_000);
        assert_eq!(round.over(page(None), 1), Some(Some(Duration::ZERO)));
        assert_eq!(Round::past(&place, BTreeSet::new()).at, 0);
    }
}
