//! The end of an attempt: outcomes, next attempt, journey and DSNs in one record.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use postrider_protocol::queue_v1::{OutcomeKind, RecipientOutcome};
use postrider_protocol::{DeliveryId, Destination};

use super::EmbeddedStore;
use super::changing;
use super::core::{Awaited, Commit, Core, Shared};
use super::enqueue::{self, Prepared};
use super::frame::{Draft, Kind};
use super::leases::HandedOut;
use super::message::Pending;
use super::record::{Completed as Record, Dsn, Rest};
use super::stored::Stored;
use crate::store::clock::micros;
use crate::store::{Completed, Completion, StoreError, Wake};

/// What an attempt did to the open recipients of a delivery.
#[derive(Default)]
struct Tally {
    delivered: u32,
    failed: u32,
    unknown: bool,
    /// A recipient had no outcome: it was not attempted.
    missing: bool,
    rest: Rest,
}

/// A completion with its DSNs made ready, outside of the lock.
struct Ready {
    completion: Completion,
    dsn: Vec<Prepared>,
}

impl EmbeddedStore {
    /// See [`crate::store::Store::complete`].
    pub(super) async fn complete_all(
        &self,
        batch: Vec<Completion>,
    ) -> Vec<Result<Completed, StoreError>> {
        let shared = &self.shared;
        let now_us = shared.now_us();
        let ready: Vec<_> = batch
            .into_iter()
            .map(|mut completion| {
                let dsn = std::mem::take(&mut completion.dsn)
                    .into_iter()
                    .map(|dsn| Prepared::new(dsn, now_us, &shared.settings.instance))
                    .collect::<Result<Vec<_>, _>>()?;
                Ok(Ready { completion, dsn })
            })
            .collect();
        let (mut results, commit) = apply_all(shared, ready, now_us);
        if let Some(commit) = commit
            && let Err(error) = commit.durable().await
        {
            for result in &mut results {
                if matches!(result, Ok(Completed::Done)) {
                    *result = Err(error.clone());
                }
            }
        }
        results
    }
}

type Results = Vec<Result<Completed, StoreError>>;

fn apply_all(
    shared: &Shared,
    ready: Vec<Result<Ready, StoreError>>,
    now_us: u64,
) -> (Results, Option<Commit>) {
    let mut core = shared.lock();
    let mut wait = false;
    let results = ready
        .into_iter()
        .map(|ready| {
            let result = apply(shared, &mut core, ready?, now_us);
            wait |= matches!(result, Ok(Completed::Done));
            result
        })
        .collect();
    let commit = wait.then(|| shared.commit(&mut core));
    (results, commit)
}

fn apply(
    shared: &Shared,
    core: &mut Core,
    mut ready: Ready,
    now_us: u64,
) -> Result<Completed, StoreError> {
    let id = ready.completion.delivery;
    let token = ready.completion.token;
    let Some((handed, number)) = current(core, id, token, now_us) else {
        return Ok(repeated_or_stale(core, &ready));
    };
    let named = ready.completion.attempt.number;
    if named != 0 && named != number {
        return Ok(repeated_or_stale(core, &ready));
    }
    drop_known(shared, core, &mut ready.dsn, now_us)?;
    let destination = core.state.destination_of(id).cloned();
    let policies = &shared.settings.policies;
    let policy = policies.of(destination.as_ref().map_or("", Destination::as_str));
    let begin_us = handed.stored.accepted.begin_us();
    let mut record = record(
        shared,
        &handed,
        number,
        (now_us, begin_us.saturating_add(micros(policy.lifetime))),
        ready.completion,
        &ready.dsn,
    );
    record.held = record.unknown && changing::holds_unknown(shared, core, id);
    // What an operator wants of it comes with this.
    match core.state.pending.get(&id) {
        _ if record.rest.open.is_empty() => {}
        Some(Pending::Remove) => record.attempt.next_attempt_us = 0,
        Some(Pending::Bounce) => record.attempt.next_attempt_us = now_us,
        _ => {}
    }
    let due_us = record.due_us;
    let draft = Draft::new(Kind::Completed, &record, Bytes::new());
    core.make_room(draft.len(), now_us)?;

    let mut ids = vec![id.queue_id.as_u128()];
    ids.extend(ready.dsn.iter().map(|dsn| dsn.id.as_u128()));
    let before = core
        .state
        .messages
        .get(&id.queue_id.as_u128())
        .map(|message| message.last)
        .unwrap_or_default();
    let at = core.stage_linked(draft, before, ids);
    if let Some(lease) = core.state.leases.get_mut(token) {
        lease.leased.remove(&id);
    }
    core.state.schedule.set_now(now_us);
    core.state.complete(&record, at);
    if !ready.dsn.is_empty() && core.state.unschedule(id) {
        core.arrivals
            .push_back((core.log.last(), Awaited::Delivery(id)));
    }
    for dsn in ready.dsn {
        let len = dsn.stored.record.len() + dsn.stored.content.len();
        let arrival = Awaited::Dsn(dsn.id.as_u128());
        enqueue::admit(core, dsn.id, dsn.stored, at, len, arrival);
    }
    if let Some(destination) = destination
        && !record.rest.open.is_empty()
    {
        match due_us <= now_us {
            true => shared.wake(Wake::Destination(destination)),
            false => shared.wake_timer(core, due_us),
        }
    }
    shared.wake_journey(id.queue_id);
    Ok(Completed::Done)
}

