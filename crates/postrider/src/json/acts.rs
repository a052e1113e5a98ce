//! Operators' acts and suspensions.

use postrider_protocol::queue_v1::act_record::State;
use postrider_protocol::queue_v1::act_request::Act;
use postrider_protocol::queue_v1::{ActRecord, Filter, SuspendResponse, Suspension};
use serde_json::{Map, Value, json};

use crate::commands::queue::Acted;

/// What an act did.
#[must_use]
pub fn act(acted: &Acted, preview: bool) -> Value {
    json!({
        "preview": preview,
        "matched": acted.matched,
        "changed": acted.changed,
        "sample": acted.sample,
        "act_ids": acted.act_ids,
        "done": acted.done,
        "problem": acted.problem,
    })
}

/// An act as it is remembered.
#[must_use]
pub fn act_record(record: &ActRecord) -> Value {
    let request = record.request.clone().unwrap_or_default();
    json!({
        "act_id": record.act_id,
        "act": act_kind(request.act()),
        "filter": filter(&request.filter.unwrap_or_default()),
        "destination": request.destination,
        "until_us": request.until_us,
        "operator": request.operator,
        "reason": request.reason,
        "state": act_state(record.state()),
        "created_us": record.created_us,
        "ended_us": record.ended_us,
        "matched": record.matched,
        "changed": record.changed,
        "sample": record.sample,
        "instance": record.instance,
        "undone": record.undone,
        "undone_by": record.undone_by,
        "undone_reason": record.undone_reason,
        "problem": record.problem,
    })
}

/// The word for an act.
#[must_use]
pub fn act_kind(act: Act) -> &'static str {
    match act {
        Act::Unspecified => "none",
        Act::Retry => "retry",
        Act::Hold => "hold",
        Act::Release => "release",
        Act::Remove => "remove",
        Act::Bounce => "bounce",
        Act::Reroute => "reroute",
        Act::Suspend => "suspend",
    }
}

/// The word for an act's state.
#[must_use]
pub fn act_state(state: State) -> &'static str {
    match state {
        State::Unspecified => "none",
        State::Running => "running",
        State::Done => "done",
        State::Undoing => "undoing",
        State::Undone => "undone",
        State::Failed => "failed",
    }
}

/// What is set of a filter.
fn filter(filter: &Filter) -> Value {
    let texts = [
        ("destination", &filter.destination),
        ("sender", &filter.sender),
        ("recipient", &filter.recipient),
        ("tenant", &filter.tenant),
        ("last_reply", &filter.last_reply),
    ];
    let flags = [
        ("held", filter.held),
        ("suspended", filter.suspended),
        ("unknown", filter.unknown),
    ];
    let numbers = [
        ("accepted_before_us", filter.accepted_before_us),
        ("accepted_after_us", filter.accepted_after_us),
        ("min_attempts", u64::from(filter.min_attempts)),
    ];
    let mut set = Map::new();
    if !filter.queue_ids.is_empty() {
        set.insert("queue_ids".to_owned(), json!(filter.queue_ids));
    }
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        set.insert(name.to_owned(), json!(text));
    }
    for (name, flag) in flags.into_iter().filter(|(_, flag)| *flag) {
        set.insert(name.to_owned(), json!(flag));
    }
    for (name, number) in numbers.into_iter().filter(|(_, number)| *number > 0) {
        set.insert(name.to_owned(), json!(number));
    }
    Value::Object(set)
}

/// A suspension.
#[must_use]
pub fn suspension(suspension: &Suspension) -> Value {
    json!({
        "id": suspension.id,
        "destination": suspension.destination,
        "sender": suspension.sender,
        "tenant": suspension.tenant,
        "until_us": suspension.until_us,
        "created_us": suspension.created_us,
        "operator": suspension.operator,
        "reason": suspension.reason,
    })
}

/// What a suspension stops.
#[must_use]
pub fn suspended(response: &SuspendResponse, preview: bool) -> Value {
    json!({
        "preview": preview,
        "suspension": suspension(&response.suspension.clone().unwrap_or_default()),
        "matched": response.matched,
        "more": response.more,
        "sample": response.sample,
    })
}
