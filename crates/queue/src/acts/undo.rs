//! Taking an act back: what a hold holds is released, one that still runs is stopped.
//!
//! A hold releases what it met and is still held, unless it was held before already. What
//! was released and held again since is not told apart from what the hold itself holds.

use std::collections::HashSet;
use std::sync::Arc;

use postrider_protocol::queue_v1::act_record::State;
use postrider_protocol::queue_v1::act_request::Act as Wire;
use postrider_protocol::queue_v1::delivery_status::State as Delivery;
use postrider_protocol::queue_v1::{ActRecord, Filter, UndoRequest};
use postrider_protocol::{DeliveryId, Status};

use super::job::{Halt, Job, PAGE};
use super::ledger::Entry;
use super::{Context, status};
use crate::admin::check::{one_line, text};
use crate::store::{Act, By, StoreError};

/// Changes of a record that come in between, until the caller is asked to try again.
const TRIES: usize = 20;

/// What became of the order to undo.
pub(super) enum Ordered {
    /// This instance does it.
    Here(Entry),
    /// Whoever works on the act does it, or there is nothing to do.
    There(ActRecord),
}

/// Orders an act undone, durably.
pub(super) async fn order(with: &Arc<Context>, request: &UndoRequest) -> Result<Ordered, Status> {
    text("the operator", &request.operator)?;
    text("the reason", &request.reason)?;
    for _ in 0..TRIES {
        let found = with.ledger.get(&request.act_id).await.map_err(status)?;
        let Some(mut entry) = found else {
            return Err(Status::not_found("no such act is remembered"));
        };
        let act = kind(&entry.record);
        let here = match entry.record.state() {
            State::Undoing | State::Undone => return Ok(Ordered::There(entry.record)),
            State::Running => false,
            State::Done | State::Failed | State::Unspecified => true,
        };
        if here && act == Wire::Suspend {
            return resume(with, entry, request).await;
        }
        if here {
            undoable(&entry.record, act)?;
            entry.record.instance.clone_from(&with.instance);
            entry.record.alive_us = with.store.now_us().await.map_err(status)?;
        }
        signed(&mut entry.record, request);
        entry.record.set_state(State::Undoing);
        entry.record.ended_us = 0;
        if with.ledger.save(&mut entry).await.map_err(status)? {
            return Ok(match here {
                true => Ordered::Here(entry),
                false => Ordered::There(entry.record),
            });
        }
    }
    Err(Status::aborted("the act changes too fast; try again"))
}

fn kind(record: &ActRecord) -> Wire {
    record
        .request
        .as_ref()
        .map_or(Wire::Unspecified, |request| request.act())
}

fn signed(record: &mut ActRecord, by: &UndoRequest) {
    record.undone_by = one_line(&by.operator);
    record.undone_reason = one_line(&by.reason);
}

fn undoable(record: &ActRecord, act: Wire) -> Result<(), Status> {
    let why = match act {
        Wire::Hold if record.held_before_full => {
            "more deliveries than are remembered had been held before it: release what you mean by a filter"
        }
        Wire::Hold => return Ok(()),
        _ => "it is over, and only a hold or a suspension can be taken back",
    };
    Err(Status::failed_precondition(format!(
        "this act cannot be undone: {why}"
    )))
}

/// A suspension is undone by its end.
async fn resume(with: &Context, mut entry: Entry, by: &UndoRequest) -> Result<Ordered, Status> {
    let resumed = with.store.resume(&by.act_id).await.map_err(status)?;
    if !resumed {
        return Err(Status::failed_precondition(
            "this suspension has ended already",
        ));
    }
    close(with, &mut entry, by).await.map_err(status)?;
    Ok(Ordered::There(entry.record))
}

/// Remembers that a suspension was ended.
pub(super) async fn resumed(with: &Context, id: &str, by: &UndoRequest) -> Result<(), StoreError> {
    match with.ledger.get(id).await? {
        Some(mut entry) => close(with, &mut entry, by).await,
        None => Ok(()),
    }
}

async fn close(with: &Context, entry: &mut Entry, by: &UndoRequest) -> Result<(), StoreError> {
    signed(&mut entry.record, by);
    entry.record.set_state(State::Undone);
    entry.record.ended_us = with.store.now_us().await?;
    // If somebody was faster, it stands there already.
    with.ledger.save(entry).await.map(drop)
}

/// Releases the next page of what a hold holds. Any other act is only stopped.
pub(super) async fn step(job: &mut Job) -> Result<(), Halt> {
    let record = &job.entry.record;
    if kind(record) != Wire::Hold || record.held_before_full || record.cursor.is_empty() {
        if record.held_before_full {
            job.entry.record.problem = "it was stopped, but what it held stays held: more \
                deliveries than are remembered had been held before it"
                .to_owned();
        }
        job.end(State::Undone).await;
        return Ok(());
    }
    let last: Option<DeliveryId> = record.cursor.parse().ok();
    let after = record.undo_cursor.parse::<DeliveryId>().ok();
    let by = By {
        operator: record.undone_by.clone(),
        reason: match record.undone_reason.as_str() {
            "" => format!("undoes the hold {}", record.act_id),
            reason => format!("undoes the hold {}: {reason}", record.act_id),
        },
    };
    let filter = what_it_met(record);
    let store = job.with.store.clone();
    let page = job.alive_while(store.list(&filter, after, PAGE)).await?;
    let before: HashSet<&str> = job
        .entry
        .record
        .held_before
        .iter()
        .map(String::as_str)
        .collect();
    let met = |id: &DeliveryId| last.is_some_and(|last| *id <= last);
    let ids: Vec<DeliveryId> = page
        .iter()
        // Under a lease a hold waits for the end of the attempt.
        .filter(|delivery| matches!(delivery.state(), Delivery::Held | Delivery::Leased))
        .filter(|delivery| !before.contains(delivery.delivery_id.as_str()))
        .filter_map(|delivery| delivery.delivery_id.parse().ok())
        .filter(met)
        .collect();
    let released = job.change(&Act::Release, &ids, &by).await?;
    let record = &mut job.entry.record;
    record.undone += released;
    let end: Option<DeliveryId> = page
        .last()
        .and_then(|delivery| delivery.delivery_id.parse().ok());
    match end {
        Some(end) if page.len() == PAGE && met(&end) => record.undo_cursor = end.to_string(),
        _ => job.end(State::Undone).await,
    }
    Ok(())
}

/// What the hold matched, as it can be found now: held, whatever it was then.
fn what_it_met(record: &ActRecord) -> Filter {
    let filter = record
        .request
        .as_ref()
        .and_then(|request| request.filter.clone())
        .unwrap_or_default();
    Filter {
        held: false,
        suspended: false,
        ..filter
    }
}
