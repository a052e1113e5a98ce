//! What is due at one destination: a lane for each tenant, who share by weight.
//!
//! A tenant that is served pays with virtual time, the less the more it weighs; the one that has
//! paid least is next. Who comes back after a pause has saved nothing up.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use postrider_protocol::DeliveryId;

use super::lane::{Lane, Place};

/// What a delivery of a tenant of weight 1 costs.
const COST: u64 = 1 << 20;

/// What suspensions say. Without any there is nothing to ask.
pub(in crate::store::embedded) trait Gate {
    /// Whether all of a tenant's deliveries to this destination are stopped.
    fn stops_tenant(&self, tenant: u32) -> bool;
    /// Whether this one is.
    fn stops(&self, delivery: DeliveryId) -> bool;
}

/// A tenant's lane and account.
#[derive(Debug)]
struct Tenant {
    lane: Lane,
    /// Virtual time up to which it has paid.
    paid: u64,
    /// A suspension stops all of it: it is passed over.
    stopped: bool,
}

/// Several tenants.
#[derive(Debug, Default)]
struct Many {
    tenants: HashMap<u32, Tenant>,
    /// Those with something ready that are not stopped: who has paid least is first.
    order: BTreeSet<(u64, u32)>,
    /// The virtual time: what those with something ready have paid about.
    now: u64,
    /// Tenants that were let in since idle ones were looked for.
    since: usize,
}

/// One tenant, as is usual, costs no more than its lane.
#[derive(Debug, Default)]
enum Tenants {
    #[default]
    None,
    One(u32, Tenant),
    Many(Box<Many>),
}

/// What is due at one destination.
#[derive(Debug, Default)]
pub(in crate::store::embedded) struct Lanes {
    tenants: Tenants,
    /// Ready deliveries of tenants that are not stopped.
    active: usize,
    /// Tenants that are stopped, or have something parked.
    aside: BTreeSet<u32>,
}

impl Tenant {
    fn new(paid: u64) -> Self {
        Self {
            lane: Lane::default(),
            paid,
            stopped: false,
        }
    }

    fn active(&self) -> usize {
        match self.stopped {
            true => 0,
            false => self.lane.len(),
        }
    }

    /// Something of it was put aside.
    fn has_aside(&self) -> bool {
        self.stopped || self.lane.has_parked()
    }

    /// Has nothing to tell any more.
    fn is_idle(&self) -> bool {
        self.lane.is_empty() && !self.stopped
    }
}

impl Tenants {
    fn get(&self, tenant: u32) -> Option<&Tenant> {
        match self {
            Self::One(known, one) if *known == tenant => Some(one),
            Self::Many(many) => many.tenants.get(&tenant),
            Self::None | Self::One(..) => None,
        }
    }

    /// Makes room for a second tenant, or the first.
    fn admit(&mut self, tenant: u32) {
        match self {
            Self::None => *self = Self::One(tenant, Tenant::new(0)),
            Self::One(known, _) if *known == tenant => {}
            Self::One(known, one) if one.is_idle() => *known = tenant,
            Self::One(..) => {
                let mut many = Box::<Many>::default();
                if let Self::One(known, one) = std::mem::take(self) {
                    many.tenants.insert(known, one);
                    many.place(known, 0);
                }
                many.admit(tenant);
                *self = Self::Many(many);
            }
            Self::Many(many) => many.admit(tenant),
        }
    }

    /// Changes a tenant's lane, and keeps its place among the others right.
    fn change<T>(&mut self, tenant: u32, change: impl FnOnce(&mut Tenant) -> T) -> Option<T> {
        match self {
            Self::One(known, one) if *known == tenant => Some(change(one)),
            Self::Many(many) => {
                let state = many.tenants.get_mut(&tenant)?;
                let (was_active, had_paid) = (state.active() > 0, state.paid);
                if !was_active {
                    state.paid = had_paid.max(many.now);
                }
                let result = change(state);
                if was_active {
                    many.order.remove(&(had_paid, tenant));
                }
                many.place(tenant, 0);
                Some(result)
            }
            Self::None | Self::One(..) => None,
        }
    }

