//! Making and ending suspensions.

use postrider_protocol::queue_v1::Suspension;

use super::EmbeddedStore;
use super::core::{Core, Shared};
use super::kept;
use super::leasing::pass_time;
use super::suspensions::Effect;
use crate::store::{StoreError, Wake};

impl EmbeddedStore {
    /// See [`crate::store::Store::suspend`]. Waits for the disk.
    pub(super) fn suspend_now(shared: &Shared, suspension: Suspension) -> Result<(), StoreError> {
        if suspension.id.is_empty() {
            return Err(StoreError::Invalid("a suspension needs an id".to_owned()));
        }
        if [
            &suspension.destination,
            &suspension.sender,
            &suspension.tenant,
        ]
        .iter()
        .all(|part| part.is_empty())
        {
            return Err(StoreError::Invalid(
                "a suspension names a destination, a sender or a tenant".to_owned(),
            ));
        }
        let commit = {
            let mut core = shared.lock();
            let now_us = shared.now_us();
            core.keep(kept::suspension(&suspension), now_us)?;
            let until_us = suspension.until_us;
            let state = &mut core.state;
            // One that is changed ends, and another one begins.
            let ended = state.suspensions.remove(&suspension.id, &state.hashes);
            follow(shared, &mut core, ended);
            let state = &mut core.state;
            let begun = state.suspensions.insert(suspension, &state.hashes);
            follow(shared, &mut core, Some(begun));
            pass_time(shared, &mut core, now_us);
            if until_us > 0 {
                shared.wake_timer(&mut core, until_us);
            }
            shared.commit(&mut core)
        };
        commit.wait()
    }

    /// See [`crate::store::Store::resume`]. Waits for the disk.
    pub(super) fn resume_now(shared: &Shared, id: &str) -> Result<bool, StoreError> {
        let commit = {
            let mut core = shared.lock();
            let now_us = shared.now_us();
            if !end(shared, &mut core, id, now_us)? {
                return Ok(false);
            }
            if pass_time(shared, &mut core, now_us) {
                shared.wake_timer(&mut core, now_us);
            }
            shared.commit(&mut core)
        };
        commit.wait()?;
        Ok(true)
    }

    /// See [`crate::store::Store::suspensions`].
    pub(super) fn suspended(shared: &Shared) -> Vec<Suspension> {
        let now_us = shared.now_us();
        let all = shared.lock().state.suspensions.all();
        let mut all: Vec<Suspension> = all
            .iter()
            .filter(|suspension| suspension.until_us == 0 || suspension.until_us > now_us)
            .map(|suspension| Suspension::clone(suspension))
            .collect();
        all.sort_by(|a, b| (a.created_us, &a.id).cmp(&(b.created_us, &b.id)));
        all
    }
}

/// Ends a suspension; whether there was one.
fn end(shared: &Shared, core: &mut Core, id: &str, now_us: u64) -> Result<bool, StoreError> {
    if !core.state.suspensions.has(id) {
        return Ok(false);
    }
    core.keep(kept::suspension_ended(id), now_us)?;
    let state = &mut core.state;
    let ended = state.suspensions.remove(id, &state.hashes);
    follow(shared, core, ended);
    Ok(true)
}

/// Ends the suspensions whose time is over. That need not be durable: it follows from the clock.
pub(super) fn end_over(shared: &Shared, core: &mut Core, now_us: u64) -> Result<(), StoreError> {
    for id in core.state.suspensions.over(now_us) {
        end(shared, core, &id, now_us)?;
        tracing::info!(suspension = id, "a suspension has ended, its time is over");
    }
    Ok(())
}

fn follow(shared: &Shared, core: &mut Core, effect: Option<Effect>) {
    if let Some(destination) = effect.and_then(|effect| core.state.follow(effect)) {
        shared.wake(Wake::Destination(destination));
    }
}
