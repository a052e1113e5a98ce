//! Whether it all held: the message octet for octet, TLS on every way, the queues empty.

use postrider_protocol::queue_v1::StatsResponse;

use super::compare::{self, Comparison};
use super::message;
use super::performance::Seen;
use super::stage::Stage;
use super::world::World;
use crate::diagram::Tone;

/// One thing that must hold.
struct Check {
    held: bool,
    text: String,
}

/// Says what held and what did not, and whether all of it did.
///
/// # Errors
/// Standard output is closed, or a server does not answer.
pub(super) async fn pronounce(
    stage: &mut Stage,
    world: &World,
    sent: &[u8],
    seen: &Seen,
) -> anyhow::Result<bool> {
    stage
        .phase(6, "What Alice got, held against what Bob sent", "", &[])
        .await?;
    let comparison = compare::compare(sent, &seen.fetched.message);
    let mut checks = vec![
        same_octets(sent, &comparison),
        on_top(&comparison),
        stuffed(sent, seen),
        all_under_tls(seen),
    ];
    for (name, server) in [("Bob's", &world.bob), ("Alice's", &world.alice)] {
        checks.push(accounted(name, &server.admin().stats().await?));
    }
    let mut all = true;
    for check in checks {
        all &= check.held;
        stage.verdict(check.held, &check.text).await?;
    }
    let ids = format!(
        "In the logs this message is {} at Bob's server and {} at Alice's.",
        seen.accepted.queue_id, seen.alices_queue_id
    );
    stage.say(Tone::Note, &ids).await?;
    Ok(all)
}

fn same_octets(sent: &[u8], comparison: &Comparison<'_>) -> Check {
    let text = match compare::first_difference(sent, comparison.rest) {
        None => format!(
            "All {} octets that Bob's program handed in, from the first header field to the last \
             line, are what Alice's program got, octet for octet.",
            sent.len()
        ),
        Some((line, sent, got)) => {
            format!("The messages differ in line {line}: Bob sent {sent}, Alice got {got}.")
        }
    };
    Check {
        held: comparison.same,
        text,
    }
}

fn on_top(comparison: &Comparison<'_>) -> Check {
    let received = comparison
        .added
        .iter()
        .filter(|name| name.eq_ignore_ascii_case("received"))
        .count();
    Check {
        held: received == 2 && comparison.added.len() == 3,
        text: format!(
            "On top of them stand the trace fields of the two servers, and nothing else: {}.",
            comparison.added.join(", ")
        ),
    }
}

fn stuffed(sent: &[u8], seen: &Seen) -> Check {
    let sights = message::sights(sent, &seen.accepted.wire);
    let lone = sights.iter().find(|sight| sight.line == ".");
    Check {
        held: lone.is_some_and(|sight| sight.on_the_wire == ".."),
        text: match lone {
            Some(sight) => format!(
                "Line {}, a lone dot, went over the wire as {:?} and is a lone dot again.",
                sight.number, sight.on_the_wire
            ),
            None => "The message has no lone dot.".to_owned(),
        },
    }
}

fn all_under_tls(seen: &Seen) -> Check {
    let versions = [&seen.accepted.tls, &seen.relayed.tls, &seen.fetched.tls];
    Check {
        held: versions.iter().all(|version| version.starts_with("TLS")),
        text: format!(
            "Submission, relay and POP3 went under TLS: {}.",
            versions.map(String::as_str).join(", ")
        ),
    }
}

fn accounted(name: &str, stats: &StatsResponse) -> Check {
    Check {
        held: stats.accepted == 1 && stats.delivered == 1 && stats.open == 0,
        text: format!(
            "{name} queue: {} recipient accepted, {} delivered, {} failed, {} left.",
            stats.accepted, stats.delivered, stats.failed, stats.open
        ),
    }
}
