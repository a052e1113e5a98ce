//! Leases where a queue has several partitions.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use postrider_protocol::queue_v1::LeasedDelivery;

use super::part::Part;
use super::partition::Partitions;
use super::{lease, moves, spread};
use crate::store::{Grant, LeaseRequest, PartialReturn, Renewed, StoreError};

/// When a partition that is away is asked again.
const AWAY: Duration = Duration::from_secs(1);
/// What lies in an outbox, or leaves for another partition, for longer than this has been left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(2);

/// The part of a lease time that a partition has for renewing. The worker hears of those in the others
/// only after that, and its own clock runs.
const RENEWAL: u32 = 8;

/// Where the next ask for leases begins, so that no partition is always the last.
#[derive(Debug, Default)]
pub(super) struct Turn(AtomicUsize);

fn away() -> StoreError {
    StoreError::Unavailable("no connection to Redis".to_owned())
}

/// Asks those partitions that may have something, one after the other, until the request is met.
/// One that is away is left out.
pub(super) async fn lease(
    partitions: Partitions,
    parts: &[Part],
    turn: &Turn,
    request: LeaseRequest,
    max_grants: usize,
) -> Result<Vec<Grant>, StoreError> {
    let first = turn.0.fetch_add(1, Ordering::Relaxed);
    let mut left = request.clone();
    let mut grants: Vec<Grant> = Vec::new();
    let mut failure = None;
    for at in 0..parts.len() {
        let partition = (first + at) % parts.len();
        let part = &parts[partition];
        if left.slots == 0 || grants.len() >= max_grants {
            break;
        }
        if !part.hint.may_grant(&request.transports) {
            continue;
        }
        if !part.core.work.is_up() {
            failure = Some(away());
            continue;
        }
        let count = part.hint.count();
        let most = max_grants - grants.len();
        match lease::grants(&part.core, left.clone(), most).await {
            Ok(granted) => {
                let full = granted.len() >= most.min(lease::MOST_GRANTS);
                for (mut grant, added) in granted {
                    left.slots = left.slots.saturating_sub(added);
                    grant.token = partitions.token(partition, grant.token);
                    grants.push(grant);
                }
                if left.slots > 0 && !full {
                    part.hint.exhausted(&request.transports, count);
                }
            }
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if grants.is_empty() => Err(error),
        _ => Ok(grants),
    }
}

pub(super) async fn pull(
    partitions: Partitions,
    parts: &[Part],
    token: u64,
    max: usize,
) -> Result<Option<Vec<LeasedDelivery>>, StoreError> {
    let (partition, local) = partitions.split_token(token);
    let part = &parts[partition];
    let mut pulled = part.puller.ask((local, max), 1).await??;
    if let Some(deliveries) = &mut pulled {
        if deliveries.len() == max {
            // There may be work for more slots.
            part.hint.something_came();
        }
        for delivery in deliveries {
            delivery.token = token;
        }
    }
    Ok(pulled)
}

/// The partitions' own tokens.
fn by_partition(partitions: Partitions, tokens: Vec<u64>) -> Vec<Vec<u64>> {
    let mut each = vec![Vec::new(); partitions.number()];
    for token in tokens {
        let (partition, local) = partitions.split_token(token);
        each[partition].push(local);
    }
    each
}

/// Leases in partitions that are away are not reached.
pub(super) async fn renew(partitions: Partitions, parts: &[Part], tokens: Vec<u64>) -> Renewed {
    let each = by_partition(partitions, tokens);
    let asked = each
        .into_iter()
        .enumerate()
        .filter(|(_, tokens)| !tokens.is_empty())
        .map(|(partition, tokens)| async move {
            let stale = renew_in(&parts[partition], tokens.clone()).await;
            (partition, tokens, stale)
        });
    let mut renewed = Renewed::default();
    for (partition, tokens, stale) in join_all(asked).await {
        let (tokens, of) = match stale {
            Ok(stale) => (stale, &mut renewed.stale),
            Err(error) => {
                tracing::debug!(%error, partition, "leases are not renewed");
                (tokens, &mut renewed.unreached)
            }
        };
        let tokens = tokens.into_iter();
        of.extend(tokens.map(|local| partitions.token(partition, local)));
    }
    renewed
}

async fn renew_in(part: &Part, tokens: Vec<u64>) -> Result<Vec<u64>, StoreError> {
    if !part.core.work.is_up() {
        return Err(away());
    }
    let time = part.core.settings.lease / RENEWAL;
    match tokio::time::timeout(time, lease::renew(&part.core, tokens)).await {
        Ok(stale) => stale,
        Err(_) => Err(StoreError::Unavailable(
            "a partition of Redis does not answer in time".to_owned(),
        )),
    }
}

pub(super) async fn give_back(
    partitions: Partitions,
    parts: &[Part],
    tokens: Vec<u64>,
) -> Result<(), StoreError> {
    let each = by_partition(partitions, tokens);
    let asked = each
        .into_iter()
        .enumerate()
        .filter(|(_, tokens)| !tokens.is_empty())
        .map(|(partition, tokens)| async move {
            let part = &parts[partition];
            part.hint.something_came();
            let leaving = lease::give_back(&part.core, tokens).await?;
            carry_on(parts, partition, leaving).await;
            Ok(())
        });
    // What is not given back now expires.
    most(join_all(asked).await).map(drop)
}

pub(super) async fn give_back_part(
    partitions: Partitions,
    parts: &[Part],
    returns: Vec<PartialReturn>,
) -> Result<(), StoreError> {
    let mut each = vec![Vec::new(); partitions.number()];
    for one in returns {
        let (partition, token) = partitions.split_token(one.token);
        each[partition].push(PartialReturn { token, ..one });
    }
    let asked = each
        .into_iter()
        .enumerate()
        .filter(|(_, returns)| !returns.is_empty())
        .map(|(partition, returns)| async move {
            let part = &parts[partition];
            part.hint.something_came();
            let leaving = lease::give_back_part(&part.core, returns).await?;
            carry_on(parts, partition, leaving).await;
            Ok(())
        });
    most(join_all(asked).await).map(drop)
}

/// What leaves for other partitions is sent there now; what does not get there is carried on by whoever
/// sweeps.
async fn carry_on(parts: &[Part], partition: usize, leaving: u64) {
    if leaving > 0 {
        moves::sweep(parts, partition, Duration::ZERO).await.ok();
    }
}

/// Has every partition do what is due, and carries on what was left in outboxes or on its way to another
/// partition.
pub(super) async fn expire(
    parts: &[Part],
    real_time: bool,
) -> Result<Option<Duration>, StoreError> {
    // Where a test sets the time, nobody else is at work who could have it in hand.
    let left_behind = match real_time {
        true => LEFT_BEHIND,
        false => Duration::ZERO,
    };
    let asked = (0..parts.len()).map(|partition| async move {
        let part = &parts[partition];
        if real_time && let Some(known) = part.hint.quiet() {
            return Ok(known);
        }
        if !part.core.safe.is_up() {
            part.hint.time_came_nearer();
            return Err(away());
        }
        let next = async {
            let next = lease::expire(&part.core).await?;
            let left = spread::sweep(parts, partition, left_behind).await?;
            let leaving = moves::sweep(parts, partition, left_behind).await?;
            Ok(next.into_iter().chain(left).chain(leaving).min())
        };
        let next = next.await;
        part.hint.set_next(next.as_ref().ok().copied());
        next
    });
    let answers: Vec<Result<Option<Duration>, StoreError>> = join_all(asked).await;
    let missing = answers.iter().any(Result::is_err).then_some(AWAY);
    let next = most(answers)?.into_iter().flatten();
    Ok(next.chain(missing).min())
}

/// The good answers, unless all are bad.
fn most<T>(answers: Vec<Result<T, StoreError>>) -> Result<Vec<T>, StoreError> {
    let (mut good, mut bad) = (Vec::with_capacity(answers.len()), None);
    for answer in answers {
        match answer {
            Ok(answer) => good.push(answer),
            Err(error) => bad = Some(error),
        }
    }
    match bad {
        Some(error) if good.is_empty() => Err(error),
        Some(error) => {
            tracing::warn!(%error, "some partitions do not answer");
            Ok(good)
        }
        None => Ok(good),
    }
}
