//! A whole journey: received, queued, attempt after attempt, until it has ended.

use postrider_protocol::queue_v1::{
    Attempt, Journey, JourneyEvent, Notice, Origin, OutcomeKind, Queued, Received,
    RecipientOutcome, journey_event::What,
};

use super::dialogue::{self, Between, opened};
use super::time;
use crate::diagram::{Canvas, Lane, Phase, Row, Tone, Wire};
use crate::term::Style;

const CLIENT: usize = 0;
const EDGE: usize = 1;
const QUEUE: usize = 2;
const DELIVERY: usize = 3;
const REMOTE: usize = 4;

/// Draws a journey event by event, so that it can be followed while it goes on.
#[derive(Debug)]
pub struct Drawing {
    canvas: Canvas,
    phases: usize,
    last_us: u64,
    in_queue: bool,
    /// How the client that hears of the message's being queued is connected, until it has heard.
    client: Option<Wire>,
}

impl Drawing {
    /// An empty page.
    #[must_use]
    pub fn new(style: Style) -> Self {
        let lane = |name: &str, group| Lane {
            name: name.to_owned(),
            about: String::new(),
            group,
        };
        let lanes = vec![
            lane("client", 0),
            lane("edge", 1),
            lane("queue", 1),
            lane("delivery", 1),
            lane("next hop", 3),
        ];
        Self {
            canvas: Canvas::new(style, lanes),
            phases: 0,
            last_us: 0,
            in_queue: false,
            client: None,
        }
    }

    /// The lines at the top.
    #[must_use]
    pub fn title(&self, journey: &Journey) -> Vec<String> {
        let from = if journey.reverse_path.is_empty() {
            "<> (a DSN)".to_owned()
        } else {
            format!("<{}>", journey.reverse_path)
        };
        let mut lines = self
            .canvas
            .say(Tone::Heading, &format!("Message {}", journey.queue_id));
        lines.extend(self.canvas.say(Tone::Words, &format!("from {from}")));
        if !journey.message_id.is_empty() {
            let id = format!("Message-ID: <{}>", journey.message_id);
            lines.extend(self.canvas.say(Tone::Words, &id));
        }
        lines.push(self.canvas.legend());
        lines
    }

    /// The lines of the next event.
    pub fn event(&mut self, event: &JourneyEvent) -> Vec<String> {
        self.last_us = event.time_us;
        match &event.what {
            Some(What::Received(received)) => self.received(event, received),
            Some(What::Queued(queued)) => self.queued(event, queued),
            Some(What::Attempt(attempt)) => self.attempt(event, attempt),
            Some(What::Notice(notice)) => self.notice(event, notice),
            None => Vec::new(),
        }
    }

    /// The line at the bottom.
    #[must_use]
    pub fn end(&self, ended: bool) -> Vec<String> {
        let mut lines = vec![String::new()];
        lines.extend(if ended {
            self.canvas.say(
                Tone::Heading,
                "The journey has ended: nothing is left in the queue.",
            )
        } else {
            self.canvas.say(
                Tone::Heading,
                "The journey goes on: recipients are still in the queue.",
            )
        });
        lines
    }

    fn phase(
        &mut self,
        at_us: u64,
        title: &str,
        explanation: String,
        active: &[usize],
    ) -> Vec<String> {
        self.phases += 1;
        self.in_queue = active.contains(&QUEUE);
        self.canvas.phase(&Phase {
            number: self.phases.to_string(),
            title: format!("{title}, {} UTC", time::instant(at_us)),
            explanation,
            active: active.to_vec(),
        })
    }

    fn draw(&self, rows: &[Row]) -> Vec<String> {
        rows.iter().flat_map(|row| self.canvas.row(row)).collect()
    }

    fn received(&mut self, event: &JourneyEvent, received: &Received) -> Vec<String> {
        let origin = received.origin.clone().unwrap_or_default();
        let mut lines = self.phase(
            event.time_us,
            &format!("Received by {}", event.instance),
            explain_origin(&origin),
            &[CLIENT, EDGE, QUEUE],
        );
        let between = Between {
            client: CLIENT,
            server: EDGE,
            wire: if origin.role == "submissions" {
                Wire::Tls
            } else {
                Wire::Plain
            },
            offset_us: 0,
        };
        lines.extend(self.draw(&dialogue::rows(&received.dialogue, between)));
        self.client = Some(if origin.tls.is_empty() {
            Wire::Plain
        } else {
            Wire::Tls
        });
        lines
    }

