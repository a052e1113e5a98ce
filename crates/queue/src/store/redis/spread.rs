//! Accepting and completing where a queue has several partitions.
//!
//! A message is kept in each partition in which it has a delivery. It is accepted in one of these, its
//! home, by one script that also puts the parts for the others into the home's outbox: with that it
//! is durable as a whole. Then each part is accepted where it belongs, which is safe to repeat, and
//! leaves the outbox. DSNs of a completion go the same way. What a dead process has left in an
//! outbox, any other one carries on ([`sweep`]).

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use postrider_protocol::queue_v1::NewMessage;
use redis::Value;

use super::answer::{bytes, items, numbers, parsed, required};
use super::complete::{self, Applied};
use super::core::{Core, micros};
use super::left::{Page, Place, Round};
use super::link::Repeat;
use super::message::Packed;
use super::part::Part;
use super::partition::Partitions;
use super::{content, enqueue, moves};
use crate::store::{Completed, Completion, Enqueued, StoreError};

/// Parts that are carried on at once.
const SWEEP: usize = 50;

/// A part of a message and the partition to which it goes.
pub(super) type Addressed = (usize, Packed);

/// Accepts messages; results in order.
pub(super) async fn accept(
    partitions: Partitions,
    parts: &[Part],
    messages: Vec<NewMessage>,
) -> Vec<Result<Enqueued, StoreError>> {
    let mut results: Vec<_> = (0..messages.len())
        .map(|_| Err(StoreError::Unavailable(String::new())))
        .collect();
    let mut whole: Vec<(Vec<usize>, Vec<Packed>)> =
        parts.iter().map(|_| (Vec::new(), Vec::new())).collect();
    let mut divided = Vec::new();
    for (place, message) in messages.into_iter().enumerate() {
        match Packed::new(message, &parts[0].core.settings.instance) {
            Ok(packed) => {
                let mut addressed = packed.divide(partitions);
                if addressed.len() == 1
                    && let Some((partition, packed)) = addressed.pop()
                {
                    whole[partition].0.push(place);
                    whole[partition].1.push(packed);
                } else {
                    divided.push(async move { (place, accept_divided(parts, addressed).await) });
                }
            }
            Err(error) => results[place] = Err(error),
        }
    }
    let whole = whole
        .into_iter()
        .zip(parts)
        .filter(|((places, _), _)| !places.is_empty())
        .map(|((places, packed), part)| async move {
            part.hint.something_came();
            let results = enqueue::send(&part.enqueuer, packed).await;
            (places, results)
        });
    let (whole, divided) = tokio::join!(join_all(whole), join_all(divided));
    for (places, answers) in whole {
        for (place, answer) in places.into_iter().zip(answers) {
            results[place] = answer;
        }
    }
    for (place, answer) in divided {
        results[place] = answer;
    }
    results
}

/// Accepts a message with parts in several partitions. Its home is the first of them that is
/// reachable; a repeated call may find another home, which does no harm, because every partition
/// knows the queue id.
async fn accept_divided(
    parts: &[Part],
    mut addressed: Vec<Addressed>,
) -> Result<Enqueued, StoreError> {
    let reachable = |(partition, _): &Addressed| parts[*partition].core.safe.is_up();
    let first = addressed.iter().position(reachable).unwrap_or(0);
    addressed.swap(0, first);
    let mut addressed = addressed.into_iter();
    let Some((home, packed)) = addressed.next() else {
        return Err(StoreError::Invalid("no recipients".to_owned()));
    };
    let others: Vec<Addressed> = addressed.collect();
    let core = &parts[home].core;
    let mut cmd = core.call(&core.scripts.spread);
    packed.add_to(&mut cmd);
    cmd.arg(others.len());
    for (partition, part) in &others {
        cmd.arg(partition);
        part.add_whole_to(&mut cmd);
    }
    let commands = [content::write(core, packed.id, &packed.content), cmd];
    parts[home].hint.something_came();
    let answer = core.safe.run_last(&core.scripts.spread, commands).await?;
    let result = required(Some(answer), "spread")?;
    let accepted = enqueue::enqueued(core, packed, result)?;
    if accepted == Enqueued::Accepted {
        carry(parts, home, others).await;
    }
    Ok(accepted)
}

