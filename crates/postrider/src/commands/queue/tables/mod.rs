//! The queue's answers as tables.

mod acts;

use postrider_protocol::queue_v1::{
    DeliveryStatus, ShowResponse, StatsResponse, delivery_status::State,
};

pub use self::acts::Acted;
pub(super) use self::acts::{act, acts, progress, suspended, suspensions};
use crate::diagram::text::{harmless, width, wrap};
use crate::journey::time;
use crate::json;
use crate::table::aligned;
use crate::term::Style;

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

/// "2026-11-24 23:41" in UTC.
fn minute(unix_us: u64) -> String {
    time::instant(unix_us).chars().take(16).collect()
}

/// "2026-11-24 23:41:07" in UTC.
fn second(unix_us: u64) -> String {
    let text = time::instant(unix_us);
    text.split('.').next().unwrap_or_default().to_owned()
}

/// A text below what it is about, as wide as the terminal.
fn indented(text: &str, style: Style) -> Vec<String> {
    wrap(&harmless(text, style.unicode), style.width - 4, 0)
        .into_iter()
        .map(|line| format!("    {line}"))
        .collect()
}

/// One line a delivery, with what was said last below it; where that line is wider than the
/// terminal, a few short ones.
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
    let mut table = aligned(&rows, style.unicode);
    let fits = table.iter().all(|line| width(line) <= style.width);
    if !fits {
        for row in &mut rows {
            row.truncate(5);
        }
        table = aligned(&rows, style.unicode);
    }
    let mut table = table.into_iter();
    let mut lines: Vec<String> = table.next().into_iter().collect();
    for (line, delivery) in table.zip(deliveries) {
        lines.push(line);
        if !fits {
            let way = format!(
                "<{}> to {} at {}",
                delivery.reverse_path,
                recipients(&delivery.recipients),
                delivery.destination
            );
            lines.extend(indented(&way, style));
        }
        lines.extend(
            remarks(delivery)
                .map(|text| indented(&text, style))
                .into_iter()
                .flatten(),
        );
        lines.extend(
            last_word(delivery)
                .map(|text| indented(&text, style))
                .into_iter()
                .flatten(),
        );
    }
    lines
}

/// What is unusual about a delivery.
fn remarks(delivery: &DeliveryStatus) -> Option<String> {
    let mut remarks = Vec::new();
    if !delivery.tenant.is_empty() {
        remarks.push(format!("tenant {}", delivery.tenant));
    }
    if delivery.priority != 0 {
        remarks.push(format!("priority {}", delivery.priority));
    }
    match delivery.unknown_attempts {
        0 => {}
        1 => remarks.push("1 attempt may have succeeded".to_owned()),
        attempts => remarks.push(format!("{attempts} attempts may have succeeded")),
    }
    if !delivery.suspensions.is_empty() {
        remarks.push(format!("suspended by {}", delivery.suspensions.join(", ")));
    }
    (!remarks.is_empty()).then(|| remarks.join("; "))
}

fn next(delivery: &DeliveryStatus) -> String {
    match delivery.state() {
        State::Leased => format!("now, by {}", delivery.worker),
        State::Held if delivery.held_until_us > 0 => second(delivery.held_until_us),
        State::Held => "when released".to_owned(),
        State::Suspended => "when resumed".to_owned(),
        State::Waiting if delivery.next_attempt_us > 0 => second(delivery.next_attempt_us),
        State::Waiting | State::Done | State::Unspecified => String::new(),
    }
}

fn recipients(addresses: &[String]) -> String {
    match addresses {
        [] => String::new(),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first} (+{})", rest.len()),
    }
}

/// What the other side said last, e.g. "deferred: 450 4.2.1 mailbox busy".
fn last_word(delivery: &DeliveryStatus) -> Option<String> {
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
    Some(words.join(" "))
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
        count("deliveries with unknown outcome", stats.unknown_deliveries),
        count("suspensions", stats.suspensions),
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

#[cfg(test)]
mod tests {
    use postrider_protocol::queue_v1::{OutcomeKind, RecipientOutcome};

    use super::*;

    const US: u64 = 1_764_027_667_123_456;

    fn some() -> Vec<DeliveryStatus> {
        let delivery = |state: State, to: &str| DeliveryStatus {
            delivery_id: "01kay7zs3qe9x8vq2m6f0c5w4t.0".to_owned(),
            destination: format!("smtp:{to}"),
            reverse_path: "bob@sender.test".to_owned(),
            recipients: vec![format!("alice@{to}"), format!("carol@{to}")],
            state: state as i32,
            attempts: 3,
            size: 4312,
            next_attempt_us: US,
            ..DeliveryStatus::default()
        };
        let deferred = RecipientOutcome {
            kind: OutcomeKind::Deferred as i32,
            reply_code: 450,
            enhanced_status: "4.2.1".to_owned(),
            reply_text: "the mailbox is busy, and whoever wants to know more may look at \
                https://example.org/busy"
                .to_owned(),
            ..RecipientOutcome::default()
        };
        vec![
            DeliveryStatus {
                last_outcomes: vec![deferred],
                ..delivery(State::Waiting, "a.test")
            },
            DeliveryStatus {
                unknown_attempts: 1,
                tenant: "acme".to_owned(),
                ..delivery(State::Held, "b.test")
            },
            DeliveryStatus {
                held_until_us: US,
                ..delivery(State::Held, "b.test")
            },
            DeliveryStatus {
                suspensions: vec!["01kay7zs3qe9x8vq2m6f0c5w4u".to_owned()],
                priority: 4,
                ..delivery(State::Suspended, "a-rather-long-name.example.org")
            },
        ]
    }

    #[test]
    fn a_list_fits_the_terminal() {
        let narrow = deliveries(&some(), Style::plain(80));
        assert_eq!(
            narrow.join("\n"),
            include_str!("list-80.txt").trim_end(),
            "\n{}",
            narrow.join("\n")
        );
        assert!(narrow.iter().all(|line| width(line) <= 80));
        let wide = deliveries(&some(), Style::plain(200));
        assert!(wide[0].ends_with("TO"), "{}", wide.join("\n"));
        assert!(wide.iter().all(|line| width(line) <= 200));
    }

    #[test]
    fn what_strangers_say_stays_harmless() {
        let mut hostile = some();
        hostile[0].last_outcomes[0].reply_text = "\u{1b}[2J\r\nall is well".to_owned();
        let lines = deliveries(&hostile, Style::plain(80));
        assert!(
            lines
                .iter()
                .all(|line| !line.contains(['\u{1b}', '\r', '\n']))
        );
    }
}