    fn queued(&mut self, event: &JourneyEvent, queued: &Queued) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.in_queue {
            lines = self.phase(event.time_us, "Queued", String::new(), &[EDGE, QUEUE]);
        }
        let text = format!(
            "queued: {} octets for {}",
            queued.size,
            list(&queued.recipients)
        );
        let row = Row::arrow(EDGE, QUEUE, Wire::Inside, text).at(time::of_day(event.time_us));
        let mut rows = vec![row.tone(Tone::Strong)];
        if let Some(wire) = self.client.take() {
            // The event is older than the reply that follows from it, so no dialogue has it.
            let told = Row::arrow(
                EDGE,
                CLIENT,
                wire,
                "the client is told 250: the message is safe",
            );
            rows.push(told.tone(Tone::Good));
        }
        lines.extend(self.draw(&rows));
        lines
    }

    fn attempt(&mut self, event: &JourneyEvent, attempt: &Attempt) -> Vec<String> {
        let title = format!("Attempt {} at {}", attempt.number, attempt.destination);
        let mut lines = self.phase(
            attempt.started_us,
            &title,
            explain_attempt(attempt),
            &[QUEUE, DELIVERY, REMOTE],
        );
        let mut rows = vec![
            Row::arrow(
                QUEUE,
                DELIVERY,
                Wire::Inside,
                "the delivery is leased to the worker",
            )
            .at("0.0")
            .tone(Tone::Note),
        ];
        let between = Between {
            client: DELIVERY,
            server: REMOTE,
            wire: if is_local(attempt) {
                Wire::Inside
            } else {
                Wire::Plain
            },
            offset_us: opened(attempt, attempt.started_us),
        };
        rows.extend(dialogue::rows(&attempt.dialogue, between));
        let took = attempt.ended_us.saturating_sub(attempt.started_us);
        for outcome in &attempt.outcomes {
            let (text, tone) = tell_outcome(outcome);
            rows.push(
                Row::arrow(DELIVERY, QUEUE, Wire::Inside, text)
                    .at(time::milliseconds(took))
                    .tone(tone),
            );
        }
        if attempt.next_attempt_us > 0 {
            let wait = time::between(event.time_us, attempt.next_attempt_us);
            rows.push(
                Row::dot(
                    QUEUE,
                    format!(
                        "next attempt in {}, at {} UTC",
                        time::span(wait),
                        time::of_day(attempt.next_attempt_us)
                    ),
                )
                .tone(Tone::Deferred),
            );
        }
        lines.extend(self.draw(&rows));
        lines
    }

    fn notice(&mut self, event: &JourneyEvent, notice: &Notice) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.in_queue {
            lines = self.phase(event.time_us, "In the queue", String::new(), &[QUEUE]);
        }
        let by = if notice.operator.is_empty() {
            String::new()
        } else {
            format!(" (by {})", notice.operator)
        };
        let dsn = if notice.dsn_queue_id.is_empty() || notice.text.contains(&notice.dsn_queue_id) {
            String::new()
        } else {
            format!(" (DSN {})", notice.dsn_queue_id)
        };
        let row = Row::dot(QUEUE, format!("{}{dsn}{by}", notice.text));
        lines.extend(self.draw(&[row.at(time::of_day(event.time_us)).tone(Tone::Strong)]));
        lines
    }
}

/// A whole journey at once.
#[must_use]
pub fn draw(journey: &Journey, style: Style) -> Vec<String> {
    let mut drawing = Drawing::new(style);
    let mut lines = drawing.title(journey);
    for event in &journey.events {
        lines.extend(drawing.event(event));
    }
    lines.extend(drawing.end(journey.ended));
    lines
}

fn explain_origin(origin: &Origin) -> String {
    if origin.role == "dsn" {
        return "Made by this server: a delivery status notification (RFC 3464).".to_owned();
    }
    let name = or(&origin.client_name, "a client without a name");
    let address = or(&origin.client_address, "an unknown address");
    let tls = or(&origin.tls, "without TLS");
    let who = if origin.account.is_empty() {
        "not authenticated".to_owned()
    } else {
        format!("authenticated as {}", origin.account)
    };
    format!("From {name} [{address}] at {}: {tls}, {who}.", origin.role)
}

fn explain_attempt(attempt: &Attempt) -> String {
    let took = time::span(time::between(attempt.started_us, attempt.ended_us));
    if is_local(attempt) {
        return format!("Into mailboxes of this server. It took {took}.");
    }
    let to = match (
        attempt.remote_host.as_str(),
        attempt.remote_address.as_str(),
    ) {
        ("", "") => return format!("No other server was reached. It took {took}."),
        ("", address) => address.to_owned(),
        (host, "") => host.to_owned(),
        (host, address) => format!("{host} [{address}]"),
    };
    let tls = or(&attempt.tls, "without TLS");
    format!("To {to}, {tls}. It took {took}.")
}

/// Whether the next hop is a mailbox of this server.
fn is_local(attempt: &Attempt) -> bool {
    attempt.destination.split(':').next() == Some(postrider_protocol::destination::MAILBOX)
}

fn tell_outcome(outcome: &RecipientOutcome) -> (String, Tone) {
    let (what, tone) = match outcome.kind() {
        OutcomeKind::Delivered => ("delivered", Tone::Good),
        OutcomeKind::Deferred => ("deferred", Tone::Deferred),
        OutcomeKind::Failed => ("failed for good", Tone::Bad),
        OutcomeKind::Unknown => ("unknown: the reply to the final dot never came", Tone::Bad),
        OutcomeKind::Unspecified => ("not attempted", Tone::Note),
    };
    let mut text = format!("<{}> {what}", outcome.address);
    if outcome.kind() != OutcomeKind::Delivered && outcome.reply_code > 0 {
        text += &format!(": {}", outcome.reply_code);
        for part in [&outcome.enhanced_status, &outcome.reply_text] {
            if !part.is_empty() {
                text = format!("{text} {part}");
            }
        }
    }
    (text, tone)
}

fn list(recipients: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut text = recipients
        .iter()
        .take(SHOWN)
        .map(|recipient| format!("<{recipient}>"))
        .collect::<Vec<_>>()
        .join(", ");
    if recipients.len() > SHOWN {
        text += &format!(" and {} more", recipients.len() - SHOWN);
    }
    text
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}