/// Takes parts that are in an outbox to where they belong. What cannot be done now stays there.
pub(super) async fn carry(parts: &[Part], from: usize, addressed: Vec<Addressed>) {
    let carried = addressed.into_iter().map(|(partition, packed)| async move {
        let part = &parts[partition];
        if !part.core.safe.is_up() {
            return None;
        }
        let name = format!("{}.{partition}", packed.id);
        part.hint.something_came();
        let results = enqueue::send(&part.enqueuer, vec![packed]).await;
        matches!(results.as_slice(), [Ok(_)]).then_some(name)
    });
    let carried: Vec<String> = join_all(carried).await.into_iter().flatten().collect();
    if let Err(error) = take_out(&parts[from], &carried).await {
        tracing::debug!(%error, "parts of messages stay in an outbox for now");
    }
}

/// Parts that have arrived leave the outbox.
async fn take_out(part: &Part, names: &[String]) -> Result<(), StoreError> {
    if names.is_empty() {
        return Ok(());
    }
    let core = &part.core;
    let mut cmd = core.call(&core.scripts.carried);
    cmd.arg(names);
    core.safe
        .run(&core.scripts.carried, &cmd, Repeat::Safe)
        .await?;
    Ok(())
}

/// Carries on what somebody has left in a partition's outbox for so long. Returns how long until there may
/// be something to do again, if anything is there.
pub(super) async fn sweep(
    parts: &[Part],
    from: usize,
    left: Duration,
) -> Result<Option<Duration>, StoreError> {
    let mut round = Round::new(parts, &parts[from].outbox);
    loop {
        let (page, posted) = read(&parts[from].core, left, &round).await?;
        let swept = carry_on(parts, from, posted).await?;
        round.away.extend(swept.away);
        if let Some(next) = round.over(page, swept.carried) {
            return Ok(next);
        }
    }
}

/// Carries on all that is in a partition's outbox now.
///
/// # Errors
/// Some of it cannot be carried on.
pub(super) async fn empty(parts: &[Part], from: usize) -> Result<(), StoreError> {
    let place = Place::default();
    loop {
        let first = Round::whole(&place);
        let (page, posted) = read(&parts[from].core, Duration::ZERO, &first).await?;
        let found = posted.len();
        if carry_on(parts, from, posted).await?.carried < found {
            return Err(StoreError::Unavailable(
                "parts of messages cannot go on to their partitions".to_owned(),
            ));
        }
        if page.go_on.is_none() {
            return Ok(());
        }
    }
}

/// A part as it lies in an outbox.
struct Posted {
    name: String,
    /// The partition for which it is, if there is such a one.
    to: Option<usize>,
    args: Vec<Bytes>,
}

impl Posted {
    fn new(entry: Value) -> Result<Self, StoreError> {
        let mut entry = items(entry, "a part")?.into_iter();
        let name: String = required(entry.next(), "a part")?;
        let args = items(entry.next().unwrap_or(Value::Nil), "a part")?
            .into_iter()
            .map(|arg| Ok(bytes(Some(arg), "a part")?.unwrap_or_default()))
            .collect::<Result<_, StoreError>>()?;
        let to = name.rsplit_once('.').and_then(|(_, to)| to.parse().ok());
        Ok(Self { name, to, args })
    }
}

