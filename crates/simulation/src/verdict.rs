//! What must hold when all trouble is over.

use postrider_model::{ModelStore, State, invariant, view};
use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::{OutcomeKind, journey_event};

use crate::ledger::Ledger;

/// Whether nothing is queued any more.
pub(crate) fn all_has_ended(store: &ModelStore) -> bool {
    store.inspect(|model| model.open().next().is_none())
}

/// Compares what was promised with what became of it; counts for people.
///
/// # Errors
/// A promise was broken.
pub(crate) fn check(store: &ModelStore, ledger: &Ledger) -> Result<String, String> {
    store.inspect(|model| {
        let stats = view::stats(model);
        invariant::counts_add_up(&stats)?;
        invariant::slots_are_kept(&stats)?;
        if let Some((id, delivery)) = model.open().next() {
            return Err(format!("{id} is still open: {delivery:?}"));
        }
        let book = ledger.book();
        let (mut delivered, mut failed, mut more) = (0, 0, 0);
        for (recipient, id) in &book.acknowledged {
            let id: QueueId = id.parse().map_err(|_| format!("{id} is no queue id"))?;
            let Some(message) = model.messages.get(&id) else {
                return Err(format!(
                    "{id} was promised to {recipient}, and is not known"
                ));
            };
            let domain = recipient.rsplit('@').next().unwrap_or_default();
            let mut deliveries = message.deliveries.iter();
            let delivery = deliveries
                .find(|delivery| delivery.destination.domain() == domain)
                .ok_or_else(|| format!("nothing goes to {recipient}"))?;
            if delivery.state != State::Done {
                return Err(format!("{id} for {recipient} has not ended: {delivery:?}"));
            }
            let arrived = book.arrived.get(recipient).copied().unwrap_or(0);
            let told = book.told_failed.get(recipient).copied().unwrap_or(0);
            match outcome(message, recipient) {
                Some(OutcomeKind::Delivered) if arrived == 0 => {
                    return Err(format!("{id} for {recipient} never arrived"));
                }
                Some(OutcomeKind::Delivered) => delivered += 1,
                Some(OutcomeKind::Failed) if told == 0 => {
                    return Err(format!("{id} for {recipient} failed, and nobody was told"));
                }
                Some(OutcomeKind::Failed) => failed += 1,
                other => return Err(format!("{id} for {recipient} ended as {other:?}")),
            }
            if arrived > 1 + delivery.unknown_attempts {
                return Err(format!(
                    "{id} for {recipient} arrived {arrived} times, with {} attempts unknown:\n{}",
                    delivery.unknown_attempts,
                    story(message)
                ));
            }
            more += u32::from(arrived > 1);
        }
        for id in &model.accepted {
            if let Some(journey) = view::journey(model, *id) {
                invariant::journey_is_sound(&journey)?;
            }
        }
        Ok(format!(
            "{delivered} delivered, {failed} failed, {more} twice, {} unknown, {} stale",
            stats.unknown_outcomes, stats.stale_completions
        ))
    })
}

/// What happened to a message, for people.
fn story(message: &postrider_model::Message) -> String {
    let events = message.events.iter();
    let lines: Vec<String> = events.map(|event| format!("{:?}", event.event)).collect();
    lines.join("\n")
}

/// How a recipient ended, as the journey tells.
fn outcome(message: &postrider_model::Message, recipient: &str) -> Option<OutcomeKind> {
    message.events.iter().rev().find_map(|event| {
        let Some(journey_event::What::Attempt(attempt)) = &event.event.what else {
            return None;
        };
        let mut outcomes = attempt.outcomes.iter();
        let outcome = outcomes.find(|outcome| outcome.address == recipient)?;
        Some(outcome.kind())
    })
}
