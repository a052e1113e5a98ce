//! The queue's answers as JSON, for programs. Field names are those of `proto/`; times are Unix
//! microseconds. Fields are only ever added.

mod acts;

use postrider_protocol::queue_v1::{
    Attempt, DeliveryStatus, DialogueLine, Journey, JourneyEvent, Origin, OutcomeKind,
    RecipientOutcome, ShowResponse, StatsResponse, delivery_status::State, dialogue_line::From,
    journey_event::What,
};
use serde_json::{Value, json};

pub use self::acts::{act, act_kind, act_record, act_state, suspended, suspension};

/// One delivery.
#[must_use]
pub fn delivery(status: &DeliveryStatus) -> Value {
    json!({
        "delivery_id": status.delivery_id,
        "queue_id": status.queue_id,
        "destination": status.destination,
        "reverse_path": status.reverse_path,
        "recipients": status.recipients,
        "state": state(status.state()),
        "attempts": status.attempts,
        "accepted_us": status.accepted_us,
        "next_attempt_us": status.next_attempt_us,
        "expires_us": status.expires_us,
        "last_outcomes": all(&status.last_outcomes, outcome),
        "size": status.size,
        "worker": status.worker,
        "tenant": status.tenant,
        "priority": status.priority,
        "unknown_attempts": status.unknown_attempts,
        "held_until_us": status.held_until_us,
        "suspensions": status.suspensions,
    })
}

/// The word for a state.
#[must_use]
pub fn state(state: State) -> &'static str {
    match state {
        State::Unspecified => "unknown",
        State::Waiting => "waiting",
        State::Leased => "leased",
        State::Held => "held",
        State::Suspended => "suspended",
        State::Done => "done",
    }
}

/// The word for an outcome.
#[must_use]
pub fn kind(kind: OutcomeKind) -> &'static str {
    match kind {
        OutcomeKind::Unspecified => "none",
        OutcomeKind::Delivered => "delivered",
        OutcomeKind::Deferred => "deferred",
        OutcomeKind::Failed => "failed",
        OutcomeKind::Unknown => "unknown",
    }
}

/// One message.
#[must_use]
pub fn message(shown: &ShowResponse) -> Value {
    let envelope = shown.envelope.clone().unwrap_or_default();
    json!({
        "queue_id": shown.queue_id,
        "message_id": shown.message_id,
        "reverse_path": envelope.reverse_path,
        "recipients": all(&envelope.recipients, |recipient| json!({
            "address": recipient.address,
            "destination": recipient.destination,
        })),
        "smtputf8": envelope.smtputf8,
        "eight_bit_mime": envelope.eight_bit_mime,
        "origin": origin(&shown.origin.clone().unwrap_or_default()),
        "size": shown.size,
        "accepted_us": shown.accepted_us,
        "deliveries": all(&shown.deliveries, delivery),
    })
}

/// The counts.
#[must_use]
pub fn stats(stats: &StatsResponse) -> Value {
    json!({
        "recipients": {
            "accepted": stats.accepted,
            "delivered": stats.delivered,
            "failed": stats.failed,
            "removed": stats.removed,
            "open": stats.open,
        },
        "deliveries": { "waiting": stats.waiting, "leased": stats.leased, "held": stats.held },
        "messages": stats.messages,
        "stale_completions": stats.stale_completions,
        "unknown_deliveries": stats.unknown_deliveries,
        "suspensions": stats.suspensions,
        "unknown_outcomes": stats.unknown_outcomes,
        "commits": stats.commits,
        "syncs": stats.syncs,
        "destinations": all(&stats.destinations, |destination| json!({
            "destination": destination.destination,
            "waiting": destination.waiting,
            "slots_in_use": destination.slots_in_use,
            "slots": destination.slots,
        })),
    })
}

/// A whole journey.
#[must_use]
pub fn journey(journey: &Journey) -> Value {
    json!({
        "queue_id": journey.queue_id,
        "message_id": journey.message_id,
        "reverse_path": journey.reverse_path,
        "ended": journey.ended,
        "events": all(&journey.events, event),
    })
}

/// One event of a journey.
#[must_use]
pub fn event(event: &JourneyEvent) -> Value {
    let (name, what) = match &event.what {
        None => ("none", Value::Null),
        Some(What::Received(received)) => (
            "received",
            json!({
                "origin": origin(&received.origin.clone().unwrap_or_default()),
                "dialogue": all(&received.dialogue, line),
            }),
        ),
        Some(What::Queued(queued)) => (
            "queued",
            json!({
                "reverse_path": queued.reverse_path,
                "recipients": queued.recipients,
                "size": queued.size,
            }),
        ),
        Some(What::Attempt(made)) => ("attempt", attempt(made)),
        Some(What::Notice(notice)) => (
            "notice",
            json!({
                "text": notice.text,
                "operator": notice.operator,
                "dsn_queue_id": notice.dsn_queue_id,
            }),
        ),
    };
    json!({ "time_us": event.time_us, "instance": event.instance, name: what })
}

fn attempt(attempt: &Attempt) -> Value {
    json!({
        "destination": attempt.destination,
        "number": attempt.number,
        "started_us": attempt.started_us,
        "ended_us": attempt.ended_us,
        "remote_host": attempt.remote_host,
        "remote_address": attempt.remote_address,
        "tls": attempt.tls,
        "outcomes": all(&attempt.outcomes, outcome),
        "dialogue": all(&attempt.dialogue, line),
        "next_attempt_us": attempt.next_attempt_us,
    })
}

fn origin(origin: &Origin) -> Value {
    json!({
        "role": origin.role,
        "client_address": origin.client_address,
        "client_name": origin.client_name,
        "account": origin.account,
        "tls": origin.tls,
    })
}

fn outcome(outcome: &RecipientOutcome) -> Value {
    json!({
        "address": outcome.address,
        "kind": kind(outcome.kind()),
        "reply_code": outcome.reply_code,
        "enhanced_status": outcome.enhanced_status,
        "reply_text": outcome.reply_text,
        "from_remote": outcome.from_remote,
    })
}

fn line(line: &DialogueLine) -> Value {
    let from = match line.from() {
        From::Client => "client",
        From::Server => "server",
        From::Note | From::Unspecified => "note",
    };
    json!({ "from": from, "text": line.text, "at_us": line.at_us })
}

fn all<T>(items: &[T], one: impl Fn(&T) -> Value) -> Vec<Value> {
    items.iter().map(one).collect()
}
