//! Granting, prolonging and ending leases.

use std::time::Duration;

use hashbrown::HashSet;
use postrider_protocol::DeliveryId;

use super::EmbeddedStore;
use super::changing;
use super::core::{Commit, Core, Shared};
use super::frame::{Draft, Kind, Location};
use super::leases::Lease;
use super::record::LeaseEnded;
use super::suspending;
use crate::holder::worker_of;
use crate::store::clock::micros;
use crate::store::{Grant, LeaseRequest, PartialReturn, Renewed, StoreError, Wake};

impl EmbeddedStore {
    /// See [`crate::store::Store::lease`].
    pub(super) fn grant(
        &self,
        request: &LeaseRequest,
        max_grants: usize,
    ) -> Result<Vec<Grant>, StoreError> {
        let now_us = self.shared.now_us();
        let mut core = self.shared.lock();
        end_expired(&self.shared, &mut core, now_us)?;
        pass_time(&self.shared, &mut core, now_us);
        let expires_us = now_us + micros(self.shared.settings.lease);
        let mut left = request.slots;
        let mut grants = Vec::new();
        let mut tried = HashSet::new();
        // What is granted, or turns out to be suspended, changes the agenda: it is asked again.
        while left > 0 && grants.len() < max_grants {
            let mut ready = core.state.schedule.ready(&request.transports);
            // Those that were tried and are still there have a use for no more slots.
            let Some(destination) = ready.find(|destination| !tried.contains(destination)) else {
                break;
            };
            drop(ready);
            tried.insert(destination);
            let slots = useful_slots(&self.shared, &mut core, destination).min(left);
            if slots > 0 {
                left -= slots;
                grants.extend(give(&mut core, request, destination, slots, expires_us));
            }
        }
        Ok(grants)
    }

    /// See [`crate::store::Store::renew`].
    pub(super) fn prolong(&self, tokens: Vec<u64>) -> Renewed {
        let now_us = self.shared.now_us();
        let expires_us = now_us + micros(self.shared.settings.lease);
        let mut core = self.shared.lock();
        let stale = tokens
            .into_iter()
            .filter(|token| !core.state.leases.renew(*token, now_us, expires_us))
            .collect();
        Renewed {
            stale,
            unreached: Vec::new(),
        }
    }

    /// See [`crate::store::Store::give_back`].
    pub(super) fn take_back(&self, tokens: &[u64]) -> Result<(), StoreError> {
        let now_us = self.shared.now_us();
        let mut core = self.shared.lock();
        for token in tokens {
            let live = core.state.leases.live(*token, now_us).is_some();
            let Some(lease) = core.state.leases.get(*token).filter(|_| live) else {
                continue;
            };
            if !lease.leased.is_empty() {
                note_return(&self.shared, &mut core, *token, &[], now_us)?;
            }
            let Some(lease) = core.state.leases.remove(*token) else {
                continue;
            };
            for delivery in lease.leased.keys() {
                core.state.untake(*delivery, now_us);
            }
            free(&self.shared, &mut core, &lease);
        }
        Ok(())
    }

    /// See [`crate::store::Store::give_back_part`].
    pub(super) fn take_part_back(&self, part: &PartialReturn) -> Result<(), StoreError> {
        let now_us = self.shared.now_us();
        let mut core = self.shared.lock();
        let Some(lease) = core.state.leases.live(part.token, now_us) else {
            return Ok(());
        };
        let mut returned = part.deliveries.clone();
        returned.retain(|delivery| lease.leased.contains_key(delivery));
        if !returned.is_empty() {
            note_return(&self.shared, &mut core, part.token, &returned, now_us)?;
        }
        let Some(lease) = core.state.leases.get_mut(part.token) else {
            return Ok(());
        };
        let destination = lease.destination;
        let freed = lease.slots.saturating_sub(part.slots.max(1));
        lease.slots -= freed;
        for delivery in &returned {
            lease.leased.remove(delivery);
        }
        for delivery in returned {
            core.state.untake(delivery, now_us);
        }
        core.state.schedule.free_slots(destination, freed);
        wake_if_due(&self.shared, &core, destination);
        Ok(())
    }

    /// See [`crate::store::Store::expire`].
    pub(super) async fn end_due(&self) -> Result<Option<Duration>, StoreError> {
        let (commit, wait) = {
            let now_us = self.shared.now_us();
            let mut core = self.shared.lock();
            let commit = end_expired(&self.shared, &mut core, now_us)?;
            suspending::end_over(&self.shared, &mut core, now_us)?;
            let unfinished = pass_time(&self.shared, &mut core, now_us);
            let next_us = [
                core.state.schedule.next_due(),
                core.state.holds.next_end(),
                core.state.suspensions.next_end(),
                core.state.leases.next_expiry(),
            ];
            let next_us = next_us.into_iter().flatten().min();
            core.next_us = match unfinished {
                true => Some(now_us),
                false => next_us,
            };
            let wait = match unfinished {
                true => Some(Duration::ZERO),
                false => next_us.map(|at_us| Duration::from_micros(at_us.saturating_sub(now_us))),
            };
            (commit, wait)
        };
        if let Some(commit) = commit {
            commit.durable().await?;
        }
        Ok(wait)
    }
}

