//! Destination leases: granting, renewing, giving back, expiring.

use std::time::Duration;

use postrider_protocol::queue_v1::{Notice, journey_event};

use super::answer::{items, parsed, required};
use super::core::{Core, micros};
use super::link::Repeat;
use super::message;
use crate::store::{Grant, LeaseRequest, StoreError};

/// Grants of one call. A script that did more would hold up everybody else.
const MOST_GRANTS: usize = 1000;
/// Tokens of one call.
const MOST_TOKENS: usize = 500;

pub(super) async fn lease(
    core: &Core,
    request: LeaseRequest,
    max_grants: usize,
) -> Result<Vec<Grant>, StoreError> {
    if request.slots == 0 || max_grants == 0 {
        return Ok(Vec::new());
    }
    let mut cmd = core.call(&core.scripts.lease);
    cmd.arg(core.retention_ms())
        .arg(lost_event(core))
        .arg(&request.worker)
        .arg(request.slots)
        .arg(max_grants.min(MOST_GRANTS))
        .arg(micros(core.settings.lease))
        .arg(&request.transports);
    // Repeated, it would grant twice. A grant that nobody heard of lapses.
    let answer = core
        .link
        .run(&core.scripts.lease, &cmd, Repeat::Never)
        .await?;
    items(answer, "lease")?
        .into_iter()
        .map(|grant| {
            let mut fields = items(grant, "a grant")?.into_iter();
            Ok(Grant {
                token: required(fields.next(), "a token")?,
                destination: required(fields.next(), "a destination")?,
                slots: required(fields.next(), "slots")?,
            })
        })
        .collect()
}

pub(super) async fn renew(core: &Core, tokens: Vec<u64>) -> Result<Vec<u64>, StoreError> {
    let mut stale = Vec::new();
    for tokens in tokens.chunks(MOST_TOKENS) {
        let mut cmd = core.call(&core.scripts.renew);
        cmd.arg(micros(core.settings.lease)).arg(tokens);
        let answer = core
            .link
            .run(&core.scripts.renew, &cmd, Repeat::Safe)
            .await?;
        for token in items(answer, "renew")? {
            stale.push(required(Some(token), "a token")?);
        }
    }
    Ok(stale)
}

pub(super) async fn give_back(core: &Core, tokens: Vec<u64>) -> Result<(), StoreError> {
    for tokens in tokens.chunks(MOST_TOKENS) {
        let mut cmd = core.call(&core.scripts.give_back);
        cmd.arg(core.retention_ms()).arg(tokens);
        core.link
            .run(&core.scripts.give_back, &cmd, Repeat::Safe)
            .await?;
    }
    Ok(())
}

pub(super) async fn expire(core: &Core) -> Result<Option<Duration>, StoreError> {
    let mut cmd = core.call(&core.scripts.expire);
    cmd.arg(core.retention_ms()).arg(lost_event(core));
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
