//! Operators' acts, and counts.

use std::collections::HashMap;

use postrider_protocol::DeliveryId;
use postrider_protocol::queue_v1::{
    DestinationStats, Filter, Notice, StatsResponse, journey_event,
};

use super::answer::{items, numbers, required};
use super::core::Core;
use super::link::Repeat;
use super::message;
use super::rows::{Rows, matches};
use crate::store::{Act, Acted, By, StoreError};

/// Messages that an answer names.
const SAMPLE: usize = 100;

/// How the script calls an act, and how the journey does.
fn names(act: Act) -> (&'static str, &'static str) {
    match act {
        Act::Retry => ("t", "retry asked for"),
        Act::Hold => ("h", "held"),
        Act::Release => ("l", "released"),
        Act::Remove => ("r", "removed"),
        Act::Bounce => ("b", "bounce asked for"),
    }
}

/// Goes through the matches piece by piece, so that an act on millions holds up nobody; each piece
/// is one atomic step.
pub(super) async fn act(
    core: &Core,
    act: Act,
    filter: &Filter,
    by: &By,
    preview: bool,
) -> Result<Acted, StoreError> {
    let mut acted = Acted::default();
    let mut rows = Rows::new(core, filter, None);
    while let Some(piece) = rows.next().await? {
        let chosen: Vec<DeliveryId> = piece
            .into_iter()
            .flat_map(|row| row.deliveries)
            .filter(|(_, status)| matches(filter, status))
            .map(|(id, _)| id)
            .collect();
        acted.matched += chosen.len() as u64;
        for id in &chosen {
            if acted.sample.len() < SAMPLE && acted.sample.last() != Some(&id.queue_id) {
                acted.sample.push(id.queue_id);
            }
        }
        if !preview && !chosen.is_empty() {
            acted.changed += act_on(core, act, by, &chosen).await?;
        }
    }
    Ok(acted)
}

async fn act_on(core: &Core, act: Act, by: &By, chosen: &[DeliveryId]) -> Result<u64, StoreError> {
    let (letter, word) = names(act);
    let text = if by.reason.is_empty() {
        word.to_owned()
    } else {
        format!("{word}: {}", by.reason)
    };
    let notice = Notice {
        text,
        operator: by.operator.clone(),
        ..Notice::default()
    };
    let event = message::event(&core.settings.instance, journey_event::What::Notice(notice));
    let mut changed = 0;
    for piece in chosen.chunks(200) {
        let mut cmd = core.call(&core.scripts.act);
        cmd.arg(core.retention_ms()).arg(letter).arg(&event);
        for id in piece {
            cmd.arg(id.queue_id.to_string()).arg(id.number);
        }
        let answer = core.safe.run(&core.scripts.act, &cmd, Repeat::Safe).await?;
        let results = numbers(answer, piece.len(), "act")?;
        changed += results.iter().filter(|did| **did == 1).count() as u64;
    }
    Ok(changed)
}

pub(super) async fn stats(core: &Core) -> Result<StatsResponse, StoreError> {
    let cmd = core.call(&core.scripts.stats);
    let answer = core
        .link
        .run(&core.scripts.stats, &cmd, Repeat::Safe)
        .await?;
    let mut fields = items(answer, "stats")?.into_iter();
    let mut counts = HashMap::new();
    let mut pairs = items(fields.next().unwrap_or(redis::Value::Nil), "counts")?.into_iter();
    while let Some(name) = pairs.next() {
        let name: String = required(Some(name), "a count's name")?;
        counts.insert(name, required::<u64>(pairs.next(), "a count")?);
    }
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    let leased: u64 = required(fields.next(), "leased")?;
    let held: u64 = required(fields.next(), "held")?;
    let messages = required(fields.next(), "messages")?;
    let mut destinations = Vec::new();
    for row in items(fields.next().unwrap_or(redis::Value::Nil), "destinations")? {
        let mut row = items(row, "a destination")?.into_iter();
        destinations.push(DestinationStats {
            destination: required(row.next(), "a destination")?,
            waiting: required(row.next(), "waiting")?,
            slots_in_use: required(row.next(), "slots")?,
            slots: core.settings.slots_per_destination,
        });
    }
    Ok(StatsResponse {
        accepted: count("accepted"),
        delivered: count("delivered"),
        failed: count("failed"),
        removed: count("removed"),
        open: count("open"),
        stale_completions: count("stale"),
        unknown_outcomes: count("unknown"),
        waiting: count("deliveries").saturating_sub(leased + held),
        leased,
        held,
        messages,
        commits: count("commits"),
        // Redis answers each commit after one sync, which it may share with others; it does not
        // count its syncs.
        syncs: count("commits"),
        destinations,
    })
}