/// Does what the clock alone asks for, a bounded part of it, and tells who waits for that. Returns
/// whether there is more of it.
pub(super) fn pass_time(shared: &Shared, core: &mut Core, now_us: u64) -> bool {
    if !core.state.is_behind(now_us) {
        core.state.schedule.set_now(now_us);
        return false;
    }
    let passed = core.state.pass_time(now_us);
    for destination in passed.woken {
        shared.wake(Wake::Destination(destination));
    }
    passed.unfinished
}

/// Slots that a lease of the destination could use now: no more than deliveries are due that no
/// idle slot is there for already.
fn useful_slots(shared: &Shared, core: &mut Core, destination: u32) -> u32 {
    let schedule = &core.state.schedule;
    let Some(state) = schedule.get(destination) else {
        return 0;
    };
    let free = schedule.slots().saturating_sub(state.slots_in_use);
    let idle: u32 = state
        .leases
        .iter()
        .filter_map(|token| core.state.leases.get(*token))
        .map(|lease| lease.slots.saturating_sub(lease.leased.len() as u32))
        .sum();
    let (due, unfinished) = core.state.count_due(destination, (free + idle) as usize);
    if unfinished
        && core.state.schedule.has_due(destination)
        && let Some(name) = core.state.schedule.name(destination)
    {
        // What was looked at is suspended. There is more: somebody is to ask again.
        shared.wake(Wake::Destination(name.clone()));
    }
    (due as u32).saturating_sub(idle).min(free)
}

/// Gives a worker slots: a new lease, or more under the one that it has.
fn give(
    core: &mut Core,
    request: &LeaseRequest,
    destination: u32,
    slots: u32,
    expires_us: u64,
) -> Option<Grant> {
    let state = core.state.schedule.get(destination)?;
    let name = state.name.clone();
    let held = state.leases.iter().copied().find(|token| {
        core.state
            .leases
            .get(*token)
            .is_some_and(|lease| lease.worker == request.worker)
    });
    let begins = held.is_none();
    let (token, total) = match held.and_then(|token| core.state.leases.get_mut(token)) {
        Some(lease) => {
            lease.slots += slots;
            (lease.token, lease.slots)
        }
        None => {
            let token = core.state.leases.next_token();
            core.state.leases.insert(Lease {
                token,
                worker: request.worker.clone(),
                destination,
                slots,
                expires_us,
                leased: hashbrown::HashMap::new(),
            });
            (token, slots)
        }
    };
    core.state.schedule.lease(destination, token, slots);
    core.state.schedule.granted(destination);
    Some(Grant {
        token,
        destination: name,
        slots: total,
        begins,
    })
}

/// Records that a lease was given back, or only these deliveries under it.
fn note_return(
    shared: &Shared,
    core: &mut Core,
    token: u64,
    only: &[DeliveryId],
    now_us: u64,
) -> Result<(), StoreError> {
    let record = LeaseEnded {
        token,
        at_us: now_us,
        deliveries: only.iter().map(|id| (*id).into()).collect(),
    };
    let draft = Draft::new(Kind::LeaseEnded, &record, bytes::Bytes::new());
    core.make_room(draft.len(), now_us)?;
    core.stage_linked(draft, Location::NONE, Vec::new());
    core.sync_wanted = true;
    shared.wanted.notify_one();
    Ok(())
}

/// A lease has ended: its slots are free, and what it held may be due.
fn free(shared: &Shared, core: &mut Core, lease: &Lease) {
    core.state
        .schedule
        .unlease(lease.destination, lease.token, lease.slots);
    wake_if_due(shared, core, lease.destination);
}

fn wake_if_due(shared: &Shared, core: &Core, destination: u32) {
    let schedule = &core.state.schedule;
    if let (Some(name), true) = (schedule.name(destination), schedule.has_due(destination)) {
        shared.wake(Wake::Destination(name.clone()));
    }
}

/// Ends the leases whose time is over. What they held is due again, its outcome unknown.
fn end_expired(
    shared: &Shared,
    core: &mut Core,
    now_us: u64,
) -> Result<Option<Commit>, StoreError> {
    let mut lapsed = false;
    for token in core.state.leases.expired(now_us) {
        let Some(lease) = core.state.leases.get(token) else {
            continue;
        };
        core.state.schedule.set_now(now_us);
        let worker = worker_of(&lease.worker);
        let text = format!("lease of {worker} expired: outcome unknown");
        let mut held: Vec<DeliveryId> = lease.leased.keys().copied().collect();
        held.sort_unstable();
        let changes: Vec<_> = held
            .into_iter()
            .map(|delivery| {
                let lapse = changing::lapsed(shared, core, delivery, &text, now_us);
                (delivery, changing::draft(&lapse), lapse)
            })
            .collect();
        let bytes = changes.iter().map(|(_, draft, _)| draft.len()).sum();
        core.make_room(bytes, now_us)?;
        for (delivery, draft, lapse) in changes {
            let at = core.stage(draft, delivery.queue_id);
            core.state.apply(delivery, &lapse, at);
            tracing::warn!(queue_id = %delivery.queue_id, delivery = %delivery, text);
            shared.wake_journey(delivery.queue_id);
            lapsed = true;
        }
        if let Some(lease) = core.state.leases.remove(token) {
            free(shared, core, &lease);
        }
    }
    Ok(lapsed.then(|| shared.commit(core)))
}
