//! The queue's answers as tables.

use postrider_protocol::queue_v1::{
    ActResponse, DeliveryStatus, ShowResponse, StatsResponse, act_request::Act,
    delivery_status::State,
};

use crate::journey::time;
use crate::json;
use crate::table::aligned;
use crate::term::Style;

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

/// One line a delivery, with what was said last below it.
pub(super) fn deliveries(deliveries: &[DeliveryStatus], style: Style) -> Vec<String> {
    if deliveries.is_empty() {
        return vec!["No deliveries.".to_owned()];
    }
    let mut rows = vec![row(&[
        "DELIVERY",
        "STATE",
        "TRIES",
        "SIZE",
        "NEXT (UTC)",
        "DESTINATION",
        "FROM",
        "TO",
    ])];
    for delivery in deliveries {
        rows.push(vec![
            delivery.delivery_id.clone(),
            json::state(delivery.state()).to_owned(),
            delivery.attempts.to_string(),
            delivery.size.to_string(),
            next(delivery),
            delivery.destination.clone(),
            format!("<{}>", delivery.reverse_path),
            recipients(&delivery.recipients),
        ]);
    }
    let mut table = aligned(&rows, style.unicode).into_iter();
    let mut lines: Vec<String> = table.next().into_iter().collect();
    for (line, delivery) in table.zip(deliveries) {
        lines.push(line);
        lines.extend(last_word(delivery, style));
    }
    lines
}

fn next(delivery: &DeliveryStatus) -> String {
    match delivery.state() {
        State::Leased => format!("now, by {}", delivery.worker),
        State::Held => "when released".to_owned(),
        State::Waiting if delivery.next_attempt_us > 0 => {
            let text = time::instant(delivery.next_attempt_us);
            text.split('.').next().unwrap_or_default().to_owned()
        }
        _ => String::new(),
    }
}

fn recipients(addresses: &[String]) -> String {
    match addresses {
        [] => String::new(),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first} (+{})", rest.len()),
    }
}

/// What the other side said last, e.g. "    450 4.2.1 mailbox busy".
fn last_word(delivery: &DeliveryStatus, style: Style) -> Option<String> {
    let outcome = delivery.last_outcomes.last()?;
    let mut words = vec![json::kind(outcome.kind()).to_owned() + ":"];
    if outcome.reply_code > 0 {
        words.push(outcome.reply_code.to_string());
    }
    for part in [&outcome.enhanced_status, &outcome.reply_text] {
        if !part.is_empty() {
            words.push(part.clone());
        }
    }
    let text = crate::diagram::text::harmless(&words.join(" "), style.unicode);
    Some(format!("    {text}"))
}

/// One message.
pub(super) fn message(shown: &ShowResponse, style: Style) -> Vec<String> {
    let envelope = shown.envelope.clone().unwrap_or_default();
    let origin = shown.origin.clone().unwrap_or_default();
    let facts = [
        ("queue id", shown.queue_id.clone()),
        ("Message-ID", format!("<{}>", shown.message_id)),
        ("from", format!("<{}>", envelope.reverse_path)),
        ("size", format!("{} octets", shown.size)),
        (
            "accepted",
            format!("{} UTC", time::instant(shown.accepted_us)),
        ),
        (
            "came by",
            [
                origin.role,
                origin.client_name,
                origin.client_address,
                origin.tls,
                origin.account,
            ]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(", "),
        ),
    ];
    let rows: Vec<Vec<String>> = facts
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    let mut lines = aligned(&rows, style.unicode);
    lines.push(String::new());
    lines.extend(deliveries(&shown.deliveries, style));
    lines
}

/// What an act did.
pub(super) fn act(act: Act, response: &ActResponse, preview: bool) -> Vec<String> {
    let done = match act {
        Act::Retry => "made due now",
        Act::Hold => "held",
        Act::Release => "released",
        Act::Remove => "removed",
        Act::Bounce => "ended as failed",
        Act::Unspecified => "left alone",
    };
    let mut lines = vec![if preview {
        format!("{} would be {done}.", count(response.matched))
    } else {
        format!(
            "{} of {} {done}.",
            response.changed,
            count(response.matched)
        )
    }];
    lines.extend(response.sample.iter().map(|id| format!("  {id}")));
    lines
}

fn count(deliveries: u64) -> String {
    let word = if deliveries == 1 {
        "delivery"
    } else {
        "deliveries"
    };
    format!("{deliveries} {word}")
}

/// The counts.
pub(super) fn stats(stats: &StatsResponse, style: Style) -> Vec<String> {
    let count = |name: &str, value: u64| vec![name.to_owned(), value.to_string()];
    let rows = vec![
        count("recipients accepted", stats.accepted),
        count("  delivered", stats.delivered),
        count("  failed", stats.failed),
        count("  removed", stats.removed),
        count("  open", stats.open),
        count("messages in the queue", stats.messages),
        count("deliveries waiting", stats.waiting),
        count("deliveries under way", stats.leased),
        count("deliveries held", stats.held),
        count("unknown outcomes", stats.unknown_outcomes),
        count("stale completions", stats.stale_completions),
        count("commits", stats.commits),
        count("durable syncs", stats.syncs),
    ];
    let mut lines = aligned(&rows, style.unicode);
    if !stats.destinations.is_empty() {
        let mut rows = vec![row(&["DESTINATION", "WAITING", "CONNECTIONS"])];
        for destination in &stats.destinations {
            rows.push(vec![
                destination.destination.clone(),
                destination.waiting.to_string(),
                format!("{} of {}", destination.slots_in_use, destination.slots),
            ]);
        }
        lines.push(String::new());
        lines.extend(aligned(&rows, style.unicode));
    }
    lines
}