    /// Whose turn it is.
    fn next(&self) -> Option<u32> {
        match self {
            Self::One(tenant, one) => (one.active() > 0).then_some(*tenant),
            Self::Many(many) => many.order.first().map(|(_, tenant)| *tenant),
            Self::None => None,
        }
    }

    /// The first ones with something ready, in the order of their turns.
    fn first(&self, most: usize) -> Vec<u32> {
        match self {
            Self::Many(many) => {
                let order = many.order.iter().take(most);
                order.map(|(_, tenant)| *tenant).collect()
            }
            Self::None | Self::One(..) => self.next().into_iter().collect(),
        }
    }
}

impl Many {
    fn admit(&mut self, tenant: u32) {
        if self.tenants.contains_key(&tenant) {
            return;
        }
        let now = self.now;
        self.since += 1;
        if self.since > self.tenants.len() / 2 + 8 {
            self.since = 0;
            self.tenants
                .retain(|_, other| !other.is_idle() || other.paid > now);
        }
        self.tenants.insert(tenant, Tenant::new(now));
    }

    /// Enters a tenant into the order after it has paid something, if it has anything ready.
    fn place(&mut self, tenant: u32, cost: u64) {
        if let Some(state) = self.tenants.get_mut(&tenant) {
            state.paid += cost;
            if state.active() > 0 {
                self.order.insert((state.paid, tenant));
            }
        }
    }

    fn serve(&mut self, weight: impl Fn(u32) -> u32) -> Option<Place> {
        let (paid, tenant) = self.order.pop_first()?;
        let cost = (COST / u64::from(weight(tenant).max(1))).max(1);
        // All who have something ready move on together, also while ever new ones come and go.
        let together = self.now + cost / (self.order.len() as u64 + 1);
        let place = self.tenants.get_mut(&tenant)?.lane.serve();
        self.place(tenant, cost);
        self.now = together.max(paid);
        place
    }
}

impl Lanes {
    /// Ready deliveries of tenants that are not stopped.
    pub(in crate::store::embedded) fn active(&self) -> usize {
        self.active
    }

    /// Puts a delivery in its place.
    pub(in crate::store::embedded) fn insert(
        &mut self,
        tenant: u32,
        delivery: DeliveryId,
        sender: u64,
        priority: i8,
    ) -> Option<Place> {
        self.tenants.admit(tenant);
        let (place, stopped) = self.change(tenant, |state| {
            (state.lane.insert(delivery, sender, priority), state.stopped)
        })?;
        self.active += usize::from(!stopped);
        Some(place)
    }

    /// Takes one out, ready or parked.
    pub(in crate::store::embedded) fn remove(&mut self, tenant: u32, place: &Place) -> bool {
        let removed = self.change(tenant, |state| {
            let was_ready = state.lane.remove(place);
            (
                was_ready.is_some(),
                was_ready == Some(true) && !state.stopped,
            )
        });
        let (here, was_active) = removed.unwrap_or_default();
        self.active -= usize::from(was_active);
        self.tidy();
        here
    }

    /// Takes at most `most`, in fair order. What the gate stops is put aside on the way, at most
    /// `budget` of it.
    pub(in crate::store::embedded) fn take(
        &mut self,
        most: usize,
        weight: impl Fn(u32) -> u32,
        gate: Option<&dyn Gate>,
        budget: &mut usize,
    ) -> Vec<Place> {
        let mut taken = Vec::with_capacity(most.min(self.active));
        while taken.len() < most
            && let Some(tenant) = self.tenants.next()
        {
            if let Some(gate) = gate
                && self.stop_at(tenant, gate, budget)
            {
                if *budget == 0 {
                    break;
                }
                continue;
            }
            let served = match &mut self.tenants {
                Tenants::One(_, one) => one.lane.serve(),
                Tenants::Many(many) => many.serve(&weight),
                Tenants::None => None,
            };
            self.active -= usize::from(served.is_some());
            taken.extend(served);
        }
        self.tidy();
        taken
    }

