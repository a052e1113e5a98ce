//! One tenant's due deliveries at a destination, in the order in which they leave.
//!
//! Start-time fair queueing between senders: virtual time runs in rounds, a sender has one delivery
//! a round, and each delivery is tagged with the round in which it is to leave. A priority moves
//! the tag by a fixed number of rounds, so it overtakes that many and no more, and a low one only
//! has to wait until the rounds have come that far.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use postrider_protocol::{DeliveryId, QueueId};

/// Up to so many due deliveries leave in the order in which they came: fairness does not show, and
/// costs nothing.
const FEW: usize = 64;
/// Senders that are new in a round before the next one begins: however many there are, a priority
/// only overtakes so many of them a round.
const CROWD: u32 = 16;
/// Rounds that one step of priority is worth.
const PRIORITY_ROUNDS: i64 = 32;

/// A due delivery at its place in the order. Two halves keep it at 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store::embedded) struct Place {
    /// The round in which it leaves.
    tag: i64,
    id_high: u64,
    id_low: u64,
    number: u32,
    priority: i8,
}

impl Place {
    pub(in crate::store::embedded) fn new(tag: i64, delivery: DeliveryId, priority: i8) -> Self {
        let id = delivery.queue_id.as_u128();
        Self {
            tag,
            id_high: (id >> 64) as u64,
            id_low: id as u64,
            number: delivery.number,
            priority,
        }
    }

    pub(in crate::store::embedded) fn delivery(&self) -> DeliveryId {
        DeliveryId {
            queue_id: QueueId::from_u128(u128::from(self.id_high) << 64 | u128::from(self.id_low)),
            number: self.number,
        }
    }

    pub(in crate::store::embedded) fn tag(&self) -> i64 {
        self.tag
    }

    /// The round that it would leave in without its priority.
    fn round(&self) -> i64 {
        self.tag + i64::from(self.priority) * PRIORITY_ROUNDS
    }
}

/// Which round each sender with several deliveries has next, while that is later than for others.
#[derive(Debug, Default)]
struct Senders {
    next: HashMap<u64, i64>,
    /// How much has happened since they were looked through.
    since: usize,
}

/// One tenant's due deliveries.
#[derive(Debug, Default)]
pub(in crate::store::embedded) struct Lane {
    ready: BTreeSet<Place>,
    /// Those whose turn came while a suspension stops them. They keep their places.
    parked: BTreeSet<Place>,
    /// The round that a sender with nothing due gets now: later than every round that has left.
    round: i64,
    /// Senders that got this round so far.
    crowd: u32,
    senders: Option<Box<Senders>>,
}

impl Lane {
    /// Deliveries whose turn comes.
    pub(super) fn len(&self) -> usize {
        self.ready.len()
    }

