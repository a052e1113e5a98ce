//! Operators' acts, and counts.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use postrider_protocol::DeliveryId;
use postrider_protocol::queue_v1::{DestinationStats, Notice, StatsResponse, journey_event};
use redis::Value;

use super::answer::{items, numbers, required};
use super::core::Core;
use super::link::Repeat;
use super::message;
use super::moves::Leaving;
use crate::store::{Act, By, StoreError};

/// How the script calls an act and what it needs beside, and how the journey does. `to` is the partition
/// to which deliveries are re-routed, if that is another one.
fn names(act: &Act, to: Option<usize>) -> (&'static str, String, String) {
    let plain = |letter, word: &str| (letter, String::new(), word.to_owned());
    match act {
        Act::Retry => plain("t", "retried now"),
        Act::Hold { until_us: None } => ("h", "0".to_owned(), "held".to_owned()),
        Act::Hold {
            until_us: Some(until_us),
        } => {
            // 0 stands for a hold without end.
            let until_us = (*until_us).clamp(1, message::MOST_TIME);
            let at = UNIX_EPOCH + Duration::from_micros(until_us);
            let word = format!("held until {}", humantime::format_rfc3339_seconds(at));
            ("h", until_us.to_string(), word)
        }
        Act::Release => plain("l", "released"),
        Act::Remove => plain("r", "removed"),
        Act::Bounce => plain("b", "bounced"),
        Act::Reroute { to: destination } => {
            let word = format!("goes to {destination} from now on");
            match to {
                None => ("R", destination.to_string(), word),
                Some(partition) => ("M", format!("{partition} {destination}"), word),
            }
        }
    }
}

/// One atomic step on at most so many deliveries.
const PIECE: usize = 1000;

/// What a partition says of an act on a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acted {
    Changed,
    /// It has not; or the delivery has ended, or was never there.
    Not,
    /// Nothing was done: the delivery leaves for another partition.
    Leaves,
    /// Nothing was done: the delivery has gone to this partition.
    Gone(usize),
}

impl Acted {
    fn new(answer: i64) -> Self {
        match answer {
            1 => Self::Changed,
            2 => Self::Leaves,
            0.. => Self::Not,
            gone => Self::Gone(usize::try_from(-1 - gone).unwrap_or(usize::MAX)),
        }
    }
}

/// Acts on deliveries of one partition. `to` is the partition to which they are re-routed, if that is
/// another one.
pub(super) async fn act(
    core: &Core,
    act: &Act,
    to: Option<usize>,
    on: &[DeliveryId],
    by: &By,
) -> Result<Vec<Acted>, StoreError> {
    let (letter, value, word) = names(act, to);
    let text = if by.reason.is_empty() {
        word
    } else {
        format!("{word}: {}", by.reason)
    };
    let notice = Notice {
        text,
        operator: by.operator.clone(),
        ..Notice::default()
    };
    let event = message::event(&core.settings.instance, journey_event::What::Notice(notice));
    let mut acted = Vec::with_capacity(on.len());
    for piece in on.chunks(PIECE) {
        let mut cmd = core.call(&core.scripts.act);
        cmd.arg(letter).arg(&value).arg(&event);
        for id in piece {
            cmd.arg(id.queue_id.to_string()).arg(id.number);
        }
        let answer = core.safe.run(&core.scripts.act, &cmd, Repeat::Safe).await?;
        let results = numbers(answer, piece.len(), "act")?;
        acted.extend(results.into_iter().map(Acted::new));
    }
    Ok(acted)
}

/// A delivery that leaves a partition, as far as counts go; it counts there, as waiting, but not at any
/// destination unless it waits.
pub(super) struct Counted {
    pub(super) leaving: Leaving,
    pub(super) destination: String,
    pub(super) recipients: u64,
    pub(super) held: bool,
    /// It has an unknown outcome.
    pub(super) unsure: bool,
}

impl Counted {
    fn new(row: Value) -> Result<Self, StoreError> {
        let mut row = items(row, "a delivery that leaves")?.into_iter();
        let id = DeliveryId {
            queue_id: required(row.next(), "a queue id")?,
            number: required(row.next(), "a delivery's number")?,
        };
        let mark: String = required(row.next(), "a move")?;
        Ok(Self {
            leaving: Leaving::new(id, mark)?,
            destination: required(row.next(), "a destination")?,
            recipients: required(row.next(), "recipients")?,
            held: required::<u8>(row.next(), "whether it is held")? == 1,
            unsure: required::<u8>(row.next(), "whether it is unsure")? == 1,
        })
    }
}

/// Counts, and what leaves for other partitions.
pub(super) async fn stats(core: &Core) -> Result<(StatsResponse, Vec<Counted>), StoreError> {
    let cmd = core.call(&core.scripts.stats);
    let answer = core
        .link
        .run(&core.scripts.stats, &cmd, Repeat::Safe)
        .await?;
    let mut fields = items(answer, "stats")?.into_iter();
    let mut counts = HashMap::new();
    let mut pairs = items(fields.next().unwrap_or(Value::Nil), "counts")?.into_iter();
    while let Some(name) = pairs.next() {
        let name: String = required(Some(name), "a count's name")?;
        counts.insert(name, required::<u64>(pairs.next(), "a count")?);
    }
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    let leased: u64 = required(fields.next(), "leased")?;
    let held: u64 = required(fields.next(), "held")?;
    let messages = required(fields.next(), "messages")?;
    let mut destinations = Vec::new();
    for row in items(fields.next().unwrap_or(Value::Nil), "destinations")? {
        let mut row = items(row, "a destination")?.into_iter();
        destinations.push(DestinationStats {
            destination: required(row.next(), "a destination")?,
            waiting: required(row.next(), "waiting")?,
            slots_in_use: required(row.next(), "slots")?,
            slots: core.settings.slots_per_destination,
        });
    }
    let suspensions = required(fields.next(), "suspensions")?;
    let leaving = items(fields.next().unwrap_or(Value::Nil), "what leaves")?;
    let leaving = leaving
        .into_iter()
        .map(Counted::new)
        .collect::<Result<_, _>>()?;
    let stats = StatsResponse {
        suspensions,
        accepted: count("accepted"),
        delivered: count("delivered"),
        failed: count("failed"),
        removed: count("removed"),
        open: count("open"),
        stale_completions: count("stale"),
        unknown_outcomes: count("unknown"),
        unknown_deliveries: count("unsure"),
        waiting: count("deliveries").saturating_sub(leased + held),
        leased,
        held,
        messages,
        commits: count("commits"),
        // Redis answers each commit after one sync, which it may share with others; it does not
        // count its syncs.
        syncs: count("commits"),
        destinations,
    };
    Ok((stats, leaving))
}

/// The server's time.
pub(super) async fn now_us(core: &Core) -> Result<u64, StoreError> {
    let answer = core.safe.query(&redis::cmd("TIME")).await?;
    let mut parts = items(answer, "the time")?.into_iter();
    let seconds: u64 = required(parts.next(), "seconds")?;
    let micros: u64 = required(parts.next(), "microseconds")?;
    Ok(seconds.saturating_mul(1_000_000).saturating_add(micros))
}
