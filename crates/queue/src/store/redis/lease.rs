//! Destination leases: granting, renewing, giving back, expiring.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use postrider_protocol::queue_v1::{Notice, journey_event};
use redis::Cmd;

use super::answer::{items, parsed, required};
use super::core::{Core, micros};
use super::link::Repeat;
use super::message;
use crate::store::{Grant, LeaseRequest, PartialReturn, StoreError};

/// Grants of one call. A script that did more would hold up everybody else.
pub(super) const MOST_GRANTS: usize = 1000;
/// Tokens of one call.
const MOST_TOKENS: usize = 500;
/// Deliveries and leases together of which one call gives something back.
const MOST_RETURNED: usize = 500;

/// Calls for leases whose answer nobody got: worker, number of the call, and since when.
pub(super) struct Asked {
    last: AtomicU64,
    lost: Mutex<HashMap<String, (u64, Instant)>>,
}

impl Asked {
    pub(super) fn new() -> Self {
        Self {
            // Chance tells it from other processes' numbers.
            last: AtomicU64::new(u64::from(rand::random::<u32>()) << 20),
            lost: Mutex::default(),
        }
    }

    /// The number for a worker's call: that of the call before, if its answer was lost.
    fn number(&self, worker: &str) -> u64 {
        let lost = self.calls().remove(worker);
        lost.map_or_else(
            || self.last.fetch_add(1, Ordering::Relaxed),
            |(number, _)| number,
        )
    }

    /// No answer came. After a lease time there is nothing to be told any more.
    fn lost(&self, worker: String, number: u64, lease: Duration) {
        let mut calls = self.calls();
        calls.retain(|_, (_, since)| since.elapsed() < lease);
        calls.insert(worker, (number, Instant::now()));
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<String, (u64, Instant)>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Grants, each with the number of slots that it adds.
pub(super) async fn grants(
    core: &Core,
    request: LeaseRequest,
    max_grants: usize,
) -> Result<Vec<(Grant, u32)>, StoreError> {
    if request.slots == 0 || max_grants == 0 {
        return Ok(Vec::new());
    }
    let number = core.asked.number(&request.worker);
    let mut cmd = core.call(&core.scripts.lease);
    cmd.arg(lost_event(core))
        .arg(message::held_by_policy(&core.settings.instance))
        .arg(&request.worker)
        .arg(request.slots)
        .arg(max_grants.min(MOST_GRANTS))
        .arg(micros(core.settings.lease))
        .arg(number)
        .arg(&request.transports);
    // Not repeated here: a partition that pauses would hold up those that are asked after it.
    let answer = core
        .work
        .run(&core.scripts.lease, &cmd, Repeat::Never)
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            // What it granted, if anything, is told when the worker asks again.
            core.asked.lost(request.worker, number, core.settings.lease);
            return Err(error);
        }
    };
    items(answer, "lease")?
        .into_iter()
        .map(|grant| {
            let mut fields = items(grant, "a grant")?.into_iter();
            let token = required(fields.next(), "a token")?;
            let destination = required(fields.next(), "a destination")?;
            let slots = required(fields.next(), "slots")?;
            let added = required(fields.next(), "slots")?;
            let grant = Grant {
                token,
                destination,
                slots,
                begins: slots == added,
            };
            Ok((grant, added))
        })
        .collect()
}

pub(super) async fn lease(
    core: &Core,
    request: LeaseRequest,
    max_grants: usize,
) -> Result<Vec<Grant>, StoreError> {
    let grants = grants(core, request, max_grants).await?;
    Ok(grants.into_iter().map(|(grant, _)| grant).collect())
}

pub(super) async fn renew(core: &Core, tokens: Vec<u64>) -> Result<Vec<u64>, StoreError> {
    let mut stale = Vec::new();
    for tokens in tokens.chunks(MOST_TOKENS) {
        let mut cmd = core.call(&core.scripts.renew);
        cmd.arg(micros(core.settings.lease)).arg(tokens);
        let answer = core
            .work
            .run(&core.scripts.renew, &cmd, Repeat::Safe)
            .await?;
        for token in items(answer, "renew")? {
            stale.push(required(Some(token), "a token")?);
        }
    }
    Ok(stale)
}

/// Returns how many deliveries leave for other partitions now.
pub(super) async fn give_back(core: &Core, tokens: Vec<u64>) -> Result<u64, StoreError> {
    let mut leaving = 0;
    for tokens in tokens.chunks(MOST_TOKENS) {
        let mut cmd = core.call(&core.scripts.give_back);
        cmd.arg(tokens);
        let answer = core
            .work
            .run(&core.scripts.give_back, &cmd, Repeat::Safe)
            .await?;
        leaving += required::<u64>(Some(answer), "give back")?;
    }
    Ok(leaving)
}

/// Returns how many deliveries leave for other partitions now.
pub(super) async fn give_back_part(
    core: &Core,
    parts: Vec<PartialReturn>,
) -> Result<u64, StoreError> {
    let script = &core.scripts.give_back_part;
    let mut leaving = 0;
    let (mut cmd, mut size) = (core.call(script), 0);
    for part in &parts {
        let mut pieces = part.deliveries.chunks(MOST_RETURNED);
        let first = pieces.next().unwrap_or_default();
        for deliveries in std::iter::once(first).chain(pieces) {
            if size > 0 && size + 1 + deliveries.len() > MOST_RETURNED {
                leaving += take_part_back(core, &cmd).await?;
                (cmd, size) = (core.call(script), 0);
            }
            cmd.arg(part.token)
                .arg(part.slots.max(1))
                .arg(deliveries.len());
            for delivery in deliveries {
                cmd.arg(delivery.to_string());
            }
            size += 1 + deliveries.len();
        }
    }
    if size > 0 {
        leaving += take_part_back(core, &cmd).await?;
    }
    Ok(leaving)
}

async fn take_part_back(core: &Core, cmd: &Cmd) -> Result<u64, StoreError> {
    let script = &core.scripts.give_back_part;
    let answer = core.work.run(script, cmd, Repeat::Safe).await?;
    required(Some(answer), "give back part")
}

pub(super) async fn expire(core: &Core) -> Result<Option<Duration>, StoreError> {
    let mut cmd = core.call(&core.scripts.expire);
    cmd.arg(lost_event(core))
        .arg(message::held_by_policy(&core.settings.instance));
    let answer = core
        .safe
        .run(&core.scripts.expire, &cmd, Repeat::Safe)
        .await?;
    let next: Option<u64> = parsed(Some(answer), "expire")?;
    Ok(next.map(Duration::from_micros))
}

/// What the journey says of a delivery whose lease has expired.
fn lost_event(core: &Core) -> Vec<u8> {
    let lost = Notice {
        text: "lease expired: outcome unknown".to_owned(),
        ..Notice::default()
    };
    message::event(&core.settings.instance, journey_event::What::Notice(lost))
}