/// What has been in an outbox for so long, as far as the round has come.
async fn read(
    core: &Core,
    left: Duration,
    round: &Round<'_>,
) -> Result<(Page, Vec<Posted>), StoreError> {
    let mut cmd = core.call(&core.scripts.outbox);
    cmd.arg(micros(left)).arg(SWEEP);
    round.add_to(&mut cmd);
    // Not before the outbox is where it was promised to be: a failover may lose the completion whose DSN
    // is read, and the server that is read may be one that has been replaced and does not know.
    let answer = core
        .safe
        .run(&core.scripts.outbox, &cmd, Repeat::Safe)
        .await?;
    let mut fields = items(answer, "an outbox")?.into_iter();
    let next: Option<u64> = parsed(fields.next(), "a time")?;
    let page = Page {
        next: next.map(Duration::from_micros),
        go_on: parsed(fields.next(), "a place")?,
    };
    Ok((page, fields.map(Posted::new).collect::<Result<_, _>>()?))
}

/// What came of parts.
struct Swept {
    carried: usize,
    /// Partitions that did not answer.
    away: Vec<usize>,
}

async fn carry_on(parts: &[Part], from: usize, posted: Vec<Posted>) -> Result<Swept, StoreError> {
    let accepted = posted.into_iter().map(|posted| async move {
        let Some((to, part)) = posted.to.and_then(|to| Some((to, parts.get(to)?))) else {
            tracing::error!(
                name = posted.name,
                "a part of a message is for a partition that is not there"
            );
            return Ok(None);
        };
        match accept_raw(part, &posted.args).await {
            Ok(()) => Ok(Some(posted.name)),
            Err(error) if error.is_passing() => Err(to),
            Err(error) => {
                tracing::error!(%error, name = posted.name, "a part of a message stays in an outbox");
                Ok(None)
            }
        }
    });
    let (mut carried, mut away) = (Vec::new(), Vec::new());
    for accepted in join_all(accepted).await {
        match accepted {
            Ok(name) => carried.extend(name),
            Err(to) => away.push(to),
        }
    }
    take_out(&parts[from], &carried).await?;
    Ok(Swept {
        carried: carried.len(),
        away,
    })
}

/// Accepts a part as it lay in an outbox.
async fn accept_raw(part: &Part, args: &[Bytes]) -> Result<(), StoreError> {
    let core = &part.core;
    if !core.safe.is_up() {
        return Err(StoreError::Unavailable(
            "a part is for a partition that is away".to_owned(),
        ));
    }
    let mut cmd = core.call(&core.scripts.enqueue);
    cmd.arg(1);
    for arg in args {
        cmd.arg(arg.as_ref());
    }
    part.hint.something_came();
    let answer = core
        .safe
        .run(&core.scripts.enqueue, &cmd, Repeat::Safe)
        .await?;
    numbers(answer, 1, "enqueue").map(drop)
}

/// Reports attempts; results in order.
pub(super) async fn complete(
    partitions: Partitions,
    parts: &[Part],
    batch: Vec<Completion>,
) -> Vec<Result<Completed, StoreError>> {
    let reports = batch.into_iter().map(|mut completion| async move {
        let (partition, local) = partitions.split_token(completion.token);
        let part = &parts[partition];
        completion.token = local;
        part.hint.something_came();
        let instance = &part.core.settings.instance;
        let (mut foreign, delivery) = (Vec::new(), completion.delivery);
        let report =
            complete::Report::spread(completion, instance, partitions, partition, &mut foreign)?;
        let applied = complete::send(&part.completer, report).await?;
        // What was applied before had its own DSNs; if they are still in the outbox, they are swept.
        if matches!(applied, Applied::Now | Applied::Leaves) && !foreign.is_empty() {
            carry(parts, partition, foreign).await;
        }
        // What does not get there now is carried on by whoever sweeps.
        if applied == Applied::Leaves
            && let Err(error) = moves::carry(parts, partition, &[delivery]).await
        {
            tracing::debug!(%error, %delivery, "a delivery waits on its way to another partition");
        }
        Ok(applied.into())
    });
    join_all(reports).await
}
