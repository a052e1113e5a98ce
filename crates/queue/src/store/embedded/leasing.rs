//! Granting, prolonging and ending leases.

use std::time::Duration;

use postrider_protocol::{DeliveryId, QueueId};

use super::EmbeddedStore;
use super::core::{Commit, Core, Shared};
use super::frame::{Draft, Kind, Location};
use super::leases::Lease;
use super::record::{Change, Changed, LeaseEnded};
use crate::store::clock::micros;
use crate::store::{Grant, LeaseRequest, StoreError, Wake};

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
        let mut left = request.slots;
        let mut grants = Vec::new();
        // What is granted changes the agenda: choose first.
        let mut chosen = Vec::new();
        for destination in core.state.schedule.ready(&request.transports, now_us) {
            if left == 0 || chosen.len() >= max_grants {
                break;
            }
            let slots = useful_slots(&core, destination, now_us).min(left);
            if slots > 0 {
                chosen.push((destination, slots));
                left -= slots;
            }
        }
        let expires_us = now_us + micros(self.shared.settings.lease);
        for (destination, slots) in chosen {
            grants.extend(give(&mut core, request, destination, slots, expires_us));
        }
        Ok(grants)
    }

    /// See [`crate::store::Store::renew`].
    pub(super) fn prolong(&self, tokens: Vec<u64>) -> Vec<u64> {
        let now_us = self.shared.now_us();
        let expires_us = now_us + micros(self.shared.settings.lease);
        let mut core = self.shared.lock();
        tokens
            .into_iter()
            .filter(|token| !core.state.leases.renew(*token, now_us, expires_us))
            .collect()
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
            let record = LeaseEnded {
                token: *token,
                at_us: now_us,
            };
            let draft = Draft::new(Kind::LeaseEnded, &record, bytes::Bytes::new());
            let holds = !lease.leased.is_empty();
            core.make_room(draft.len(), now_us)?;
            if holds {
                core.stage_linked(draft, Location::NONE, Vec::new());
            }
            let Some(lease) = core.state.leases.remove(*token) else {
                continue;
            };
            for delivery in lease.leased.keys() {
                core.state.untake(*delivery, now_us);
            }
            free(&self.shared, &mut core, &lease, now_us);
            if holds {
                core.sync_wanted = true;
                self.shared.wanted.notify_one();
            }
        }
        Ok(())
    }

    /// See [`crate::store::Store::expire`].
    pub(super) async fn end_due(&self) -> Result<Option<Duration>, StoreError> {
        let (commit, next_us, now_us) = {
            let now_us = self.shared.now_us();
            let mut core = self.shared.lock();
            let commit = end_expired(&self.shared, &mut core, now_us)?;
            let since_us = std::mem::replace(&mut core.looked_us, now_us);
            for destination in core.state.schedule.became_due(since_us, now_us) {
                if let Some(name) = core.state.schedule.name(destination) {
                    self.shared.wake(Wake::Destination(name.clone()));
                }
            }
            let next_us = [
                core.state.schedule.next_due(now_us),
                core.state.leases.next_expiry(),
            ];
            (commit, next_us.into_iter().flatten().min(), now_us)
        };
        if let Some(commit) = commit {
            commit.durable().await?;
        }
        Ok(next_us.map(|at_us| Duration::from_micros(at_us.saturating_sub(now_us))))
    }
}

/// Slots that a lease of the destination could use now: no more than deliveries are due that no
/// idle slot is there for already.
fn useful_slots(core: &Core, destination: u32, now_us: u64) -> u32 {
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
    let due = schedule
        .due(destination, now_us)
        .take((free + idle) as usize)
        .count() as u32;
    due.saturating_sub(idle).min(free)
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
    Some(Grant {
        token,
        destination: name,
        slots: total,
    })
}

/// A lease has ended: its slots are free, and what it held may be due.
fn free(shared: &Shared, core: &mut Core, lease: &Lease, now_us: u64) {
    let name = core.state.schedule.name(lease.destination).cloned();
    core.state
        .schedule
        .unlease(lease.destination, lease.token, lease.slots);
    let due = core.state.schedule.due(lease.destination, now_us).next();
    if let (Some(name), Some(_)) = (name, due) {
        shared.wake(Wake::Destination(name));
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
        let text = format!("lease of {} expired: outcome unknown", lease.worker);
        let mut held: Vec<DeliveryId> = lease.leased.keys().copied().collect();
        held.sort_unstable();
        let drafts: Vec<_> = held
            .into_iter()
            .map(|delivery| (delivery, lapse(shared, delivery, &text, now_us)))
            .collect();
        let bytes = drafts.iter().map(|(_, draft)| draft.len()).sum();
        core.make_room(bytes, now_us)?;
        for (delivery, draft) in drafts {
            let at = core.stage(draft, delivery.queue_id);
            core.state.apply(delivery, Change::Lapse, at, now_us);
            tracing::warn!(queue_id = %delivery.queue_id, delivery = %delivery, text);
            shared.wake_journey(delivery.queue_id);
            lapsed = true;
        }
        if let Some(lease) = core.state.leases.remove(token) {
            free(shared, core, &lease, now_us);
        }
    }
    Ok(lapsed.then(|| shared.commit(core)))
}

/// The record that a delivery's attempt has an unknown outcome.
pub(super) fn lapse(shared: &Shared, delivery: DeliveryId, text: &str, at_us: u64) -> Draft {
    change(shared, delivery, Change::Lapse, text, "", at_us)
}

/// The record of a change, with its journey event.
pub(super) fn change(
    shared: &Shared,
    delivery: DeliveryId,
    change: Change,
    text: &str,
    operator: &str,
    at_us: u64,
) -> Draft {
    let record = changed(
        delivery.queue_id,
        change,
        delivery.number,
        at_us,
        shared.notice(at_us, text.to_owned(), operator),
    );
    Draft::new(Kind::Changed, &record, bytes::Bytes::new())
}

fn changed(
    id: QueueId,
    change: Change,
    number: u32,
    at_us: u64,
    event: postrider_protocol::queue_v1::JourneyEvent,
) -> Changed {
    Changed {
        id: id.into(),
        change: change as i32,
        deliveries: vec![number],
        at_us,
        events: vec![event],
    }
}