/// A DSN has an id of its own: one that is here already is not sent a second time.
fn drop_known(
    shared: &Shared,
    core: &Core,
    dsn: &mut Vec<Prepared>,
    now_us: u64,
) -> Result<(), StoreError> {
    let mut known = HashSet::new();
    for dsn in &*dsn {
        let id = dsn.id.as_u128();
        if core.state.messages.contains_key(&id) || enqueue::has_ended(shared, core, id, now_us)? {
            known.insert(id);
        }
    }
    dsn.retain(|dsn| known.insert(dsn.id.as_u128()));
    Ok(())
}

/// What the worker was handed, and which attempt it makes, if it may report on it.
fn current(
    core: &mut Core,
    id: DeliveryId,
    token: u64,
    now_us: u64,
) -> Option<(Arc<HandedOut>, u32)> {
    let lease = core.state.leases.live(token, now_us)?;
    let handed = lease.leased.get(&id)?.clone()?;
    let attempts = core.state.delivery(id)?.attempts;
    Some((handed, attempts + 1))
}

/// A worker that lost the answer asks again: what was applied under its lease stays `Done`.
fn repeated_or_stale(core: &mut Core, ready: &Ready) -> Completed {
    let completion = &ready.completion;
    let repeated = core.state.applied(completion.delivery).is_some_and(|done| {
        done.token == completion.token && completion.attempt.number <= done.number
    });
    if repeated {
        return Completed::Done;
    }
    core.state.totals.stale_completions += 1;
    Completed::Stale
}

fn record(
    shared: &Shared,
    handed: &HandedOut,
    number: u32,
    (now_us, expires_us): (u64, u64),
    completion: Completion,
    dsn: &[Prepared],
) -> Record {
    let tally = tally(handed, &completion.attempt.outcomes);
    let due_us = match tally.missing {
        true => now_us,
        false => now_us
            .saturating_add(micros(completion.retry_after))
            .min(expires_us)
            .max(now_us),
    };
    let mut attempt = completion.attempt;
    attempt.number = number;
    attempt.next_attempt_us = match tally.rest.open.is_empty() {
        true => 0,
        false => due_us,
    };
    Record {
        delivery: completion.delivery.into(),
        token: completion.token,
        at_us: now_us,
        instance: shared.settings.instance.clone(),
        attempt,
        number,
        delivered: tally.delivered,
        failed: tally.failed,
        unknown: tally.unknown,
        rest: tally.rest,
        due_us,
        dsn: dsn
            .iter()
            .map(|dsn| Dsn {
                accepted: dsn.stored.accepted.clone(),
                content: enqueue::content(dsn),
            })
            .collect(),
        worker: completion.worker,
        delay_warned: completion.delay_warned,
        held: false,
    }
}

/// Counts outcomes. The first one of an address counts, for every open recipient that has it.
fn tally(handed: &HandedOut, outcomes: &[RecipientOutcome]) -> Tally {
    let first = first_by_address(outcomes);
    let before = first_by_address(&handed.outcomes);
    let mut tally = Tally::default();
    for place in &handed.open {
        let Some(address) = address(&handed.stored, *place) else {
            continue;
        };
        let outcome = first.get(address).copied();
        match outcome.map(|outcome| outcome.kind()) {
            Some(OutcomeKind::Delivered) => tally.delivered += 1,
            Some(OutcomeKind::Failed) => tally.failed += 1,
            Some(OutcomeKind::Deferred) => tally.rest.open.push(*place),
            Some(OutcomeKind::Unknown) => {
                tally.unknown = true;
                tally.rest.open.push(*place);
            }
            Some(OutcomeKind::Unspecified) | None => {
                tally.missing = true;
                tally.rest.open.push(*place);
            }
        }
        if tally.rest.open.last() == Some(place) {
            let latest = outcome.or_else(|| before.get(address).copied());
            tally.rest.outcomes.extend(latest.cloned());
        }
    }
    tally
}

fn address(stored: &Stored, place: u32) -> Option<&str> {
    let envelope = stored.accepted.message.envelope.as_ref()?;
    let recipient = envelope.recipients.get(place as usize)?;
    Some(&recipient.address)
}

fn first_by_address(outcomes: &[RecipientOutcome]) -> HashMap<&str, &RecipientOutcome> {
    let mut first = HashMap::with_capacity(outcomes.len());
    for outcome in outcomes {
        first.entry(outcome.address.as_str()).or_insert(outcome);
    }
    first
}

impl Shared {
    /// How many commits and syncs there were.
    pub(super) fn counts(&self) -> (u64, u64) {
        (
            self.commits.load(Ordering::Relaxed),
            self.syncs.load(Ordering::Relaxed),
        )
    }
}
