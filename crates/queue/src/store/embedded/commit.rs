//! Group commit: one thread makes durable what callers have staged.
//!
//! While one sync is under way, the next group gathers behind it; a lone record finds the thread
//! waiting and is synced at once. There is no timer, so a lone message waits for nobody. What
//! follows from a commit (deliveries enter the schedule, callers are answered) is done here and
//! not by the callers, so that a caller that went away changes nothing.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::core::{Awaited, Core, Shared, Waiter};
use super::housekeeping::Chore;
use crate::metrics;
use crate::store::{StoreError, Wake};

/// How long until the disk is tried again although nobody asks.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs until the store stops.
pub(super) fn run(shared: &Shared) {
    let mut core = shared.lock();
    loop {
        while !core.sync_wanted && !core.stopping {
            if core.log.failing {
                let (guard, timeout) = shared
                    .wanted
                    .wait_timeout(core, AGAIN)
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                core = guard;
                core.sync_wanted |= timeout.timed_out();
            } else {
                core = shared
                    .wanted
                    .wait(core)
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
            }
        }
        if !core.sync_wanted {
            // Nobody makes anything durable from here on: whoever waits hears so, and whoever
            // asks later too. Housekeeping may be among them, and stopping waits for it.
            core.committing = false;
            core.waiters.clear();
            return;
        }
        core.sync_wanted = false;
        core = round(shared, core);
    }
}

/// One commit of everything that is staged.
fn round<'a>(shared: &'a Shared, mut core: MutexGuard<'a, Core>) -> MutexGuard<'a, Core> {
    let mut problem = None;
    // A failed sync is tried once more, elsewhere.
    for _ in 0..2 {
        let error = match attempt(shared, core) {
            (guard, Ok(())) => return guard,
            (guard, Err(error)) => {
                core = guard;
                error
            }
        };
        tracing::error!(%error, "the queue's disk failed a write");
        metrics::disk_failure();
        problem = Some(error);
        if !core.log.suspicious {
            break;
        }
    }
    if let Some(error) = problem {
        core.log.failing = true;
        core.withdraw_arrivals();
        let error = super::core::unavailable(&error);
        for waiter in std::mem::take(&mut core.waiters) {
            waiter.answer.send(Err(error.clone())).ok();
        }
    }
    core
}

fn attempt<'a>(
    shared: &'a Shared,
    mut core: MutexGuard<'a, Core>,
) -> (MutexGuard<'a, Core>, std::io::Result<()>) {
    if core.log.suspicious {
        let head = core.head(shared.now_us());
        match core.log.distrust(head) {
            Ok(relocated) => {
                for record in relocated {
                    core.state.relocate(&record.ids, record.from, record.to);
                }
                renumber(&mut core);
            }
            Err(error) => return (core, Err(error)),
        }
    }
    if let Err(error) = core.log.flush() {
        return (core, Err(error));
    }
    let (segments, last) = core.log.to_sync();
    let bytes = core.log.pending_bytes();
    drop(core);
    let started = Instant::now();
    let result = segments.iter().try_for_each(|segment| segment.sync());
    shared.syncs.fetch_add(1, Ordering::Relaxed);
    metrics::synced(started.elapsed(), bytes);
    let mut core = shared.lock();
    if result.is_err() {
        core.log.suspicious = true;
        return (core, result);
    }
    let complete = core.log.note_synced(last, &segments);
    let had_room = complete.is_empty() && !core.log.ahead.is_wanted();
    let (woken, answers) = settle(shared, &mut core, last);
    // Waking tasks takes longer than the rest: not under the lock.
    drop(core);
    for wake in woken {
        shared.wake(wake);
    }
    for waiter in answers {
        // A caller that went away is fine.
        waiter.answer.send(Ok(())).ok();
    }
    if !had_room {
        shared.chores.send(Chore::Segments(complete)).ok();
    }
    (shared.lock(), Ok(()))
}

/// After a failed sync, records were staged again under new numbers; who waits, waits for the
/// last of them.
fn renumber(core: &mut Core) {
    let last = core.log.last();
    for waiter in &mut core.waiters {
        waiter.number = last;
    }
    for arrival in &mut core.arrivals {
        arrival.0 = last;
    }
    for (_, ended) in &mut core.state.to_archive {
        ended.number = last;
    }
}

/// What follows from everything up to `last` being durable: who is to be told.
fn settle(shared: &Shared, core: &mut Core, last: u64) -> (Vec<Wake>, Vec<Waiter>) {
    let now_us = shared.now_us();
    core.state.schedule.set_now(now_us);
    let mut woken = Vec::new();
    let arrived = core.arrivals.partition_point(|(number, _)| *number <= last);
    for (_, arrival) in core.arrivals.drain(..arrived) {
        match arrival {
            Awaited::Message(id) | Awaited::Dsn(id) => {
                core.state.make_durable(id, now_us, &mut woken);
                core.state.arrived.remove(&id);
            }
            Awaited::Delivery(id) => woken.extend(core.state.schedule_again(id)),
        }
    }
    woken.sort_unstable();
    woken.dedup();
    if let Some(next_us) = core.state.schedule.next_due() {
        shared.wake_timer(core, next_us);
    }
    let wakes = woken
        .into_iter()
        .filter_map(|destination| core.state.schedule.name(destination))
        .map(|name| Wake::Destination(name.clone()))
        .collect();
    let done = core.waiters.partition_point(|waiter| waiter.number <= last);
    let answers = core.waiters.drain(..done).collect();
    let ended = core
        .state
        .to_archive
        .partition_point(|(_, ended)| ended.number <= last);
    if ended > 0 {
        let ended: Vec<_> = core.state.to_archive.drain(..ended).collect();
        for (_, ended) in &ended {
            core.state.end_body(ended);
        }
        shared.chores.send(Chore::Archive(ended)).ok();
    }
    (wakes, answers)
}

/// Stops the thread after a last commit.
pub(super) fn stop(shared: &Shared) -> Result<(), StoreError> {
    let commit = {
        let mut core = shared.lock();
        core.closed = true;
        let commit = shared.commit(&mut core);
        core.stopping = true;
        commit
    };
    shared.wanted.notify_all();
    commit.wait()
}