    /// Puts one back that was taken.
    pub(in crate::store::embedded) fn untake(&mut self, tenant: u32, place: Place) {
        self.tenants.admit(tenant);
        let stopped = self.change(tenant, |state| {
            state.lane.unserve(place);
            state.stopped
        });
        self.active += usize::from(stopped == Some(false));
    }

    /// Whether the gate stops the tenant, or the one whose turn it is; that is put aside.
    fn stop_at(&mut self, tenant: u32, gate: &dyn Gate, budget: &mut usize) -> bool {
        if gate.stops_tenant(tenant) {
            *budget = budget.saturating_sub(1);
            self.set_stopped(tenant, true);
            return true;
        }
        let first = self
            .tenants
            .get(tenant)
            .and_then(|state| state.lane.first());
        let Some(first) = first.filter(|first| gate.stops(first.delivery())) else {
            return false;
        };
        *budget = budget.saturating_sub(1);
        self.park(tenant, first);
        true
    }

    /// Changes a tenant, and notes whether something of it is aside.
    fn change<T>(&mut self, tenant: u32, change: impl FnOnce(&mut Tenant) -> T) -> Option<T> {
        let result = self.tenants.change(tenant, |state| {
            let result = change(state);
            if state.lane.is_empty() {
                // Whoever comes next is asked about anew. It may be another tenant: numbers of those
                // who have no messages are used again.
                state.stopped = false;
            }
            result
        });
        match self.tenants.get(tenant).is_some_and(Tenant::has_aside) {
            true => self.aside.insert(tenant),
            false => !self.aside.is_empty() && self.aside.remove(&tenant),
        };
        result
    }

    fn park(&mut self, tenant: u32, place: Place) {
        let parked = self.change(tenant, |state| state.lane.park(place));
        self.active -= usize::from(parked == Some(true));
    }

    fn set_stopped(&mut self, tenant: u32, stopped: bool) {
        let before = self.tenants.get(tenant).map_or(0, Tenant::active);
        self.change(tenant, |state| state.stopped = stopped);
        let after = self.tenants.get(tenant).map_or(0, Tenant::active);
        self.active = self.active + after - before;
    }

    /// How many could be taken, counted up to `most`. What the gate stops is put aside on the way,
    /// at most `budget` of it.
    pub(in crate::store::embedded) fn count(
        &mut self,
        most: usize,
        gate: Option<&dyn Gate>,
        budget: &mut usize,
    ) -> usize {
        let Some(gate) = gate else {
            return self.active.min(most);
        };
        let mut count = 0;
        // Each that is looked at either counts or is put aside.
        for tenant in self.tenants.first(most + *budget) {
            if count >= most || *budget == 0 {
                break;
            }
            let Some(state) = self.tenants.get(tenant).filter(|state| state.active() > 0) else {
                continue;
            };
            if gate.stops_tenant(tenant) {
                *budget = budget.saturating_sub(1);
                self.set_stopped(tenant, true);
                continue;
            }
            let mut stopped = Vec::new();
            for place in state.lane.iter() {
                if !gate.stops(place.delivery()) {
                    count += 1;
                } else {
                    stopped.push(*place);
                    *budget = budget.saturating_sub(1);
                }
                if count >= most || *budget == 0 {
                    break;
                }
            }
            for place in stopped {
                self.park(tenant, place);
            }
        }
        self.tidy();
        count
    }

    /// Whether something was put aside that a suspension may have stopped.
    pub(in crate::store::embedded) fn has_stopped(&self) -> bool {
        !self.aside.is_empty()
    }

    /// The next tenant at which something was put aside, from this one on.
    pub(in crate::store::embedded) fn next_stopped(&self, from: u32) -> Option<u32> {
        self.aside.range(from..).next().copied()
    }