    /// Whether there is nothing in it, ready or parked.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.parked.is_empty()
    }

    pub(super) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Puts a delivery in its place.
    pub(super) fn insert(&mut self, delivery: DeliveryId, sender: u64, priority: i8) -> Place {
        let round = self.next_round(sender);
        let tag = round - i64::from(priority) * PRIORITY_ROUNDS;
        let place = Place::new(tag, delivery, priority);
        self.ready.insert(place);
        place
    }

    fn next_round(&mut self, sender: u64) -> i64 {
        if self.senders.is_none() && self.ready.len() < FEW {
            self.round += 1;
            return self.round - 1;
        }
        let senders = self.senders.get_or_insert_default();
        let known = senders.next.get_mut(&sender);
        if let Some(next) = known.filter(|next| **next > self.round) {
            *next += 1;
            return *next - 1;
        }
        let round = self.round;
        senders.next.insert(sender, round + 1);
        senders.since += 1;
        self.crowd += 1;
        if self.crowd >= CROWD {
            self.begin_round(round + 1);
        }
        self.look_through_senders();
        round
    }

    fn begin_round(&mut self, round: i64) {
        self.round = round;
        self.crowd = 0;
    }

    /// Forgets senders that are not ahead of others any more. What that costs is paid for by what
    /// has happened since the last time.
    fn look_through_senders(&mut self) {
        let Some(senders) = &mut self.senders else {
            return;
        };
        if senders.since <= senders.next.len() / 2 + FEW {
            return;
        }
        senders.since = 0;
        let round = self.round;
        senders.next.retain(|_, next| *next > round);
        if senders.next.capacity() > 4 * senders.next.len() + 64 {
            senders.next.shrink_to(2 * senders.next.len());
        }
        if senders.next.is_empty() && self.ready.len() < FEW {
            self.senders = None;
        }
    }

    /// The one whose turn it is.
    pub(super) fn first(&self) -> Option<Place> {
        self.ready.first().copied()
    }

    /// In the order in which their turns come.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Place> {
        self.ready.iter()
    }

    /// The first one leaves.
    pub(super) fn serve(&mut self) -> Option<Place> {
        let place = self.ready.pop_first()?;
        if place.round() >= self.round {
            self.begin_round(place.round() + 1);
        }
        if let Some(senders) = &mut self.senders {
            senders.since += 1;
            self.look_through_senders();
        }
        self.forget_if_empty();
        Some(place)
    }

    /// One that has left comes back to its place.
    pub(super) fn unserve(&mut self, place: Place) {
        self.ready.insert(place);
        if place.round() >= self.round {
            self.begin_round(place.round() + 1);
        }
    }

    /// Takes one out; whether it was ready, or `None` if it was not here at all.
    pub(super) fn remove(&mut self, place: &Place) -> Option<bool> {
        let ready = self.ready.remove(place);
        let here = ready || self.parked.remove(place);
        self.forget_if_empty();
        here.then_some(ready)
    }

    fn forget_if_empty(&mut self) {
        if self.is_empty() {
            self.senders = None;
        }
    }

    /// Puts one that is ready aside.
    pub(super) fn park(&mut self, place: Place) -> bool {
        self.ready.remove(&place) && self.parked.insert(place)
    }

    /// Those that were put aside, after this one.
    pub(super) fn parked_after(&self, after: Option<Place>) -> impl Iterator<Item = Place> + '_ {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.parked.range((from, Unbounded)).copied()
    }

    /// Puts one back that was aside.
    pub(super) fn unpark(&mut self, place: Place) -> bool {
        self.parked.remove(&place) && self.ready.insert(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(number: u128) -> DeliveryId {
        DeliveryId {
            queue_id: QueueId::from_u128(number),
            number: 0,
        }
    }

    /// Puts deliveries of a sender in; their ids go on from `id`.
    fn fill(lane: &mut Lane, id: u128, count: u128, sender: u64, priority: i8) {
        for n in 0..count {
            lane.insert(delivery(id + n), sender, priority);
        }
    }

    /// How many leave before this one does.
    fn before(lane: &mut Lane, id: u128) -> usize {
        std::iter::from_fn(|| lane.serve())
            .position(|place| place.delivery() == delivery(id))
            .unwrap()
    }

    #[test]
    fn a_sender_with_one_waits_for_few_of_one_with_many() {
        let mut lane = Lane::default();
        fill(&mut lane, 1, 100_000, 1, 0);
        for _ in 0..5_000 {
            lane.serve();
        }
        lane.insert(delivery(900_000), 2, 0);
        let waited = before(&mut lane, 900_000);
        assert!(waited <= FEW, "{waited}");
    }

    #[test]
    fn senders_share_alike() {
        let mut lane = Lane::default();
        for sender in 0..4 {
            let id = 1 + 100_000 * u128::from(sender);
            fill(&mut lane, id, 10_000, sender, 0);
        }
        let mut left = [0; 4];
        for _ in 0..4_000 {
            let id = lane.serve().unwrap().delivery().queue_id.as_u128();
            left[(id / 100_000) as usize] += 1;
        }
        assert!(
            left.iter().all(|left| (900..=1100).contains(left)),
            "{left:?}"
        );
    }

    #[test]
    fn one_sender_keeps_its_order_whatever_others_do() {
        let mut lane = Lane::default();
        let (mut id, mut last) = (1, 0);
        // Bursts and lulls, below and above the few that need no fairness.
        for (of_one, of_others, leave) in [
            (10, 0, 5),
            (100, 30, 60),
            (5, 500, 400),
            (3, 3, 180),
            (80, 1, 70),
            (1, 0, 300),
        ] {
            for n in 0..of_others {
                lane.insert(delivery(1_000_000 + id * 1000 + n), 10 + n as u64, 0);
            }
            fill(&mut lane, id, of_one, 1, 0);
            id += of_one;
            for _ in 0..leave {
                let Some(place) = lane.serve() else { break };
                let left = place.delivery().queue_id.as_u128();
                if left < 1_000_000 {
                    assert!(left > last, "{left} after {last}");
                    last = left;
                }
            }
        }
    }

    #[test]
    fn a_priority_overtakes_and_a_low_one_ages() {
        let mut lane = Lane::default();
        fill(&mut lane, 1, 1000, 1, 0);
        lane.insert(delivery(5000), 1, 4);
        assert!(before(&mut lane, 5000) < 1000 - 4 * 32 + 2);
        // Urgent mail comes without end, of one sender, of many, and also while little waits.
        for (many, waiting) in [(false, 500), (true, 500), (true, 5)] {
            let mut lane = Lane::default();
            lane.insert(delivery(1), 1, -9);
            let mut served = 0;
            for n in 0_u64.. {
                lane.insert(
                    delivery(u128::from(n) + 10),
                    if many { n + 2 } else { 2 },
                    9,
                );
                if lane.len() < waiting {
                    continue;
                }
                served += 1;
                if lane.serve().unwrap().delivery() == delivery(1) {
                    break;
                }
                assert!(served < 20_000, "the low one starves: {many} {waiting}");
            }
        }
    }

    #[test]
    fn senders_are_forgotten() {
        let mut lane = Lane::default();
        for n in 0..100_000 {
            lane.insert(delivery(n), n as u64, 0);
        }
        let known = lane.senders.as_ref().unwrap().next.len();
        assert!(known < 200, "{known} of senders with one delivery each");
        fill(&mut lane, 1_000_000, 1000, 1, 0);
        while lane.len() > 10 {
            lane.serve();
        }
        let known = lane
            .senders
            .as_ref()
            .map_or(0, |senders| senders.next.len());
        assert!(known < 200, "{known} once few are left");
        while lane.serve().is_some() {}
        assert!(lane.senders.is_none());
    }

    #[test]
    fn what_is_parked_comes_back_to_its_place() {
        let mut lane = Lane::default();
        fill(&mut lane, 1, 200, 1, 0);
        let first = lane.first().unwrap();
        assert!(lane.park(first));
        assert_eq!(lane.serve().unwrap().delivery(), delivery(2));
        assert_eq!(lane.parked_after(None).collect::<Vec<_>>(), [first]);
        assert!(lane.unpark(first));
        assert_eq!(lane.serve(), Some(first));
        assert_eq!(lane.remove(&first), None);
    }
}