    /// Puts back what was put aside of a tenant after this place and is not stopped any more.
    /// Looks at `budget` at most; `None` when there is no more, otherwise where to go on.
    pub(in crate::store::embedded) fn put_back(
        &mut self,
        tenant: u32,
        after: Option<Place>,
        gate: Option<&dyn Gate>,
        budget: &mut usize,
    ) -> Option<Place> {
        if !gate.is_some_and(|gate| gate.stops_tenant(tenant)) {
            self.set_stopped(tenant, false);
        }
        let state = self.tenants.get(tenant)?;
        let looked_at: Vec<Place> = state.lane.parked_after(after).take(*budget).collect();
        *budget = budget.saturating_sub(looked_at.len().max(1));
        let last = looked_at.last().copied();
        for place in looked_at {
            if gate.is_some_and(|gate| gate.stops(place.delivery())) {
                continue;
            }
            let back = self.change(tenant, |state| state.lane.unpark(place) && !state.stopped);
            self.active += usize::from(back == Some(true));
        }
        self.tidy();
        last.filter(|_| *budget == 0)
    }

    /// Gives back what nothing is in any more.
    fn tidy(&mut self) {
        let idle = match &self.tenants {
            Tenants::None => false,
            Tenants::One(_, one) => one.is_idle(),
            Tenants::Many(many) => {
                many.order.is_empty() && many.tenants.values().all(Tenant::is_idle)
            }
        };
        if idle {
            self.tenants = Tenants::None;
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_protocol::QueueId;

    use super::*;

    fn delivery(number: u128) -> DeliveryId {
        DeliveryId {
            queue_id: QueueId::from_u128(number),
            number: 0,
        }
    }

    fn number(place: &Place) -> u128 {
        place.delivery().queue_id.as_u128()
    }

    fn fill(lanes: &mut Lanes, tenant: u32, from: u128, count: u128) {
        for n in from..from + count {
            lanes.insert(tenant, delivery(n), 1, 0);
        }
    }

    fn take(lanes: &mut Lanes, most: usize) -> Vec<u128> {
        let weight = |tenant| if tenant == 3 { 3 } else { 1 };
        let taken = lanes.take(most, weight, None, &mut 0);
        taken.iter().map(number).collect()
    }

    struct Stops(Vec<u32>, Vec<u128>);

    impl Gate for Stops {
        fn stops_tenant(&self, tenant: u32) -> bool {
            self.0.contains(&tenant)
        }

        fn stops(&self, delivery: DeliveryId) -> bool {
            self.1.contains(&delivery.queue_id.as_u128())
        }
    }

    #[test]
    fn a_tenant_with_one_waits_for_few_of_one_with_many() {
        let mut lanes = Lanes::default();
        fill(&mut lanes, 1, 1, 100_000);
        take(&mut lanes, 70);
        fill(&mut lanes, 2, 900_000, 1);
        assert!(take(&mut lanes, 3).contains(&900_000));
        assert_eq!(lanes.active(), 100_000 - 72);
    }

    #[test]
    fn tenants_share_by_weight() {
        let mut lanes = Lanes::default();
        for tenant in 1..=3 {
            fill(&mut lanes, tenant, u128::from(tenant) * 100_000, 10_000);
        }
        let mut share = [0; 4];
        for id in take(&mut lanes, 5_000) {
            share[(id / 100_000) as usize] += 1;
        }
        assert_eq!(share[3] / 100, 30, "{share:?}");
        assert_eq!(share[1] / 100, 10, "{share:?}");
    }

    #[test]
    fn a_pause_saves_nothing_up_and_costs_nothing() {
        let mut lanes = Lanes::default();
        fill(&mut lanes, 1, 100_000, 1000);
        fill(&mut lanes, 2, 200_000, 10);
        take(&mut lanes, 520);
        fill(&mut lanes, 2, 200_100, 100);
        let of_two = take(&mut lanes, 100);
        let of_two = of_two.iter().filter(|id| **id >= 200_000).count();
        assert_eq!(of_two, 50);
    }

    #[test]
    fn an_empty_destination_costs_nothing() {
        let mut lanes = Lanes::default();
        fill(&mut lanes, 1, 1, 3);
        fill(&mut lanes, 2, 10, 3);
        assert_eq!(take(&mut lanes, 100).len(), 6);
        assert!(matches!(lanes.tenants, Tenants::None));
        for tenant in 0..1000 {
            fill(&mut lanes, tenant, u128::from(tenant), 1);
            if tenant > 10 {
                take(&mut lanes, 1);
            }
        }
        let Tenants::Many(many) = &lanes.tenants else {
            panic!("one tenant");
        };
        assert!(many.tenants.len() < 50, "{}", many.tenants.len());
    }

    #[test]
    fn what_is_removed_leaves_no_stop_behind() {
        let mut lanes = Lanes::default();
        let gate = Stops(vec![1], vec![]);
        let place = lanes.insert(1, delivery(1), 0, 0).unwrap();
        lanes.insert(2, delivery(2), 0, 0);
        assert_eq!(lanes.take(9, |_| 1, Some(&gate), &mut 100).len(), 1);
        assert!(lanes.remove(1, &place));
        assert!(!lanes.has_stopped());
        lanes.insert(1, delivery(3), 0, 0);
        assert_eq!(lanes.active(), 1);
        let another = Stops(vec![], vec![]);
        assert_eq!(lanes.take(9, |_| 1, Some(&another), &mut 100).len(), 1);
    }

    #[test]
    fn what_is_stopped_holds_up_nobody_and_comes_back() {
        let mut lanes = Lanes::default();
        fill(&mut lanes, 1, 1, 10);
        fill(&mut lanes, 2, 100, 1000);
        let gate = Stops(vec![2], vec![1, 3]);
        assert_eq!(lanes.count(4, Some(&gate), &mut 100), 4);
        let taken = lanes.take(100, |_| 1, Some(&gate), &mut 100);
        let taken: Vec<u128> = taken.iter().map(number).collect();
        assert_eq!(taken, [2, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(lanes.active(), 0);
        assert!(lanes.has_stopped());
        // New ones of a stopped tenant are stopped too.
        fill(&mut lanes, 2, 5000, 1);
        assert_eq!(lanes.active(), 0);
        let gate = Stops(vec![], vec![3]);
        let mut budget = 100;
        assert_eq!(lanes.next_stopped(0), Some(1));
        assert_eq!(lanes.put_back(1, None, Some(&gate), &mut budget), None);
        assert_eq!(lanes.next_stopped(2), Some(2));
        assert_eq!(lanes.put_back(2, None, Some(&gate), &mut budget), None);
        assert_eq!(lanes.active(), 1002);
        assert_eq!(lanes.put_back(1, None, None, &mut budget), None);
        let mut all = take(&mut lanes, 5000);
        all.sort_unstable();
        assert_eq!(all.len(), 1003);
        assert_eq!(all[..2], [1, 3]);
    }

    #[test]
    fn much_that_is_stopped_is_put_aside_bit_by_bit() {
        let mut lanes = Lanes::default();
        fill(&mut lanes, 1, 0, 1000);
        let gate = Stops(vec![], (0..1000).collect());
        for parked in 1..=10 {
            let mut budget = 100;
            assert!(lanes.take(5, |_| 1, Some(&gate), &mut budget).is_empty());
            assert_eq!((budget, lanes.active()), (0, 1000 - 100 * parked));
        }
        let (mut after, mut calls) = (None, 0);
        loop {
            calls += 1;
            after = lanes.put_back(1, after, None, &mut 100);
            if after.is_none() {
                break;
            }
        }
        assert!((10..=11).contains(&calls), "{calls}");
        assert_eq!(take(&mut lanes, 1000), (0..1000).collect::<Vec<_>>());
    }
}
